"""What channels are looked through, and what they stay before."""

import keras
import pytest
import tf_keras

import tf_lottery
from tests.export import sparse_models

LIBRARIES = pytest.mark.parametrize("library", [keras, tf_keras])


def halved(x):
  return x * 0.5


def flattened_branches(library, *images):
  """Adds what Flatten made of images with different channels."""
  layers = library.layers
  inputs = library.Input((4, 4, 2))
  flat = [layers.Flatten()(image(inputs)) for image in images]
  return library.Model(inputs, layers.Dense(2)(layers.Add()(flat)))


# What is behind two units or channels, the latter of images of 3x3, and why
# they stay.
BARRIERS = {
  "norm after flatten": (
    lambda layers: [layers.Flatten(), layers.BatchNormalization()],
    "it normalises the output of Flatten",
  ),
  "norm of another axis": (
    lambda layers: [layers.BatchNormalization(axis=1), layers.Flatten()],
    "it normalises another axis than the last",
  ),
  "activation of one's own": (
    lambda layers: [layers.Activation(halved), layers.Flatten()],
    "its activation halved may mix channels",
  ),
  "softmax": (
    lambda layers: [layers.Softmax(), layers.Flatten()],
    "layers of class Softmax are not understood",
  ),
  "lambda": (
    lambda layers: [layers.Lambda(halved), layers.Flatten()],
    "layers of class Lambda are not understood",
  ),
  "constant added": (
    lambda layers: [lambda x: x + 1.0, layers.Flatten()],
    "are not understood",
  ),
}


@LIBRARIES
@pytest.mark.parametrize("name", BARRIERS)
def test_channels_stay_before_what_may_mix_them(library, name):
  library.utils.set_random_seed(0)
  layers = library.layers
  behind, reason = BARRIERS[name]
  first = layers.Conv2D(5, 2)
  inputs = library.Input((4, 4, 2))
  x = first(inputs)
  for layer in behind(layers):
    x = layer(x)
  model = library.Model(inputs, layers.Dense(3)(layers.Dense(8, "relu")(x)))
  sparse_models.prune(model, 0.05)
  small, report = tf_lottery.compact(model)
  assert report.units[first.name] == (5, 5)
  assert reason in report.left_alone[first.name]
  assert report.parameters[1] < report.parameters[0]
  sparse_models.check_same(model, small, (4, 4, 2))


@LIBRARIES
def test_sums_of_flattened_images_need_the_same_channels(library):
  layers = library.layers
  equal = flattened_branches(library, layers.Conv2D(4, 3), layers.Conv2D(4, 3))
  unequal = flattened_branches(
    library, layers.Conv2D(4, 3), layers.Conv2D(16, 4)
  )
  for model, smaller in ((equal, True), (unequal, False)):
    kernel, bias = model.layers[-1].get_weights()
    kernel[::4] = 0  # the first of four channels
    model.layers[-1].set_weights([kernel, bias])
    small, report = tf_lottery.compact(model)
    assert (report.parameters[1] < report.parameters[0]) is smaller
    sparse_models.check_same(model, small, (4, 4, 2))


@LIBRARIES
def test_activations_may_be_layers_and_functions(library):
  layers = library.layers
  model = sparse_models.sequential(
    library,
    (6,),
    layers.Dense(9, activation=layers.LeakyReLU()),
    layers.Dense(8, activation=halved),
    layers.Dense(7, activation=lambda x: x + 1),
    layers.Dense(2),
  )
  sparse_models.prune(model, 0.1)
  small, report = tf_lottery.compact(model)
  kept = [after for _, after in report.units.values()]
  assert kept[0] < 9
  assert kept[1:] == [8, 7, 2]
  sparse_models.check_same(model, small, (6,))


@LIBRARIES
def test_inputs_may_be_numbers(library):
  layers = library.layers
  inputs = library.Input(())
  x = layers.Dense(8, "relu")(layers.Reshape((1,))(inputs))
  model = sparse_models.prune(library.Model(inputs, layers.Dense(2)(x)), 0.3)
  small, report = tf_lottery.compact(model)
  assert report.parameters[1] < report.parameters[0]
  sparse_models.check_same(model, small, ())


@LIBRARIES
def test_nested_models_keep_their_channels(library):
  layers = library.layers
  inner = sparse_models.sequential(
    library, (8,), layers.Dense(7), layers.Dense(6)
  )
  first = layers.Dense(8)
  model = sparse_models.sequential(library, (5,), first, inner, layers.Dense(3))
  sparse_models.prune(model, 0.1)
  small, report = tf_lottery.compact(model)
  assert "Sequential are not understood" in report.left_alone[first.name]
  sparse_models.check_same(model, small, (5,))


@LIBRARIES
def test_other_axes_and_sums_are_barriers(library):
  library.utils.set_random_seed(0)
  layers = library.layers
  inputs = library.Input((4, 4, 3))
  x = layers.Conv2D(8, 1, activation="relu")(inputs)
  x = layers.BatchNormalization(axis=1)(layers.Conv2D(6, 1)(x))
  flat = layers.Flatten()(layers.Conv2D(2, 1)(x))
  added = layers.Add()([flat, layers.Dense(32)(layers.Flatten()(inputs))])
  model = library.Model(inputs, layers.Dense(3)(added))
  sparse_models.prune(model, 0.05)
  small, report = tf_lottery.compact(model)
  sparse_models.check_same(model, small, (4, 4, 3))
  reasons = " ".join(report.left_alone.values())
  for reason in (
    "it normalises another axis than the last",
    "it adds tensors with different channels",
  ):
    assert reason in reasons
