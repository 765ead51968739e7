"""Controls: a ticket with one thing changed, trained as the ticket was.

Each control is one function of a search, a Level and a draw. It trains once:
called again on the same run directory, it reads back what is there.
"""

import functools
import logging
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery import criteria
from tf_lottery import patterns
from tf_lottery import rewinding
from tf_lottery import scopes
from tf_lottery.experiments import seeds
from tf_lottery.experiments import widths
from tf_lottery.experiments.gradual import gradual
from tf_lottery.experiments.gradual import gradual_equal_cost
from tf_lottery.experiments.gradual_tfmot import gradual_tfmot
from tf_lottery.experiments.sparse_training import random_erk
from tf_lottery.experiments.sparse_training import rigl
from tf_lottery.experiments.sparse_training import rigl_equal_cost
from tf_lottery.experiments.sparse_training import set_
from tf_lottery.experiments.transferred import transferred
from tf_lottery.experiments.transferred import transferred_mask
from tf_lottery.experiments.transferred import transferred_permuted
from tf_lottery.experiments.transferred import transferred_reinit
from tf_lottery.experiments.transferred import transferred_shuffled
from tf_lottery.masks import Mask
from tf_lottery.search import methods
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round
from tf_lottery.tickets import Ticket
from tf_lottery.training.trainer import Trainer

_log = logging.getLogger("tf_lottery")

Control = Callable[[Search, int, int], Round]


def random_reinit(search: Search, level: int, draw: int = 0) -> Round:
  """Other initial weights from the same initialisers, under the same mask.

  They train as the ticket does: from step k on in a search that rewinds to it,
  and through a whole training in a search that only fine-tunes.

  Reference: Frankle and Carbin, arXiv 1803.03635, section 2.
  """
  seed = seeds.of_control(search, "random_reinit", level, draw)
  weights = search.trainer.draw(seed)
  ticket = _changed(search, level, "random_reinit", seed, start=weights)
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
  ticket = _changed(search, level, "shuffled_mask", seed, mask=mask)
  return search.train_control(ticket, draw)


def random_mask(search: Search, level: int, draw: int = 0) -> Round:
  """As many weights kept in the whole network, at other places.

  The mask is drawn from all prunable weights, also from those that the scope
  exempts. A search that prunes blocks or channels draws blocks or channels.
  """
  seed = seeds.of_control(search, "random_mask", level, draw)
  mask = _random_mask(search, search.ticket(level).mask, seed)
  ticket = _changed(search, level, "random_mask", seed, mask=mask)
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
  ticket = _changed(search, level, "one_shot", mask=mask)
  return search.train_control(ticket, draw)


def fine_tune(search: Search, level: int, draw: int = 0) -> Round:
  """No rewinding: on from the trained weights, at the last learning rate.

  Reference: Han et al., arXiv 1506.02626.
  """
  trained = _trained_before(search, level)
  ticket = _changed(search, level, "fine_tune", start=trained)
  return search.train_control(ticket, draw, rewind=rewinding.finetune())


def learning_rate_rewind(search: Search, level: int, draw: int = 0) -> Round:
  """On from the trained weights, with the learning rate of the beginning.

  Reference: Renda et al., arXiv 2003.02389.
  """
  trained = _trained_before(search, level)
  ticket = _changed(search, level, "learning_rate_rewind", start=trained)
  return search.train_control(ticket, draw, rewind=rewinding.learning_rate())


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
  ticket = _changed(search, level, "rewind_to_init", start=initial)
  return search.train_control(ticket, draw, rewind=rewinding.to_init())


def small_dense(
  search: Search,
  level: int,
  draw: int = 0,
  *,
  make_model: Callable[..., Any],
) -> Round:
  """A narrower dense network with about as many weights as the ticket.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the initialisations.
    make_model: called with `width=`, a factor for the number of hidden units;
      returns a compiled model of the search's generation. The record's density
      is the number of its prunable weights over that of the whole network.

  Raises:
    ValueError: `make_model` fails at a width, or ignores it.
  """
  return _small_dense(search, level, draw, "small_dense", make_model)


def small_dense_equal_cost(
  search: Search,
  level: int,
  draw: int = 0,
  *,
  make_model: Callable[..., Any],
) -> Round:
  """`small_dense`, trained for as many updates as search and ticket together.

  `Search.equal_cost_steps` says how many these are: what it took to choose
  among tickets is not included. An update of the smaller network costs fewer
  operations than one of the ticket; the record of the Round has its own.

  A learning-rate schedule that the model was compiled with is not stretched: if
  it falls to its end within a Level's steps, the longer training goes on at its
  last rate.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the initialisations.
    make_model: see `small_dense`.

  Raises:
    ValueError: as for `small_dense`.
  """
  name, steps = "small_dense_equal_cost", search.equal_cost_steps(level)
  return _small_dense(search, level, draw, name, make_model, steps)


def _small_dense(
  search: Search,
  level: int,
  draw: int,
  name: str,
  make_model: Callable[..., Any],
  steps: int | None = None,
) -> Round:
  if done := search.find_control(level, name, draw):
    return done
  whole = search.ticket(level).mask
  prunable = search.trainer.prunable
  width, size = widths.closest_width(make_model, whole.kept, prunable)
  if abs(size - whole.kept) > whole.kept / 10:
    _log.warning(
      "%s at Level %d, seed %d: it has %s prunable weights, and the ticket"
      " keeps %s. No width comes closer.",
      name,
      level,
      search.seed,
      f"{size:,}",
      f"{whole.kept:,}",
    )
  seed = seeds.of_control(search, name, level, draw)
  trainer = Trainer(
    functools.partial(make_model, width=width),
    strategy=search.trainer.strategy,
    seed=seed,
    prunable=prunable,
    jit=search.trainer.jit,
  )
  mask = Mask.ones(trainer.binding.shapes)
  provenance = {
    "level": level,
    "control": name,
    "control_seed": seed,
    "width": width,
  }
  start = trainer.initial.without_random_states()
  return search.train_control(
    Ticket(mask, start, provenance),
    draw,
    rewind=rewinding.to_init(),
    trainer=trainer,
    steps=steps,
    density=mask.size / whole.size,
  )


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
  )
}


def _trained_before(search: Search, level: int) -> Mapping[str, np.ndarray]:
  """The weights at the end of the Level before, from which it was pruned."""
  search.ticket(level)  # refuses the dense Level
  if search.method != methods.iterative():
    raise ValueError(
      "This control goes on from the training of the Level before, which only"
      f" method=iterative() has: leave it out, got {search.method}."
    )
  return search.trained(level - 1).weights


def _changed(
  search: Search,
  level: int,
  control: str,
  seed: int | None = None,
  *,
  mask: Mask | None = None,
  start: Mapping[str, np.ndarray] | None = None,
) -> Ticket:
  """The Level's ticket with another mask or other start weights."""
  ticket = search.ticket(level)
  if start is None:
    # A ticket is zero where it prunes: another mask needs the dense weights.
    start = search.dense_start()
  return Ticket(
    ticket.mask if mask is None else mask,
    {key: start[key] for key in ticket.start},
    {**ticket.provenance, "control": control, "control_seed": seed},
  )
