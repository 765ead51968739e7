"""Instability: whether the order of the data decides where training ends."""

import dataclasses
import typing
import zlib

import numpy as np
import tensorflow as tf

from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.objective import Objective
from tf_lottery.rewinding import Snapshot
from tf_lottery.search.rounds import tolerance_of
from tf_lottery.storage import tensor_files
from tf_lottery.storage.round_directory import RoundDirectory
from tf_lottery.tickets import Ticket
from tf_lottery.tickets import TicketFile
from tf_lottery.training.data import Data
from tf_lottery.training.data import StreamData
from tf_lottery.training.lines import Line
from tf_lottery.training.lines import interpolate

if typing.TYPE_CHECKING:
  from tf_lottery.search.loop import Search

# A function of the epoch is asked for epochs that the search does not reach. It
# is a prime, so that functions that count modulo some number give others.
_OTHER_EPOCHS = 9_999_991
# The name of these trainings in their provenance. They are recorded as controls
# are, also if they diverge: an order that does is not stable.
_NAME = "stability"


@dataclasses.dataclass(frozen=True, eq=False)
class Instability:
  """How far apart two trainings end that see the data in different orders.

  Both start from the same weights: those of the dense network at a step, under
  the mask of a Level.

  Attributes:
    level: The Level; 0 is the dense network.
    density: Fraction of the prunable weights that is kept, in (0, 1].
    step: The optimizer update from which both are trained.
    line: The metrics on the line between their ends.
    objective: The metric by which the barrier is measured.
    threshold: The barrier below which training is stable, in units of the
      metric; see `threshold`.
    cost: What was trained for it. The Round of the Level does not count.

  Reference: Frankle et al., arXiv 1912.05671.
  """

  level: int
  density: float
  step: int
  line: Line
  objective: Objective
  threshold: float
  cost: Cost

  @property
  def barrier(self) -> float:
    """The barrier between the two ends, in units of the metric; see `Line`.

    It is not a number if a training diverged.
    """
    return self.line.barrier(self.objective)

  @property
  def is_stable(self) -> bool:
    """Whether the barrier is below the threshold."""
    return self.barrier < self.threshold


def threshold(search: "Search") -> float:
  """Returns the barrier below which training is stable.

  It is twice the default tolerance of tickets: 2 % of what training gained, and
  at most 10 % of the dense network's value. For an accuracy that training
  brings from 0 to 1 these are the 2 points of the paper.
  """
  return 2 * tolerance_of(search.round(0), search.objective)


def check(search: "Search", level: int, step: int) -> None:
  """Refuses what cannot be measured, before anything is trained.

  Raises:
    ValueError: The Level is not trained, or the step is out of range.
  """
  search.round(level)
  if not 0 <= step < search.search_steps:
    raise ValueError(
      f"A step must be from 0 to {search.search_steps - 1}, before the end of"
      f" the training; got {step}."
    )


def measure(
  search: "Search",
  level: int,
  step: int,
  data: Data,
  *,
  points: int,
  statistics_data: Data | None = None,
) -> Instability:
  """Trains a network twice from one step, and evaluates the line between.

  The trainings lie in the run directory, so each is done once. Where the Round
  of the Level went on from that step, it is one of the two.

  Args:
    search: What `find_ticket` returned.
    level: A Level that is trained; 0 is the dense network.
    step: An optimizer update before the end of training.
    data: What to evaluate on.
    points: See `interpolate`.
    statistics_data: See `interpolate`.

  Raises:
    ValueError: The Level is not trained, the step is out of range, or the data
      have no other order.
  """
  check(search, level, step)
  (first, spent), (second, more) = (
    _trained(search, level, step, order) for order in (0, 1)
  )
  line = interpolate(
    search.trainer,
    first,
    second,
    data,
    points=points,
    statistics_data=statistics_data,
  )
  return Instability(
    level=level,
    density=search.round(level).density,
    step=step,
    line=line,
    objective=search.objective,
    threshold=threshold(search),
    cost=spent + more,
  )


def in_order(data: Data, order: int) -> Data:
  """Returns the data in another order; the seed decides it for arrays.

  Args:
    data: The data.
    order: The number of the order; 0 is that of the search.

  Raises:
    ValueError: A stream has the same batches in other epochs, or it has no
      other epochs.
  """
  if not order or not isinstance(data, StreamData):
    return data
  offset = order * _OTHER_EPOCHS
  try:
    same = all(
      _are_equal(next(iter(data.make(n))), next(iter(data.make(n + offset))))
      for n in (0, 1)
    )
  except Exception as error:
    raise ValueError(
      "The training data must have batches for any epoch, so that there is"
      f" another order of them; epoch {offset} fails: {error}. Give arrays, or"
      " a function that shuffles by the number of the epoch."
    ) from error
  if same:
    raise ValueError(
      "The training data are a stream that begins with the same batch in each"
      " epoch, so they have one order only. Give arrays, or a function of the"
      " epoch that shuffles by it."
    )
  return StreamData(lambda epoch: data.make(epoch + offset))


def _are_equal(one: typing.Any, other: typing.Any) -> bool:
  arrays, others = (
    [np.asarray(array) for array in tf.nest.flatten(batch)]
    for batch in (one, other)
  )
  return all(map(np.array_equal, arrays, others))


def dense_at(search: "Search", step: int) -> tuple[Snapshot, Cost]:
  """Returns the dense network at a step, trained again if need be.

  Args:
    search: The search.
    step: An optimizer update of the training of Level 0.

  Returns:
    The snapshot, with the optimizer's variables except at step 0; and what was
    trained for it.
  """
  if not step:
    return search.initial, Cost()
  if captured := search.captured(step):
    return captured, Cost()
  done, directory = search.directory.denses(), search.directory.dense(step)
  if directory.ticket.is_file():  # it went on from there
    before = TicketFile(directory.ticket).provenance["step"]
  else:
    before = max((other for other in done if other < step), default=0)
  start, spent = dense_at(search, before)
  full = Mask.ones(search.trainer.binding.shapes)
  final, more = _train(search, full, start, range(before, step), directory)
  return final, spent + more


def _trained(
  search: "Search", level: int, step: int, order: int
) -> tuple[Snapshot, Cost]:
  """Returns the end of a training from a step, in one order of the data."""
  if not order and _went_on_from(search, level, step):
    return search.trained(level), Cost()
  mask = search.round(level).ticket.mask
  start, spent = _start(search, level, step)
  final, more = _train(
    search,
    mask,
    start,
    range(step, search.search_steps),
    search.directory.stability(level, step, order, _digest(mask, level)),
    order=order,
    level=level,
  )
  return final, spent + more


def _start(search: "Search", level: int, step: int) -> tuple[Snapshot, Cost]:
  """Returns the dense network from which a Level is trained at a step."""
  if level and _rewinds_to(search, step):
    return search.start(), Cost()
  start, spent = dense_at(search, step)
  if level and not search.rewind.keep_optimizer:
    start = dataclasses.replace(start, optimizer=None)
  return start, spent


def _digest(mask: Mask, level: int) -> str:
  """Tells the tickets of a Level apart; a search may draw it again."""
  return tensor_files.digest(dict(mask))[:8] if level else ""


def _went_on_from(search: "Search", level: int, step: int) -> bool:
  """Whether the Round of a Level went on from this very step to its end."""
  if search.round(level).stopped:
    return False
  if level:
    return _rewinds_to(search, step)
  return not step or search.captured(step) is not None


def _rewinds_to(search: "Search", step: int) -> bool:
  """Whether tickets start from the weights and the position of a step."""
  rewind, per_epoch = search.rewind, search.protocol.steps_per_epoch
  return rewind.weights == rewind.position and (
    rewind.weights is not None and rewind.weights.iterations(per_epoch) == step
  )


def _train(
  search: "Search",
  mask: Mask,
  start: Snapshot,
  span: range,
  directory: RoundDirectory,
  *,
  order: int = 0,
  level: int = 0,
) -> tuple[Snapshot, Cost]:
  """Trains from a snapshot, once; returns the weights at the end, the cost."""
  protocol = dataclasses.replace(
    search.protocol,
    train=in_order(search.protocol.train, order),
    seed=_seed(search.seed, order),
    test=None,
    keep_optimizer=True,
  )
  provenance = {"level": level, "control": _NAME, "order": order}
  ticket = Ticket(mask, start.without_random_states(), provenance)
  with search.directory.locked():
    round_, final = protocol.train_round(
      search.trainer, ticket, start, span, directory, evaluations=()
    )
  return final or round_.final, round_.cost


def _seed(seed: int, order: int) -> int:
  """Returns the seed of an order of the data; 0 is the order of the search."""
  return zlib.crc32(f"{seed} order {order}".encode()) >> 1 if order else seed
