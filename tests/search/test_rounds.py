"""Rounds that are done: read back, chosen, and put on a model."""

import hypothesis
import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import strategies

import tf_lottery
from tests import small
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
  tested = rounds.Round(3, 0.512, metrics, 12.3, 10, None, smallest)
  untested = rounds.Round(0, 1.0, {"val_accuracy": 0.5}, 1.0, 10, None)
  header, first, second = rounds.table([tested, untested], objective).split(
    "\n"
  )
  end = header.index("  smallest layer")
  assert first[end:] == "    5.60% fc/kernel"
  assert second[end:] == "  -"
  assert first[:end].split() == ["3", "51.20%", "0.5000", "0.2500", "12.3"]
  assert second.split()[3] == "-"
