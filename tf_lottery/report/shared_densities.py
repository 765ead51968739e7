"""The densities at which several searches can be compared."""

import math
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

# By how much, relative to it, densities of a panel may differ from the panel's.
_SAME = 0.02
# How near a Level must be to a density that somebody asks for.
_NEAR = 0.1
# The panels, if nobody asks for densities.
_PANELS = 4


def choose(
  by_label: Mapping[str, Mapping[int, float]],
  asked: Sequence[float] | None,
) -> list[float]:
  """Chooses densities to compare at, in falling order.

  Args:
    by_label: The densities of each method, by Level.
    asked: The densities that are wanted; None for those of most methods.
  """
  every = sorted({d for own in by_label.values() for d in own.values()})[::-1]
  counts: dict[float, int] = {}
  for density in every:
    found = [level_at(own, density) for own in by_label.values()]
    number = sum(level is not None for level in found)
    same = next((d for d in counts if abs(d / density - 1) <= _SAME), density)
    if number > counts.get(same, 0):
      counts.pop(same, None)
      counts[density] = number
  if asked is not None:
    nearest = [
      min(counts, key=lambda d: abs(math.log(d / wanted)), default=None)
      for wanted in asked
    ]
    pairs = zip(nearest, asked, strict=True)
    near = {d for d, wanted in pairs if d and abs(d / wanted - 1) <= _NEAR}
    return sorted(near, reverse=True)
  most = max(counts.values(), default=0)
  # Methods that choose their Levels have few of them.
  enough = max(min(2, len(by_label)), most / 2)
  shared = sorted((d for d, n in counts.items() if n >= enough), reverse=True)
  if len(shared) <= _PANELS:
    return shared
  places = np.linspace(0, len(shared) - 1, _PANELS).round().astype(int)
  return [shared[place] for place in places]


def level_at(levels: Mapping[int, float], density: float) -> int | None:
  """Returns the Level of a density, or of the nearest one within 2 %."""
  near = [n for n, own in levels.items() if abs(own / density - 1) <= _SAME]
  return min(near, key=lambda n: abs(levels[n] - density), default=None)
