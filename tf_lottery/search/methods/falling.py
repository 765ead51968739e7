"""One training of a search, in which the density falls."""

import collections
import itertools
import math
import typing
from collections.abc import Mapping

from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.rewinding import Snapshot
from tf_lottery.search.methods import base
from tf_lottery.search.rounds import Round

if typing.TYPE_CHECKING:
  from tf_lottery.search.drawing import Drawing

# The fraction of the training in which the mask stays as it was.
_DENSE_FOR = 0.1
# No change prunes more than this fraction of what is there.
_RATE = 0.2


def fall(
  search: "Drawing",
  number: int,
  mask: Mask,
  densities: tuple[float, float],
  steps: int,
  spent: Cost,
  *,
  start: Snapshot | None = None,
) -> tuple[Round, Mask]:
  """Trains while the density falls, and keeps the ticket of each Level passed.

  The density falls by equal factors from a tenth of the training on to its end.
  At each change the weights are scored as they are, and the weights that are
  pruned stay pruned.

  Args:
    search: The search.
    number: Numbers the trainings of the search, from 1.
    mask: What is kept at the beginning.
    densities: The density of `mask`, and the lower one at the end. Levels of
      densities below the first and down to the last are drawn.
    steps: Optimizer updates, at least 1.
    spent: What the search cost before this training.
    start: The weights to start from. Defaults to those of the rewind.

  Returns:
    The Round of this training, and its last mask.
  """
  highest = base.highest_density(search)
  path = falling(densities, steps, search.schedule, highest)

  def change(falls: Mapping[float, int]):
    def prune(mask: Mask, cost: Cost) -> Mask:
      for density, level in falls.items():
        mask = search.prune(None, mask, density)
        if level:
          so_far = spent + cost + search.trainer.spent
          search.keep(level, mask, so_far, number)
      return mask

    return prune

  changes = {step: change(falls) for step, falls in path.items()}
  round_, _, mask = search.train_search(
    number, mask, steps, start=start, changes=changes
  )
  return round_, mask


def falling(
  densities: tuple[float, float],
  steps: int,
  schedule: tuple[float, ...],
  highest: float = 1.0,
) -> dict[int, dict[float, int]]:
  """Returns the steps at which the density falls, and to what.

  Args:
    densities: The first and the last density, in (0, 1], falling.
    steps: Optimizer updates of the training, at least 1.
    schedule: The density of each Level from 1 on.
    highest: The highest density below 1 to which the pattern can prune, in
      (0, 1]. From there on no change prunes more than a fifth.

  Returns:
    Step -> density -> Level, or 0 where the density is not scheduled. In a
    short training several densities share a step.

  >>> falling((1.0, 0.4), 100, (0.5, 0.4), highest=0.5)
  {78: {0.5: 1}, 100: {0.4: 2}}
  """
  first, last = densities
  levels = {
    density: level
    for level, density in enumerate(schedule, 1)
    if last <= density < first or density == first == 1
  }
  marks = [first, *levels, *([] if last in levels else [last])]
  marks = [d for pair in itertools.pairwise(marks) for d in _between(*pair)]
  begin = math.floor(_DENSE_FOR * steps)
  found: dict[int, dict[float, int]] = collections.defaultdict(dict)
  for density in marks:
    if density > highest:
      continue
    way = (
      math.log(density / first) / math.log(last / first) if last < first else 1
    )
    step = max(1, begin + round(way * (steps - begin)))
    found[step][density] = levels.get(density, 0)
  return dict(found)


def _between(high: float, low: float) -> list[float]:
  """Returns densities from below `high` down to `low`, by equal factors."""
  count = max(1, math.ceil(math.log(low / high) / math.log(1 - _RATE) - 1e-9))
  factor = (low / high) ** (1 / count)
  return [*(high * factor**index for index in range(1, count)), low]
