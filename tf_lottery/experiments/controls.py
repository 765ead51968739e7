"""Controls: a ticket with one thing changed, trained as the ticket was.

Each control is one function of a search, a Level and a draw. It trains once:
called again on the same run directory, it reads back what is there. Here are
those with another mask or another rewind, and the names of all controls. The
other modules that `BY_NAME` imports from have one kind of control each.
"""

from collections.abc import Callable
from collections.abc import Mapping

import numpy as np

from tf_lottery import criteria
from tf_lottery import patterns
from tf_lottery import rewinding
from tf_lottery import scopes
from tf_lottery.experiments import changed
from tf_lottery.experiments import seeds
from tf_lottery.experiments.averaging import weight_average
from tf_lottery.experiments.damaged_data import half_data
from tf_lottery.experiments.damaged_data import other_order
from tf_lottery.experiments.damaged_data import shuffled_labels
from tf_lottery.experiments.gradual import gradual
from tf_lottery.experiments.gradual import gradual_equal_cost
from tf_lottery.experiments.gradual_tfmot import gradual_tfmot
from tf_lottery.experiments.small_dense import small_dense
from tf_lottery.experiments.small_dense import small_dense_equal_cost
from tf_lottery.experiments.sparse_training import random_erk
from tf_lottery.experiments.sparse_training import rigl
from tf_lottery.experiments.sparse_training import rigl_equal_cost
from tf_lottery.experiments.sparse_training import set_
from tf_lottery.experiments.start_weights import magnitudes
from tf_lottery.experiments.start_weights import permuted
from tf_lottery.experiments.start_weights import signs
from tf_lottery.experiments.start_weights import supermask
from tf_lottery.experiments.transferred import transferred
from tf_lottery.experiments.transferred import transferred_mask
from tf_lottery.experiments.transferred import transferred_permuted
from tf_lottery.experiments.transferred import transferred_reinit
from tf_lottery.experiments.transferred import transferred_shuffled
from tf_lottery.masks import Mask
from tf_lottery.search import methods
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round

Control = Callable[[Search, int, int], Round]


def random_reinit(search: Search, level: int, draw: int = 0) -> Round:
  """Other initial weights from the same initialisers, under the same mask.

  They train as the ticket does: from step k on in a search that rewinds to it,
  and through a whole training in a search that only fine-tunes.

  Reference: Frankle and Carbin, arXiv 1803.03635, section 2.
  """
  seed = seeds.of_control(search, "random_reinit", level, draw)
  weights = search.trainer.draw(seed)
  ticket = changed.ticket(search, level, "random_reinit", seed, start=weights)
  # New weights need the learning rates of a whole training.
  fresh = search.rewind.position is None
  rewind = rewinding.to_init() if fresh else None
  return search.train_control(ticket, draw, rewind=rewind)


def shuffled_mask(search: Search, level: int, draw: int = 0) -> Round:
  """As many weights kept in each layer, at other places, in the same pattern.

  A search that prunes blocks or channels shuffles blocks or channels.
  """
  seed = seeds.of_control(search, "shuffled_mask", level, draw)
  mask = patterns.shuffled(
    search.ticket(level).mask, search.prunable, search.pattern, seed
  )
  ticket = changed.ticket(search, level, "shuffled_mask", seed, mask=mask)
  return search.train_control(ticket, draw)


def random_mask(search: Search, level: int, draw: int = 0) -> Round:
  """As many weights kept in the whole network, at other places.

  The mask is drawn from all prunable weights, also from those that the scope
  exempts. A search that prunes blocks or channels draws blocks or channels.
  """
  seed = seeds.of_control(search, "random_mask", level, draw)
  mask = _random_mask(search, search.ticket(level).mask, seed)
  ticket = changed.ticket(search, level, "random_mask", seed, mask=mask)
  return search.train_control(ticket, draw)


def _random_mask(search: Search, mask: Mask, seed: int) -> Mask:
  if search.pattern == patterns.unstructured():
    return Mask.random(mask.shapes, mask.density, seed)
  full = Mask.ones(mask.shapes)
  scores = criteria.random(search.trainer.binding, full, seed=seed)
  scope = scopes.global_()
  return scopes.select(
    scores, full, mask.density, scope, search.prunable, search.pattern
  )


def one_shot(search: Search, level: int, draw: int = 0) -> Round:
  """The same density in one step, from the dense network's trained weights."""
  dense = search.rounds[0].ticket.mask
  density = search.schedule[level - 1]
  mask = search.prune(search.trained(0), dense, density)
  ticket = changed.ticket(search, level, "one_shot", mask=mask)
  return search.train_control(ticket, draw)


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


# Controls that need a function that makes a model.
WITH_MODEL: Mapping[str, Callable[..., Round]] = {
  "gradual_tfmot": gradual_tfmot,
  "small_dense": small_dense,
  "small_dense_equal_cost": small_dense_equal_cost,
}

# Of these, the controls whose function must take a width.
WITH_WIDTH = ("small_dense", "small_dense_equal_cost")

# Controls that need the search of another experiment, the source.
WITH_SOURCE: Mapping[str, Callable[..., Round]] = {
  control.__name__: control
  for control in (
    transferred,
    transferred_mask,
    transferred_reinit,
    transferred_shuffled,
    transferred_permuted,
  )
}

BY_NAME: Mapping[str, Control] = {
  control.__name__.rstrip("_"): control
  for control in (
    random_reinit,
    shuffled_mask,
    random_mask,
    one_shot,
    fine_tune,
    learning_rate_rewind,
    rewind_to_init,
    gradual,
    gradual_equal_cost,
    random_erk,
    rigl,
    rigl_equal_cost,
    set_,
    signs,
    magnitudes,
    permuted,
    supermask,
    weight_average,
    shuffled_labels,
    half_data,
    other_order,
  )
}
