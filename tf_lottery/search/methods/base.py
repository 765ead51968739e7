"""What search methods have in common: their one function, and their lengths."""

import logging
import numbers
import typing
from typing import Protocol
from typing import runtime_checkable

from tf_lottery import patterns
from tf_lottery.rewinding import Step

if typing.TYPE_CHECKING:
  from tf_lottery.search.drawing import Drawing

_log = logging.getLogger("tf_lottery")

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


def check_length(name: str, length: Length, *words: str) -> None:
  """Refuses what is no length of a training.

  Args:
    name: The name of the argument.
    length: The length.
    *words: Words that are allowed instead.

  Raises:
    ValueError: It is below 1 step, or above the whole final training.
  """
  if length is None or length in words:
    return
  if isinstance(length, float):
    if not 0 < length <= 1:
      raise ValueError(
        f"{name} as a fraction of the final training must be in (0, 1], got"
        f" {length}."
      )
    return
  if isinstance(length, int) and (length < 1 or isinstance(length, bool)):
    raise ValueError(f"{name} must be at least 1 step, got {length!r}.")
  try:
    count = Step.parse(length).count
  except ValueError:
    also = "".join(f' "{word}",' for word in words)
    raise ValueError(
      f'{name} must be a number of optimizer updates, a text such as "2ep",'
      f"{also} or a fraction of the final training as a float, such as 0.1"
      f" without quotes; got {length!r}."
    ) from None
  if count <= 0:
    raise ValueError(f"{name} must be at least 1 step, got {length!r}.")


def check_count(name: str, count: int) -> None:
  """Refuses what is no whole number of at least 1.

  Raises:
    TypeError: It is no integer.
    ValueError: It is below 1.
  """
  if isinstance(count, bool) or not isinstance(count, numbers.Integral):
    raise TypeError(f"{name} must be an int, got {count!r}.")
  if count < 1:
    raise ValueError(f"{name} must be at least 1, got {count}.")


def check_fits(name: str, length: Length, search: "Drawing") -> None:
  """Refuses a training of the search that is longer than the final one.

  A training of fewer updates than Levels may have been meant otherwise, so that
  gives a warning.

  Raises:
    ValueError: It is longer.
  """
  steps, final = steps_of(length, search), search.ticket_steps
  if steps > final:
    raise ValueError(
      f"{name} must be at most the final training's {final} steps, got"
      f" {length!r}, which is {steps} steps. Leave it out for a whole training."
    )
  if isinstance(length, int) and steps < len(search.schedule):
    _log.warning(
      "%s=%d is a training of %d optimizer update(s) for %d Levels. For a whole"
      " training leave it out, or give 1.0.",
      name,
      length,
      steps,
      len(search.schedule),
    )


def written(name: str, *arguments: object, **keywords: object) -> str:
  """Returns the text of a call, as `methods.get` reads it."""

  def text(value: object) -> str:
    if isinstance(value, Step):
      return repr(str(value))
    return getattr(value, "__name__", repr(value))

  given = [text(value) for value in arguments]
  given += [f"{key}={text(value)}" for key, value in keywords.items()]
  return f"{name}({', '.join(given)})"


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
