"""Controls whose mask comes from the same search, on damaged training data."""

import dataclasses
import logging
from collections.abc import Callable

import numpy as np

from tf_lottery.experiments.controls import changed
from tf_lottery.experiments.controls import seeds
from tf_lottery.masks import Mask
from tf_lottery.search import declarations
from tf_lottery.search import methods
from tf_lottery.search.anytime import Anytime
from tf_lottery.search.divergence import DivergedError
from tf_lottery.search.loop import Search
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.rounds import Round
from tf_lottery.storage.run_directory import RunDirectory
from tf_lottery.training.data import ArrayData
from tf_lottery.training.data import Data

_log = logging.getLogger("tf_lottery")

# The protocol, its training data and a seed -> the protocol with the damage.
_Damage = Callable[[Protocol, ArrayData, int], Protocol]

# The controls of this module.
NAMES = ("shuffled_labels", "half_data", "other_order")

# Methods that have trainings of their own, from which they draw masks.
_WITH_OWN_TRAININGS = (
  methods.AtInit,
  methods.Cycles,
  methods.EarlyBird,
  methods.Iterative,
)


def shuffled_labels(search: Search, level: int, draw: int = 0) -> Round:
  """The mask of a search in which the labels of training examples are shuffled.

  The search is the same in all else: initial weights, method, criterion, scope,
  pattern, rewind, steps, order. Each example has the label of another one, and
  its sample weight, throughout. Then the mask trains on the good data as the
  ticket did, from the good search's start weights.

  All Levels share that other search, which lies in `search_on-NAME-0` of the
  run directory, and goes on where it stopped. It trains no more Levels than the
  masks need.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the permutations of the labels, each with its own search.

  Raises:
    ValueError: The training data are no arrays, or the search has a budget.
    DivergedError: A training on the damaged data diverged.

  Reference: Su et al., arXiv 2009.11094; Ma et al., arXiv 2107.00166.
  """
  return _train(search, level, draw, "shuffled_labels", _shuffle_labels)


def half_data(search: Search, level: int, draw: int = 0) -> Round:
  """The mask of a search that has half of the training examples.

  As `shuffled_labels`, except for the damage. The half is drawn at random. Each
  of its examples comes twice in an epoch, so that epochs, and all lengths that
  count in them, have as many optimizer updates as before.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the halves, each with its own search.

  Raises:
    ValueError: As for `shuffled_labels`.
    DivergedError: As for `shuffled_labels`.

  Reference: Su et al., arXiv 2009.11094.
  """
  return _train(search, level, draw, "half_data", _halve)


def other_order(search: Search, level: int, draw: int = 0) -> Round:
  """The mask of a search that has the training examples in another order.

  As `shuffled_labels`, except for the damage. Batches, augmentation, and what a
  criterion draws have another seed; the initial weights and the random states
  of the model stay.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the orders, each with its own search.

  Raises:
    ValueError: As for `shuffled_labels`.
    DivergedError: As for `shuffled_labels`.

  Reference: Frankle et al., arXiv 1912.05671, on the noise of the data order.
  """
  return _train(search, level, draw, "other_order", _reorder)


def arrays(control: str, data: Data) -> ArrayData:
  """Returns training data that a control can damage.

  Args:
    control: The name of the control.
    data: The training data of the search.

  Raises:
    ValueError: They are a stream.
  """
  if not isinstance(data, ArrayData):
    raise ValueError(
      f"The control {control} needs training data as arrays, (x, y): a stream"
      " has labels, examples and an order of its own. Give arrays, or leave the"
      " control out."
    )
  return data


def needs_a_method(control: str) -> ValueError:
  """Returns the error that refuses a control in a search with a budget."""
  return ValueError(
    f"The control {control} repeats the search on damaged data, and a search"
    " with a budget draws its masks from Levels that matched, of which there"
    " may be none on such data. Give a method instead, such as cycles(8, 0.5),"
    " or leave the control out."
  )


def _train(
  search: Search, level: int, draw: int, name: str, damage: _Damage
) -> Round:
  """Trains the mask of the other search; reads the Round back if it is done."""
  search.ticket(level)  # refuses the dense Level
  if done := search.find_control(level, name, draw):
    return done
  train = arrays(name, search.protocol.train)
  if isinstance(search.method, Anytime):
    raise needs_a_method(name)
  # One seed for all Levels, which share the search.
  seed = seeds.of_control(search, name, 0, draw)
  directory = search.directory.search_on(name, draw)
  _log.info("%s: a search on damaged data draws the mask.", directory.path)
  protocol = damage(search.protocol, train, seed)
  try:
    with directory.locked():
      mask = _drawn(_on(search, protocol, directory), level)
  except DivergedError as error:
    raise DivergedError(
      f"The search of the control {name} diverged, so that there is no mask to"
      f" train. Leave the control out, or train more steadily. {error}"
    ) from error
  ticket = changed.ticket(search, level, name, seed, mask=mask)
  return search.train_control(ticket, draw)


def _on(search: Search, protocol: Protocol, directory: RunDirectory) -> Search:
  """Returns the same search on other data, with the Levels that it has."""
  # Nobody looks at its Levels, only at their masks.
  unseen = dataclasses.replace(
    protocol, test=None, evaluate_every=search.search_steps
  )
  other = dataclasses.replace(
    search, protocol=unseen, directory=directory, rounds=()
  )
  declarations.declare(directory, declarations.of_search(other))
  other.read_back()
  return other


def _drawn(search: Search, level: int) -> Mask:
  """Returns the mask of a Level, after the trainings that it needs."""
  done = {round_.level for round_ in search.rounds}
  for number in range(_levels_before(search, level)):
    if number not in done:
      search.train_level(number)
  return search.draw(level).mask


def _levels_before(search: Search, level: int) -> int:
  """Returns how many Levels must be trained before a Level can be drawn."""
  own = isinstance(search.method, _WITH_OWN_TRAININGS)
  if search.method == methods.iterative() or not own:
    return level
  # The dense network has the weights of the step to which the others rewind.
  return int(search.rewind.weights is None or search.rewind.weights.count > 0)


def _shuffle_labels(protocol: Protocol, data: ArrayData, seed: int) -> Protocol:
  order = np.random.default_rng(seed).permutation(data.size)
  return dataclasses.replace(protocol, train=data.with_labels_of(order))


def _halve(protocol: Protocol, data: ArrayData, seed: int) -> Protocol:
  order = np.random.default_rng(seed).permutation(data.size)
  twice = np.resize(order[: (data.size + 1) // 2], data.size)
  return dataclasses.replace(protocol, train=data.select(twice))


def _reorder(protocol: Protocol, data: ArrayData, seed: int) -> Protocol:
  del data
  return dataclasses.replace(protocol, seed=seed)
