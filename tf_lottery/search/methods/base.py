"""What search methods have in common: their one function, and their lengths."""

import typing
from typing import Protocol
from typing import runtime_checkable

from tf_lottery import patterns
from tf_lottery.rewinding import Step

if typing.TYPE_CHECKING:
  from tf_lottery.search.drawing import Drawing

# The length of a training: a number of optimizer updates; `"2ep"`; or a
# fraction of the final training, such as 0.1. None means the final training's.
Length = int | float | str | Step | None


@runtime_checkable
class Method(Protocol):
  """Decides where the masks of the Levels come from."""

  def check(self, search: "Drawing") -> None:
    """Refuses a search in which this method cannot work.

    Raises:
      ValueError: It cannot; the message says why, and what can.
    """

  def draw(self, search: "Drawing", level: int) -> None:
    """Draws the ticket of a Level, by `search.keep`, from 1 on.

    It may draw others on the way. A ticket that lies on disk is not drawn
    again, so this resumes where a killed process stopped.
    """


def check_length(name: str, length: Length) -> None:
  """Refuses what is no length of a training.

  Raises:
    ValueError: It is below 1 step, or above the whole final training.
  """
  if length is None:
    return
  if isinstance(length, float):
    if not 0 < length <= 1:
      raise ValueError(
        f"{name} as a fraction of the final training must be in (0, 1], got"
        f" {length}."
      )
  elif isinstance(length, bool) or Step.parse(length).count <= 0:
    raise ValueError(f"{name} must be at least 1 step, got {length!r}.")


def steps_of(length: Length, search: "Drawing") -> int:
  """Returns a length in optimizer updates, at least 1."""
  if length is None:
    return search.ticket_steps
  if isinstance(length, float):
    return max(1, round(length * search.ticket_steps))
  per_epoch = search.protocol.steps_per_epoch
  return max(1, Step.parse(length).iterations(per_epoch))


def highest_density(search: "Drawing") -> float:
  """Returns the highest density below 1 to which a search can prune.

  n of m allows no density between 1 and the first of its schedule. Other
  patterns allow any.
  """
  nested = isinstance(search.pattern, patterns.NOfM)
  return search.schedule[0] if nested else 1.0


def refuse_trained_start(search: "Drawing", method: str) -> None:
  """Refuses rewinds to weights that only a Level before has.

  Raises:
    ValueError: Rounds of the search start from trained weights.
  """
  if search.rewind.weights is None:
    raise ValueError(
      f"{method} draws masks without training the Levels before, so rewind must"
      " restore the weights of a step, such as to_init() or to_step('500it'),"
      f" got {search.rewind}. Or take method=iterative()."
    )
