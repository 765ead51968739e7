"""Criteria that differentiate the loss: snip, force, grasp and taylor."""

import itertools

import numpy as np
import pytest

import tf_lottery
from tests.wrappers import models
from tf_lottery import criteria
from tf_lottery.training import distribution
from tf_lottery.wrappers import set_seed

X = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]], np.float32)
Y = np.array([[1.0], [-1.0], [2.0]], np.float32)
W = np.array([[2.0], [-3.0]], np.float32)


def linear(keras):
  """The model x W with the mean squared error."""
  layer = keras.layers.Dense(1, use_bias=False)
  model = keras.Sequential([keras.layers.InputLayer((2,)), layer])
  model.compile("sgd", "mse")
  binding = tf_lottery.bind(model)
  binding.write({"0/kernel": W})
  return binding


def gradient(w, x=X, y=Y):
  return 2 / len(x) * x.T @ (x @ w - y)


def score(binding, name, batches, mask=None):
  mask = binding.mask if mask is None else mask
  return criteria.get(name)(binding, mask, batches, 0)


def small(keras, *extra, **dense):
  """A network with layers `extra` between its two dense ones."""
  set_seed(0)
  model = keras.Sequential(
    [
      keras.layers.InputLayer((3,)),
      keras.layers.Dense(4, use_bias=False, **dense),
      *extra,
      keras.layers.Activation("tanh"),
      keras.layers.Dense(2, use_bias=False, dtype="float32"),
    ]
  )
  model.compile("sgd", "mse")
  return tf_lottery.bind(model)


def examples(seed=0, count=12):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(count, 3)).astype("float32")
  return x, rng.normal(size=(count, 2)).astype("float32")


# By hand.


def test_snip_is_the_weight_times_its_gradient(keras):
  scores = score(linear(keras), "snip", [(X, Y)])
  np.testing.assert_allclose(
    scores["0/kernel"], np.abs(W * gradient(W)), rtol=1e-5
  )


def test_grasp_keeps_the_weights_that_bring_gradient_flow(keras):
  scores = score(linear(keras), "grasp", [(X, Y)])["0/kernel"]
  hessian = 2 / len(X) * X.T @ X
  np.testing.assert_allclose(scores, W * (hessian @ gradient(W)), rtol=1e-5)


def test_removing_what_grasp_scores_low_raises_the_gradient_flow(keras):
  # Two weights that do not interact: the loss is a sum over both.
  x, y = np.eye(2, dtype=np.float32), np.array([[1.0], [-2.0]], np.float32)
  binding = linear(keras)
  w = np.array([[0.5], [0.5]], np.float32)
  binding.write({"0/kernel": w})
  scores = score(binding, "grasp", [(x, y)])["0/kernel"]

  def flow(w):
    return np.sum(gradient(w, x, y) ** 2)

  change = [flow(w * keep) - flow(w) for keep in ([[0], [1]], [[1], [0]])]
  assert change[0] > 0 > change[1]
  assert scores[0] < 0 < scores[1]


def test_several_batches_are_averaged_before_or_after_the_absolute_value(keras):
  binding = linear(keras)
  # The gradient of the second batch is the opposite of that of the first.
  batches = [(X, Y), (X, 2 * X @ W - Y)]
  snip = score(binding, "snip", batches)["0/kernel"]
  taylor = score(binding, "taylor", batches)["0/kernel"]
  np.testing.assert_allclose(snip, 0, atol=1e-4)
  np.testing.assert_allclose(taylor, np.abs(W * gradient(W)), rtol=1e-5)


def test_force_scores_pruned_weights_by_what_they_were(keras):
  binding = linear(keras)
  binding.give_initial(binding.read())
  mask = tf_lottery.Mask({"0/kernel": np.array([[True], [False]])})
  expected = np.abs(W * gradient(W * mask["0/kernel"]))
  assert expected[1] > 0
  binding.write({"0/kernel": W})
  for _ in range(2):
    scores = score(binding, "force", [(X, Y)], mask)
    np.testing.assert_allclose(scores["0/kernel"], expected, rtol=1e-5)
    snip = score(binding, "snip", [(X, Y)], mask)["0/kernel"]
    np.testing.assert_allclose(snip, expected * [[1], [0]], rtol=1e-5)
    binding.hold(mask)  # the second time, the model holds zeros


def test_force_needs_initial_weights_only_where_the_mask_prunes(keras):
  binding = linear(keras)
  score(binding, "force", [(X, Y)])
  mask = tf_lottery.Mask({"0/kernel": np.array([[True], [False]])})
  with pytest.raises(ValueError, match="no initial weights"):
    score(binding, "force", [(X, Y)], mask)


# By finite differences, of a network in NumPy.


def loss(first, second, x, y, normalised):
  hidden = x @ first
  if normalised:
    centred = hidden - hidden.mean(0)
    hidden = centred / np.sqrt(np.mean(centred**2, 0) + 1e-3)
  return np.mean((np.tanh(hidden) @ second - y) ** 2)


def slopes(function, weights, step):
  """Central differences of a function by each entry of each weight."""
  found = [np.zeros_like(weight) for weight in weights]
  for index, weight in enumerate(weights):
    for place in np.ndindex(weight.shape):
      ends = []
      for sign in (1, -1):
        moved = [one.copy() for one in weights]
        moved[index][place] += sign * step
        ends.append(function(moved))
      found[index][place] = (ends[0] - ends[1]) / (2 * step)
  return found


@pytest.mark.parametrize("normalised", [False, True])
def test_against_finite_differences(keras, normalised):
  norm = keras.layers.BatchNormalization(epsilon=1e-3)
  binding = small(keras, *([norm] if normalised else []))
  x, y = examples()
  mask = tf_lottery.Mask.random(binding.shapes, 0.8, seed=0)
  read = binding.read()
  weights = [np.float64(read[key]) * kept for key, kept in mask.items()]

  def gradients(weights):
    return slopes(lambda w: loss(*w, x, y, normalised), weights, 1e-5)

  def flow(weights):
    return sum(np.sum(part**2) for part in gradients(weights))

  snip = score(binding, "snip", [(x, y)], mask)
  expected = gradients(weights)
  for key, weight, part in zip(mask, weights, expected, strict=True):
    np.testing.assert_allclose(snip[key], np.abs(weight * part), atol=1e-5)
  grasp = score(binding, "grasp", [(x[:6], y[:6]), (x[6:], y[6:])], mask)
  if not normalised:  # whose statistics are those of each batch
    expected = slopes(flow, weights, 1e-3)
    for key, weight, part in zip(mask, weights, expected, strict=True):
      np.testing.assert_allclose(grasp[key], weight * part / 2, atol=1e-4)


# What counts in the loss.


def test_moving_statistics_do_not_count(keras):
  binding = small(keras, keras.layers.BatchNormalization())
  before = score(binding, "snip", [examples()])
  binding.write({"1/moving_mean": np.full(4, 5.0)})
  models.assert_same(score(binding, "snip", [examples()]), before)


@pytest.mark.parametrize("name", ["snip", "grasp"])
def test_dropout_and_weight_decay_do_not_count(keras, name):
  batch = examples()
  plain = score(small(keras), name, [batch])
  with_both = small(keras, keras.layers.Dropout(0.5), kernel_regularizer="l2")
  models.assert_same(score(with_both, name, [batch]), plain)
  assert with_both.model.losses  # the regulariser is there as before


def test_losses_that_layers_add_count(keras):
  batch = examples()
  plain = score(small(keras), "snip", [batch])
  active = score(small(keras, activity_regularizer="l2"), "snip", [batch])
  assert np.abs(active["0/kernel"] - plain["0/kernel"]).max() > 1e-3


def test_examples_of_no_weight_do_not_count(keras):
  binding = small(keras)
  x, y = examples()
  weight = np.repeat(np.float32([2, 0]), 6)
  got = score(binding, "snip", [(x, y, weight)])
  expected = score(binding, "snip", [(x[:6], y[:6])])
  for key in expected:
    np.testing.assert_allclose(got[key], expected[key], rtol=1e-4)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_mixed_precision_neither_vanishes_nor_overflows(keras, size):
  batch = examples()
  batch = (batch[0], batch[1] * size)

  def scored(dtype):
    layers = keras.layers
    set_seed(0)
    model = keras.Sequential(
      [
        layers.InputLayer((3,)),
        layers.Dense(4, "tanh", dtype=dtype),
        layers.Dense(2, dtype=dtype),
        layers.Activation("linear", dtype="float32"),
      ]
    )
    model.compile("sgd", "mse")
    binding = tf_lottery.bind(model)
    # Small outputs, too: their error decides the size of the gradient.
    binding.write({"1/kernel": binding.read()["1/kernel"] * min(size, 1)})
    return score(binding, "snip", [batch])

  exact, mixed = scored("float32"), scored("mixed_float16")
  for key, expected in exact.items():
    largest = expected.max()
    np.testing.assert_allclose(
      mixed[key] / largest, expected / largest, atol=0.02
    )


# The model and the data.


def state(binding):
  """Everything that a criterion might change, on every replica."""
  model, keras = binding.model, binding.generation
  variables = [
    *map(keras.raw, model.variables),
    *keras.random_states(model),
    *keras.optimizer_variables(model.optimizer),
    *(keras.raw(v) for metric in model.metrics for v in metric.variables),
  ]
  return [
    replica.numpy()
    for variable in variables
    for replica in getattr(variable, "values", (variable,))
  ]


def with_everything(keras, strategy):
  with strategy.scope():
    set_seed(0)
    model = models.compiled(keras, models.residual(keras), metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
  binding = tf_lottery.bind(model)
  binding.give_initial(binding.read())
  return binding


@pytest.mark.slow
def test_the_model_stays_as_it_was_bit_for_bit(keras, strategy):
  binding = with_everything(keras, strategy)
  binding.model.evaluate(*models.examples(), verbose=0)  # metrics with values
  mask = tf_lottery.Mask.random(binding.shapes, 0.5, seed=0)
  binding.hold(mask)
  before = state(binding)
  for name in ("force", "grasp", "synflow"):
    first = score(binding, name, [models.examples()], mask)
    for one, other in zip(state(binding), before, strict=True):
      np.testing.assert_array_equal(one, other)
    again = score(binding, name, [models.examples()], mask)
    models.assert_same(again, first)
  models.assert_holds(binding, mask)


def test_two_replicas_score_as_one(keras):
  one, two = (
    with_everything(keras, distribution.resolve_strategy(strategy))
    for strategy in ("none", "mirrored")
  )
  for name in ("snip", "grasp", "synflow"):
    expected = score(one, name, [models.examples()])
    got = score(two, name, [models.examples()])
    for key in expected:
      np.testing.assert_allclose(got[key], expected[key], rtol=1e-3, atol=1e-6)


def test_another_loss_is_another_score(keras):
  binding = small(keras)
  before = score(binding, "snip", [examples()])
  binding.model.compile("sgd", "mae")
  after = score(binding, "snip", [examples()])
  assert np.abs(after["0/kernel"] - before["0/kernel"]).max() > 1e-3


def test_no_more_batches_are_read_than_said():
  import keras

  batches = itertools.repeat(examples())
  taken = []
  score(small(keras), "snip", (taken.append(1) or batch for batch in batches))
  assert len(taken) == criteria.MAX_BATCHES


def test_batches_may_differ_in_size(keras):
  binding = small(keras)
  x, y = examples()
  batches = [(x[:8], y[:8]), (x[8:], y[8:])]
  both = score(binding, "taylor", batches)
  first, second = (score(binding, "taylor", [batch]) for batch in batches)
  for key in both:
    np.testing.assert_allclose(both[key], (first[key] + second[key]) / 2)


def test_errors_say_what_to_do(keras):
  binding = small(keras)
  with pytest.raises(ValueError, match=r"'snip' reads.*batches=\[\(x, y\)\]"):
    score(binding, "snip", [])
  x, y = examples()
  with pytest.raises(TypeError, match=r"must be a tuple.*batches=\[\(x, y\)\]"):
    score(binding, "snip", (x, y))
  with pytest.raises(ValueError, match=r"0/kernel.* is not finite"):
    score(binding, "snip", [(x * np.nan, y)])
  plain = tf_lottery.bind(models.sequential(keras))
  with pytest.raises(ValueError, match=r"not compiled.*model\.compile"):
    score(plain, "taylor", [models.examples()])


# Models of all kinds.


def two_ways(keras):
  layers = keras.layers
  a, b = keras.Input((6,), name="a"), keras.Input((3,), name="b")
  x = layers.Concatenate()([layers.Dense(5)(a), layers.Dense(5)(b)])
  outputs = [layers.Dense(4, name="p")(x), layers.Dense(1, name="q")(x)]
  return keras.Model([a, b], outputs)


def recurrent(keras):
  layers = keras.layers
  return keras.Sequential(
    [
      layers.InputLayer((5,)),
      layers.Embedding(7, 4, mask_zero=True),
      layers.LSTM(4, dropout=0.2),
      layers.Dense(4, "softmax"),
    ]
  )


def transformer(keras):
  layers = keras.layers
  inputs = keras.Input((5,))
  x = layers.Embedding(7, 4)(inputs)
  x = layers.LayerNormalization()(
    x + layers.MultiHeadAttention(2, 3, dropout=0.1)(x, x)
  )
  x = layers.GlobalAveragePooling1D()(x)
  return keras.Model(inputs, layers.Dense(4, "softmax")(x))


def convolutional(keras):
  layers = keras.layers
  return keras.Sequential(
    [
      layers.InputLayer((8, 8, 2)),
      layers.Conv2D(3, 3, use_bias=False),
      layers.BatchNormalization(),
      layers.ReLU(),
      layers.SeparableConv2D(4, 3),
      layers.GlobalMaxPooling2D(),
      layers.Softmax(),
    ]
  )


def data_of(make):
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 4, 8)
  if make is two_ways:
    x = tuple(rng.normal(size=(8, n)).astype("float32") for n in (6, 3))
    return x, (labels, rng.normal(size=(8, 1)).astype("float32"))
  if make in (recurrent, transformer):
    return rng.integers(1, 7, (8, 5)), labels
  shape = (8, 8, 2) if make is convolutional else (6,)
  return rng.normal(size=(8, *shape)).astype("float32"), labels


KINDS = [
  two_ways,
  transformer,
  convolutional,
  models.subclassed,
  models.nested,
  models.shared,
  pytest.param(recurrent, marks=pytest.mark.slow),  # to trace it takes long
]


@pytest.mark.parametrize("make", KINDS)
def test_models_of_all_kinds(keras, make):
  set_seed(0)
  model = make(keras)
  several = "sparse_categorical_crossentropy"
  model.compile("adam", [several, "mse"] if make is two_ways else several)
  if make is not models.subclassed or keras.__name__ == "keras":
    model = tf_lottery.lottery_prune(model)
  binding = tf_lottery.bind(model)
  for name in ("snip", "grasp", "synflow"):
    scores = score(binding, name, [data_of(make)])
    assert scores.keys() == binding.shapes.keys()
    for key, shape in binding.shapes.items():
      assert scores[key].shape == shape
      assert np.isfinite(scores[key]).all()
      queries_or_keys = make is transformer and key in ("1/kernel", "2/kernel")
      assert scores[key].any() or (name == "synflow" and queries_or_keys)


def test_prune_and_rewind_by_name(keras):
  model = models.ready(keras)
  for density, name in ((0.8, "snip"), (0.6, "synflow"), (0.4, "movement")):
    mask = tf_lottery.prune_and_rewind(
      model, density, criterion=name, batches=[models.examples()]
    )
    assert mask.density == pytest.approx(density, abs=0.01)
