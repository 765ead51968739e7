"""Gradual pruning: the density falls within one training."""

import json
import shutil

import keras as keras_3
import numpy as np
import pytest

import tf_lottery
from tests import small
from tf_lottery.cost import Cost
from tf_lottery.experiments import controls
from tf_lottery.experiments.controls import gradual_pruning
from tf_lottery.training import data


def test_the_density_falls_by_the_cube_in_the_first_three_quarters():
  found = gradual_pruning.densities(40, 0.2)
  assert list(found) == list(range(3, 31, 3))
  left = [1 - step / 30 for step in found]
  assert list(found.values()) == [0.2 + 0.8 * part**3 for part in left]
  assert gradual_pruning.densities(1, 0.2) == {1: 0.2}
  long = gradual_pruning.densities(10_000, 0.5)
  assert (min(long), max(long), len(long)) == (100, 7500, 75)
  assert long[7500] == 0.5
  assert max(gradual_pruning.densities(40, 0.2, highest=0.5).values()) == 0.5


def test_it_ends_at_the_tickets_density_by_the_searchs_criterion(
  keras, tmp_path
):
  seen = []

  def smallest(binding, mask, batches, seed):
    seen.append(mask.kept)
    return {key: -abs(binding.read()[key]) for key in mask}

  search = small.search(
    tmp_path,
    library=keras,
    levels=2,
    criterion=smallest,
    scope=tf_lottery.layerwise(),
    dropout=0.2,
  )
  seen.clear()
  round_ = controls.gradual(search, 2)
  # 64 weights; the last mask is not scored any more.
  assert seen[0] == 64
  assert sorted(seen, reverse=True) == seen
  assert len(seen) == len(gradual_pruning.densities(20, 0.25)) == 15
  assert seen[-1] >= 16
  ticket = search.rounds[2].ticket
  assert round_.ticket.mask.table() == ticket.mask.table()
  assert round_.ticket.mask != ticket.mask
  assert round_.density == 0.25
  # The start weights are the initial ones, under the last mask.
  dense = search.rounds[0].ticket.start
  for key, kept in round_.ticket.mask.items():
    expected = np.where(kept, dense[key], 0)
    np.testing.assert_array_equal(round_.ticket.start[key], expected)
    assert not round_.final.weights[key][~kept].any()
    assert round_.final.weights[key][kept].all()


def test_it_is_evaluated_once_its_mask_is_the_last(tmp_path):
  search = small.search(tmp_path, levels=1, evaluate_every=4)
  rows = controls.gradual(search, 1).history
  assert max(gradual_pruning.densities(20, 0.5)) == 15
  assert [row["step"] for row in rows] == [16, 20]
  assert "test_accuracy" in rows[-1]
  assert controls.gradual(search, 1).history == rows


@pytest.mark.parametrize("pattern", ["channel", "1_of_2"])
def test_it_keeps_the_pattern(tmp_path, pattern):
  schedule = [0.5, 0.25] if pattern == "channel" else [0.5, 0.375]
  search = small.search(tmp_path, schedule=schedule, pattern=pattern)
  mask = controls.gradual(search, 2).ticket.mask
  assert mask.kept == search.rounds[2].ticket.mask.kept
  hidden = mask["0/kernel"]
  if pattern == "channel":
    assert np.array_equal(hidden.all(0), hidden.any(0))
  else:
    assert hidden.reshape(3, 2, 8).sum(1).max() == 1


class _Stop(Exception):
  pass


SLOW = [pytest.mark.slow]


@pytest.mark.parametrize(
  "step",
  [7, pytest.param(13, marks=SLOW), pytest.param(16, marks=SLOW)],
)
def test_it_resumes_bit_for_bit(keras, strategy, tmp_path, step):
  """Also where the checkpoint, of step 8 or 16, has one of its masks."""
  trainer = tf_lottery.Trainer(
    lambda: small.make_model(keras, dropout=0.2), strategy=strategy, seed=3
  )
  search = small.search(tmp_path / "a", trainer=trainer, levels=2)
  shutil.copytree(tmp_path / "a", tmp_path / "b")
  whole = controls.gradual(search, 2)
  search = small.search(tmp_path / "b", trainer=trainer, levels=2)
  train = trainer.train

  def train_until_stopped(data, start, stop, **options):
    if start >= step:
      raise _Stop
    return train(data, start, stop, **options)

  trainer.train = train_until_stopped
  with pytest.raises(_Stop):
    controls.gradual(search, 2)
  trainer.train = train
  again = controls.gradual(search, 2)
  assert again.ticket.equals(whole.ticket)
  assert again.final.fingerprint() == whole.final.fingerprint()
  assert [row["step"] for row in again.history] == [
    row["step"] for row in whole.history
  ]
  assert again.metrics == whole.metrics
  assert again.cost == whole.cost
  assert again.cost.steps == 20


@pytest.mark.slow
def test_its_cost_is_the_sum_over_its_masks(tmp_path):
  search = small.search(tmp_path, levels=2)
  found = gradual_pruning.densities(20, 0.25)
  cost = controls.gradual(search, 2).cost
  # Of Dense(8) and Dense(2) on 6 numbers; one mask for each stretch.
  steps, kept, expected = 0, 64, 0
  for step, density in [*found.items(), (20, 0.25)]:
    expected += (step - steps) * 12 * 3 * 2 * kept
    steps, kept = step, round(64 * density)
  dense = 20 * 12 * 3 * 2 * 64
  assert cost == Cost(20, 240, dense, expected)
  assert expected < dense
  assert search.rounds[0].cost == Cost(20, 240, dense, dense)
  assert search.rounds[2].cost == Cost(20, 240, dense, dense / 4)


def test_its_changes_learn_what_was_spent(tmp_path, monkeypatch):
  search = small.search(tmp_path, levels=1)
  spent = []

  def change(mask, cost):
    spent.append(cost)
    return mask

  changes = dict.fromkeys((4, 10), change)
  monkeypatch.setattr(gradual_pruning, "_changes", lambda *_: changes)
  controls.gradual(search, 1)
  per_step = 12 * 3 * 2 * 64
  assert spent == [
    Cost(steps, 12 * steps, per_step * steps, per_step * steps)
    for steps in (4, 10)
  ]


def test_it_resumes_where_only_the_record_is_missing(tmp_path):
  search = small.search(tmp_path, levels=1)
  whole = controls.gradual(search, 1)
  (whole.directory.path / "round.json").unlink()
  again = controls.gradual(search, 1)
  assert again.ticket.equals(whole.ticket)
  assert again.metrics == whole.metrics


def test_it_trains_on_streams_without_another_trace(keras, tmp_path):
  import tensorflow as tf

  def batches(epoch):
    dataset = tf.data.Dataset.from_tensor_slices(small.examples(96))
    return dataset.shuffle(96, seed=epoch).batch(12, drop_remainder=True)

  trainer = tf_lottery.Trainer(lambda: small.make_model(keras))
  search = tf_lottery.find_ticket(
    trainer,
    batches,
    validation_data=small.examples(40, 1),
    steps=20,
    schedule=[0.5],
    run_dir=tmp_path,
  )
  traces = trainer.traces
  round_ = controls.gradual(search, 1)
  assert trainer.traces == traces
  assert round_.ticket.mask.kept == search.rounds[1].ticket.mask.kept
  assert not isinstance(search.protocol.train, data.ArrayData)


def test_one_by_tfmot_of_an_earlier_version_is_read_back(tmp_path, caplog):
  """It has no seed in its provenance, and tfmot's mask."""
  search = small.search(tmp_path, library=keras_3, levels=1)
  done = controls.gradual(search, 1)
  ticket = done.ticket
  mask = tf_lottery.Mask.random(ticket.mask.shapes, 0.5, seed=9)
  provenance = dict(ticket.provenance)
  del provenance["control_seed"]
  dense = search.rounds[0].ticket.start
  tf_lottery.Ticket(mask, dense, provenance).save(done.directory.ticket)
  record = done.directory.path / "round.json"
  before = json.loads(record.read_text())
  again = controls.gradual(search, 1)
  assert again.ticket.mask == mask
  assert json.loads(record.read_text()) == before
  assert "by tfmot's gradual pruning" in caplog.text
