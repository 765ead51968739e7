"""The anytime search: the smallest matching ticket that a budget can buy."""

import dataclasses
import math
import numbers
import typing
from collections.abc import Mapping
from collections.abc import Sequence

from tf_lottery.search.choosing import Matching
from tf_lottery.search.choosing import finish
from tf_lottery.search.methods import base
from tf_lottery.search.methods.within_training import draw_cycles
from tf_lottery.search.prices import SUPERSEDED
from tf_lottery.search.rounds import Round

if typing.TYPE_CHECKING:
  from tf_lottery.search.drawing import Drawing
  from tf_lottery.search.loop import Search

# The first stride: the density at its end, its cycles and their length, in
# trainings.
_FIRST = 0.1, 2, 1 / 4
# By how much the next strides lower the density; all later ones as the last.
_STRIDES = (3.0, 1.6)
# The length of their cycles, in trainings, and by how much one cycle may lower
# the density.
_LENGTH, _STEEPEST = 0.15, 1 / 0.6
# A training that may not go on as long as this, in trainings, is not begun.
_SHORTEST = 0.3


@dataclasses.dataclass(frozen=True)
class Anytime:
  """The method of a search with a budget; see `Within`."""

  def check(self, search: "Drawing") -> None:
    """Refuses a start from trained weights: the Levels are not trained."""
    base.refuse_trained_start(search, "A search with a budget")

  def draw(self, search: "Drawing", level: int) -> None:
    """Refuses a Level that the search has not drawn so far."""
    raise ValueError(
      f"The search has drawn no ticket of Level {level} yet. Give a larger"
      " budget, or another method."
    )


@dataclasses.dataclass(frozen=True)
class Within:
  """Searches within a budget.

  The search goes down the schedule in strides: to a density of 10 %, then to a
  third of that, then by a factor of 1.6 each. Within a stride the density falls
  in short trainings, with a rewind after each; the first of them goes on from
  the trained dense network, and each later stride starts under the mask of the
  smallest Level that matches. Then the ticket at the end of the stride is
  trained. If it matches, the next stride follows. If not, a Level two thirds of
  the way is trained, and so on until one matches; from there the rest of the
  way is drawn again. The next stride then leads half of the way to the Level
  that failed, with twice as many rewinds each time that nothing is gained. So
  rewinds are spent where tickets do not match yet.

  A Round stops as soon as it matches for good, and also when it has fallen
  behind the dense network for good; see `Matching`. At the end, the smallest
  Level that matches is trained to its end.

  The budget decides when to end, and nothing else: a search goes on when it is
  asked for again with a larger one. What it spent before counts, also the ends
  of trainings that led to the smaller budget's answer.

  Attributes:
    budget: In trainings of the dense network, at least 2.5. Everything counts:
      the dense network, draws, and trainings of tickets.
  """

  budget: float

  def __post_init__(self):
    number = isinstance(self.budget, numbers.Real)
    if not (number and 2.5 <= self.budget < math.inf):
      raise ValueError(
        "budget must be a number of at least 2.5 trainings: one of the dense"
        " network, one of a ticket, and some for the search; got"
        f" {self.budget!r}."
      )

  def __call__(self, search: "Search") -> None:
    """Draws and trains until the budget is spent or the schedule ends."""
    _Spending(search, self.budget).run()


class _Spending:
  """A search within a budget, while it runs."""

  def __init__(self, search: "Search", budget: float):
    self._search = search
    self._matching = Matching(search)
    self._densities = (1.0, *search.schedule)
    self._budget = budget
    self._spent = search.round(0).cost
    # What it still takes to train the smallest matching Level to its end.
    self._reserve = 0.0
    # What smaller budgets spent to train the Level that they had to its end.
    self._finished = 0.0
    self._matched, self._failed = 0, len(self._densities)
    self._draws, self._rewinds, self._strides = 0, 1, 0
    self._beyond = 0  # the smallest ticket that has failed since one matched
    self._base = -1  # the matching Level from which the last draw started
    self._number = 1  # of the next training of the search
    self._is_cut = False  # whether the budget ended the training of a Level

  def run(self) -> None:
    """Draws and trains; see `Within`."""
    level = self._draw()
    while level is not None and self._affords_training():
      level = self._train(level)
      if level is None and not self._is_cut:
        level = self._draw()
    self._search.read_back()
    finish(self._search, self._matching, self._may_end)

  def _draw(self) -> int | None:
    """Draws from the mask of the smallest matching Level.

    Returns:
      The Level to be trained first; None if the schedule or the budget ends.
    """
    search, begin = self._search, self._matched
    if begin + 1 == len(self._densities):
      return None
    if begin == self._base:
      self._rewinds *= 2  # the last draw from here led to nothing
    level = self._aim()
    densities = self._densities[begin], self._densities[level]
    cycles, length = self._cycles(*densities)
    if not self._affords_training(cycles * length):
      return None
    self._supersede()
    self._base, self._failed = begin, len(self._densities)
    self._draws += 1
    self._spent = draw_cycles(
      search,
      search.mask(begin),
      densities,
      cycles,
      base.steps_of(length, search),
      number=self._number,
      spent=self._spent,
      start=search.trained(0) if self._draws == 1 else None,
    )
    self._number += cycles
    return level

  def _aim(self) -> int:
    """The Level to which the next draw leads."""
    matched = self._matched
    if self._beyond > matched + 1:
      return (matched + self._beyond + 1) // 2
    least = _FIRST[0]
    if matched:
      stride = _STRIDES[min(self._strides, len(_STRIDES)) - 1]
      least = self._densities[matched] / stride
    near = sum(density >= least for density in self._densities) - 1
    return max(near, matched + 1)

  def _cycles(self, begin: float, end: float) -> tuple[int, float]:
    """How many cycles lower the density, and the length of each."""
    if not self._draws:
      return _FIRST[1:]
    # Rounding must not add a cycle.
    least = math.ceil(math.log(begin / end, _STEEPEST) - 1e-6)
    return self._rewinds * max(1, least), _LENGTH

  def _train(self, level: int) -> int | None:
    """Trains a Level until it matches, else to its end.

    Returns:
      The Level to be trained next; None if others must be drawn first.
    """
    round_ = self._trained(level)
    # A Round that matched may have gone on since: only its first part counts
    # here, so that the same decisions are made again.
    steps = self._matching.steps_until_shown(round_) or round_.steps
    self._spent += round_.cost.scaled(steps / round_.steps)
    self._finished += (round_.steps - steps) / self._search.steps
    if self._matching.is_reached_by(round_):
      self._matched = level
      self._strides += 1
      left = 1 - steps / self._search.steps
      self._reserve = left if round_.stopped else 0.0
      return None
    if round_.stopped and not self._matching.is_behind(round_.history):
      self._is_cut = True
      return None
    self._failed = self._beyond = level
    between = self._matched + math.ceil((level - self._matched) * 2 / 3)
    return between if between < level else None

  def _trained(self, level: int) -> Round:
    """Trains a Level; or reads back what another draw has replaced since."""
    search = self._search
    directory = search.directory.control(level, SUPERSEDED, self._draws)
    if directory.is_done:
      return Round.read(directory)
    # If it fails, enough must be left for the Level that matches.
    left = self._left() - self._reserve

    def until(rows: Sequence[Mapping[str, float]]) -> bool:
      steps = rows[-1]["step"] - rows[0]["step"]
      after = (steps + search.protocol.evaluate_every) / search.steps
      clear = self._matching.is_shown(rows) or self._matching.is_behind(rows)
      return clear or left < min(1.0, after)

    return search.train_level(level, until)

  def _supersede(self) -> None:
    """Sets aside the trainings of tickets that are drawn again.

    Others than this search may have trained some of them, to compare.
    """
    for level in range(self._matched + 1, len(self._densities)):
      # What a later draw has trained already, before this process, stays.
      drawn = self._search.trained_from(level)
      if drawn is not None and drawn < self._number:
        self._search.supersede(level, self._draws)

  def _affords_training(self, before: float = 0.0) -> bool:
    """Whether a Level could be trained to its end if it matches.

    Args:
      before: What is spent before, in trainings.
    """
    return self._affords(before + max(1.0, self._reserve + _SHORTEST))

  def _may_end(self, round_: Round) -> bool:
    """Whether a Round that was stopped may go on to its end; it counts then."""
    more = 1 - round_.steps / self._search.steps
    if not self._affords(more):
      return False
    self._finished += more
    return True

  def _affords(self, trainings: float) -> bool:
    return trainings <= self._left()

  def _left(self) -> float:
    """What is left of the budget, in trainings."""
    spent = self._spent.trainings(self._search.round(0).cost)
    return self._budget - spent - self._finished + 1e-6
