"""Every optimizer class of both Keras generations, under masks with empty rows.

A mask may leave a row, a column or a whole layer without a weight, and their
gradients are zero from then on. An optimizer must go on training the others.
"""

import inspect

import keras as keras_3
import numpy as np
import pytest
import tf_keras as keras_2

import tf_lottery

REFUSED = {
  "Adafactor": r"Adafactor divides 0 by 0 .* got 1e-30: give .*epsilon_1=1e-12",
  "MultiOptimizer": "MultiOptimizer cannot be rewound: each of its optimizers",
  "ScheduleFreeAdamW": "ScheduleFreeAdamW cannot be rewound: .* Use AdamW",
}


def classes():
  """All of them: a class that Keras adds later is tried too."""
  for keras, marks in ((keras_3, []), (keras_2, [pytest.mark.slow])):
    base = keras.optimizers.Optimizer
    for name, value in sorted(vars(keras.optimizers).items()):
      if inspect.isclass(value) and issubclass(value, base) and value != base:
        yield pytest.param(
          keras, name, {}, id=f"{keras.__name__}-{name}", marks=marks
        )
    for name, settings in (
      ("Adafactor", {"epsilon_1": 1e-12}),
      ("Adafactor", {"epsilon_1": 1e-15}),
      ("Adam", {"amsgrad": True}),
      ("Adam", {"weight_decay": 0.1, "clipnorm": 0.1}),
      ("Lion", {"weight_decay": 0.1, "global_clipnorm": 0.1}),
      ("RMSprop", {"momentum": 0.9, "centered": True}),
      ("SGD", {"momentum": 0.9, "nesterov": True, "clipvalue": 0.01}),
    ):
      setting = "-".join(settings)
      yield pytest.param(
        keras,
        name,
        settings,
        id=f"{keras.__name__}-{name}-{setting}",
        marks=marks,
      )
  accumulating = {"gradient_accumulation_steps": 2}
  yield pytest.param(keras_3, "Adam", accumulating, id="keras-accumulating")
  # It is not among tf_keras's optimizers.
  yield pytest.param(keras_2, "LossScaleOptimizer", {}, id="tf_keras-scaled")


def make_optimizer(keras, name, settings):
  library = keras.optimizers
  if name == "LossScaleOptimizer":
    return keras.mixed_precision.LossScaleOptimizer(library.Adam(0.01))
  make = getattr(library, name)
  if name == "MultiOptimizer":
    return make(library.OptimizerMap(library.Adam(0.01)))
  return make(**{"learning_rate": 0.01, **settings})


def make_model(keras, name, settings):
  layers = keras.layers
  model = keras.Sequential(
    [
      keras.Input((6,)),
      layers.Reshape((6, 1)),
      layers.Conv1D(4, 3, activation="relu"),
      layers.Flatten(),
      layers.Dense(16, activation="relu"),
      layers.Dense(8, activation="relu"),
      layers.Dense(3),
    ]
  )
  model.compile(
    make_optimizer(keras, name, settings),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
  )
  return model


def masks(shapes):
  """Yields masks of 30, 10 and 1 % with an empty row and an empty column.

  Of the two at each density, the second leaves nothing of a layer.
  """
  rng = np.random.default_rng(0)
  for density in (0.3, 0.1, 0.01):
    for empty in (None, list(shapes)[1]):
      mask = {}
      for key, shape in shapes.items():
        kept = rng.random(shape) < density
        kept[0] = kept[..., 0] = False
        kept[1, ..., 1] = True
        mask[key] = kept & (key != empty)
      yield tf_lottery.Mask(mask)


def examples():
  x = np.random.default_rng(1).normal(size=(32, 6)).astype(np.float32)
  return x, np.arange(32) % 3


def assert_finite(weights):
  for key, value in weights.items():
    assert np.isfinite(value).all(), key


def assert_refused(keras, name):
  for use in (
    lambda: tf_lottery.Trainer(lambda: make_model(keras, name, {}), jit=False),
    lambda: tf_lottery.lottery_prune(make_model(keras, name, {})),
  ):
    with pytest.raises(ValueError, match=REFUSED[name]):
      use()


@pytest.mark.parametrize(("keras", "name", "settings"), list(classes()))
def test_weights_stay_finite_and_train(keras, name, settings):
  if name in REFUSED and not settings:
    assert_refused(keras, name)
    return
  trainer = tf_lottery.Trainer(
    lambda: make_model(keras, name, settings), jit=False
  )
  for mask in masks(trainer.binding.shapes):
    trainer.restore(trainer.initial, mask, 0)
    before = trainer.binding.read()
    # Not 4 steps: two of Lion's may undo the other two.
    loss = trainer.train(examples(), 0, 3, batch_size=16, seed=0)
    trainer.binding.check_held()
    after = trainer.binding.read()
    assert np.isfinite(loss)
    assert_finite(after)
    assert any(np.any(after[key] != before[key]) for key in after)


@pytest.mark.slow
@pytest.mark.parametrize(("keras", "name", "settings"), list(classes()))
def test_weights_stay_finite_in_fit(keras, name, settings):
  """Here pruned weights get gradients too."""
  if name in REFUSED and not settings:
    return
  model = tf_lottery.lottery_prune(make_model(keras, name, settings))
  binding = tf_lottery.bind(model)
  for mask in masks(binding.shapes):
    binding.write(binding.initial())
    binding.hold(mask)
    model.fit(*examples(), batch_size=16, epochs=2, verbose=0)
    binding.check_held()
    assert_finite(binding.read())
