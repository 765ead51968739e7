"""A training that diverges stops, says why, and can be told from others."""

import json
import logging

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tf_lottery.experiments import controls
from tf_lottery.tickets import Ticket


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_a_learning_rate_that_is_far_too_high(library, tmp_path):
  with pytest.raises(
    tf_lottery.DivergedError,
    match=r"Level 0, .*loss became nan between step 0 and step 8 of 4000"
    r".*learning rate is far too high",
  ) as caught:
    small.search(tmp_path, library=library, learning_rate=1e38, steps=4000)
  assert str(tmp_path) in str(caught.value)
  assert not (tmp_path / "level_00" / "round.json").exists()


def test_a_training_that_diverges_later(tmp_path):
  """The learning rate explodes in the third epoch."""

  def make_model():
    model = small.make_model(keras)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([16], [0.01, 1e38])
    model.compile(
      keras.optimizers.SGD(rate),
      keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model

  trainer = tf_lottery.Trainer(make_model)
  with pytest.raises(
    tf_lottery.DivergedError,
    match=r"between step 16 and step 24 of 40\. It was finite up to step 16",
  ):
    small.search(tmp_path, trainer=trainer, steps=40)
  rows = (tmp_path / "level_00" / "metrics.jsonl").read_text().splitlines()
  steps = [json.loads(row)["step"] for row in rows]
  assert steps[-1] == 16


def test_a_loss_that_is_never_finite(tmp_path):
  def make_model():
    model = small.make_model(keras)
    model.compile("sgd", lambda y, p: keras.ops.log(-keras.ops.abs(p[:, 0])))
    return model

  trainer = tf_lottery.Trainer(make_model)
  with pytest.raises(
    tf_lottery.DivergedError, match="A lower learning rate does not help"
  ):
    small.search(tmp_path, trainer=trainer)


def test_a_control_that_diverges_is_recorded(tmp_path, caplog):
  search = small.search(tmp_path, levels=1)
  ticket = search.ticket(1)
  start = {
    key: value * np.float32(1e30) if "kernel" in key else value
    for key, value in ticket.start.items()
  }
  start["1/gamma"] = np.full_like(start["1/gamma"], np.inf)
  control = Ticket(
    ticket.mask, start, {**ticket.provenance, "control": "random_reinit"}
  )
  with caplog.at_level(logging.WARNING, "tf_lottery"):
    round_ = search.train_control(control)
  assert (
    "control random_reinit, density 50.00%: its weights are not" in caplog.text
  )
  assert "recorded as it is" in caplog.text
  assert not np.isfinite(round_.metrics["val_loss"])
  assert round_.directory.is_done
  # Other controls follow it.
  assert np.isfinite(controls.shuffled_mask(search, 1).metrics["val_loss"])


def test_a_metric_that_is_not_a_number_is_named(tmp_path, caplog):
  def odd(y, predicted):
    return predicted[:, 0] * np.nan

  def make_model():
    model = small.make_model(keras)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy", odd])
    return model

  trainer = tf_lottery.Trainer(make_model)
  with caplog.at_level(logging.WARNING, "tf_lottery"):
    small.search(tmp_path, trainer=trainer, levels=1)
  assert "Level 1, density 50.00%: val_odd is nan" in caplog.text
