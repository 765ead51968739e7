"""SavedModels that are sparse on disk, whoever loads them."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tf_lottery
from tests import children
from tests.export import sparse_models
from tf_lottery import export
from tf_lottery.export import saved_model_weights

LIBRARIES = pytest.mark.parametrize("library", [keras, tf_keras])
MAKERS = pytest.mark.parametrize(
  "make",
  [sparse_models.mlp, sparse_models.convolutional, sparse_models.many_ended],
)

# Run where none of our code can be imported.
SERVE = """
import sys
import numpy as np
import tensorflow as tf
function = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
x = np.load(sys.argv[2])
np.save(sys.argv[3], function(input_0=tf.constant(x))["output_0"])
assert not any("tf_lottery" in name for name in sys.modules), "tf_lottery"
"""


def total(path):
  return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


@LIBRARIES
@MAKERS
@pytest.mark.parametrize("density", [0.3, 0.05, 0.0])
def test_both_loaders_compute_what_the_model_does(
  tmp_path, library, make, density
):
  report = export.to_saved_model(make(library, density), tmp_path / "a")
  assert len(report.differences) == 2
  assert max(d.relative for d in report.differences) < 1e-6
  assert report.file_bytes == total(tmp_path / "a")


def test_its_size_follows_the_density(tmp_path):
  for density in (0.5, 0.1, 0.02):
    model = sparse_models.mlp(keras, density, (784, 300, 100, 10))
    report = export.to_saved_model(model, tmp_path / str(density))
    weights = 266200
    code = 1.01 * density if density < 0.125 else 1 / 8
    stored = weights * (4 * density + code)
    assert report.file_bytes == pytest.approx(stored + 32000, abs=4000)
  dense = export.to_saved_model(model, tmp_path / "dense", layout="dense")
  assert dense.file_bytes == pytest.approx(4 * 266610 + 20000, abs=4000)
  assert {row.encoding for row in dense.weights} == {"dense"}


def test_bits_and_gaps_are_chosen_by_density(tmp_path):
  for density, encoding in ((0.4, "bits"), (0.05, "gaps"), (1.0, "dense")):
    model = sparse_models.mlp(keras, density, (100, 100, 100))
    report = export.to_saved_model(model, tmp_path / encoding)
    assert {row.encoding for row in report.weights} == {encoding}
    assert report.weights[0].name == f"{model.layers[0].name}/kernel"


def test_a_server_needs_no_python_of_ours(tmp_path):
  model = sparse_models.mlp(keras, 0.1, (20, 60, 10))
  export.to_saved_model(model, tmp_path / "a")
  x = np.random.default_rng(0).normal(size=(7, 20)).astype(np.float32)
  np.save(tmp_path / "x.npy", x)
  names = [str(tmp_path / name) for name in ("a", "x.npy", "y.npy")]
  subprocess.run(
    [sys.executable, "-c", SERVE, *names], check=True, cwd=tmp_path
  )
  assert np.allclose(np.load(tmp_path / "y.npy"), model(x), atol=1e-6)


def test_two_of_them_in_one_process_keep_their_weights(tmp_path):
  models = [sparse_models.mlp(keras, d, (20, 60, 10)) for d in (0.1, 0.2)]
  for index, model in enumerate(models):
    export.to_saved_model(model, tmp_path / str(index))
  loaded = [tf.saved_model.load(str(tmp_path / n)) for n in ("0", "1", "0")]
  x = np.ones((2, 20), np.float32)
  for model, one in zip((*models, models[0]), loaded, strict=True):
    answer = one.signatures["serving_default"](input_0=tf.constant(x))
    assert np.allclose(answer["output_0"], model(x), atol=1e-6)


def test_batches_of_any_size_and_several_signatures(tmp_path):
  model = sparse_models.many_ended(keras, 0.1)

  @tf.function(input_signature=[tf.TensorSpec((None, 30), tf.float32, "x")])
  def first(x):
    return model.layers[2](x)

  report = export.to_saved_model(model, tmp_path / "a", signatures={"f": first})
  assert report.signatures["serving_default"] == (
    "in_30 float32 (None, 30), in_31 float32 (None, 31)"
    " -> scores float32 (None, 5), value float32 (None, 1)"
  )
  loaded = tf.saved_model.load(str(tmp_path / "a"))
  rng = np.random.default_rng(0)
  for batch in (1, 9):
    one, two = (rng.normal(size=(batch, n)).astype("f") for n in (30, 31))
    expected = model([one, two])
    got = loaded.signatures["serving_default"](
      in_30=tf.constant(one), in_31=tf.constant(two)
    )
    for name, value in expected.items():
      assert np.allclose(got[name], value, atol=1e-6)
    hidden = loaded.signatures["f"](x=tf.constant(one))["output_0"]
    assert np.allclose(hidden, model.layers[2](one), atol=1e-6)


@LIBRARIES
def test_it_carries_the_ticket_bit_for_bit(tmp_path, library):
  model = tf_lottery.lottery_prune(
    sparse_models.mlp(library, 1.0, (64, 80, 10))
  )
  tf_lottery.prune_and_rewind(model, 0.1, reset_optimizer=False)
  ticket = tf_lottery.Ticket.from_model(model, found="here")
  report = export.to_saved_model(model, tmp_path / "a", carry_ticket=ticket)
  carried = tf_lottery.Ticket.load(tmp_path / "a")
  assert carried.equals(ticket)
  assert carried.provenance == {"found": "here"}
  assert "carries its ticket, of density 10.00%" in str(report)

  by_itself = export.to_saved_model(model, tmp_path / "b")
  assert tf_lottery.Ticket.load(tmp_path / "b").equals(ticket)
  without = export.to_saved_model(model, tmp_path / "c", carry_ticket=False)
  assert without.file_bytes < by_itself.file_bytes
  with pytest.raises(FileNotFoundError, match="no ticket"):
    tf_lottery.Ticket.load(tmp_path / "c")


def test_a_plain_model_has_no_ticket_to_carry(tmp_path):
  model = sparse_models.mlp(keras, 0.1, (20, 60, 10))
  report = export.to_saved_model(model, tmp_path / "a")
  assert "carries no ticket: the model stores no initial" in str(report)


@LIBRARIES
def test_lookup_tables_go_along(tmp_path, library):
  words = library.layers.StringLookup(vocabulary=["yes", "no"])
  inputs = library.Input((3,), dtype="string", name="words")
  hidden = library.layers.Embedding(4, 200)(words(inputs))
  outputs = library.layers.Dense(2)(library.layers.Flatten()(hidden))
  model = sparse_models.prune(library.Model(inputs, outputs), 0.05)
  x = np.array([["yes", "no", "maybe"]])
  with pytest.raises(ValueError, match="No examples can be drawn for 'words'"):
    export.to_saved_model(model, tmp_path / "a")
  report = export.to_saved_model(model, tmp_path / "a", inputs=x)
  assert [d.absolute for d in report.differences] == [0, 0]


@pytest.mark.parametrize("library", [keras, tf_keras], ids=lambda m: m.__name__)
def test_a_small_embedding(tmp_path, library):
  """Its weights become a constant, and one of its reads is not used."""
  layers = library.layers
  model = library.Sequential(
    [
      library.Input((3,), dtype="int32"),
      layers.Embedding(20, 4),
      layers.Flatten(),
      layers.Dense(2),
    ]
  )
  x = np.arange(12, dtype=np.int32).reshape(4, 3)
  report = export.to_saved_model(model, tmp_path / "saved", inputs=x)
  answers = export.predict(report.path, x)
  np.testing.assert_allclose(answers, model.predict(x, verbose=0), atol=1e-6)


def test_mixed_precision_and_double_precision(tmp_path):
  for dtype in ("mixed_bfloat16", "float64"):
    keras.config.set_dtype_policy(dtype)
    try:
      model = sparse_models.mlp(keras, 0.1, (40, 80, 10))
    finally:
      keras.config.set_dtype_policy("float32")
    report = export.to_saved_model(model, tmp_path / dtype, tolerance=1e-2)
    assert {row.encoding for row in report.weights} == {"gaps"}
    assert report.dtype == {"mixed_bfloat16": "float32"}.get(dtype, dtype)


def test_only_a_saved_model_is_replaced(tmp_path):
  model = sparse_models.mlp(keras, 0.1, (64, 200, 10))
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "thesis.txt").write_text("years of work")
  with pytest.raises(ValueError, match="path must be free or hold a SavedMod"):
    export.to_saved_model(model, tmp_path / "mine")
  assert (tmp_path / "mine" / "thesis.txt").is_file()
  first = export.to_saved_model(model, tmp_path / "a")
  second = export.to_saved_model(model, tmp_path / "a", layout="dense")
  assert total(tmp_path / "a") == second.file_bytes > first.file_bytes
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "mine"]


def test_a_link_is_followed(tmp_path):
  model = sparse_models.mlp(keras, 0.1, (64, 200, 10))
  first = export.to_saved_model(model, tmp_path / "v1")
  (tmp_path / "current").symlink_to("v1")
  second = export.to_saved_model(model, tmp_path / "current", layout="dense")
  assert (tmp_path / "current").is_symlink()
  assert total(tmp_path / "v1") == second.file_bytes > first.file_bytes
  assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "v1"]


def test_one_that_computes_something_else_is_not_put_in_place(
  tmp_path, monkeypatch
):
  path = tmp_path / "a"
  model = sparse_models.mlp(keras, 0.1, (20, 60, 10))
  export.to_saved_model(model, path)
  before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
  monkeypatch.setattr(
    saved_model_weights, "_places_of_gaps", lambda code: tf.where(code < 250)
  )
  with pytest.raises(export.ExportError, match="Nothing was written"):
    export.to_saved_model(model, path)
  after = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
  assert after == before
  assert list(tmp_path.iterdir()) == [path]


@LIBRARIES
def test_a_keras_file_is_plain(tmp_path, library):
  model = sparse_models.mlp(library, 1.0, (64, 80, 10))
  model.compile("adam", "sparse_categorical_crossentropy")
  model = tf_lottery.lottery_prune(model)
  mask = tf_lottery.prune_and_rewind(model, 0.1)
  x = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
  model.fit(x, np.zeros(40), verbose=0)
  report = export.to_keras(model, tmp_path / "a.keras")
  assert [d.absolute for d in report.differences] == [0]
  assert tf_lottery.bind(model).mask == mask
  loaded = library.models.load_model(tmp_path / "a.keras")
  assert not tf_lottery.bind(loaded).is_ready
  assert getattr(loaded, "optimizer", None) is None
  assert np.array_equal(export.predict(report.path, x), loaded(x))
  kernel = tf_lottery.bind(loaded).read()["0/kernel"]
  assert np.array_equal(kernel != 0, mask["0/kernel"])
  with pytest.raises(ValueError, match=r"path must end in \.keras"):
    export.to_keras(model, tmp_path / "a.h5")


def test_predict_knows_a_file_by_what_it_holds(tmp_path):
  model = sparse_models.mlp(keras, 0.1, (20, 60, 10))
  x = np.random.default_rng(0).normal(size=(7, 20)).astype(np.float32)
  export.to_tflite(model, tmp_path / "a")
  export.to_saved_model(model, tmp_path / "b")
  export.to_keras(model, tmp_path / "c.keras")
  for name in ("a", "b", "c.keras"):
    got = export.predict(tmp_path / name, x, batch_size=3)
    assert np.allclose(got, model(x), atol=1e-6)
  children.kill_while_aside(tmp_path / "b")
  assert np.allclose(export.predict(tmp_path / "b", x), model(x), atol=1e-6)
  (tmp_path / "d").write_text("hello")
  with pytest.raises(ValueError, match=r"must be a TFLite or \.keras file"):
    export.predict(tmp_path / "d", x)
  with pytest.raises(ValueError, match="at least one example"):
    export.predict(tmp_path / "a", x[:0])
  with pytest.raises(FileNotFoundError, match="no exported file"):
    export.predict(tmp_path / "e", x)
  export.to_saved_model(sparse_models.many_ended(keras, 0.1), tmp_path / "f")
  with pytest.raises(ValueError, match=r"one input, got \['in_30', 'in_31'\]"):
    export.predict(tmp_path / "f", x)


def test_a_name_that_is_no_directory_yet_is_made(tmp_path):
  path = pathlib.Path(tmp_path / "new" / "below" / "a.tflite")
  export.to_tflite(sparse_models.mlp(keras, 0.1, (20, 60, 10)), path)
  assert path.is_file()
