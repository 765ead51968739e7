"""Pruning within trainings, in which the density falls: gradual, cycles."""

import dataclasses
import itertools
import math
import typing

from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.rewinding import Snapshot
from tf_lottery.search.methods import base
from tf_lottery.search.methods.falling import fall
from tf_lottery.search.methods.falling import falling

if typing.TYPE_CHECKING:
  from tf_lottery.search.drawing import Drawing

_NOTHING = Cost()


@dataclasses.dataclass(frozen=True, repr=False)
class Cycles:
  """See `cycles`."""

  n: int
  steps: base.Length = None

  def __post_init__(self):
    base.check_length("steps", self.steps)
    base.check_count("n", self.n)

  def __repr__(self) -> str:
    if self.n > 1:
      return base.written("cycles", self.n, self.steps)
    given = () if self.steps is None else (self.steps,)
    return base.written("gradual", *given)

  def check(self, search: "Drawing") -> None:
    """Refuses a start from trained weights: the Levels are not trained."""
    base.refuse_trained_start(search, f"{self}")
    base.check_fits("steps", self.steps, search)
    highest = base.highest_density(search)
    if self.n > 1 and highest == search.schedule[-1] < 1:
      raise ValueError(
        f"{search.pattern} prunes to its first density at once, so"
        f" {self} needs a schedule of several Levels, got"
        f" {search.schedule}. Or take method=gradual()."
      )

  def draw(self, search: "Drawing", level: int) -> None:
    """Trains the cycles down to a Level; draws all that they pass."""
    draw_cycles(
      search,
      Mask.ones(search.trainer.binding.shapes),
      (1.0, search.schedule[-1]),
      self.n,
      base.steps_of(self.steps, search),
      until=search.schedule[level - 1],
      spent=search.spent_on(0),
    )


def draw_cycles(
  search: "Drawing",
  mask: Mask,
  densities: tuple[float, float],
  n: int,
  steps: int,
  *,
  until: float = 0.0,
  number: int = 1,
  spent: Cost = _NOTHING,
  start: Snapshot | None = None,
) -> Cost:
  """Trains cycles, in each of which the density falls by the same factor.

  Each starts from the weights of the rewind, under the last mask of the cycle
  before. The Levels that are passed are drawn.

  Args:
    search: The search.
    mask: What is kept at the beginning.
    densities: The density of `mask`, and the lower one at the end.
    n: The number of cycles, at least 1.
    steps: Optimizer updates of each.
    until: No further cycle begins once this density is reached.
    number: Numbers the first of these trainings in the search.
    spent: What the search cost before.
    start: The weights from which the first cycle starts. Defaults to those of
      the rewind.

  Returns:
    What the search cost so far.
  """
  marks = _marks(search, *densities, n)
  for begin, end in itertools.pairwise(marks):
    round_, mask = fall(
      search, number, mask, (begin, end), steps, spent, start=start
    )
    number, spent, start = number + 1, spent + round_.cost, None
    if end <= until:
      break
  return spent


def count_changes(
  search: "Drawing", densities: tuple[float, float], n: int, steps: int
) -> int:
  """Returns how often `draw_cycles` scores the weights, with these arguments.

  Args:
    search: The search.
    densities: The density at the beginning, and the lower one at the end.
    n: The number of cycles, at least 1.
    steps: Optimizer updates of each.
  """
  highest = base.highest_density(search)
  return sum(
    len(falls)
    for pair in itertools.pairwise(_marks(search, *densities, n))
    for falls in falling(pair, steps, search.schedule, highest).values()
  )


def _marks(search: "Drawing", first: float, last: float, n: int) -> list[float]:
  """Returns the density at the start of the first cycle, and at each end.

  Where the pattern allows none between 1 and the first of the schedule, the
  first of several cycles leads there.
  """
  marks, top = [first], base.highest_density(search)
  if n > 1 and top < first:
    marks, n = [first, top], n - 1
  begin = marks[-1]
  marks += [begin * (last / begin) ** (index / n) for index in range(1, n)]
  # Rounding errors must not put off a Level to the next cycle.
  marks = [
    next((d for d in search.schedule if math.isclose(d, mark)), mark)
    for mark in marks
  ]
  between = [mark for mark in dict.fromkeys(marks) if first > mark > last]
  return [first, *between, last]


def gradual(steps: base.Length = None) -> Cycles:
  """Draws all masks in one training, in which the density falls.

  The mask is noted as each scheduled density is passed; then every ticket
  rewinds to the start. The search costs this one training.

  Args:
    steps: The length of the training: a number of optimizer updates, at least
      1 and at most those of the final training; a text such as `"2ep"`; or a
      fraction of it as a float in (0, 1], such as `0.1`. Defaults to the
      length of the final training.

  Example:
  ```python
  find_ticket(make_model, data, ..., method=gradual(0.1), choose="bisect")
  ```

  Reference: the density falls as in gradual pruning (Zhu and Gupta, arXiv
  1710.01878), by equal factors; rewinding is Frankle and Carbin's, arXiv
  1803.03635.
  """
  return Cycles(1, steps)


def cycles(n: int = 8, steps: base.Length = 0.5) -> Cycles:
  """Draws the masks in n trainings, with a rewind after each.

  In each training the density falls by the same factor. `gradual` is one cycle,
  and as many cycles as Levels prune as often as `iterative`.

  Args:
    n: The number of trainings, at least 1. Defaults to `8`.
    steps: The length of each; see `gradual`. Defaults to `0.5`, half of the
      final training.
  """
  return Cycles(n, steps)
