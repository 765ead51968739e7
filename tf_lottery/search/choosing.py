"""Which Levels are trained: all of them, or those that bisection needs."""

import itertools
import math
import typing
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_lottery.search.rounds import Round
from tf_lottery.search.rounds import tolerance_of

if typing.TYPE_CHECKING:
  from tf_lottery.search.loop import Search

# How many evaluations in a row must match, so that a Round may stop.
_SUCCESSIVE = 3
# A Round that has fallen behind may stop after this part of a training.
_EARLIEST = 0.3
# A Level that fails by less than so many times the noise may have failed by
# chance.
NEAR = 3.0

# Trains Levels of a search, until it knows what it wants to know.
Choose = Callable[["Search"], None]


def train_all(search: "Search") -> None:
  """Trains every Level of the schedule, the densest first."""
  for level in range(1, 1 + len(search.schedule)):
    search.train_level(level)


def bisect(search: "Search") -> None:
  """Trains the Levels that are needed to find the smallest matching one.

  See `bisection`. A Round stops as soon as it has matched for good, see
  `Matching`; the smallest Level that matches is trained to its end.
  """
  matching = Matching(search)

  def matches(level: int) -> bool:
    round_ = search.train_level(level, matching.is_shown)
    return matching.is_reached_by(round_)

  def is_near(level: int) -> bool:
    return matching.gap(search.round(level)) < NEAR

  bisection(len(search.schedule), matches, is_near)
  finish(search, matching)


def bisection(
  last: int, matches: Callable[[int], bool], is_near: Callable[[int], bool]
) -> int:
  """Finds the smallest matching Level without asking about all of them.

  After a Level that matches it asks about a smaller one, else about a larger
  one. A Level that fails by little may have failed by chance: then the Level in
  the middle between it and the smallest that may match is asked about, too, and
  if that one matches, the search goes on from there.

  Args:
    last: The number of Levels, at least 1.
    matches: Whether a Level matches the dense network.
    is_near: Whether a Level that does not match failed by little.

  Returns:
    The largest number of a Level that matches; 0 if none does.

  >>> bisection(20, lambda level: level <= 13, lambda level: False)
  13
  """
  first, last = 0, 1 + last
  while last - first > 1:
    level = (first + last) // 2
    beyond = (level + last) // 2
    if matches(level):
      first = level
    elif beyond > level and is_near(level) and matches(beyond):
      first = beyond
    else:
      last = level
  return first


def _always(round_: Round) -> bool:
  del round_
  return True


def finish(
  search: "Search",
  matching: "Matching",
  affords: Callable[[Round], bool] = _always,
) -> Round:
  """Trains the smallest Level that matches to its end.

  If it does not match there, the next larger one that matched is trained to its
  end, and so on.

  Args:
    search: The search.
    matching: Tells whether a Level matches.
    affords: Whether a Round that was stopped may go on to its end; it is left
      out if not. Defaults to each Round.

  Returns:
    The Round of the smallest Level that matches at its end; the dense one if
    none does.
  """
  for round_ in reversed(search.rounds):
    if round_.level and not matching.is_reached_by(round_):
      continue
    if round_.stopped:
      if not affords(round_):
        continue
      round_ = search.train_level(round_.level)
    if not round_.level or matching.at_end(round_):
      return round_
  raise RuntimeError("The dense network is not trained.")


class Matching:
  """When a Level matches the dense network: at its end, or already before.

  At its end, the validation value must be within the tolerance of the dense
  network's. Before, the last three values must be better than that by the noise
  of one value. The noise is what the values of the dense network jump in the
  second half of its training: the root of half the mean square of their
  differences.

  A Round has fallen behind if, after three tenths of its training, its last
  three values are worse than the dense network's at the same steps, by more
  than the tolerance and the noise.

  How often each rule is wrong, and how much it saves, is part of
  docs/results/search_cost.

  Args:
    search: The search; its dense network is trained.
  """

  def __init__(self, search: "Search"):
    dense = search.round(0)
    self._name = f"val_{search.objective.name}"
    self._sign = search.objective.sign
    tolerance = search.tolerance
    if tolerance is None:
      tolerance = tolerance_of(dense, search.objective)
    self._tolerance = tolerance
    self._least = self._sign * dense.metrics[self._name] - tolerance
    rows = [row for row in dense.history if "loss" in row]
    self._dense = [row[self._name] for row in rows]
    self._dense_steps = [row["step"] for row in rows]
    self._earliest = _EARLIEST * search.ticket_steps
    self._noise = _noise(self._dense)

  def at_end(self, round_: Round) -> bool:
    """Whether the last value of a Round is within the tolerance."""
    return self._gap(round_.metrics) <= 0

  def is_shown(self, rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether a training has matched for good, by its evaluations so far."""
    gaps = [self._gap(row) for row in rows if "loss" in row][-_SUCCESSIVE:]
    shown = (gap <= -self._noise for gap in gaps)
    return len(gaps) == _SUCCESSIVE and all(shown)

  def is_behind(self, rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether a training has fallen behind, by its evaluations so far."""
    last = [row for row in rows if "loss" in row][-_SUCCESSIVE:]
    if len(last) < _SUCCESSIVE:
      return False
    if last[-1]["step"] - rows[0]["step"] < self._earliest:
      return False
    allowed = self._tolerance + self._noise
    # What is not a number is behind, too.
    return not any(self._behind(row) <= allowed for row in last)

  def gap(self, round_: Round) -> float:
    """How much worse than allowed a Round is at its end, in units of the noise.

    It is 0 if the Round matches. If it does not, and the noise is 0 or unknown,
    it is infinite: then no failure counts as chance.
    """
    if self.at_end(round_):
      return 0.0
    if not 0 < self._noise < math.inf:
      return math.inf
    return self._gap(round_.metrics) / self._noise

  def steps_until_shown(self, round_: Round) -> int | None:
    """The steps after which a Round had matched for good; None if never."""
    return _steps_until(round_, self.is_shown)

  def steps_until_behind(self, round_: Round) -> int | None:
    """The steps after which a Round had fallen behind; None if never."""
    return _steps_until(round_, self.is_behind)

  def outcome(self, round_: Round) -> tuple[int, bool | None]:
    """When it was clear whether a Round matches, and whether it does.

    Returns:
      The steps after which it had matched for good or fallen behind, or those
      of its end; and whether it matches, which is `None` if it was stopped
      before that was clear.
    """
    shown = self.steps_until_shown(round_)
    behind = self.steps_until_behind(round_)
    if behind is not None and (shown is None or behind < shown):
      return behind, False
    if shown is not None:
      return shown, True
    return round_.steps, None if round_.stopped else self.at_end(round_)

  def is_reached_by(self, round_: Round) -> bool:
    """Whether a Round matches at its end, or had matched for good before."""
    if self.steps_until_shown(round_) is not None:
      return True
    return not round_.stopped and self.at_end(round_)

  def _behind(self, row: Mapping[str, float]) -> float:
    """How much worse a value is than the dense network's at the same step."""
    dense = np.interp(row["step"], self._dense_steps, self._dense)
    return float(self._sign * (dense - row[self._name]))

  def _gap(self, metrics: Mapping[str, float]) -> float:
    """How much worse than allowed a value is; at most 0 if it matches."""
    return self._least - self._sign * metrics[self._name]


def _steps_until(
  round_: Round, is_clear: Callable[[Sequence[Mapping[str, float]]], bool]
) -> int | None:
  """The steps after which a Round would have been stopped; None if never."""
  rows = round_.history
  for count, row in enumerate(rows, 1):
    if is_clear(rows[:count]):
      return int(row["step"]) - round_.start
  return None


def _noise(values: Sequence[float]) -> float:
  """Returns how much one validation value jumps; infinite if unknown."""
  jumps = np.diff(values[len(values) // 2 :])
  if len(jumps) < 2 or not np.isfinite(jumps).all():
    return math.inf
  return float(np.sqrt(np.mean(jumps**2) / 2))


def describe(choose: Choose) -> dict[str, Any]:
  """Returns the name of what chooses, and its budget if it has one."""
  names = {function: name for name, function in _BY_NAME.items()}
  budget = getattr(choose, "budget", None)
  return {"choose": names.get(choose, "budget"), "budget": budget}


def was_spent(outcome: Mapping[str, Any], budget: float | None) -> bool:
  """Whether an outcome on disk is of a budget that is as large."""
  return budget is not None and (outcome.get("budget") or 0.0) >= budget


def ended(search: "Search", before: float | None) -> str:
  """Says why a search with a budget has ended; nothing for other searches.

  Args:
    search: The search, after its end.
    before: The largest budget that was spent in its run directory, if any.
  """
  budget = getattr(search.choose, "budget", None)
  if budget is None or not search.rounds:
    return ""
  text = ""
  if before is not None and before > budget:
    budget = before
    text = f"A larger budget, of {before:g} trainings, was spent here before. "
  last, end = search.rounds[-1], len(search.schedule)
  if last.level == end and not last.stopped and Matching(search).at_end(last):
    return (
      f"{text}Level {end} is the last of the schedule: a longer schedule may"
      " hold smaller tickets."
    )
  return (
    f"{text}What is left of the budget of {budget:g} trainings does not pay for"
    " the next step: a larger one goes on."
  )


def untrained(search: "Search") -> str:
  """Says which Levels were not trained; nothing if all were."""
  trained = {round_.level for round_ in search.rounds}
  left = [n for n in range(1, len(search.schedule) + 1) if n not in trained]
  if not left:
    return ""
  if left[1:]:
    text = f"Levels {_ranges(left)} are not trained: how they would do is"
  else:
    text = f"Level {left[0]} is not trained: how it would do is"
  text += " unknown."
  if any(round_.stopped for round_ in search.rounds):
    text += " Those that were stopped early are not trained to their ends."
  return text


def _ranges(numbers: Sequence[int]) -> str:
  """Writes numbers in rising order with their ranges: `1 to 3, 5`."""
  texts = []
  for _, group in itertools.groupby(
    enumerate(numbers), lambda pair: pair[1] - pair[0]
  ):
    run = [number for _, number in group]
    texts.append(f"{run[0]} to {run[-1]}" if run[1:] else str(run[0]))
  return ", ".join(texts)


_BY_NAME: Mapping[str, Choose] = {"all": train_all, "bisect": bisect}


def get(choose: str) -> Choose:
  """Returns the function of a name.

  Raises:
    ValueError: There is none of that name.
  """
  if choose not in _BY_NAME:
    raise ValueError(
      f"choose must be one of {', '.join(_BY_NAME)}, got {choose!r}."
    )
  return _BY_NAME[choose]
