"""Pruning before any training: scores of the untrained network."""

import dataclasses
import time
import typing

from tf_lottery import criteria
from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.search.methods import base

if typing.TYPE_CHECKING:
  from tf_lottery.search.drawing import Drawing


@dataclasses.dataclass(frozen=True, repr=False)
class AtInit:
  """See `at_init`."""

  criterion: str | criteria.Criterion
  rounds: int = 1

  def __post_init__(self):
    known = callable(self.criterion) or self.criterion in criteria.BY_NAME
    if not known:
      others = sorted(criteria.BY_NAME.keys() - criteria.AT_INITIALISATION)
      raise ValueError(
        "criterion must be one of those for the untrained network,"
        f" {', '.join(sorted(criteria.AT_INITIALISATION))}; or a function, or"
        f" one of {', '.join(others)}; got {self.criterion!r}."
      )
    base.check_count("rounds", self.rounds)

  def __repr__(self) -> str:
    given = {} if self.rounds == 1 else {"rounds": self.rounds}
    return base.written("at_init", self.criterion, **given)

  def check(self, search: "Drawing") -> None:
    """Refuses a start from trained weights: nothing is trained."""
    base.refuse_trained_start(search, "at_init(...)")

  def draw(self, search: "Drawing", level: int) -> None:
    """Draws all Levels: their densities are passed on the way to the last."""
    del level
    began = time.perf_counter()
    criterion, last = criteria.get(self.criterion), search.schedule[-1]
    brings_back = criterion in map(criteria.get, criteria.BRING_BACK)
    everything = Mask.ones(search.trainer.binding.shapes)
    highest = base.highest_density(search)
    start = search.start()
    search.trainer.restore(start, everything, start.step)
    search.begin_scoring(everything)
    mask, spent, before = everything, Cost(), search.spent_on(0)
    left = list(enumerate(search.schedule, 1))
    smallest = everything
    for number in range(1, 1 + self.rounds):
      end = last ** (number / self.rounds) if number < self.rounds else last
      end = min(end, highest)
      scores, cost = search.score(start, mask, criterion)
      spent += cost
      mask = everything if brings_back else mask
      while left and left[0][1] >= end:
        passed, density = left.pop(0)
        smallest = search.select(scores, mask, density)
        search.keep(passed, smallest, before + spent, 1)
      if number < self.rounds:
        mask = search.select(scores, mask, end)
    seconds = time.perf_counter() - began
    search.record_scoring(smallest, spent, seconds)


def at_init(
  criterion: str | criteria.Criterion = "snip", rounds: int = 1
) -> AtInit:
  """Scores the untrained network, and draws all masks without a training.

  Args:
    criterion: `"snip"`, `"grasp"`, `"synflow"`, `"force"`, another name, or a
      function; see `criteria`. Defaults to `"snip"`.
    rounds: How often the weights are scored: the density falls by equal
      factors to the last one of the schedule. The papers have 1 for SNIP and
      GraSP, 100 for SynFlow, and 60 for FORCE. Defaults to `1`.

  References: Lee et al., arXiv 1810.02340; Wang et al., arXiv 2002.07376;
  Tanaka et al., arXiv 2006.05467; de Jorge et al., arXiv 2006.09081.
  """
  return AtInit(criterion, rounds)
