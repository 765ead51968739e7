"""Rounds that are done: read back, chosen, and put on a model."""

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tf_lottery import rounds
from tf_lottery import rundir


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  path = tmp_path_factory.mktemp("run")
  return path, small.search(path, levels=2)


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_a_round_is_restored_on_either_generation(home, library):
  round_ = home[1].rounds[2]
  model = round_.restore(tf_lottery.lottery_prune(small.make_model(library)))
  binding = tf_lottery.bind(model)
  assert binding.mask == round_.ticket.mask
  final = round_.final.weights
  for key, value in binding.read().items():
    assert np.array_equal(value, final[key])
  assert tf_lottery.Ticket.from_model(model).equals(round_.ticket)
  x, y = small.examples(40, 1)
  logits = np.asarray(model(x))
  accuracy = np.mean(logits.argmax(-1) == y)
  assert accuracy == pytest.approx(round_.metrics["val_accuracy"])


def test_the_levels_of_a_run_are_read_back(home):
  path, result = home
  levels = rounds.read_levels(rundir.RunDirectory(path))
  assert [round_.metrics for round_ in levels] == [
    round_.metrics for round_ in result.rounds
  ]
  found = rounds.smallest_matching(levels, "accuracy", 0.02)
  assert found.level == result.smallest_matching_level(0.02)


@pytest.mark.parametrize(
  ("monitor", "values", "tolerance", "level"),
  [
    ("accuracy", [0.9, 0.91, 0.8], 0.0, 1),
    ("accuracy", [0.9, 0.91, 0.8], 0.11, 2),
    ("accuracy", [0.9, 0.8, 0.9], 0.0, 2),
    ("accuracy", [0.9, 0.8, 0.8], 0.0, 0),
    ("loss", [0.9, 0.8, 1.0], 0.0, 1),
    ("loss", [0.9, 0.8, 1.0], 0.11, 2),
  ],
)
def test_the_smallest_that_matches_is_chosen(monitor, values, tolerance, level):
  levels = [
    rounds.Round(number, 0.5**number, {f"val_{monitor}": value}, 1.0, 1, None)
    for number, value in enumerate(values)
  ]
  assert rounds.smallest_matching(levels, monitor, tolerance).level == level


def test_a_directory_without_levels_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="holds no finished search"):
    rounds.read_levels(rundir.RunDirectory(tmp_path))
