"""Hidden units are matched, whatever their order."""

import numpy as np
import pytest

import tf_lottery
from tf_lottery import analysis


def mlp(keras):
  layers = keras.layers
  return keras.Sequential(
    [
      keras.Input((4, 3)),
      layers.Flatten(),
      layers.Dense(8),
      layers.BatchNormalization(),
      layers.ReLU(),
      layers.Dropout(0.1),
      layers.Dense(7, "tanh"),
      layers.Dense(3, "softmax"),
    ]
  )


def cnn(keras):
  layers = keras.layers
  inputs = x = keras.Input((6, 6))
  for layer in (
    layers.Reshape((6, 6, 1)),
    layers.Conv2D(5, 3, padding="same", use_bias=False),
    layers.BatchNormalization(),
    layers.ReLU(),
    layers.MaxPooling2D(),
    layers.Conv2D(4, 2, activation="relu"),
    layers.Flatten(),
    layers.Dense(6, "relu"),
    layers.Dense(3),
  ):
    x = layer(x)
  return keras.Model(inputs, x)


def pooled(keras):
  layers = keras.layers
  return keras.Sequential(
    [
      keras.Input((6, 2)),
      layers.Conv1D(6, 3, activation="relu"),
      layers.GlobalAveragePooling1D(),
      layers.Dense(3),
    ]
  )


def normalisation(layer):
  roles = ("gamma", "beta", "moving_mean", "moving_variance")
  return [f"{layer}/{role}" for role in roles]


# The kernel of each hidden layer, its other weights, and the kernel after it.
HIDDEN = {
  mlp: [
    ("0/kernel", ["0/bias", *normalisation(1)], "2/kernel"),
    ("2/kernel", ["2/bias"], "3/kernel"),
  ],
  cnn: [
    ("0/kernel", normalisation(1), "2/kernel"),
    ("2/kernel", ["2/bias"], "3/kernel"),
    ("3/kernel", ["3/bias"], "4/kernel"),
  ],
  pooled: [("0/kernel", ["0/bias"], "1/kernel")],
}


def randomised(model, seed=0):
  """Gives all weights random values; returns the binding and the values."""
  binding, rng = tf_lottery.bind(model), np.random.default_rng(seed)
  values = {
    key: np.square(rng.normal(size=value.shape)) + 0.1
    if key.endswith("variance")
    else rng.normal(size=value.shape)
    for key, value in binding.read().items()
  }
  binding.write(values)
  return binding, binding.read()


def shuffled(values, hidden, seed=1):
  """Changes the places of hidden units, one layer after the other."""
  rng, values = np.random.default_rng(seed), dict(values)
  for kernel, vectors, after in hidden:
    units = values[kernel].shape[-1]
    order = rng.permutation(units)
    for key in (kernel, *vectors):
      values[key] = values[key][..., order]
    *taps, inputs, outputs = values[after].shape
    apart = values[after].reshape(*taps, inputs // units, units, outputs)
    values[after] = apart[..., order, :].reshape(values[after].shape)
  return values


def outputs(binding, values):
  binding.write(values)
  shape = binding.model.input_shape[1:]
  x = np.random.default_rng(2).normal(size=(5, *shape)).astype(np.float32)
  return np.asarray(binding.model(x))


@pytest.mark.parametrize("make", HIDDEN, ids=lambda make: make.__name__)
def test_a_known_permutation_is_recovered(keras, make):
  binding, a = randomised(make(keras))
  b = shuffled(a, HIDDEN[make])
  before = outputs(binding, a)
  np.testing.assert_allclose(outputs(binding, b), before, atol=1e-3)
  found = analysis.match_units(binding, a, b)
  moved = analysis.permute(a, found)
  for key, value in b.items():
    np.testing.assert_array_equal(moved[key], value, err_msg=key)
  assert any(not np.array_equal(a[key], b[key]) for key in b)


def test_a_mask_moves_with_its_units(keras3):
  binding, a = randomised(cnn(keras3))
  b = shuffled(a, HIDDEN[cnn])
  found = analysis.match_units(binding.model, a, b)
  mask = tf_lottery.Mask.random(binding.shapes, 0.3, seed=0)
  moved = analysis.permute(mask, found)
  assert isinstance(moved, tf_lottery.Mask)
  assert moved != mask
  assert moved.table() == mask.table()
  # It keeps the same weights of a, at their places in b.
  kept = {key: np.where(mask[key], a[key], 0) for key in mask}
  for key, value in analysis.permute(kept, found).items():
    np.testing.assert_array_equal(value, np.where(moved[key], b[key], 0))


def test_the_matching_is_closer_than_the_order_as_it_was(keras3):
  binding, a = randomised(mlp(keras3))
  _, b = randomised(mlp(keras3), seed=5)
  moved = analysis.permute(a, analysis.match_units(binding, a, b))

  def alike(one):
    kernels = [key for key in b if not key.startswith("1/")]
    return sum(float((one[key] * b[key]).sum()) for key in kernels)

  assert alike(moved) > alike(a) + 1


def residual(keras):
  inputs = keras.Input((4,))
  x = keras.layers.Dense(4)(inputs)
  return keras.Model(
    inputs, keras.layers.Dense(2)(keras.layers.Add()([x, inputs]))
  )


def sequence(keras, *layers, shape=(4, 4, 2)):
  return keras.Sequential([keras.Input(shape), *layers])


@pytest.mark.parametrize(
  ("make", "why"),
  [
    (residual, "does not follow the layer before it alone"),
    (
      lambda k: sequence(
        k, k.layers.Conv2D(4, 1), k.layers.DepthwiseConv2D(2), k.layers.Dense(2)
      ),
      "is of class DepthwiseConv2D",
    ),
    (
      lambda k: sequence(k, k.layers.Conv2DTranspose(4, 2), k.layers.Dense(2)),
      "is of class Conv2DTranspose",
    ),
    (
      lambda k: sequence(
        k, k.layers.Dense(4), k.layers.Permute((2, 1, 3)), k.layers.Dense(2)
      ),
      "is of class Permute",
    ),
    (
      lambda k: sequence(
        k,
        k.layers.Dense(4),
        k.layers.BatchNormalization(axis=1),
        k.layers.Dense(2),
      ),
      "works along axis",
    ),
    (
      lambda k: sequence(k, *[k.layers.Dense(4, name="twice")] * 2, shape=(4,)),
      "twice",
    ),
    (
      lambda k: sequence(
        k, k.layers.Conv2D(4, 1), k.layers.Conv2D(4, 1, groups=2)
      ),
      "has groups",
    ),
    (
      lambda k: sequence(
        k, k.layers.Conv2D(4, 1), k.layers.Flatten("channels_first")
      ),
      "has its channels first",
    ),
    (lambda k: sequence(k, k.layers.Flatten()), "no layer with units"),
    (
      lambda k: sequence(
        k,
        k.layers.Conv2D(4, 1),
        k.layers.Flatten(),
        k.layers.BatchNormalization(),
        k.layers.Dense(2),
      ),
      "each position by itself, after flattening",
    ),
  ],
)
def test_other_models_are_refused(keras, make, why):
  try:
    model = make(keras)
  except ValueError:  # a generation may refuse a layer that comes twice
    pytest.skip("Keras refuses the model itself.")
  weights = tf_lottery.bind(model).read()
  with pytest.raises(ValueError, match=why):
    analysis.match_units(model, weights, weights)


def test_weights_of_another_model_are_refused(keras3):
  binding, a = randomised(mlp(keras3))
  with pytest.raises(ValueError, match="'3/kernel' they have the shapes"):
    analysis.match_units(binding, a, {**a, "3/kernel": np.zeros((7, 4))})
