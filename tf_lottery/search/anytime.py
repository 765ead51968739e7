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
from tf_lottery.search.methods.within_training import count_changes
from tf_lottery.search.methods.within_training import draw_cycles
from tf_lottery.search.prices import SUPERSEDED
from tf_lottery.search.rounds import Round

if typing.TYPE_CHECKING:
  from tf_lottery.search.drawing import Drawing
  from tf_lottery.search.loop import Search

# The length of the first draw, in trainings.
_FIRST = 1 / 2
# By how much each later draw lowers the density, in how many cycles at first,
# and the length of each.
_STRIDE, _CYCLES, _LENGTH = 3.0, 2, 1 / 4
# A training that may not go on as long as this, in trainings, is not begun.
_SHORTEST = 0.3


@dataclasses.dataclass(frozen=True)
class Anytime:
  """The method of a search with a budget; see `Within`.

  Attributes:
    version: Of the way in which it draws. A run that was begun in another one
      cannot go on.
  """

  version: int = 2

  def __str__(self) -> str:
    return "a search with a budget"

  def check(self, search: "Drawing") -> None:
    """Refuses a start from trained weights: the Levels are not trained."""
    base.refuse_trained_start(search, "A search with a budget")

  def draw(self, search: "Drawing", level: int) -> None:
    """Refuses a Level of which the search holds no ticket."""
    raise ValueError(
      f"The search holds no ticket of Level {level}: it is beyond the"
      " last draw. Give a larger budget, or another method."
    )


@dataclasses.dataclass(frozen=True)
class Within:
  """Searches within a budget.

  The first draw goes on from the trained dense network: in half of a training,
  the density falls through the whole schedule. Then plain bisection finds the
  smallest Level that matches, which is trained to its end. From its mask the
  smaller Levels are drawn again, down to a third of its density, in two short
  cycles with a rewind after each, and bisection goes on there. Each time that a
  draw gains nothing, the next has twice as many cycles. So rewinds are spent
  where tickets do not match yet.

  Other Rounds stop as soon as they have matched for good, and also when they
  have fallen behind the dense network; see `Matching`.

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
    self._spent = search.spent_on(0) + search.round(0).cost
    # The Levels that match, the smallest last, each with what it still takes to
    # train it to its end.
    self._found = [(0, 0.0)]
    # What was spent on the ends of trainings that had been stopped.
    self._ends = 0.0
    # What scoring the weights once takes. This one time is not counted.
    dense, full = search.trained(0), search.mask(0)
    _, scoring = search.score(dense, full, search.criterion)
    self._scoring = scoring.trainings(search.round(0).cost)
    self._bound = 0  # a smaller Level, which fails or is not drawn
    self._draws, self._cycles = 0, _CYCLES
    self._base = -1  # the matching Level from which the last draw started
    self._number = 1  # of the next training of the search
    self._is_cut = False  # whether the budget ended the training of a Level

  def run(self) -> None:
    """Draws and trains; see `Within`."""
    last = len(self._densities) - 1
    while not self._is_cut:
      level = (self._matched + self._bound) // 2
      if level > self._matched:
        if not (self._is_trained(level) or self._affords_training()):
          break
        self._train(level)
      elif self._settle() and (self._matched == last or not self._draw()):
        break
    self._search.read_back()
    finish(self._search, self._matching, self._affords_end)

  @property
  def _matched(self) -> int:
    """The smallest Level that matches so far."""
    return self._found[-1][0]

  @property
  def _reserve(self) -> float:
    """What it takes to train that Level to its end, in trainings."""
    return self._found[-1][1]

  def _draw(self) -> bool:
    """Draws from the mask of the smallest matching Level.

    Returns:
      Whether the budget allows it.
    """
    search, begin = self._search, self._matched
    cycles, level, length = 1, len(self._densities) - 1, _FIRST
    if self._draws:
      if begin == self._base:
        self._cycles *= 2  # the last draw from here led to nothing
      cycles, length = self._cycles, _LENGTH
      least = self._densities[begin] / _STRIDE
      level = sum(density >= least for density in self._densities) - 1
      level = max(level, begin + 1)
    densities = self._densities[begin], self._densities[level]
    steps = base.steps_of(length, search)
    changes = count_changes(search, densities, cycles, steps)
    price = cycles * steps / search.steps + changes * self._scoring
    # What was drawn before costs nothing more.
    drawn = search.directory.search(self._number + cycles - 1).is_done
    if not (drawn or self._affords_training(price)):
      return False
    self._supersede()
    self._base, self._bound = begin, level + 1
    self._draws += 1
    self._spent = draw_cycles(
      search,
      search.mask(begin),
      densities,
      cycles,
      steps,
      number=self._number,
      spent=self._spent,
      start=search.trained(0) if self._draws == 1 else None,
    )
    self._number += cycles
    return True

  def _settle(self) -> bool:
    """Trains the smallest matching Level to its end.

    Returns:
      Whether it matches there. If not, it counts as one that fails.
    """
    level, left = self._found[-1]
    if not level:
      return True
    round_ = self._set_aside(level) or self._search.round(level)
    if round_.stopped:
      self._ends += left  # this was held in reserve
      round_ = self._search.train_level(level)
    self._found[-1] = level, 0.0
    if self._matching.at_end(round_):
      return True
    self._found.pop()
    self._bound = level
    return False

  def _train(self, level: int) -> None:
    """Trains a Level until it is clear whether it matches."""
    round_ = self._trained(level)
    # A Round that was stopped may have gone on since: only its first part
    # counts here, so that the same decisions are made again.
    steps, matches = self._matching.outcome(round_)
    self._spent += round_.cost.scaled(steps / round_.steps)
    self._ends += (round_.steps - steps) / self._search.steps
    if matches is None:
      self._is_cut = True
    elif matches:
      left = self._search.ticket_steps - steps if round_.stopped else 0
      self._found.append((level, left / self._search.steps))
    else:
      self._bound = level

  def _trained(self, level: int) -> Round:
    """Trains a Level; or reads back what another draw has replaced since."""
    search = self._search
    if (round_ := self._set_aside(level)) is not None:
      return round_
    # If it fails, enough must be left for the Level that matches.
    left = self._left() - self._reserve

    def until(rows: Sequence[Mapping[str, float]]) -> bool:
      steps = rows[-1]["step"] - rows[0]["step"]
      after = (steps + search.protocol.evaluate_every) / search.steps
      clear = self._matching.is_shown(rows) or self._matching.is_behind(rows)
      return clear or left < min(1.0, after)

    return search.train_level(level, until)

  def _is_trained(self, level: int) -> bool:
    """Whether a Level was trained before, until it was clear how it does."""
    if self._set_aside(level):
      return True
    directory = self._search.directory.level(level)
    if not directory.is_done:
      return False
    return self._matching.outcome(Round.read(directory))[1] is not None

  def _set_aside(self, level: int) -> Round | None:
    """The Round of a Level that was trained before, and has been replaced."""
    directory = self._search.directory.control(level, SUPERSEDED, self._draws)
    return Round.read(directory) if directory.is_done else None

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

  def _affords_end(self, round_: Round) -> bool:
    """Whether a Round that was stopped may go on to its end; it counts then."""
    more = (self._search.ticket_steps - round_.steps) / self._search.steps
    if not self._affords(more):
      return False
    self._ends += more
    return True

  def _affords(self, trainings: float) -> bool:
    return trainings <= self._left()

  def _left(self) -> float:
    """What is left of the budget, in trainings."""
    spent = self._spent.trainings(self._search.round(0).cost)
    return self._budget - spent - self._ends + 1e-6
