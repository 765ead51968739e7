"""Rounds that are done: read back, chosen, and put on a model."""

import dataclasses

import hypothesis
import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import strategies

import tf_lottery
from tests import runs
from tests import small
from tf_lottery.cost import Cost
from tf_lottery.search import rounds
from tf_lottery.storage import run_directory


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
  levels = rounds.read_levels(run_directory.RunDirectory(path))
  assert [round_.metrics for round_ in levels] == [
    round_.metrics for round_ in result.rounds
  ]
  found = rounds.smallest_matching_round(levels, result.objective, 0.02)
  assert found.level == result.smallest_matching_level(0.02)


def levels_of(values, name="x"):
  return [
    rounds.Round(number, 0.5**number, {f"val_{name}": value}, 1.0, 1, None)
    for number, value in enumerate(values)
  ]


@pytest.mark.parametrize(
  ("direction", "values", "tolerance", "level"),
  [
    ("max", [0.9, 0.91, 0.8], 0.0, 1),
    ("max", [0.9, 0.91, 0.8], 0.11, 2),
    ("max", [0.9, 0.8, 0.9], 0.0, 2),
    ("max", [0.9, 0.8, 0.8], 0.0, 0),
    ("max", [0.9], 0.0, 0),
    ("max", [0.9, 0.8, 0.895], 0.01, 2),
    ("min", [0.9, 0.8, 1.0], 0.0, 1),
    ("min", [0.9, 0.8, 1.0], 0.11, 2),
  ],
)
def test_the_smallest_that_matches_is_chosen(
  direction, values, tolerance, level
):
  # A name that would mislead who looks at it.
  objective = tf_lottery.Objective("vaccine_loss", direction)
  levels = levels_of(values, "vaccine_loss")
  assert (
    rounds.smallest_matching_round(levels, objective, tolerance).level == level
  )


def write_dense(path, *rows):
  directory = run_directory.RunDirectory(path).level(0)
  for row in rows:
    directory.append_metrics({"val_loss": 1.0, "seconds": 1.0, **row})
  return directory


@pytest.mark.parametrize(
  ("start", "tolerance"),
  [
    ({"step": 0, "val_x": 0.1}, 0.008),
    ({"step": 10, "loss": 1.0, "val_x": 0.1}, 0.009),  # of an earlier version
    ({"step": 0, "val_x": float("nan")}, 0.009),
  ],
)
def test_the_default_tolerance_is_of_what_training_gained(
  tmp_path, start, tolerance
):
  directory = write_dense(
    tmp_path, start, {"step": 20, "loss": 1.0, "val_x": 0.9}
  )
  dense, *others = levels_of([0.9, 0.9 - 0.99 * tolerance, 0.9 - 2 * tolerance])
  dense = dataclasses.replace(dense, directory=directory)
  one = tf_lottery.Objective("x", "max")
  assert rounds.tolerance_of(dense, one) == pytest.approx(tolerance)
  assert rounds.smallest_matching_round([dense, *others], one).level == 1


def test_a_dense_network_that_diverged_is_matched_by_nothing(tmp_path):
  nan = float("nan")
  directory = write_dense(tmp_path, {"step": 20, "loss": nan, "val_x": nan})
  dense, *others = levels_of([nan, 0.5, nan])
  dense = dataclasses.replace(dense, directory=directory)
  one = tf_lottery.Objective("x", "max")
  assert rounds.smallest_matching_round([dense, *others], one).level == 0
  assert "the best is Level 1, val x 0.5 against nan" in rounds.choice(
    [dense, *others], one
  )


def test_the_choice_is_said_in_words():
  one = tf_lottery.Objective("mae", "min")
  assert rounds.choice(levels_of([2.0, 2.1, 3.0], "mae"), one, 0.2) == (
    "The smallest matching ticket is Level 1, with 50.00% of the weights: val"
    " mae 2.1 against 2 dense (at most 0.2 more is allowed)."
  )
  found = rounds.choice(levels_of([2.0, 2.5, 2.3], "mae"), one, 0.2)
  assert found.startswith(
    "No ticket matches the dense network: the best is Level 2, val mae 2.3"
    " against 2 dense (at most 0.2 more is allowed). Prune less in each Level"
  )
  assert rounds.choice(levels_of([2.0], "mae"), one, 0.2) == (
    "No ticket is trained yet; dense val mae is 2."
  )


@hypothesis.given(
  strategies.lists(strategies.floats(allow_nan=False), min_size=1),
  strategies.floats(0, 10),
)
def test_less_is_better_is_more_is_better_of_the_negated(values, tolerance):
  least = rounds.smallest_matching_round(
    levels_of(values), tf_lottery.Objective("x", "min"), tolerance
  )
  most = rounds.smallest_matching_round(
    levels_of([-value for value in values]),
    tf_lottery.Objective("x", "max"),
    tolerance,
  )
  assert least.level == most.level


def test_a_directory_without_levels_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="holds no finished search"):
    rounds.read_levels(run_directory.RunDirectory(tmp_path))


def test_rows_line_up_with_the_header():
  objective = tf_lottery.Objective("accuracy", "max")
  metrics = {"val_accuracy": 0.5, "test_accuracy": 0.25}
  smallest = {"name": "fc/kernel", "density": 0.056}
  half = Cost(5, 30, 50.0, 20.0)
  tested = rounds.Round(3, 0.512, metrics, 12.3, 5, None, smallest, cost=half)
  untested = rounds.Round(
    *(0, 1.0, {"val_accuracy": 0.5}, 1.0, 10, None),
    cost=Cost(10, 60, 100.0, 100.0),
  )
  table = rounds.table([untested, tested], objective)
  header, second, first = table.split("\n")
  assert max(map(len, table.split("\n"))) <= 100
  end = header.index("  smallest layer")
  assert first[end:] == "    5.60% fc/kernel"
  assert second[end:] == "  -"
  assert first[:end].split() == [
    *("3", "51.20%", "0.5000", "0.2500", "0.50", "12.3")
  ]
  assert second.split()[3:5] == ["-", "1.00"]


def test_costs_of_earlier_versions_are_told_in_steps(tmp_path):
  runs.write_run(tmp_path, {"dense": [0.9], "ticket": [0.8, 0.7]})
  levels = rounds.read_levels(run_directory.RunDirectory(tmp_path))
  assert [round_.cost for round_ in levels] == [Cost(steps=30)] * 3
  table = rounds.table(levels, tf_lottery.Objective("accuracy", "max"))
  assert table.count(" 1.00 ") == 3
