"""The anytime search: the smallest matching ticket that a budget can buy."""

import dataclasses
import typing

from tf_lottery.masks import Mask
from tf_lottery.search.choosing import Matching
from tf_lottery.search.choosing import finish
from tf_lottery.search.methods import base
from tf_lottery.search.methods.falling import fall
from tf_lottery.search.methods.falling import falling
from tf_lottery.search.methods.within_training import draw_cycles
from tf_lottery.search.prices import SUPERSEDED
from tf_lottery.search.rounds import Round

if typing.TYPE_CHECKING:
  from tf_lottery.search.loop import Search

# The first draw takes this part of a training.
_FIRST = 0.1
# Each further draw has this many cycles at first, each of this length.
_CYCLES = 2
_LENGTH = 0.25


@dataclasses.dataclass(frozen=True)
class Anytime:
  """The method of a search with a budget; see `Within`."""

  def check(self, search: "Search") -> None:
    """Refuses a start from trained weights: the Levels are not trained."""
    base.refuse_trained_start(search, "A search with a budget")

  def draw(self, search: "Search", level: int) -> None:
    """Refuses a Level that the search has not drawn so far."""
    raise ValueError(
      f"The search has drawn no ticket of Level {level} yet. Give a larger"
      " budget, or another method."
    )


@dataclasses.dataclass(frozen=True)
class Within:
  """Searches within a budget.

  The first draw is cheap: on from the trained dense network, the density falls
  through the whole schedule within a tenth of a training. Levels are trained
  until one matches and a smaller one does not. Then Levels down to the smaller
  one are drawn again, from the mask of the other, with more rewinds, and so on:
  rewinds are spent where the ticket does not match yet. A Round stops as soon
  as it matches. At the end the smallest Level that matches is trained to its
  end.

  The budget decides when to end, and nothing else: a search goes on when it is
  asked for again with a larger one.

  Attributes:
    budget: In trainings of the dense network. Everything counts: the dense
      network, draws, and trainings of tickets.
  """

  budget: float

  def __post_init__(self):
    if not self.budget >= 2:
      raise ValueError(
        "budget must be at least 2 trainings, one of the dense network and one"
        f" of a ticket; got {self.budget}."
      )

  def __call__(self, search: "Search") -> None:
    """Draws and trains until the budget is spent or the schedule ends."""
    _Spending(search, self.budget).run()


class _Spending:
  """A search within a budget, while it runs."""

  def __init__(self, search: "Search", budget: float):
    self._search = search
    self._matching = Matching(search)
    self._last = len(search.schedule)
    self._budget = budget
    self._spent = search.round(0).cost
    # What it still takes to train the smallest matching Level to its end.
    self._reserve = 0.0
    # What smaller budgets spent to train the Level that they had to its end.
    self._finished = 0.0
    self._matched, self._failed = 0, self._last + 1
    self._draw, self._base = 1, -1
    self._number = 1  # of the next training of the search
    self._cycles, self._stride = _CYCLES, 2

  def run(self) -> None:
    """Draws and trains; see `Within`."""
    level = self._draw_first() if self._affords(_FIRST) else None
    while level and self._affords(1.0):
      matched = self._train(level)
      level = self._next_level(matched) or self._draw_again()
    finish(self._search, self._matching)

  def _draw_first(self) -> int:
    """Draws all Levels; returns the one to be trained first.

    It is the smallest one that matches when the density passes it, before any
    further training.
    """
    search, steps = self._search, base.steps_of(_FIRST, self._search)
    path = (1.0, search.schedule[-1])
    mask, start = Mask.ones(search.trainer.binding.shapes), search.trained(0)
    round_, _ = fall(
      search, 1, mask, path, steps, self._spent, start=start, evaluates=True
    )
    self._spent += round_.cost
    self._number += 1
    highest = base.highest_density(search)
    falls = falling(path, steps, search.schedule, highest).items()
    # In a short training several Levels share a step.
    levels = {round_.start + step: max(at.values()) for step, at in falls}
    matching = (
      levels[row["step"]]
      for row in round_.history
      if self._matching.at_row(row)
    )
    return max(matching, default=1)

  def _train(self, level: int) -> bool:
    """Trains a Level until it matches, else to its end; says if it matched."""
    directory = self._search.directory.control(level, SUPERSEDED, self._draw)
    if directory.is_done:
      round_ = Round.read(directory)
    else:
      round_ = self._search.train_level(level, self._matching.is_shown)
    # A Round that matched may have gone on since. Only its first part counts as
    # spent by this draw, so that the same decisions are made again.
    part = self._matching.part_until_shown(round_)
    self._spent += round_.cost.scaled(part)
    self._finished += (1 - part) * round_.steps / self._search.steps
    matched = part < 1 or self._matching.at_end(round_)
    if matched:
      self._matched = level
      rest = 1 - round_.steps / self._search.steps
      self._reserve = rest if round_.stopped else 0.0
    else:
      self._failed = level
    return matched

  def _next_level(self, matched: bool) -> int | None:
    """Returns a drawn Level to be trained next; None if others must be drawn.

    After the first draw, strides grow as long as Levels match. After a failure,
    the middle between it and what matches is tried.
    """
    if not matched:
      middle = (self._matched + self._failed) // 2
      return middle if middle > self._matched else None
    return (
      self._aim() if self._draw == 1 and self._failed > self._last else None
    )

  def _aim(self) -> int | None:
    """Returns a Level below all that match, as far as they are known."""
    if self._matched == self._last:
      return None
    if self._failed <= self._last:
      return self._failed
    self._stride *= 2
    return min(self._last, self._matched + self._stride // 2)

  def _draw_again(self) -> int | None:
    """Draws with more rewinds, from the mask of the smallest matching Level.

    Returns:
      The Level to be trained next; None if the schedule or the budget ends.
    """
    search, begin = self._search, self._matched
    if (level := self._aim()) is None:
      return None
    if begin == self._base:
      self._cycles *= 2  # the last draw from here led to nothing
    if not self._affords(self._cycles * _LENGTH + 1.0):
      return None
    self._supersede()
    self._base, self._failed = begin, self._last + 1
    self._draw += 1
    spent = draw_cycles(
      search,
      search.draw(begin).mask,
      ((1.0, *search.schedule)[begin], search.schedule[level - 1]),
      self._cycles,
      base.steps_of(_LENGTH, search),
      number=self._number,
      spent=self._spent,
    )
    self._number += self._cycles
    self._spent = spent
    return level

  def _supersede(self) -> None:
    """Sets aside the trainings of tickets that are drawn again."""
    for round_ in self._search.rounds:
      # What a later draw has trained already, before this process, stays.
      drawn = round_.ticket.provenance.get("search", 0)
      if round_.level > self._matched and drawn < self._number:
        self._search.supersede(round_.level, SUPERSEDED, self._draw)

  def _affords(self, trainings: float) -> bool:
    spent = self._spent.trainings(self._search.round(0).cost)
    spent += self._finished + self._reserve
    return spent + trainings <= self._budget + 1e-6
