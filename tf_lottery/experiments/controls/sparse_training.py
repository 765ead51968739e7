"""Controls that train sparse from the start: `rigl`, `set` and `random_erk`."""

import functools
import math
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery import criteria
from tf_lottery import patterns
from tf_lottery import rewinding
from tf_lottery import scopes
from tf_lottery.experiments.controls import changed
from tf_lottery.experiments.controls import gradual_pruning
from tf_lottery.experiments.controls import seeds
from tf_lottery.masks import Mask
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round
from tf_lottery.tickets import Ticket
from tf_lottery.weights import Weight

# The fraction of each weight's kept entries that moves at the first update.
_FRACTION = 0.3

# The search and the step -> by key, the scores of the entries that may grow.
_Growth = Callable[[Search, int], Mapping[str, np.ndarray]]


def rigl(search: Search, level: int, draw: int = 0) -> Round:
  """RigL: weights are dropped and grown within one sparse training.

  From the search's initial weights, one training as long as a Level's begins
  with a random mask of the ticket's density. The layers' densities are those of
  Erdos-Renyi-Kernel (`scopes.erdos_renyi`). In the first three quarters, every
  100 steps (more often in a shorter training, which has ten updates at least if
  it has the steps), each layer of n kept weights drops the k of the least
  magnitude, and keeps k others of the greatest gradient instead, with

      k = round(0.15 * (1 + cos(pi * step / end)) * n)

  where `end` is three quarters of the training. The gradient is that of the
  next batch; the Round's cost has it, too. A grown weight starts at zero, and
  so do its slots of the optimizer. So the number of kept weights in each layer
  stays. The Round is evaluated from the last update on, and resumes like
  others.

  A search that prunes blocks or channels drops and grows blocks or channels, by
  the mean over their entries.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the random masks.

  Raises:
    ValueError: the pattern is n of m, and a layer's density is above n / m.

  Reference: Evci et al., arXiv 1911.11134.
  """
  return _train(search, level, draw, "rigl", _gradients)


def set_(search: Search, level: int, draw: int = 0) -> Round:
  """SET: as `rigl`, with weights grown at random. Its name is `"set"`.

  The paper drops the same fraction after each epoch. Here the fraction falls
  and the updates end as in `rigl`, as in the comparison of Evci et al.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the random masks and what grows.

  Raises:
    ValueError: as for `rigl`.

  Reference: Mocanu et al., arXiv 1707.04780.
  """
  seed = seeds.of_control(search, "set", level, draw)
  growth = functools.partial(_random, seed=seed)
  return _train(search, level, draw, "set", growth)


def rigl_equal_cost(search: Search, level: int, draw: int = 0) -> Round:
  """`rigl`, trained for as many updates as search and ticket together.

  `Search.equal_cost_steps` says how many these are: what it took to choose
  among tickets is not included.

  The updates go on for three quarters of that time. A learning-rate schedule
  that the model was compiled with is not stretched: if it falls to its end
  within a Level's steps, the longer training goes on at its last rate.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the random masks.

  Raises:
    ValueError: as for `rigl`.
  """
  steps = search.equal_cost_steps(level)
  return _train(search, level, draw, "rigl_equal_cost", _gradients, steps)


def random_erk(search: Search, level: int, draw: int = 0) -> Round:
  """A random mask of the ticket's density, with the layers' densities of ERK.

  It stays as it is, and trains from the dense network's start weights. The mask
  is drawn from all prunable weights, also from those that the scope exempts. A
  search that prunes blocks or channels draws blocks or channels.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the random masks.

  Raises:
    ValueError: as for `rigl`.

  Reference: Liu et al., arXiv 2202.02643; Evci et al., arXiv 1911.11134,
  section 3.
  """
  seed = seeds.of_control(search, "random_erk", level, draw)
  ticket = _sparse(
    search, level, "random_erk", seed, start=search.dense_start()
  )
  return search.train_control(ticket, draw)


def _train(
  search: Search,
  level: int,
  draw: int,
  name: str,
  growth: _Growth,
  steps: int | None = None,
) -> Round:
  """Trains under a mask that moves; reads the Round back if it is done."""
  search.ticket(level)  # refuses the dense Level
  if done := search.find_control(level, name, draw):
    return done
  seed = seeds.of_control(search, name, level, draw)
  start = search.initial.without_random_states()
  steps = steps or search.search_steps
  *updates, end = gradual_pruning.change_steps(steps)
  return search.train_control(
    _sparse(search, level, name, seed, start=start),
    draw,
    rewind=rewinding.to_init(),
    steps=steps,
    changes={
      step: functools.partial(
        _update, search, growth, step, _fraction(step, end)
      )
      for step in updates
    },
  )


def _sparse(
  search: Search,
  level: int,
  control: str,
  seed: int,
  *,
  start: Mapping[str, np.ndarray],
) -> Ticket:
  """Returns the Level's ticket with a random ERK mask and these weights."""
  ticket = search.ticket(level)
  full = Mask.ones(ticket.mask.shapes)
  try:
    mask = scopes.select(
      criteria.random(search.trainer.binding, full, seed=seed),
      full,
      ticket.mask.density,
      scopes.erdos_renyi(),
      search.prunable,
      search.pattern,
    )
  except ValueError as error:
    raise ValueError(
      f"The control {control} has the layer densities of Erdos-Renyi-Kernel,"
      f" which the pattern of this search does not allow at Level {level}:"
      f" {error} Leave the control out, or train it at smaller Levels."
    ) from error
  return changed.ticket(search, level, control, seed, mask=mask, start=start)


def _fraction(step: int, end: int) -> float:
  """Returns the fraction of the kept entries that moves at a step.

  Reference: Evci et al., arXiv 1911.11134, equation 1.
  """
  return _FRACTION / 2 * (1 + math.cos(math.pi * step / end))


def _gradients(search: Search, step: int) -> Mapping[str, np.ndarray]:
  """Returns the sizes of the gradients that the next step will have."""
  protocol = search.protocol
  found = search.trainer.gradients(
    protocol.train, step, batch_size=protocol.batch_size, seed=protocol.seed
  )
  return {key: np.abs(gradient) for key, gradient in found.items()}


def _random(
  search: Search, step: int, *, seed: int
) -> Mapping[str, np.ndarray]:
  rng = np.random.default_rng([seed, step])
  return {
    key: rng.random(shape, np.float32)
    for key, shape in search.trainer.binding.shapes.items()
  }


def _update(
  search: Search,
  growth: _Growth,
  step: int,
  fraction: float,
  mask: Mask,
  spent: Any = None,
) -> Mask:
  """Returns the next mask, and resets the slots of all weights that moved."""
  del spent
  values = search.trainer.binding.variables
  scores = growth(search, step)
  moved = {
    weight.key: _moved(
      weight,
      mask[weight.key],
      np.abs(values[weight.key].numpy()),
      scores[weight.key],
      fraction,
      search.pattern,
    )
    for weight in search.prunable
  }
  search.trainer.reset_slots({key: moved[key] != mask[key] for key in moved})
  return Mask(moved)


def _finite(scores: np.ndarray) -> np.ndarray:
  """Returns scores that can be ranked, also where a training diverges."""
  return scores if np.isfinite(scores.sum()) else np.nan_to_num(scores)


def _moved(
  weight: Weight,
  kept: np.ndarray,
  magnitude: np.ndarray,
  growth: np.ndarray,
  fraction: float,
  pattern: patterns.Pattern,
) -> np.ndarray:
  """Drops the smallest of what is kept, and grows the best of all others.

  What is dropped may grow again at once, as in the paper: then it never left.
  """
  magnitude, growth = _finite(magnitude), _finite(growth)
  scores, active = pattern.pool(weight, magnitude, kept)
  size = int(np.count_nonzero(active))
  count = round(fraction * size)
  stay = scopes.keep_highest(scores, active, size - count)
  # What stays comes first where the pattern limits its neighbours.
  growth = np.where(pattern.expand(weight, stay), np.inf, growth)
  scores, possible = pattern.pool(weight, growth, np.ones_like(kept))
  grown = scopes.keep_highest(scores, possible & ~stay, count)
  return pattern.expand(weight, stay | grown)
