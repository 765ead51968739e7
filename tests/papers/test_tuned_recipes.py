"""Recipes that the papers did not have, to tune their networks by."""

import math

import numpy as np
import pytest

import tf_lottery
from tf_lottery import masks
from tf_lottery import papers
from tf_lottery.papers import losses
from tf_lottery.papers import networks
from tf_lottery.papers import recipes
from tf_lottery.training.data import ArrayData

TUNED = {
  "learning_rate": 0.01,
  "decay": "cosine",
  "weight_decay": 0.1,
  "dropout": 0.3,
  "label_smoothing": 0.1,
}


def make(keras, recipe="lenet_300_100", **settings):
  return papers.experiments.make_model(
    recipe, "digits", keras=keras.__name__, steps=20, width=0.1, **settings
  )


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_smoothed_labels_are_those_of_keras(keras, shape):
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 4, 6)
  predicted = rng.dirichlet(np.ones(4), 6).astype(np.float32)
  one_hot = np.eye(4, dtype=np.float32)[labels]
  expected = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)
  loss = losses.smoothed_crossentropy(0.2, keras=keras.__name__)
  for each in (loss, type(loss).from_config(loss.get_config())):
    found = float(each(labels.reshape(shape), predicted))
    assert found == pytest.approx(float(expected(one_hot, predicted)))
    assert found != pytest.approx(
      float(keras.losses.CategoricalCrossentropy()(one_hot, predicted))
    )


def test_without_smoothing_the_loss_is_the_plain_one(keras):
  assert losses.smoothed_crossentropy(0.0) == "sparse_categorical_crossentropy"
  assert make(keras, label_smoothing=0.0).loss == make(keras).loss
  with pytest.raises(ValueError, match=r"\[0, 1\), got 1.5"):
    losses.smoothed_crossentropy(1.5)


def test_a_cosine_falls_to_nothing(keras):
  plain = recipes.cosine(0.4, 20, keras=keras.__name__)
  warm = recipes.cosine(0.4, 20, warmup=4, keras=keras.__name__)
  for step in (0, 5, 10, 20):
    expected = 0.2 * (1 + math.cos(math.pi * step / 20))
    assert float(plain(step)) == pytest.approx(expected, abs=1e-7)
  for step, expected in ((0, 0.0), (2, 0.2), (4, 0.4), (12, 0.2), (20, 0.0)):
    assert float(warm(step)) == pytest.approx(expected, abs=1e-7)


def test_a_cosine_takes_the_place_of_the_drops(keras):
  model = make(keras, "resnet20_low", decay="cosine", learning_rate=0.2)
  schedule = model.optimizer._learning_rate
  rates = [float(schedule(step)) for step in (0, 10, 20)]
  assert rates == pytest.approx([0.2, 0.1, 0.0], abs=1e-7)
  with pytest.raises(ValueError, match="None or 'cosine', got 'linear'"):
    make(keras, decay="linear")


def test_weight_decay_of_adam_is_decoupled(keras):
  model = make(keras, weight_decay=0.1)
  assert isinstance(model.optimizer, keras.optimizers.AdamW)
  assert model.optimizer.weight_decay == 0.1
  assert not model.losses
  assert type(make(keras).optimizer) is keras.optimizers.Adam
  decayed = make(keras, "resnet20_low", weight_decay=0.5)
  assert isinstance(decayed.optimizer, keras.optimizers.SGD)
  assert len(decayed.losses) == 22


@pytest.mark.parametrize(
  ("name", "count"),
  [("lenet_300_100", 2), ("conv2", 2), ("conv6", 2), ("resnet20", 1)],
)
def test_dropout_adds_layers_and_no_weights(keras, name, count):
  make_network = getattr(networks, name)
  plain, dropped = (
    make_network((8, 8), keras=keras.__name__, width=0.05, dropout=dropout)
    for dropout in (0.0, 0.3)
  )
  found = [isinstance(x, keras.layers.Dropout) for x in dropped.layers]
  assert sum(found) == count
  assert not any(isinstance(x, keras.layers.Dropout) for x in plain.layers)
  first, second = (tf_lottery.bind(model).shapes for model in (plain, dropped))
  assert first == second


def test_a_tuned_recipe_trains_under_a_mask(keras):
  trainer = tf_lottery.Trainer(lambda: make(keras, **TUNED), jit=False)
  mask = masks.Mask.random(trainer.binding.shapes, 0.5, seed=0)
  trainer.restore(trainer.initial, mask, 0)
  x = np.random.default_rng(0).random((40, 8, 8), np.float32)
  examples = ArrayData((x, np.arange(40) % 10))
  loss = trainer.train(examples, 0, 4, batch_size=20, seed=0)
  assert np.isfinite(loss)
  trainer.binding.check_held()
  assert 0 <= trainer.evaluate(examples)["accuracy"] <= 1
