"""Experiments that search by another method, by bisection or in a budget."""

import dataclasses

import pytest

from tests.experiments import mine
from tf_lottery import experiments
from tf_lottery import schedules
from tf_lottery.experiments import trained
from tf_lottery.search.methods import cycles
from tf_lottery.search.methods import gradual
from tf_lottery.search.methods import iterative
from tf_lottery.storage import run_directory

PLAIN = experiments.Experiment(
  make_model=mine.make_model,
  load_data=mine.load_data,
  steps=16,
  batch_size=12,
  schedule=schedules.geometric(12),
  controls=(),
  replicates=1,
  tolerance=1.0,  # every ticket matches
)


def change(**fields):
  return dataclasses.replace(PLAIN, **fields)


@pytest.mark.parametrize(
  ("one", "other"),
  [
    ("gradual", gradual()),
    ("cycles(2, 0.5)", cycles(2, 0.5)),
    ("iterative", iterative()),
  ],
)
def test_a_method_is_the_same_however_it_is_written(one, other):
  one, other = change(method=one), change(method=other)
  assert one.id == other.id
  assert one.to_json() == other.to_json()


def test_a_declared_method_is_read_back(tmp_path):
  for method in ("iterative", gradual("2ep")):
    change(method=method).declare(tmp_path)
    found, _ = experiments.of_run(tmp_path)
    assert found.method == method
  assert change(method=iterative()).id == PLAIN.id
  assert change(method="gradual").id != PLAIN.id


def test_a_refused_budget_names_what_was_given():
  with pytest.raises(ValueError, match=r"method=early_bird\(\),") as error:
    change(budget=4, method="early_bird")
  assert "choose=" not in str(error.value)
  with pytest.raises(ValueError, match="Leave out choose='bisect', or the bud"):
    change(budget=4, choose="bisect")


def test_the_tolerance_of_an_experiment_reaches_the_bisection(tmp_path):
  bisected = change(
    method="at_init('random')", choose="bisect", schedule=(0.6, 0.3, 0.1)
  )
  search = experiments.run(bisected, 0, tmp_path)
  assert search.smallest_matching_level() == 3
  assert "Level 3" in str(search)
  outcome = search.directory.read_outcome()
  assert (outcome["level"], outcome["trained"]) == (3, [0, 2, 3])


@pytest.mark.parametrize("fields", [{"choose": "bisect"}, {"budget": 2.5}])
def test_without_controls_it_is_done_when_the_search_is(fields, tmp_path):
  if "choose" in fields:
    fields["method"] = "at_init('random')"
  alone = change(**fields, control_levels=(), schedule=(0.6, 0.3))
  assert not experiments.is_done(alone, 0, tmp_path)
  experiments.run(alone, 0, tmp_path)
  assert experiments.is_done(alone, 0, tmp_path)
  assert trained.count_done(alone, tmp_path) == (1, 1)


def test_named_levels_are_trained_though_a_budget_passes_over_them(tmp_path):
  named = change(
    budget=2.5, control_levels=(3, 12), controls=("shuffled_mask",)
  )
  experiments.run(named, 0, tmp_path)
  directory = run_directory.RunDirectory(
    experiments.run_dir(named, 0, tmp_path), writes=False
  )
  for level in (3, 12):
    assert directory.level(level).is_done
    assert directory.control(level, "shuffled_mask", 0).is_done
  assert experiments.is_done(named, 0, tmp_path)
  assert experiments.chosen_levels(named, tmp_path) == (3, 12)


def test_with_a_budget_another_tolerance_is_another_search(tmp_path):
  within = change(budget=2.5, control_levels=(), schedule=(0.6, 0.3))
  other = dataclasses.replace(within, tolerance=0.0)
  assert other.id != within.id
  experiments.run(within, 0, tmp_path)
  named = dataclasses.replace(other, name=within.id)
  with pytest.raises(ValueError, match=r"tolerance: it was 1\.0, now 0\.0"):
    experiments.run(named, 0, tmp_path)
  assert experiments.is_done(within, 0, tmp_path)
