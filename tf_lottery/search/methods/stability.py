"""When a mask has stopped changing during a training."""

import typing
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from tf_lottery.masks import Mask

if typing.TYPE_CHECKING:
  from tf_lottery.search.drawing import Drawing

DISTANCE = "mask_distance"
# How many candidates are drawn in a training of full length, and how many
# successive distances must be below the threshold.
_CANDIDATES = 20
_SUCCESSIVE = 2
_THRESHOLD = 0.1


class Stability:
  """Watches the mask that would be drawn, 20 times in a full training.

  The distance between two successive candidates A and B, which keep as many
  weights, is the fraction of the choice that has changed:

      |A - B| / min(kept, pruned)

  `kept` is the number of weights that each keeps, and `pruned` how many would
  be pruned. It is 0 for equal masks. The mask is stable when two successive
  distances are at most 0.1.

  Args:
    search: The search.
    mask: What is kept now.
    density: The density to which `mask` would be pruned, in (0, 1].

  Reference: You et al., arXiv 1909.11957, section 3, divide the distance by the
  number of all weights, which is always small at a low density.
  """

  def __init__(self, search: "Drawing", mask: Mask, density: float):
    self._search = search
    self._mask = mask
    self._density = density
    self._before: Mask | None = None
    self.every = max(1, search.steps // _CANDIDATES)

  def observe(self) -> Mapping[str, float]:
    """Draws a candidate, and returns its distance from the one before."""
    now = self._search.prune(None, self._mask, self._density)
    before, self._before = self._before, now
    if before is None:
      return {}
    return {DISTANCE: _distance(before, now, self._mask)}

  def is_reached(self, rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether the mask is stable, given the evaluations so far."""
    last = [row[DISTANCE] for row in rows if DISTANCE in row][-_SUCCESSIVE:]
    return len(last) == _SUCCESSIVE and max(last) <= _THRESHOLD


def _distance(one: Mask, other: Mask, mask: Mask) -> float:
  left = sum(
    int(np.count_nonzero(kept & ~other[key])) for key, kept in one.items()
  )
  return left / max(1, min(one.kept, mask.kept - one.kept))
