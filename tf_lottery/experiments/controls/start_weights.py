"""Controls with other start weights: new ones, other signs, sizes, places."""

import logging
from collections.abc import Callable

import numpy as np

from tf_lottery import rewinding
from tf_lottery.experiments.controls import changed
from tf_lottery.experiments.controls import seeds
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round

_log = logging.getLogger("tf_lottery")

# The kept start weights of one tensor, in a row -> others in their places.
_Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


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


def signs(search: Search, level: int, draw: int = 0) -> Round:
  """The ticket's mask and signs: all magnitudes of a weight tensor are equal.

  Each kept start weight w of a prunable tensor becomes

      sign(w) * mean(|w|)

  where the mean is over the kept weights of the tensor that are not zero. A
  zero has no sign, and stays zero. Zhou et al. take the standard deviation of
  the initialisation instead. The mean also fits weights of a later step and of
  any initialiser, and the sum of magnitudes stays. A ticket whose magnitudes
  are equal already is trained again as it is, with a warning.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the directory; nothing is drawn.

  Reference: Zhou et al., arXiv 1905.01067, section 4, "constant"; Gadhikar et
  al., arXiv 2504.12801, on signs being enough.
  """
  return _train(search, level, draw, "signs", _equal_magnitudes)


def magnitudes(search: Search, level: int, draw: int = 0) -> Round:
  """The ticket's mask and magnitudes: the signs of start weights are random.

  Each kept start weight of a prunable tensor gets either sign with the same
  probability.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the draws of the signs.

  Reference: Zhou et al., arXiv 1905.01067, section 4; Gadhikar and Burkholz,
  arXiv 2402.19262, on why signs matter.
  """
  return _train(search, level, draw, "magnitudes", _random_signs)


def permuted(search: Search, level: int, draw: int = 0) -> Round:
  """The ticket's mask: the start weights of a tensor change places within it.

  So the distribution of each prunable tensor's kept start weights stays, and
  what each of them was before training does not.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the permutations.

  Reference: Zhou et al., arXiv 1905.01067, section 4, "reshuffle".
  """
  return _train(search, level, draw, "permuted", _other_places)


def supermask(search: Search, level: int, draw: int = 0) -> Round:
  """The ticket's mask on the initial weights, without any training.

  The initial weights are those of step 0, also in a search that rewinds to a
  later one, with their moving statistics. The Round has 0 steps and costs
  nothing: its values at the end, and at the early stop, are those of its only
  evaluation.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the directory; nothing is drawn.

  Reference: Zhou et al., arXiv 1905.01067, section 5.
  """
  initial = search.initial.weights
  ticket = changed.ticket(search, level, "supermask", start=initial)
  return search.train_control(ticket, draw, rewind=rewinding.to_init(), steps=0)


def _train(
  search: Search, level: int, draw: int, name: str, change: _Change
) -> Round:
  """Trains the ticket with other start weights of its prunable tensors."""
  before = search.ticket(level)
  seed = seeds.of_control(search, name, level, draw)
  rng = np.random.default_rng(seed)
  start = dict(before.start)
  for key, kept in before.mask.items():
    values = np.array(start[key])
    values[kept] = change(values[kept], rng)
    start[key] = values
  ticket = changed.ticket(search, level, name, seed, start=start)
  if all(np.array_equal(start[key], before.start[key]) for key in before.mask):
    _log.warning(
      "The control %s changes nothing at Level %d, seed %d: it is the ticket"
      " trained again.",
      name,
      level,
      search.seed,
    )
  return search.train_control(ticket, draw)


def _equal_magnitudes(
  weights: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Returns the signs of weights times their mean magnitude.

  >>> _equal_magnitudes(np.array([0.25, -0.75, 0.0]), np.random.default_rng())
  array([ 0.5, -0.5,  0. ])
  """
  del rng
  sizes = np.abs(weights[weights != 0]).astype(np.float64)
  if not sizes.size:
    return weights
  return np.sign(weights) * sizes.mean().astype(weights.dtype)


def _random_signs(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  return weights * rng.choice([-1, 1], weights.shape).astype(weights.dtype)


def _other_places(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  return rng.permutation(weights)
