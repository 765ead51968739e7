import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tf_lottery import masks
from tf_lottery.papers import recipes
from tf_lottery.training import augmentation
from tf_lottery.training import data as data_lib
from tf_lottery.training.trainer import Trainer

LADDERS = {  # level -> percent of the weights left, from the paper's figures
  "lenet_300_100": {
    **{1: 80.04, 2: 64.06, 3: 51.28, 4: 41.05, 5: 32.87, 6: 26.32},
    **{7: 21.07, 8: 16.88, 9: 13.52, 10: 10.83, 11: 8.68, 12: 6.95},
    **{13: 5.57, 14: 4.47, 15: 3.58, 16: 2.87, 20: 1.19, 24: 0.50},
  },
  "conv2": {6: 26.47, 11: 8.81, 14: 4.57},
  "conv4": {11: 11.06, 12: 9.18, 13: 7.65, 15: 5.37},
  "conv6": {7: 26.61, 10: 15.29, 12: 10.62},
  "resnet20": {4: 41.66, 6: 27.09, 7: 21.91, 10: 11.79},
  # Never-pruned weights do not count where there are none.
  "resnet20_rewind": {1: 80.00, 3: 51.20, 5: 32.77, 10: 10.74},
}


def test_unknown_recipes_are_refused():
  with pytest.raises(ValueError, match=r"'conv2', 'conv4'.*got 'vgg'"):
    recipes.recipe("vgg")


@pytest.mark.parametrize("name", LADDERS)
def test_the_recipes_prune_as_the_paper(name):
  recipe = recipes.recipe(name)
  shape = (28, 28) if name == "lenet_300_100" else (32, 32, 3)
  weights = tf_lottery.bind(recipe.make_model(shape)).report.prunable
  total = sum(weight.size for weight in weights)
  for level, expected in LADDERS[name].items():
    groups = recipe.scope(weights, 0.8**level)
    competing = {key for group in groups for key in group.keys}
    kept = sum(group.keep for group in groups)
    kept += sum(w.size for w in weights if w.key not in competing)
    assert 100 * kept / total == pytest.approx(expected, abs=0.0051), level


@pytest.mark.parametrize(
  ("name", "optimizer", "rate", "batch_size", "steps", "warmup", "drops"),
  [
    ("lenet_300_100", "adam", 1.2e-3, 60, 50_000, 0, ()),
    ("conv2", "adam", 2e-4, 60, 20_000, 0, ()),
    ("conv4", "adam", 3e-4, 60, 25_000, 0, ()),
    ("conv6", "adam", 3e-4, 60, 30_000, 0, ()),
    ("resnet20", "sgd", 0.03, 128, 30_000, 20_000, (20_000, 25_000)),
    ("resnet20_low", "sgd", 0.01, 128, 30_000, 0, (20_000, 25_000)),
    ("resnet20_rewind", "sgd", 0.1, 128, 63_000, 0, (31_500, 47_250)),
    ("vgg19", "sgd", 0.1, 64, 112_000, 10_000, (56_000, 84_000)),
    ("vgg19_low", "sgd", 0.01, 64, 112_000, 0, (56_000, 84_000)),
  ],
)
def test_the_recipes_train_as_the_papers(
  name, optimizer, rate, batch_size, steps, warmup, drops
):
  recipe = recipes.recipe(name)
  assert (recipe.optimizer, recipe.learning_rate) == (optimizer, rate)
  assert (recipe.batch_size, recipe.steps) == (batch_size, steps)
  assert (recipe.warmup, recipe.drops) == (warmup, drops)
  sgd = optimizer == "sgd"
  assert recipe.augment == sgd
  assert recipe.weight_decay == (1e-4 if sgd else 0)
  assert recipe.pruning == ("global" if sgd else "layerwise")
  assert recipe.rewind == ("1000it" if name.endswith("rewind") else "0it")


def test_choices_that_do_not_exist_are_refused():
  recipe = recipes.recipe("conv2")
  with pytest.raises(ValueError, match="'adam' or 'sgd', got 'adamw'"):
    dataclasses.replace(recipe, optimizer="adamw")
  with pytest.raises(ValueError, match="'global', got 'local'"):
    dataclasses.replace(recipe, pruning="local")


def test_warm_up_and_drops_keep_their_place():
  recipe = recipes.recipe("resnet20")
  short = recipe.scaled(300)
  assert (short.steps, short.warmup, short.drops) == (300, 200, (200, 250))
  assert short.scaled(30_000) == recipe


@pytest.mark.parametrize("jit", [None, True])
@pytest.mark.parametrize(
  ("warmup", "expected"),
  [
    (0, {0: 0.4, 9: 0.4, 10: 0.04, 19: 0.04, 20: 0.004}),
    (4, {0: 0.0, 1: 0.1, 4: 0.4, 9: 0.4, 10: 0.04, 20: 0.004}),
    (20, {0: 0.0, 9: 0.18, 10: 0.02, 19: 0.038, 20: 0.004}),
  ],
)
def test_the_learning_rate_rises_and_drops(keras, warmup, expected, jit):
  schedule = recipes.learning_rate(
    0.4, warmup=warmup, drops=(10, 20), keras=keras.__name__
  )
  schedules = keras.optimizers.schedules
  again = schedules.deserialize(schedules.serialize(schedule))
  for each in (schedule, again):
    program = tf.function(each, jit_compile=jit)
    for step, rate in expected.items():
      assert float(program(tf.constant(step, tf.int64))) == pytest.approx(rate)


def test_the_models_are_compiled_with_their_optimizer(keras):
  adam, sgd = (
    recipes.recipe(name)
    .make_model((28, 28), 5, keras=keras.__name__, width=0.1)
    .optimizer
    for name in ("conv6", "vgg19_low")
  )
  assert isinstance(adam, keras.optimizers.Adam)
  assert float(adam.learning_rate) == pytest.approx(3e-4)
  assert isinstance(sgd, keras.optimizers.SGD)
  assert sgd.momentum == 0.9
  assert float(sgd.learning_rate) == pytest.approx(0.01)


def test_a_small_resnet20_trains_by_its_recipe(keras):
  recipe = recipes.recipe("resnet20").scaled(30)
  trainer = Trainer(
    lambda: recipe.make_model((8, 8, 3), keras=keras.__name__, width=0.1)
  )
  x = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
  examples = data_lib.ArrayData((x, np.arange(4)), augmentation.crop_and_flip)
  mask = masks.Mask.random(trainer.binding.shapes, 0.5, seed=0)
  trainer.restore(trainer.initial, mask, 0)
  loss = trainer.train(examples, 0, 2, batch_size=2, seed=0)
  assert np.isfinite(loss)
  trainer.binding.check_held()
  weights = trainer.binding.read()
  assert np.any(weights["0/kernel"] != trainer.initial.weights["0/kernel"])
