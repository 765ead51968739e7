"""TFLite files compute what the models compute, and are small."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tf_lottery
from tests.export import sparse_models
from tf_lottery import export
from tf_lottery.export import quiet
from tf_lottery.export import runtimes
from tf_lottery.export import signatures
from tf_lottery.export import tflite_flatbuffer
from tf_lottery.export import verification

LIBRARIES = pytest.mark.parametrize("library", [keras, tf_keras])
SLOW = [pytest.mark.slow]
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float16"])
LITERT = importlib.util.find_spec("ai_edge_litert") is not None


def encodings(report):
  return {row.name: row.encoding for row in report.weights}


@DTYPES
@pytest.mark.parametrize(
  "density",
  [*(pytest.param(d, marks=SLOW) for d in (0.5, 0.02, 0.001)), 0.1, 0.0],
)
def test_odd_widths_are_right_at_every_density(tmp_path, density, dtype):
  model = sparse_models.mlp(keras, density, (785, 364, 363, 362, 361, 10))
  path = tmp_path / "model.tflite"
  report = export.to_tflite(model, path, dtype=dtype)
  assert path.stat().st_size == report.file_bytes
  runs = {difference.runtime for difference in report.differences}
  assert len(runs) == (4 if LITERT else 2)
  for difference in report.differences:
    assert difference.relative <= {"float32": 1e-5, "float16": 1e-3}[dtype]
  # The check above is the export's own: ask the file once more, by hand.
  x = np.random.default_rng(5).normal(size=(3, 785)).astype(np.float32)
  expected = model.predict(x, verbose=0)
  limit = {"float32": 1e-5, "float16": 1e-3}[dtype] * expected.max()
  assert np.abs(export.predict(path, x) - expected).max() <= limit


@DTYPES
@pytest.mark.parametrize("layout", ["auto", "sparse"])
@pytest.mark.parametrize(
  "density",
  [*(pytest.param(d, marks=SLOW) for d in (0.5, 0.1, 0.001)), 0.01, 0.0],
)
def test_every_weight_of_odd_widths_reaches_the_output(
  tmp_path, density, layout, dtype
):
  """Behind many sparse layers a wrong weight would not be seen."""
  keras.utils.set_random_seed(1)
  widths = (361, 362, 363, 364, 785)
  inputs = [keras.Input((width,), name=f"in_{width}") for width in widths]
  outputs = {
    f"out_{width}": keras.layers.Dense(width)(one)
    for width, one in zip(widths, inputs, strict=True)
  }
  model = sparse_models.prune(keras.Model(inputs, outputs), density)
  report = export.to_tflite(model, tmp_path / "a", dtype=dtype, layout=layout)
  limit = {"float32": 1e-5, "float16": 1e-3}[dtype]
  assert max(d.relative for d in report.differences) <= limit
  assert {row.density for row in report.weights} == {
    round(density * width**2) / width**2 for width in widths
  }
  kernel = model.layers[-1].kernel
  assert np.count_nonzero(kernel) == round(density * 785**2)
  if density:
    # One weight that goes wrong is seen.
    place = tuple(np.argwhere(kernel.numpy())[0])
    wrong = kernel.numpy()
    wrong[place] += 0.1
    signature = signatures.of_model(model)["serving_default"]
    expected = signature.compute(signature.examples)
    kernel.assign(wrong)
    with pytest.raises(export.ExportError, match="out_785"):
      verification.compare(
        "the wrong one",
        {"f": expected},
        {"f": signature.compute(signature.examples)},
        limit,
      )


@LIBRARIES
@DTYPES
@pytest.mark.parametrize(
  "make", [sparse_models.convolutional, sparse_models.many_ended]
)
def test_convolutions_shared_layers_and_several_ends(
  tmp_path, library, dtype, make
):
  report = export.to_tflite(make(library, 0.1), tmp_path / "a", dtype=dtype)
  assert report.file_bytes < 0.6 * report.dense_bytes
  assert any("CSR" in row.encoding for row in report.weights)


@LIBRARIES
def test_the_table_names_the_layers_of_the_model(tmp_path, library):
  model = sparse_models.convolutional(library, 0.05)
  report = export.to_tflite(model, tmp_path / "a")
  names = {layer.name for layer in model.layers}
  assert {row.name.partition("/")[0] for row in report.weights} <= names
  assert {row.used_by for row in report.weights} == {
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "TRANSPOSE_CONV",
  }
  text = str(report)
  for row in report.weights:
    assert f"{row.dense_bytes:,}" in text
    assert row.encoding in text
  assert "on ARM, XNNPACK" in text
  assert "first convolution must be 3x3 with stride 2 on 3 channels" in text


def test_few_weights_run_on_the_sparse_kernel_and_more_are_densified(tmp_path):
  model = sparse_models.mlp(keras, 0.05, (64, 120, 60))
  kernel = model.layers[1].kernel
  half = np.random.default_rng(0).random(kernel.shape) < 0.5
  kernel.assign(half * np.ones(kernel.shape))
  report = export.to_tflite(model, tmp_path / "a")
  sparse, half = sorted(report.weights, key=lambda row: row.density)
  assert (sparse.encoding, sparse.sparse_kernel) == ("CSR, sparse kernel", True)
  assert (half.encoding, half.sparse_kernel) == ("CSR + DENSIFY", False)
  assert "Speed: 1 fully connected layer(s)" in str(report)
  everywhere = export.to_tflite(model, tmp_path / "b", layout="sparse")
  assert set(encodings(everywhere).values()) == {"CSR, sparse kernel"}
  nowhere = export.to_tflite(model, tmp_path / "c", layout="dense")
  assert set(encodings(nowhere).values()) == {"dense"}
  assert nowhere.file_bytes == pytest.approx(nowhere.dense_bytes, rel=0.01)


def test_blocks_of_four_inputs_take_one_index(tmp_path):
  model = tf_lottery.lottery_prune(
    sparse_models.mlp(keras, 1.0, (64, 80, 50, 10))
  )
  tf_lottery.prune_and_rewind(
    model, 0.1, pattern="block_1x4", reset_optimizer=False
  )
  report = export.to_tflite(model, tmp_path / "a")
  by_name = {row.shape: row for row in report.weights}
  assert by_name[80, 64].encoding == "CSR of 1x4 blocks, sparse kernel"
  # 50 is no multiple of four: single entries, which any kernel takes.
  assert by_name[10, 50].encoding.startswith("CSR")
  assert "blocks" not in by_name[10, 50].encoding


def test_what_gains_nothing_stays_dense(tmp_path):
  model = sparse_models.mlp(keras, 0.9, (64, 80, 10))
  report = export.to_tflite(model, tmp_path / "a")
  assert {row.reason for row in report.weights} == {
    "sparse would save less than 5 %"
  }
  model = sparse_models.mlp(keras, 1.0, (64, 80, 10))
  report = export.to_tflite(model, tmp_path / "b")
  assert {row.reason for row in report.weights} == {"nothing is pruned"}
  assert "Speed: that of a dense file." in str(report)


def test_a_transposed_convolution_in_float16_stays_dense(tmp_path):
  """XNNPACK computes it wrongly behind DENSIFY: if not, the rule may go."""
  layer = keras.layers.Conv2DTranspose(16, 3)
  model = keras.Sequential([keras.Input((8, 8, 16)), layer])
  sparse_models.prune(model, 0.05)
  report = export.to_tflite(model, tmp_path / "a", dtype="float16")
  assert report.weights[0].encoding == "dense"
  report = export.to_tflite(model, tmp_path / "b", dtype="float32")
  assert report.weights[0].encoding == "CSR + DENSIFY"


def test_a_model_without_prunable_layers_passes(tmp_path):
  model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Flatten()])
  report = export.to_tflite(model, tmp_path / "a")
  assert not report.weights
  assert (tmp_path / "a").is_file()


def test_several_signatures_share_their_weights(tmp_path):
  model = sparse_models.mlp(keras, 0.05, (80, 200, 10))

  @tf.function(input_signature=[tf.TensorSpec((None, 80), tf.float32, "x")])
  def embed(x):
    return {"embedding": model.layers[0](x)}

  alone = export.to_tflite(model, tmp_path / "a")
  both = export.to_tflite(model, tmp_path / "b", signatures={"embed": embed})
  # Values and indices are there once; the second subgraph is small.
  assert both.file_bytes < alone.file_bytes + 2500
  assert len(both.weights) == len(alone.weights)
  assert both.signatures["embed"] == (
    "x float32 (None, 80) -> embedding float32 (None, 200)"
  )
  x = np.random.default_rng(0).normal(size=(3, 80)).astype(np.float32)
  content = (tmp_path / "b").read_bytes()
  with quiet.quiet():
    runs = list(runtimes.run_tflite(content, {"embed": {"x": x}}))
  for _, outputs in runs:
    assert np.allclose(
      outputs["embed"]["embedding"], model.layers[0](x), atol=1e-5
    )


@LIBRARIES
def test_subclassed_models_say_what_they_take_by_examples(tmp_path, library):
  class Model(library.Model):
    def __init__(self):
      super().__init__()
      self.dense = library.layers.Dense(30, "relu")
      self.out = library.layers.Dense(3)

    def call(self, inputs):
      return self.out(self.dense(inputs))

  model = Model()
  x = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
  model(x)
  sparse_models.prune(model, 0.1)
  with pytest.raises(ValueError, match="does not declare its inputs"):
    export.to_tflite(model, tmp_path / "a")
  report = export.to_tflite(model, tmp_path / "a", inputs=x)
  assert report.file_bytes < report.dense_bytes


@LIBRARIES
def test_a_lottery_ready_model_is_exported_and_not_changed(tmp_path, library):
  model = sparse_models.mlp(library, 1.0, (64, 80, 10))
  model = tf_lottery.lottery_prune(model)
  mask = tf_lottery.prune_and_rewind(model, 0.1, reset_optimizer=False)
  report = export.to_tflite(model, tmp_path / "a")
  assert report.file_bytes < 0.4 * report.dense_bytes
  binding = tf_lottery.bind(model)
  assert binding.is_ready
  assert binding.mask == mask
  binding.check_held()


def test_a_ticket_is_exported_with_its_architecture(tmp_path):
  def make_model():
    return sparse_models.mlp(keras, 1.0, (64, 80, 10))

  model = tf_lottery.lottery_prune(make_model())
  tf_lottery.prune_and_rewind(model, 0.1, reset_optimizer=False)
  ticket = tf_lottery.Ticket.from_model(model)
  report = export.to_tflite(ticket, tmp_path / "a", make_model=make_model)
  x = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
  assert np.allclose(export.predict(report.path, x), model(x), atol=1e-6)
  with pytest.raises(ValueError, match=r"no architecture: give make_model="):
    export.to_tflite(ticket, tmp_path / "a")


def test_inputs_in_a_dictionary_go_by_name(tmp_path):
  second, first = (keras.Input((3,), name=name) for name in ("b", "a"))
  outputs = keras.layers.Concatenate()([second, first])
  model = keras.Model([second, first], outputs)
  x = {"a": np.zeros((4, 3)), "b": np.full((4, 3), 100.0)}
  examples = signatures.of_model(model, x)["serving_default"].examples
  assert examples["a"].max() == 0
  assert examples["b"].min() == 100
  export.to_tflite(model, tmp_path / "a", dtype="int8", representative_data=x)
  with pytest.raises(ValueError, match=r"names \['b', 'a'\], got \['a'\]"):
    export.to_tflite(model, tmp_path / "a", inputs={"a": x["a"]})


@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_size_takes_any_number_of_examples(tmp_path, batch):
  model = keras.Sequential(
    [keras.Input((20,), batch_size=batch), keras.layers.Dense(60)]
  )
  sparse_models.prune(model, 0.05)
  x = np.random.default_rng(0).normal(size=(10, 20)).astype(np.float32)
  for arguments in (
    {"inputs": x},
    {"dtype": "int8", "representative_data": x},
  ):
    export.to_tflite(model, tmp_path / "a", **arguments)
    answers = export.predict(tmp_path / "a", x, batch_size=batch)
    expected = np.concatenate(
      [model(x[i : i + batch]) for i in range(0, len(x), batch)]
    )
    assert np.abs(answers - expected).max() < 0.1 * np.abs(expected).max()
  if batch > 1:
    with pytest.raises(ValueError, match=r"shape \(2, 20\), .* got \(1, 20\)"):
      export.to_tflite(model, tmp_path / "a", inputs=x[:1])


def test_weights_of_one_size_are_told_apart(tmp_path):
  model = sparse_models.mlp(keras, 1.0, (40, 40, 40, 40))
  names = [f"{layer.name}/kernel" for layer in model.layers]
  report = export.to_tflite(model, tmp_path / "a")
  assert sorted(row.name for row in report.weights) == sorted(names)
  middle = model.layers[1]
  kept = np.random.default_rng(0).random(middle.kernel.shape) < 0.1
  middle.kernel.assign(middle.kernel * kept)
  quantised = export.to_tflite(model, tmp_path / "b", dtype="int8")
  by_density = {row.density: row.name for row in quantised.weights}
  assert by_density[min(by_density)] == names[1]


def test_a_directory_is_not_replaced_by_a_file(tmp_path):
  model = sparse_models.mlp(keras, 0.5, (8, 4, 2))
  for name, write in (
    ("a.tflite", export.to_tflite),
    ("a.keras", export.to_keras),
  ):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is a directory"):
      write(model, tmp_path / name)
    assert (tmp_path / name / "thesis.txt").is_file()


def test_int8_stays_dense_and_says_what_gzip_makes_of_it(tmp_path):
  model = sparse_models.mlp(keras, 0.05, (64, 200, 100, 10))
  x = np.random.default_rng(0).normal(size=(64, 64))
  ranges = export.to_tflite(model, tmp_path / "a", dtype="int8")
  full = export.to_tflite(
    model, tmp_path / "b", dtype="int8", representative_data=x
  )
  for report in (ranges, full):
    assert set(encodings(report).values()) == {"dense"}
    assert report.gzip_bytes < 0.5 * report.file_bytes
    assert report.file_bytes < 0.4 * 4 * model.count_params()
  dtypes = [row.dense_bytes // np.prod(row.shape) for row in full.weights]
  assert set(dtypes) == {1}


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"dtype": "int4"}, "dtype must be one of .* got 'int4'"),
    ({"layout": "csr"}, "layout must be one of .* got 'csr'"),
    (
      {"dtype": "int8", "layout": "sparse"},
      "layout must be 'auto' or 'dense' for dtype='int8', got 'sparse'",
    ),
    (
      {"representative_data": np.zeros((1, 8))},
      "representative_data calibrates dtype='int8', got dtype='float32'",
    ),
    ({"inputs": [np.zeros((1, 8))] * 2}, "each of the model's 1 inputs, got 2"),
    (
      {"inputs": np.zeros((1, 9))},
      r"examples of shape \(None, 8\), at least 1 at a time, got \(1, 9\)",
    ),
    ({"signatures": {"f": len}}, "'f' must be a tf.function with an input_sig"),
  ],
)
def test_bad_arguments_are_refused(tmp_path, arguments, message):
  model = sparse_models.mlp(keras, 0.5, (8, 4, 2))
  with pytest.raises(ValueError, match=message):
    export.to_tflite(model, tmp_path / "a", **arguments)
  assert not list(tmp_path.iterdir())


def test_pruned_weights_that_grew_are_refused(tmp_path):
  model = tf_lottery.lottery_prune(sparse_models.mlp(keras, 1.0, (8, 4, 2)))
  tf_lottery.prune_and_rewind(model, 0.5, reset_optimizer=False)
  model.layers[0].kernel.assign(np.ones((8, 4)))
  message = r"pruned entries of .* are not zero"
  with (
    pytest.warns(UserWarning, match=message),
    pytest.raises(RuntimeError, match=message),
  ):
    export.to_tflite(model, tmp_path / "a")


def test_a_file_that_computes_something_else_is_not_written(
  tmp_path, monkeypatch
):
  """A weight goes wrong on its way: what was there before stays."""
  path = tmp_path / "model.tflite"
  path.write_bytes(b"what was there")
  make_sparse = tflite_flatbuffer.make_sparse

  def wrong(model, weight, rows, sparse_kernel):
    rows.values[0] += 0.5
    make_sparse(model, weight, rows, sparse_kernel)

  monkeypatch.setattr(tflite_flatbuffer, "make_sparse", wrong)
  model = sparse_models.mlp(keras, 0.1, (64, 80, 10))
  with pytest.raises(
    export.ExportError, match="Output 'output_0' of 'serving_default' must be"
  ):
    export.to_tflite(model, path)
  assert path.read_bytes() == b"what was there"
  assert list(tmp_path.iterdir()) == [path]
  loose = export.to_tflite(model, path, tolerance=100)
  assert max(d.relative for d in loose.differences) > 1e-3


def test_what_the_converter_refuses_is_told_in_its_words(tmp_path, capfd):
  class Strange(keras.layers.Layer):
    def call(self, inputs):
      return tf.raw_ops.Betainc(a=inputs, b=inputs, x=inputs)

  model = keras.Sequential([keras.Input((4,)), Strange()])
  with pytest.raises(export.ExportError, match="Betainc"):
    export.to_tflite(model, tmp_path / "a")
  printed = capfd.readouterr()
  assert "Betainc" not in printed.out + printed.err
