"""The controls `small_dense`: a narrower dense network of the ticket's size."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from tf_lottery import rewinding
from tf_lottery.experiments.controls import seeds
from tf_lottery.experiments.controls import widths
from tf_lottery.masks import Mask
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round
from tf_lottery.tickets import Ticket
from tf_lottery.training.trainer import Trainer

_log = logging.getLogger("tf_lottery")


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
