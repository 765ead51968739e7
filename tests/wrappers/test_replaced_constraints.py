"""A constraint that somebody else sets on a pruned weight."""

import numpy as np
import pytest

import tf_lottery
from tests.wrappers.models import assert_holds
from tests.wrappers.models import assert_refused
from tests.wrappers.models import compiled
from tests.wrappers.models import examples
from tests.wrappers.models import fit
from tests.wrappers.models import hold_random
from tests.wrappers.models import momentum
from tests.wrappers.models import ready
from tests.wrappers.models import residual
from tests.wrappers.models import sequential
from tests.wrappers.models import single
from tests.wrappers.models import subclassed
from tests.wrappers.models import tape_step

WAY_OUT = r"binding\.hold\(binding\.mask\)"


def replace_constraint(keras, binding, key="0/kernel"):
  """Sets NonNeg on a weight, as a user may at any time."""
  layer = next(
    layer for layer in _flat(binding.model) if getattr(layer, "units", 0)
  )
  constraint = keras.constraints.NonNeg()
  if keras.__name__ == "tf_keras":
    layer.kernel._constraint = constraint  # the only way that tf_keras has
  else:
    layer.kernel.constraint = constraint
  return key


def _flat(model):
  for layer in model.layers:
    yield getattr(layer, "layer", layer)


def lose(keras, model):
  """Trains in a loop of the user's own, with our constraint replaced."""
  model.optimizer = momentum(keras)
  model.optimizer.build(model.trainable_variables)
  binding, mask = hold_random(model)
  key = replace_constraint(keras, binding)
  step = tape_step(keras, model)
  for _ in range(3):
    step(*examples())
  assert binding.read()[key][~mask[key]].any()
  return binding, mask


@pytest.mark.parametrize("make", [sequential, residual, subclassed])
@pytest.mark.parametrize(
  "trained_before", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_fit_applies_it_and_holds_the_mask(keras, make, trained_before):
  if make is subclassed and keras.__name__ == "tf_keras":
    model = compiled(keras, make(keras, tf_lottery.lottery_prune))
  else:
    model = ready(keras, make, run_eagerly=False)
  if trained_before:
    fit(model)
  binding, mask = hold_random(model)
  if trained_before:
    fit(model)
  key = replace_constraint(keras, binding)
  fit(model)
  assert_holds(binding, mask)
  assert binding.read()[key].min() >= 0
  mask = tf_lottery.prune_and_rewind(model, 0.2)
  fit(model)
  assert_holds(binding, mask)
  model = tf_lottery.strip_lottery(model)
  fit(model)
  assert tf_lottery.bind(model).read()[key].min() >= 0


def test_fit_of_a_plain_model_holds_what_a_binding_held(keras):
  model = compiled(keras, sequential(keras))
  binding, mask = hold_random(model)
  replace_constraint(keras, binding)
  model.train_on_batch(*examples())
  assert_holds(binding, mask)
  assert tf_lottery.bind(model).mask == mask


@pytest.mark.parametrize("plain", [False, True], ids=["ready", "plain"])
def test_an_own_loop_that_loses_the_mask_is_reported(keras, plain):
  model = single(keras)
  model = model if plain else tf_lottery.lottery_prune(model)
  binding, mask = lose(keras, model)
  with pytest.raises(RuntimeError, match=rf"NonNeg[\s\S]*{WAY_OUT}"):
    binding.check_held()
  with pytest.warns(UserWarning, match="NonNeg"):
    again = tf_lottery.bind(model)
  assert again.mask == mask
  assert np.any(binding.read()["0/kernel"][~mask["0/kernel"]])
  again.hold(again.mask)
  step = tape_step(keras, model)
  step(*examples())
  assert_holds(again, mask)
  assert again.read()["0/kernel"].min() >= 0


def test_every_use_of_a_lost_mask_is_refused(keras, tmp_path):
  model = tf_lottery.lottery_prune(single(keras))
  lose(keras, model)
  for use in (
    lambda: tf_lottery.prune_and_rewind(model, 0.2, reset_optimizer=False),
    lambda: tf_lottery.Ticket.from_model(model),
    lambda: tf_lottery.strip_lottery(model),
    lambda: tf_lottery.export.to_keras(model, tmp_path / "model.keras"),
    lambda: tf_lottery.compact(model),
  ):
    assert_refused(use, RuntimeError, r"pruned entries of dense.*NonNeg")


def test_a_replaced_constraint_is_reported_before_anything_is_lost(keras):
  model = tf_lottery.lottery_prune(single(keras))
  binding, mask = hold_random(model)
  replace_constraint(keras, binding)
  with pytest.raises(RuntimeError, match=rf"not held[\s\S]*{WAY_OUT}"):
    binding.check_held()
  binding.hold(mask)
  assert_holds(binding, mask)


def test_a_constraint_replaced_while_all_is_kept_is_no_error(keras):
  model = ready(keras)
  binding = tf_lottery.bind(model)
  replace_constraint(keras, binding)
  binding.check_held()
  mask = tf_lottery.prune_and_rewind(model, 0.5)
  fit(model)
  assert_holds(binding, mask)
  assert binding.read()["0/kernel"].min() >= 0


def test_a_constraint_around_ours_is_kept(keras3):
  model = ready(keras3)
  binding, mask = hold_random(model)
  kernel = model.layers[0].kernel
  ours = kernel.constraint
  kernel.constraint = lambda weight: keras3.ops.maximum(ours(weight), 0.0)
  fit(model)
  assert_holds(binding, mask)
  assert binding.read()["0/kernel"].min() >= 0


def test_a_model_with_a_held_mask_becomes_ready_under_that_mask(keras):
  model = compiled(keras, sequential(keras))
  binding, mask = hold_random(model)
  start = binding.read()
  model = tf_lottery.lottery_prune(model)
  binding = tf_lottery.bind(model)
  assert binding.mask == mask
  np.testing.assert_array_equal(
    binding.initial()["0/kernel"], start["0/kernel"]
  )
  fit(model)
  assert_holds(binding, mask)
  model = tf_lottery.strip_lottery(model)
  fit(model)
  assert tf_lottery.bind(model).read()["0/kernel"][~mask["0/kernel"]].any()


def test_a_released_model_stays_ready(keras, tmp_path):
  model = ready(keras)
  before = tf_lottery.bind(model).initial()
  binding, mask = hold_random(model)
  binding.release()
  fit(model)
  assert binding.read()["0/kernel"][~mask["0/kernel"]].any()
  model.save(tmp_path / "model.keras")
  loaded = keras.models.load_model(tmp_path / "model.keras")
  binding = tf_lottery.bind(loaded)
  assert binding.mask.density == 1
  np.testing.assert_array_equal(
    binding.initial()["0/kernel"], before["0/kernel"]
  )
  assert tf_lottery.prune_and_rewind(loaded, 0.5).density == 0.5
