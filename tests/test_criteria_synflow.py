import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import tf_lottery
from tests.wrappers import models
from tf_lottery import criteria
from tf_lottery.wrappers import set_seed

FIRST = np.array([[1.0, -2.0], [3.0, 0.5]])
SECOND = np.array([[-4.0], [1.0]])
# Each path is the product of two absolute weights; their sum is R.
TOTAL = (1 + 3) * 4 + (2 + 0.5) * 1
FIRST_SCORES = np.array([[1 * 4, 2 * 1], [3 * 4, 0.5 * 1]]) / TOTAL
SECOND_SCORES = np.array([[4 * (1 + 3)], [1 * (2 + 0.5)]]) / TOTAL


def bound(keras, *layers, shape=(2,)):
  set_seed(0)
  return tf_lottery.bind(
    keras.Sequential([keras.layers.InputLayer(shape), *layers])
  )


def two_layers(keras, *, after=(), **dense):
  layers = keras.layers
  first = layers.Dense(2, **dense)
  binding = bound(keras, first, *after, layers.Dense(1))
  keys = list(binding.shapes)
  binding.write(dict(zip(keys, (FIRST, SECOND), strict=True)))
  return binding


def scores_of(binding, mask=None, batches=()):
  mask = binding.mask if mask is None else mask
  return criteria.synflow(binding, mask, batches)


def assert_by_hand(binding):
  first, second = scores_of(binding).values()
  np.testing.assert_allclose(first, FIRST_SCORES, rtol=1e-12)
  np.testing.assert_allclose(second, SECOND_SCORES, rtol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_the_flow_along_all_paths(keras, activation):
  assert_by_hand(two_layers(keras, activation=activation))


def test_normalisation_is_neutral_also_after_training(keras):
  layers = keras.layers
  binding = two_layers(
    keras, after=[layers.BatchNormalization(), layers.LayerNormalization()]
  )
  binding.write(
    {"1/moving_mean": np.full(2, 7.0), "1/moving_variance": np.full(2, 9.0)}
  )
  assert_by_hand(binding)


def test_layers_that_scale_the_inputs_are_neutral(keras):
  layers = keras.layers
  binding = bound(
    keras,
    layers.Rescaling(1 / 127.5, offset=-1.0),
    layers.Normalization(mean=[2.0, 3.0], variance=[1.0, 4.0]),
    layers.Dense(2),
    layers.Dense(1),
  )
  binding.write(dict(zip(binding.shapes, (FIRST, SECOND), strict=True)))
  assert_by_hand(binding)


def test_a_channel_of_large_gamma_carries_more_flow(keras):
  binding = two_layers(keras, after=[keras.layers.BatchNormalization()])
  binding.write({"1/gamma": np.array([1.0, -3.0])})
  scores = scores_of(binding)["2/kernel"].ravel()
  np.testing.assert_allclose(scores, np.array([16, 7.5]) / 23.5, rtol=1e-12)


def test_a_softmax_at_the_end_hides_nothing(keras):
  layers = keras.layers

  def last(*layers_):
    hidden = layers.Dense(4, "relu")
    return scores_of(bound(keras, hidden, *layers_))

  logits = last(layers.Dense(3))
  models.assert_same(last(layers.Dense(3, "softmax")), logits)
  models.assert_same(last(layers.Dense(3), layers.Softmax()), logits)


def test_the_sparse_network_is_scored(keras):
  binding = two_layers(keras)
  mask = tf_lottery.Mask(
    {
      "0/kernel": np.array([[True, False], [False, False]]),
      "1/kernel": np.array([[True], [True]]),
    }
  )
  scores = scores_of(binding, mask)
  np.testing.assert_allclose(scores["0/kernel"], [[1, 0], [0, 0]])
  np.testing.assert_allclose(scores["1/kernel"], [[1], [0]])


def test_an_embedding_lets_all_its_rows_flow(keras):
  layers = keras.layers
  binding = bound(
    keras,
    layers.Embedding(3, 2),
    layers.GlobalAveragePooling1D(),
    layers.Dense(1),
    shape=(5,),
  )
  rows = np.array([[1.0, -1.0], [2.0, 0.0], [0.0, -3.0]])
  keys = list(binding.shapes)
  binding.write({keys[0]: rows, keys[1]: np.array([[1.0], [-2.0]])})
  flow = np.abs(rows) * [1, 2]
  np.testing.assert_allclose(
    scores_of(binding)[keys[0]], flow / flow.sum(), rtol=1e-12
  )


def test_deep_and_wide_networks_do_not_overflow(keras):
  layers = keras.layers
  binding = bound(
    keras,
    *(layers.Dense(64, "relu", dtype="mixed_bfloat16") for _ in range(30)),
    shape=(64,),
  )
  flat = np.full((64, 64), 1.0)
  binding.write({key: flat for key in binding.shapes})  # R is 64 ** 31
  for scores in scores_of(binding).values():
    np.testing.assert_allclose(scores, 64.0**-2, rtol=1e-6)


def test_a_model_in_a_model_is_computed_in_float64_too(keras):
  layers = keras.layers
  inner = keras.Sequential([layers.InputLayer((2,)), layers.Dense(2)])
  binding = bound(keras, layers.Dense(2), inner, layers.Dense(1))
  large = np.full((2, 2), 1e30)
  binding.write({key: large[:, : s[1]] for key, s in binding.shapes.items()})
  for scores in scores_of(binding).values():
    np.testing.assert_allclose(scores.sum(), 1, rtol=1e-6)


@pytest.fixture(scope="module")
def convolutional(keras):
  layers = keras.layers
  return bound(
    keras,
    layers.Conv1D(3, 2, use_bias=False),
    layers.ReLU(),
    layers.Flatten(),
    layers.Dense(4, use_bias=False),
    shape=(4, 2),
  )


@settings(max_examples=20, deadline=None)
# At a low density a mask may leave no path, which is refused.
@given(seed=st.integers(0, 2**31 - 1), density=st.floats(0.7, 1.0))
def test_each_layer_has_the_same_flow_under_any_mask(
  convolutional, seed, density
):
  shapes = convolutional.shapes
  rng = np.random.default_rng(seed)
  convolutional.write({key: rng.normal(size=s) for key, s in shapes.items()})
  mask = tf_lottery.Mask.random(shapes, density, seed)
  for key, scores in scores_of(convolutional, mask).items():
    np.testing.assert_allclose(scores.sum(), 1, rtol=1e-9)
    assert (scores >= 0).all()
    assert not scores[~mask[key]].any()


def test_a_model_without_declared_inputs_takes_the_shape_of_a_batch(keras):
  binding = tf_lottery.bind(models.subclassed(keras))
  with pytest.raises(ValueError, match=r"shape of the inputs.*batches="):
    scores_of(binding)
  x, y = models.examples()
  models.assert_same(
    scores_of(binding, batches=[(x, y)]),
    scores_of(binding, batches=[(np.zeros_like(x), y)]),
  )


def test_declared_inputs_need_no_batch(keras):
  def none_to_read():
    raise AssertionError("synflow reads no data")
    yield

  scores_of(two_layers(keras), batches=none_to_read())


def test_what_cannot_be_scored_is_refused(keras):
  binding = two_layers(keras)
  with pytest.raises(ValueError, match="leaves no path"):
    scores_of(
      binding,
      tf_lottery.Mask(
        {key: np.zeros(shape, bool) for key, shape in binding.shapes.items()}
      ),
    )

  class Shares(keras.layers.Layer):
    def call(self, inputs):
      total = inputs[..., :1] + inputs[..., 1:2] + inputs[..., 2:]
      return inputs / total

  with pytest.raises(ValueError, match=r"does not depend.*Return logits"):
    scores_of(bound(keras, keras.layers.Dense(3), Shares()))


def test_a_weight_that_cannot_be_replaced_is_named(keras):
  class Several(keras.layers.Layer):
    def build(self, shape):
      self.all = [self.add_weight(name="kernel", shape=(shape[-1], 3))]

    def call(self, inputs):
      return inputs @ self.all[0]

  binding = bound(keras, keras.layers.Dense(3), Several(name="several"))
  binding = tf_lottery.bind(binding.model, prunable=lambda weight: True)
  with pytest.raises(ValueError, match=r"cannot replace several/.*Several"):
    scores_of(binding)


def test_weights_in_half_precision_are_scored_in_double(keras):
  layers = keras.layers
  binding = bound(keras, layers.Dense(3, dtype="bfloat16"), layers.Dense(1))
  for scores in scores_of(binding).values():
    np.testing.assert_allclose(scores.sum(), 1, rtol=1e-9)
