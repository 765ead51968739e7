"""Every control trains, and changes one thing, whatever the model and data."""

import functools
import importlib

import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tf_lottery import experiments
from tf_lottery.experiments import controls
from tf_lottery.training.data import StreamData

LEVEL = 2
# What a control changes in the ticket: its mask, its start weights, or both.
CHANGES = {
  "fine_tune": {"start"},
  "gradual": {"mask"},
  "gradual_equal_cost": {"mask"},
  "half_data": {"mask"},
  "learning_rate_rewind": {"start"},
  "magnitudes": {"start"},
  "one_shot": {"mask"},
  "other_order": {"mask"},
  "permuted": {"start"},
  "random_erk": {"mask"},
  "random_mask": {"mask"},
  "random_reinit": {"start"},
  "rewind_to_init": {"start"},
  "rigl": {"mask"},
  "rigl_equal_cost": {"mask"},
  "set": {"mask"},
  "shuffled_labels": {"mask"},
  "shuffled_mask": {"mask"},
  "signs": {"start"},
  "supermask": {"start"},
  "weight_average": {"start"},
}
# They are evaluated as they are.
UNTRAINED = ("supermask", "weight_average")
# They change the training data, which must be arrays.
ON_ARRAYS = ("half_data", "other_order", "shuffled_labels")
# They start from the initial weights, as they must.
FROM_INIT = ("gradual", "gradual_equal_cost", "rigl", "rigl_equal_cost", "set")


def compiled(library, model, **options):
  loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
  options = {"loss": loss, "metrics": ["accuracy"], **options}
  model.compile(library.optimizers.Adam(0.03), **options)
  return model


def text_model(library):
  """Embedding and attention."""
  layers = library.layers
  tokens = library.Input((5,), dtype="int32")
  x = layers.Embedding(20, 8)(tokens)
  x = x + layers.MultiHeadAttention(num_heads=2, key_dim=4)(x, x)
  x = layers.LayerNormalization()(x)
  x = layers.GlobalAveragePooling1D()(x)
  return compiled(library, library.Model(tokens, layers.Dense(2)(x)))


def image_model(library):
  """Convolutions and batch normalisation."""
  layers = library.layers
  return compiled(
    library,
    library.Sequential(
      [
        library.Input((6, 6, 1)),
        layers.Conv2D(16, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(16, 3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
      ]
    ),
  )


def two_outputs(library):
  """A class and a number."""
  layers = library.layers
  inputs = library.Input((6,))
  x = layers.Dense(12, activation="relu")(inputs)
  outputs = {
    "kind": layers.Dense(2, name="kind")(x),
    "sum": layers.Dense(1, name="sum")(x),
  }
  losses = library.losses
  return compiled(
    library,
    library.Model(inputs, outputs),
    loss={
      "kind": losses.SparseCategoricalCrossentropy(from_logits=True),
      "sum": losses.MeanSquaredError(),
    },
    metrics={"kind": ["accuracy"]},
  )


def shared_model(library):
  """One layer that is called three times, and a frozen one."""
  layers = library.layers
  inputs = library.Input((6,))
  shared = layers.Dense(6, activation="tanh")
  frozen = layers.Dense(6, trainable=False)
  x = frozen(shared(shared(shared(inputs))))
  return compiled(library, library.Model(inputs, layers.Dense(2)(x)))


def numbers(count, seed):
  x = np.random.default_rng(seed).normal(size=(count, 6)).astype("float32")
  return x, (x.sum(-1) > 0).astype("int32")


def texts(count, seed):
  x = np.random.default_rng(seed).integers(0, 20, (count, 5)).astype("int32")
  return x, (x.sum(-1) > 47).astype("int32")


def both_targets(count, seed):
  x, y = numbers(count, seed)
  return x, {"kind": y, "sum": x.sum(-1, keepdims=True)}


def image_stream(count, seed):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(count, 6, 6, 1)).astype("float32")
  y = (x.sum((1, 2, 3)) > 0).astype("int32")
  return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


CASES = {
  "text": (text_model, texts, {"scope": tf_lottery.layerwise()}),
  "images": (
    image_model,
    image_stream,
    {"pattern": "channel", "scope": tf_lottery.global_()},
  ),
  "outputs": (two_outputs, both_targets, {"objective": "loss"}),
  "shared": (shared_model, numbers, {"scope": tf_lottery.erdos_renyi()}),
}


@pytest.fixture(
  scope="module",
  params=[
    pytest.param((name, keras), id=f"{name}-{keras}")
    for name in CASES
    for keras in ("keras", "tf_keras")
  ],
)
def search(request, tmp_path_factory):
  """Two Levels on 8 steps an epoch, rewound to step 4."""
  name, keras = request.param
  make_model, examples, arguments = CASES[name]
  return tf_lottery.find_ticket(
    functools.partial(make_model, importlib.import_module(keras)),
    examples(64, 0),
    validation_data=examples(32, 1),
    test_data=examples(32, 2),
    steps=16,
    batch_size=8,
    schedule=[0.7, 0.45],
    method="iterative",
    rewind=tf_lottery.to_step(4),
    run_dir=tmp_path_factory.mktemp(name),
    **arguments,
  )


@pytest.mark.parametrize("name", sorted(controls.BY_NAME))
def test_it_changes_one_thing(search, name):
  traces = search.trainer.traces
  ticket = search.rounds[LEVEL].ticket
  if name in ON_ARRAYS and isinstance(search.protocol.train, StreamData):
    with pytest.raises(ValueError, match="training data as arrays"):
      controls.BY_NAME[name](search, LEVEL, 0)
    return
  round_ = controls.BY_NAME[name](search, LEVEL, 0)
  changed = round_.ticket
  assert search.trainer.traces == traces
  if "mask" in CHANGES[name]:
    assert changed.mask != ticket.mask
  else:
    assert changed.mask == ticket.mask
  same_start = all(
    np.array_equal(changed.start[key][both], ticket.start[key][both])
    for key, kept in changed.mask.items()
    for both in [kept & ticket.mask[key]]
  )
  assert same_start == (CHANGES[name] == {"mask"} and name not in FROM_INIT)
  assert changed.density == pytest.approx(ticket.density, abs=0.1)
  if search.pattern == tf_lottery.patterns.unstructured():
    assert changed.mask.kept == ticket.mask.kept
  binding = search.trainer.binding
  assert binding.mask == changed.mask
  binding.check_held()
  assert np.isfinite(round_.metrics["val_loss"])
  untrained = {"loss"} if name in UNTRAINED else set()
  metrics = search.rounds[LEVEL].metrics.keys() - untrained
  assert round_.metrics.keys() == metrics


def test_the_same_ticket_trains_by_another_recipe(search):
  model = search.trainer.make_model()
  library = importlib.import_module(type(model).__module__.split(".")[0])

  def make_model():
    model = search.trainer.make_model()
    # Keras 3 gives losses by name.
    config = model.get_compile_config()
    config["optimizer"] = library.optimizers.SGD(0.05)
    model.compile_from_config(library.saving.serialize_keras_object(config))
    return model

  trainer = tf_lottery.Trainer(make_model)
  for level in (0, LEVEL):
    round_ = experiments.retrain(search, level, name="sgd", trainer=trainer)
    assert round_.ticket.mask == search.rounds[level].ticket.mask
    assert np.isfinite(round_.metrics["val_loss"])


def test_the_trained_model_is_built(search):
  binding = tf_lottery.bind(search.model(LEVEL))
  assert binding.mask == search.rounds[LEVEL].ticket.mask
  final = search.rounds[LEVEL].final.weights
  for key, value in binding.read().items():
    np.testing.assert_array_equal(value, final[key])
