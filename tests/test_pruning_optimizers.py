"""The optimizers that prune_and_rewind has begin afresh."""

import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests.wrappers.models import OPTIMIZERS
from tests.wrappers.models import assert_holds
from tests.wrappers.models import examples
from tests.wrappers.models import fit
from tests.wrappers.models import momentum
from tests.wrappers.models import ready
from tests.wrappers.models import same
from tests.wrappers.models import sequential
from tests.wrappers.models import tape_step
from tf_lottery.wrappers import set_seed


@pytest.fixture(autouse=True)
def seeded():
  set_seed(0)


def steps_of(optimizer):
  return int(np.asarray(optimizer.iterations))


def remembers(optimizer):
  return any(
    np.any(np.asarray(variable))
    for variable in optimizer.variables
    if len(variable.shape)
  )


def own_loop(keras, model, optimizer):
  model.optimizer = optimizer
  tape_step(keras, model)(*examples())
  # From here on the loop alone knows it.
  model.optimizer = None
  assert steps_of(optimizer) == 1
  assert remembers(optimizer)


def gan_of(keras, wrap=same):
  """A model with two optimizers of its own, as Keras's guides write it."""

  class Gan(keras.Model):
    def __init__(self):
      super().__init__()
      self.generator = wrap(keras.layers.Dense(6))
      self.discriminator = wrap(keras.layers.Dense(1))

    def compile(self, d_optimizer, g_optimizer):
      super().compile()
      self.d_optimizer = d_optimizer
      self.g_optimizer = g_optimizer

    def call(self, inputs):
      return self.discriminator(self.generator(inputs))

    def train_step(self, data):
      with tf.GradientTape(persistent=True) as tape:
        loss = tf.reduce_mean(self(data))
      for optimizer, part in (
        (self.g_optimizer, self.generator),
        (self.d_optimizer, self.discriminator),
      ):
        variables = part.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
      return {"loss": loss}

  model = Gan()
  model(tf.zeros([2, 6]))
  model.compile(momentum(keras), OPTIMIZERS["adam"](keras))
  return model


def test_the_optimizers_of_a_gan_begin_afresh(keras):
  # Subclassed tf_keras models make their layers ready themselves.
  wrap = tf_lottery.lottery_prune if keras.__name__ == "tf_keras" else same
  model = gan_of(keras, wrap)
  if wrap is same:
    model = tf_lottery.lottery_prune(model)
  model.fit(examples()[0], verbose=0)
  both = [model.d_optimizer, model.g_optimizer]
  assert all(remembers(optimizer) for optimizer in both)
  mask = tf_lottery.prune_and_rewind(model, 0.5)
  assert not any(remembers(optimizer) for optimizer in both)
  assert [steps_of(optimizer) for optimizer in both] == [0, 0]
  model.fit(examples()[0], verbose=0)
  assert all(remembers(optimizer) for optimizer in both)
  assert_holds(tf_lottery.bind(model), mask)


def test_optimizers_of_an_own_loop_begin_afresh_beside_the_compiled_one(keras):
  model = ready(keras)
  fit(model)
  compiled_one = model.optimizer
  own = [momentum(keras), OPTIMIZERS["adam"](keras)]
  for optimizer in own:
    own_loop(keras, model, optimizer)
  model.optimizer = compiled_one
  own[1].learning_rate = 0.007
  tf_lottery.prune_and_rewind(model, 0.5, optimizer=own)
  for optimizer in (compiled_one, *own):
    assert not remembers(optimizer)
    assert steps_of(optimizer) == 0
  rate = float(np.asarray(own[1].learning_rate))
  assert rate == pytest.approx(0.007)


def test_one_optimizer_of_an_uncompiled_model_begins_afresh(keras):
  model = tf_lottery.lottery_prune(sequential(keras))
  optimizer = momentum(keras)
  own_loop(keras, model, optimizer)
  tf_lottery.prune_and_rewind(model, 0.5, optimizer=optimizer)
  assert not remembers(optimizer)
  assert steps_of(optimizer) == 0


def test_an_optimizer_that_made_no_step_is_fine(keras):
  model = ready(keras)
  own = momentum(keras)
  assert tf_lottery.prune_and_rewind(model, 0.5, optimizer=own).density == 0.5
  fit(model)


def test_a_model_without_an_optimizer_is_pruned_with_a_warning(keras):
  model = tf_lottery.lottery_prune(sequential(keras))
  with pytest.warns(UserWarning, match="optimizer=.*reset_optimizer=False"):
    assert tf_lottery.prune_and_rewind(model, 0.5).kept == 40
  mask = tf_lottery.prune_and_rewind(model, 0.25, reset_optimizer=False)
  assert mask.kept == 20


def test_optimizers_that_cannot_be_meant_are_refused(keras, keras3, tf_keras):
  model = ready(keras)
  before = tf_lottery.bind(model).mask
  other = {"keras": tf_keras, "tf_keras": keras3}[keras.__name__]
  with pytest.raises(TypeError, match=f"must belong to {keras.__name__}, as t"):
    tf_lottery.prune_and_rewind(model, 0.5, optimizer=momentum(other))
  with pytest.raises(ValueError, match="Leave one of them out"):
    tf_lottery.prune_and_rewind(
      model, 0.5, optimizer=momentum(keras), reset_optimizer=False
    )
  averaging = keras.optimizers.SGD(0.1, use_ema=True)
  with pytest.raises(ValueError, match="Use use_ema=False"):
    tf_lottery.prune_and_rewind(model, 0.5, optimizer=averaging)
  assert tf_lottery.bind(model).mask == before


def test_an_optimizer_of_another_model_is_reset_where_keras_knows_how(keras):
  model, other = ready(keras), sequential(keras)
  optimizer = momentum(keras)
  own_loop(keras, other, optimizer)
  if keras.__name__ == "tf_keras":
    with pytest.raises(ValueError, match=r"does not own.*Make it anew"):
      tf_lottery.prune_and_rewind(model, 0.5, optimizer=optimizer)
  else:
    tf_lottery.prune_and_rewind(model, 0.5, optimizer=optimizer)
    assert not remembers(optimizer)


def test_legacy_optimizers_are_refused(tf_keras):
  model = tf_lottery.lottery_prune(sequential(tf_keras))
  legacy = tf_keras.optimizers.legacy.SGD(0.1)
  with pytest.raises(ValueError, match="Legacy tf_keras optimizers"):
    tf_lottery.prune_and_rewind(model, 0.5, optimizer=legacy)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_schedule_without_a_configuration_starts_again(keras, policy):
  class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
      return 0.1 / (tf.cast(step, tf.float32) + 1.0)

  keras.mixed_precision.set_global_policy(policy)
  try:
    model = ready(
      keras, optimizer=lambda keras: keras.optimizers.SGD(Schedule(), 0.9)
    )
    fit(model)
    # A loss scale that is too high at first makes Keras leave a step out.
    assert steps_of(model.optimizer) > 0
    tf_lottery.prune_and_rewind(model, 0.5)
    assert steps_of(model.optimizer) == 0
    fit(model)
    assert steps_of(model.optimizer) > 0
  finally:
    keras.mixed_precision.set_global_policy("float32")


def test_a_rate_set_by_hand_stays_under_mixed_precision(keras):
  keras.mixed_precision.set_global_policy("mixed_float16")
  try:
    model = ready(keras)
    fit(model)
    model.optimizer.learning_rate = 0.007
    tf_lottery.prune_and_rewind(model, 0.5)
    assert float(np.asarray(model.optimizer.learning_rate)) == (
      pytest.approx(0.007)
    )
    assert not remembers(model.optimizer)
  finally:
    keras.mixed_precision.set_global_policy("float32")
