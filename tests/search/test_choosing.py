import types

import pytest

from tf_lottery import levels
from tf_lottery import objective
from tf_lottery import rounds


def result(values, name="accuracy", direction="max"):
  made = [
    rounds.Round(
      level, 0.5**level, {f"val_{name}": value}, 1.0, 10, directory=None
    )
    for level, value in enumerate(values)
  ]
  asked = objective.Objective(name, direction)
  return levels.SearchResult(made, types.SimpleNamespace(objective=asked))


@pytest.mark.parametrize(
  ("values", "tolerance", "level"),
  [
    ([0.9, 0.91, 0.92], 0.0, 2),
    ([0.9, 0.91, 0.89], 0.0, 1),
    ([0.9, 0.91, 0.89], 0.02, 2),
    ([0.9, 0.8, 0.895], 0.01, 2),  # a worse one in between does not matter
    ([0.9, 0.8, 0.7], 0.01, 0),
    ([0.9], 0.0, 0),
  ],
)
def test_the_smallest_matching_level(values, tolerance, level):
  assert result(values).smallest_matching_level(tolerance) == level


def test_of_losses_lower_is_better():
  losses = result([0.5, 0.4, 0.6], "loss", "min")
  assert losses.smallest_matching_level(0.0) == 1
  assert losses.smallest_matching_level(0.2) == 2


def test_a_result_names_its_objective():
  found = result([0.5], "mine", "min")
  assert found.objective == objective.Objective("mine", "min")
  assert found.monitor == "mine"
  assert "val mine" in str(found)
