"""Pruning at initialisation: scores of the untrained network."""

import dataclasses
import typing

from tf_lottery import criteria
from tf_lottery.masks import Mask
from tf_lottery.search.methods import base

if typing.TYPE_CHECKING:
  from tf_lottery.search.loop import Search


@dataclasses.dataclass(frozen=True)
class AtInit:
  """See `at_init`."""

  criterion: str | criteria.Criterion
  rounds: int = 1

  def __post_init__(self):
    criteria.get(self.criterion)
    if self.rounds < 1:
      raise ValueError(f"rounds must be at least 1, got {self.rounds}.")

  def check(self, search: "Search") -> None:
    """Refuses a start from trained weights: nothing is trained."""
    base.refuse_trained_start(search, "at_init(...)")

  def draw(self, search: "Search", level: int) -> None:
    """Draws all Levels: their densities are passed on the way to the last."""
    del level
    schedule = search.schedule
    levels = {density: n for n, density in enumerate(schedule, 1)}
    falling = {
      schedule[-1] ** (number / self.rounds)
      for number in range(1, self.rounds)
    }
    ...


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
