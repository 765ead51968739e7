"""Controls that rewind elsewhere, or not at all."""

from collections.abc import Mapping

import numpy as np

from tf_lottery import rewinding
from tf_lottery.experiments.controls import changed
from tf_lottery.search import methods
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round


def fine_tune(search: Search, level: int, draw: int = 0) -> Round:
  """No rewinding: on from the trained weights, at the last learning rate.

  Reference: Han et al., arXiv 1506.02626.
  """
  trained = _trained_before(search, level)
  ticket = changed.ticket(search, level, "fine_tune", start=trained)
  return search.train_control(ticket, draw, rewind=rewinding.finetune())


def learning_rate_rewind(search: Search, level: int, draw: int = 0) -> Round:
  """On from the trained weights, with the learning rate of the beginning.

  Reference: Renda et al., arXiv 2003.02389.
  """
  trained = _trained_before(search, level)
  ticket = changed.ticket(search, level, "learning_rate_rewind", start=trained)
  return search.train_control(ticket, draw, rewind=rewinding.learning_rate())


def _trained_before(search: Search, level: int) -> Mapping[str, np.ndarray]:
  """The weights at the end of the Level before, from which it was pruned."""
  search.ticket(level)  # refuses the dense Level
  if search.method != methods.iterative():
    raise ValueError(
      "This control goes on from the training of the Level before, which only"
      f" method=iterative() has: leave it out, got {search.method}."
    )
  return search.trained(level - 1).weights


def rewind_to_init(search: Search, level: int, draw: int = 0) -> Round:
  """The initial weights, in a search that rewinds to a later step.

  Raises:
    ValueError: the search rewinds to initialisation itself.

  Reference: Frankle et al., arXiv 1912.05671.
  """
  if search.rewind == rewinding.to_init():
    raise ValueError(
      "The control rewind_to_init would repeat the tickets of a run that"
      " rewinds to initialisation. Leave it out, or rewind to a later step."
    )
  initial = search.initial.weights
  ticket = changed.ticket(search, level, "rewind_to_init", start=initial)
  return search.train_control(ticket, draw, rewind=rewinding.to_init())
