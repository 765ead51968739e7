import types

import pytest

from tf_lottery import levels
from tf_lottery import rounds


def result(values, monitor="accuracy"):
  made = [
    rounds.Round(
      level, 0.5**level, {f"val_{monitor}": value}, 1.0, 10, directory=None
    )
    for level, value in enumerate(values)
  ]
  return levels.SearchResult(made, types.SimpleNamespace(monitor=monitor))


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


@pytest.mark.parametrize("monitor", ["loss", "mae", "mean_squared_error"])
def test_of_losses_and_errors_lower_is_better(monitor):
  losses = result([0.5, 0.4, 0.6], monitor=monitor)
  assert losses.smallest_matching_level(0.0) == 1
  assert losses.smallest_matching_level(0.2) == 2


def test_a_metric_whose_name_does_not_tell_is_refused():
  with pytest.raises(ValueError, match="'mine' should be high or low"):
    result([0.5, 0.4], monitor="mine").smallest_matching_level()
