"""Masks that are lost other than by a constraint are held, or reported."""

import copy
import json

import numpy as np
import pytest

import tf_lottery
from tests.wrappers.models import assert_holds
from tests.wrappers.models import assert_refused
from tests.wrappers.models import assert_same
from tests.wrappers.models import compiled
from tests.wrappers.models import fit
from tests.wrappers.models import hold_random
from tests.wrappers.models import ready
from tests.wrappers.models import residual
from tests.wrappers.models import sequential
from tests.wrappers.models import subclassed

# Clones.


def away_from_its_initial_weights(keras, make):
  model = ready(keras, make)
  binding, mask = hold_random(model)
  fit(model)
  return model, binding, mask


@pytest.mark.parametrize("make", [sequential, residual])
def test_a_clone_in_tf_keras_has_the_mask_and_the_initial_weights(
  tf_keras, make
):
  model, binding, mask = away_from_its_initial_weights(tf_keras, make)
  clone = compiled(tf_keras, tf_keras.models.clone_model(model))
  cloned = tf_lottery.bind(clone)
  assert cloned.mask == mask
  assert_same(cloned.initial(), binding.initial())
  fit(clone)
  assert_holds(cloned, mask)
  # What is the clone's is the clone's alone.
  pruned = tf_lottery.prune_and_rewind(clone, 0.2)
  assert pruned.issubset(mask)
  assert binding.mask == mask
  assert_holds(binding, mask)


@pytest.mark.parametrize("make", [sequential, residual])
def test_a_clone_in_keras_3_says_that_it_has_no_mask(keras3, make):
  model, _, mask = away_from_its_initial_weights(keras3, make)
  with pytest.warns(UserWarning, match=r"neither mask.*Ticket\.from_model"):
    clone = keras3.models.clone_model(model)
  assert type(clone).__name__ in ("Sequential", "Functional")
  assert not tf_lottery.bind(clone).is_ready
  # The ways out that the warning names.
  ticket = tf_lottery.Ticket.from_model(model)
  ticket.apply(tf_lottery.lottery_prune(clone))
  assert_same(tf_lottery.bind(clone).initial(), ticket.start)
  copied = copy.deepcopy(model)
  assert_same(
    tf_lottery.bind(copied).initial(), tf_lottery.bind(model).initial()
  )
  for other in (clone, copied):
    binding = tf_lottery.bind(other)
    assert binding.mask == mask
    fit(other)
    assert_holds(binding, mask)


def test_a_clone_of_layers_made_ready_says_so_too(keras3):
  inputs = keras3.Input((6,))
  layer = tf_lottery.lottery_prune(keras3.layers.Dense(4))
  attention = tf_lottery.lottery_prune(keras3.layers.MultiHeadAttention(1, 2))
  model = keras3.Model(inputs, layer(inputs))
  with pytest.warns(UserWarning, match="neither mask"):
    keras3.models.clone_model(model)
  inputs = keras3.Input((3, 6))
  model = keras3.Model(inputs, attention(inputs, inputs))
  with pytest.warns(UserWarning, match="neither mask"):
    keras3.models.clone_model(model)


@pytest.mark.parametrize("make", [sequential, residual])
def test_a_clone_of_a_model_with_a_ready_one_inside_is_ready(keras, make):
  inner, binding, mask = away_from_its_initial_weights(keras, make)
  inputs = keras.Input((6,))
  outer = keras.Model(inputs, inner(inputs))
  cloned = tf_lottery.bind(keras.models.clone_model(outer))
  assert cloned.mask == mask
  assert_same(cloned.initial(), binding.initial())


def test_a_configuration_as_json_is_of_the_architecture_alone(keras):
  model = ready(keras)
  hold_random(model)
  config = json.loads(json.dumps(model.get_config()))
  again = type(model).from_config(config)
  assert tf_lottery.bind(again).mask.density == 1
  assert tf_lottery.bind(again).is_ready


# Optimizers that average the weights.


def averaging(keras):
  return keras.optimizers.SGD(0.1, use_ema=True)


@pytest.mark.parametrize("plain", [False, True], ids=["ready", "plain"])
def test_fit_refuses_averages_compiled_after_the_mask(keras, plain):
  model = compiled(keras, sequential(keras)) if plain else ready(keras)
  binding, mask = hold_random(model)
  compiled(keras, model, averaging)
  with pytest.raises(ValueError, match="Use use_ema=False"):
    fit(model)
  assert not binding.read()["0/kernel"][~mask["0/kernel"]].any()
  compiled(keras, model)
  fit(model)
  assert_holds(binding, mask)


def test_averages_are_reported_wherever_a_mask_is_asserted(keras):
  model = ready(keras)
  binding, _ = hold_random(model)
  compiled(keras, model, averaging)
  for use in (
    binding.check_held,
    lambda: tf_lottery.strip_lottery(model),
    lambda: tf_lottery.Ticket.from_model(model),
    lambda: tf_lottery.prune_and_rewind(model, 0.2),
  ):
    assert_refused(use, ValueError, "Use use_ema=False")
  with pytest.warns(UserWarning, match="Use use_ema=False"):
    tf_lottery.bind(model)


def test_averages_within_a_loss_scale_are_refused(keras):
  keras.mixed_precision.set_global_policy("mixed_float16")
  try:
    model = compiled(keras, sequential(keras), averaging)
    with pytest.raises(ValueError, match="Use use_ema=False"):
      tf_lottery.lottery_prune(model)
  finally:
    keras.mixed_precision.set_global_policy("float32")


# Weights that are written past the optimizer.


def ones_like(model):
  """Weights of ones, masks as they are: tf_keras counts them as weights."""
  return [
    value if "mask" in variable.name else np.ones_like(value)
    for variable, value in zip(model.weights, model.get_weights(), strict=True)
  ]


@pytest.mark.parametrize("make", [sequential, residual, subclassed])
def test_a_model_that_is_given_weights_keeps_its_mask(keras, make):
  wrap = tf_lottery.lottery_prune if make is subclassed else (lambda x: x)
  model = tf_lottery.lottery_prune(compiled(keras, make(keras, wrap)))
  binding, mask = hold_random(model)
  model.set_weights(ones_like(model))
  assert_holds(binding, mask)
  for key, kept in mask.items():
    np.testing.assert_array_equal(binding.read()[key], kept)


def test_a_plain_model_under_a_mask_keeps_it_in_load_weights(keras, tmp_path):
  path = tmp_path / "dense.weights.h5"
  sequential(keras).save_weights(path)
  model = sequential(keras)
  binding, mask = hold_random(model)
  model.load_weights(path)
  assert_holds(binding, mask)
  binding.release()
  model.load_weights(path)
  assert binding.read()["0/kernel"][~mask["0/kernel"]].any()


def test_a_layer_that_is_given_weights_is_reported(keras):
  model = ready(keras)
  binding, mask = hold_random(model)
  layer = getattr(model.layers[0], "layer", model.layers[0])
  layer.set_weights([np.ones_like(value) for value in layer.get_weights()])
  for use in (
    binding.check_held,
    lambda: tf_lottery.strip_lottery(model),
    lambda: tf_lottery.Ticket.from_model(model),
    lambda: tf_lottery.prune_and_rewind(model, 0.2),
  ):
    assert_refused(use, RuntimeError, "28 pruned entries of dense")
  with pytest.warns(UserWarning, match="28 pruned entries of dense"):
    assert tf_lottery.bind(model).mask == mask
  binding.hold(binding.mask)
  assert_holds(binding, mask)


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_a_file_from_before_pruning_does_not_undo_the_mask_silently(
  keras3, tmp_path
):
  model = ready(keras3, sequential)
  model.save_weights(tmp_path / "before.weights.h5")
  fit(model)
  mask = tf_lottery.prune_and_rewind(model, 0.3)
  model.save_weights(tmp_path / "after.weights.h5")
  model.load_weights(tmp_path / "after.weights.h5")
  assert tf_lottery.bind(model).mask == mask
  with pytest.warns(UserWarning, match="file's mask replaced"):
    model.load_weights(tmp_path / "before.weights.h5")
