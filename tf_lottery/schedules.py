"""Schedules give the density of each Level.

A schedule is a tuple of densities, one for each Level from 1 on; Level 0 is
dense. Any falling sequence is a schedule; the functions here make common ones.
"""

import numbers
from collections.abc import Iterable

from tf_lottery import masks

Schedule = tuple[float, ...]


def geometric(levels: int, rate: float = 0.2) -> Schedule:
  """Prunes the same fraction of the remaining weights at each Level.

  The density of Level l is `(1 - rate) ** l`, as in iterative magnitude
  pruning (Frankle and Carbin, arXiv 1803.03635, section 2).

  Args:
    levels: Number of Levels after the dense one, at least 1.
    rate: Fraction pruned at each Level, in (0, 1). Defaults to `0.2`.

  >>> [round(d, 4) for d in geometric(3)]
  [0.8, 0.64, 0.512]
  """
  _check_levels(levels)
  if not 0 < rate < 1:
    raise ValueError(f"rate must be in (0, 1), got {rate}.")
  return check_schedule((1 - rate) ** level for level in range(1, levels + 1))


def one_shot(density: float) -> Schedule:
  """Prunes once, to `density` in (0, 1].

  >>> one_shot(0.1)
  (0.1,)
  """
  return check_schedule((density,))


def linear(levels: int, density: float) -> Schedule:
  """Lowers the density by equal steps from 1 to `density` in (0, 1).

  >>> linear(2, 0.5)
  (0.75, 0.5)
  """
  _check_levels(levels)
  masks.check_density(density)
  falling = (1 - (1 - density) * level / levels for level in range(1, levels))
  return check_schedule((*falling, density))


def check_schedule(schedule: Iterable[float]) -> Schedule:
  """Returns the schedule as a tuple of floats, after checking it.

  Raises:
    TypeError: It is a single number.
    ValueError: A density is outside (0, 1], or not below the one before it.
  """
  if isinstance(schedule, numbers.Real):
    raise TypeError(
      f"schedule must be a sequence of densities, got {schedule}. For one"
      f" density give one_shot({schedule})."
    )
  schedule = tuple(float(density) for density in schedule)
  previous = None
  for density in schedule:
    masks.check_density(density)
    if previous is not None and density >= previous:
      raise ValueError(
        "The densities of a schedule must fall from Level to Level, got"
        f" {density} after {previous}."
      )
    previous = density
  return schedule


def _check_levels(levels: int) -> None:
  if levels < 1:
    raise ValueError(f"levels must be at least 1, got {levels}.")
