"""Masks hold under every optimizer, and in every way to train."""

import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests.wrappers.models import DENSITY
from tests.wrappers.models import OPTIMIZERS
from tests.wrappers.models import assert_holds
from tests.wrappers.models import assert_same
from tests.wrappers.models import compiled
from tests.wrappers.models import examples
from tests.wrappers.models import fit
from tests.wrappers.models import hold_random
from tests.wrappers.models import ready
from tests.wrappers.models import residual
from tests.wrappers.models import same
from tests.wrappers.models import sequential
from tests.wrappers.models import single
from tests.wrappers.models import subclassed
from tests.wrappers.models import tape_step
from tf_lottery.training import distribution


@pytest.fixture(params=OPTIMIZERS.values(), ids=OPTIMIZERS)
def optimizer(request):
  return request.param


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_fit_holds_under_every_optimizer(keras, optimizer, jit_compile):
  model = compiled(keras, single(keras), optimizer, jit_compile=jit_compile)
  model = tf_lottery.lottery_prune(model)
  binding, mask = hold_random(model)
  before = binding.read()
  fit(model)
  assert_holds(binding, mask)
  assert np.any(binding.read()["0/kernel"] != before["0/kernel"])


@pytest.mark.parametrize("jit_compile", [False, True], ids=["eager", "xla"])
def test_a_tape_loop_holds_under_every_optimizer(keras, optimizer, jit_compile):
  model = tf_lottery.lottery_prune(single(keras))
  model.optimizer = optimizer(keras)
  model.optimizer.build(model.trainable_variables)
  binding, mask = hold_random(model)
  step = tape_step(keras, model)
  if jit_compile:
    step = tf.function(step, jit_compile=True)
  x, y = examples()
  for _ in range(3):
    step(x, y)
    assert_holds(binding, mask)
  # A second mask needs no new tracing.
  binding, mask = hold_random(model, DENSITY / 2, seed=2)
  step(x, y)
  assert_holds(binding, mask)


def test_a_tape_loop_holds_under_a_strategy(keras):
  strategy = distribution.resolve_strategy("mirrored")
  with strategy.scope():
    model = compiled(keras, sequential(keras))
  model = tf_lottery.lottery_prune(model)
  binding, mask = hold_random(model)
  with strategy.scope():
    model.optimizer.build(model.trainable_variables)
  step = tape_step(keras, model)
  tf.function(strategy.run)(step, args=examples())
  assert_holds(binding, mask)


def test_a_model_that_was_trained_before_holds(keras):
  model = compiled(keras, sequential(keras))
  fit(model)
  trained_weights = tf_lottery.bind(model).read()
  model = tf_lottery.lottery_prune(model)
  assert_same(tf_lottery.bind(model).initial(), trained_weights)
  binding, mask = hold_random(model)
  fit(model)
  assert_holds(binding, mask)


def test_holding_on_a_plain_model_that_was_trained_before(keras):
  model = compiled(keras, sequential(keras))
  fit(model)
  binding, mask = hold_random(model)
  fit(model)
  assert_holds(binding, mask)
  binding.release()
  fit(model)
  assert binding.read()["0/kernel"][~mask["0/kernel"]].any()


def test_optimizers_that_average_the_weights_are_refused(keras):
  # Keras writes the averages back at the end of fit(), unmasked.
  def averaging(keras):
    return keras.optimizers.SGD(0.1, use_ema=True)

  with pytest.raises(ValueError, match="Use use_ema=False"):
    ready(keras, optimizer=averaging)
  model = tf_lottery.lottery_prune(sequential(keras))
  model = compiled(keras, model, averaging)
  with pytest.raises(ValueError, match="Use use_ema=False"):
    tf_lottery.prune_and_rewind(model, 0.5)


def test_check_held_notices_what_was_written_past_the_optimizer(keras):
  binding, mask = hold_random(ready(keras))
  binding.write(binding.initial())
  with pytest.raises(RuntimeError, match=r"past the optimizer.*hold\(binding"):
    binding.check_held()
  binding.hold(mask)
  assert_holds(binding, mask)


def test_a_constraint_of_the_user_goes_on(keras):
  model = keras.Sequential(
    [
      keras.layers.InputLayer((6,)),
      keras.layers.Dense(4, "softmax", kernel_constraint="non_neg"),
    ]
  )
  model = tf_lottery.lottery_prune(compiled(keras, model))
  binding, mask = hold_random(model)
  fit(model)
  assert_holds(binding, mask)
  assert binding.read()["0/kernel"].min() >= 0
  model = tf_lottery.strip_lottery(model)
  fit(model)
  assert tf_lottery.bind(model).read()["0/kernel"].min() >= 0


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def policy(request, keras):
  keras.mixed_precision.set_global_policy(request.param)
  yield request.param
  keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("by_layers", [False, True], ids=["model", "layers"])
def test_mixed_precision_keeps_the_master_weights(keras, policy, by_layers):
  wrap = tf_lottery.lottery_prune if by_layers else same
  model = subclassed(keras, wrap) if by_layers else residual(keras)
  eager = by_layers or policy == "mixed_bfloat16"
  model = compiled(keras, model, run_eagerly=eager)
  before = tf_lottery.bind(model).read()
  if not by_layers:
    model = tf_lottery.lottery_prune(model)
  binding, mask = hold_random(model)
  assert_same(binding.initial(), before)
  model.predict(examples()[0], verbose=0)
  after = binding.read()
  for key, kept in mask.items():
    assert after[key].dtype == np.float32
    np.testing.assert_array_equal(after[key], np.where(kept, before[key], 0))
    # These values would show a rounding.
    assert np.any(before[key] != before[key].astype(np.float16))
  fit(model)
  assert_holds(binding, mask)
  tf_lottery.prune_and_rewind(model, DENSITY / 2)
  rewound = binding.read()
  for key, kept in binding.mask.items():
    np.testing.assert_array_equal(rewound[key], np.where(kept, before[key], 0))
  assert_same(tf_lottery.bind(tf_lottery.strip_lottery(model)).read(), rewound)
