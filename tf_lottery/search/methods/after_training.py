"""Pruning after each training: iterative pruning, early-bird tickets."""

import dataclasses
import typing

from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.search.methods import base
from tf_lottery.search.methods.stability import Stability

if typing.TYPE_CHECKING:
  from tf_lottery.search.drawing import Drawing

_STABLE = "stable"


@dataclasses.dataclass(frozen=True, repr=False)
class Iterative:
  """See `iterative`."""

  steps: base.Length = None

  def __post_init__(self):
    base.check_length("steps", self.steps, _STABLE)

  def __repr__(self) -> str:
    given = {} if self.steps is None else {"steps": self.steps}
    return base.written("iterative", **given)

  def check(self, search: "Drawing") -> None:
    """Refuses a start from trained weights, if Levels are not trained."""
    if self.steps is not None:
      base.refuse_trained_start(search, "iterative(steps=...)")
      if self.steps != _STABLE:
        base.check_fits("steps", self.steps, search)

  def draw(self, search: "Drawing", level: int) -> None:
    """Prunes each Level after the training of the Level before."""
    first = level
    while first > 1 and not search.is_drawn(first - 1):
      first -= 1
    for number in range(first, level + 1):
      self._draw_next(search, number)

  def _draw_next(self, search: "Drawing", level: int) -> None:
    before, density = search.mask(level - 1), search.schedule[level - 1]
    if self.steps is None:
      round_, trained = search.round(level - 1), search.trained(level - 1)
    else:
      stability = None
      steps = search.ticket_steps
      if self.steps == _STABLE:
        stability = Stability(search, before, density)
      else:
        steps = base.steps_of(self.steps, search)
      round_, trained, _ = search.train_search(
        level, before, steps, stability=stability
      )
    scores, scoring = search.score(trained, before, search.criterion)
    mask = search.select(scores, before, density)
    search.charge(round_, scoring)
    spent = search.spent_on(level - 1) + round_.cost + scoring
    search.keep(level, mask, spent, level)


@dataclasses.dataclass(frozen=True, repr=False)
class EarlyBird:
  """See `early_bird`."""

  steps: base.Length = None

  def __post_init__(self):
    base.check_length("steps", self.steps)

  def __repr__(self) -> str:
    given = () if self.steps is None else (self.steps,)
    return base.written("early_bird", *given)

  def check(self, search: "Drawing") -> None:
    """Refuses a start from trained weights: the Levels are not trained."""
    base.refuse_trained_start(search, "early_bird()")
    base.check_fits("steps", self.steps, search)

  def draw(self, search: "Drawing", level: int) -> None:
    """Trains until the mask is stable, and draws all Levels at once."""
    del level
    mask = Mask.ones(search.trainer.binding.shapes)
    round_, trained, _ = search.train_search(
      1,
      mask,
      base.steps_of(self.steps, search),
      stability=Stability(search, mask, search.schedule[-1]),
    )
    scoring, drawn, before = Cost(), {}, search.spent_on(0)
    for number, density in enumerate(search.schedule, 1):
      scores, cost = search.score(trained, mask, search.criterion)
      mask = search.select(scores, mask, density)
      scoring += cost
      drawn[number] = mask, before + round_.cost + scoring
    # First the record: once the last ticket is kept, nothing is drawn again.
    search.charge(round_, scoring)
    for number, (mask, spent) in drawn.items():
      search.keep(number, mask, spent, 1)


def iterative(steps: base.Length = None) -> Iterative:
  """Trains, prunes, rewinds and repeats: one training for each Level.

  It finds the best tickets, and it costs as many trainings as there are Levels.
  With `steps`, each Level is pruned after a training of its own of that length;
  then its ticket is trained in full only where that is wanted.

  Args:
    steps: The length of a Level's training for the search: a number of
      optimizer updates, at least 1 and at most those of the final training; a
      text such as `"2ep"`; or a fraction of it as a float in (0, 1].
      `"stable"` ends it when the mask that would be drawn has stopped changing;
      see `Stability`. Defaults to `None`: the full training of each Level's
      ticket serves the search too.

  Example:
  ```python
  find_ticket(make_model, data, ..., method=iterative(steps=0.1))
  ```

  Reference: Frankle and Carbin, arXiv 1803.03635.
  """
  return Iterative(steps)


def early_bird(steps: base.Length = None) -> EarlyBird:
  """Trains the dense network until the mask is stable, and prunes it at once.

  The mask is that of the smallest density in the schedule. All Levels are drawn
  from the same weights.

  Args:
    steps: The longest training; see `iterative`. Defaults to the length of
      the final training.

  Reference: You et al., arXiv 1909.11957.
  """
  return EarlyBird(steps)
