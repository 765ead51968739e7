"""`weight_average`: trained Levels are averaged where that is better."""

import keras
import numpy as np
import pytest

import tf_lottery
from tests import small
from tf_lottery.cost import Cost
from tf_lottery.experiments import controls
from tf_lottery.objective import Objective
from tf_lottery.training import lines


@pytest.fixture(scope="module")
def trainer():
  return tf_lottery.Trainer(
    lambda: small.make_model(keras, learning_rate=0.05), seed=3
  )


def lossy(run_dir, trainer):
  """Three Levels, judged by the loss, which averages lower."""
  loss = Objective("loss", "min")
  return small.search(run_dir, trainer=trainer, steps=40, objective=loss)


@pytest.fixture(scope="module")
def search(trainer, tmp_path_factory):
  return lossy(tmp_path_factory.mktemp("average"), trainer)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_it_is_what_its_provenance_says(search, level):
  round_ = controls.weight_average(search, level)
  changed, mask = round_.ticket, search.ticket(level).mask
  assert changed.mask == mask
  expected = search.trained(level).weights
  for one in changed.provenance["averaged"]:
    theirs = search.trained(one["level"]).weights
    expected = lines.between(expected, theirs, one["share"])
  for key, value in changed.start.items():
    kept = mask.get(key, np.True_)
    np.testing.assert_allclose(value, np.where(kept, expected[key], 0), 1e-6)


def test_it_is_better_or_the_level_itself(search):
  averaged = []
  for level in (1, 2, 3):
    round_ = controls.weight_average(search, level)
    own = search.round(level)
    levels = [one["level"] for one in round_.ticket.provenance["averaged"]]
    assert level not in levels
    assert levels == sorted(levels, key=lambda other: abs(other - level))
    reached, before = (r.metrics["val_loss"] for r in (round_, own))
    assert reached < before if levels else reached == pytest.approx(before)
    averaged += levels
  assert averaged


def test_it_costs_no_training(search):
  round_ = controls.weight_average(search, 2)
  assert (round_.steps, round_.cost) == (0, Cost())
  assert round_.start == 40
  assert "test_accuracy" in round_.metrics
  assert search.price()["controls"] == Cost()


def test_more_of_a_metric_may_be_better(trainer, tmp_path):
  search = small.search(tmp_path, trainer=trainer, steps=40, levels=2)
  for level in (1, 2):
    round_ = controls.weight_average(search, level)
    own = search.round(level).metrics["val_accuracy"]
    if round_.ticket.provenance["averaged"]:
      assert round_.metrics["val_accuracy"] > own
    else:
      assert round_.metrics["val_accuracy"] == own


def test_levels_that_are_trained_later_change_nothing(trainer, tmp_path):
  first = small.search(tmp_path, trainer=trainer, levels=1)
  before = controls.weight_average(first, 1)
  deeper = small.search(tmp_path, trainer=trainer, levels=3)
  again = controls.weight_average(deeper, 1)
  assert again.metrics == before.metrics
  assert again.ticket.equals(before.ticket)


def test_levels_that_were_stopped_are_left_out(trainer, tmp_path):
  search = lossy(tmp_path, trainer)
  before = controls.weight_average(search, 2).ticket.provenance["averaged"]
  assert 1 in {one["level"] for one in before}
  (search.round(1).directory.path / "round.json").unlink()
  search.train_level(1, until=lambda rows: len(rows) > 2)
  after = controls.weight_average(search, 2, 1).ticket.provenance["averaged"]
  assert 1 not in {one["level"] for one in after}
  with pytest.raises(ValueError, match=r"Level 1 was stopped. Go on with it"):
    controls.weight_average(search, 1)
