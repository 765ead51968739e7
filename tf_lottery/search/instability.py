"""Instability: whether the order of the data decides where training ends."""

import dataclasses
import typing
import zlib

import numpy as np
import tensorflow as tf

from tf_lottery.masks import Mask
from tf_lottery.objective import Objective
from tf_lottery.rewinding import Snapshot
from tf_lottery.search.rounds import tolerance_of
from tf_lottery.storage.run_directory import RoundDirectory
from tf_lottery.tickets import Ticket
from tf_lottery.training.data import Data
from tf_lottery.training.data import StreamData
from tf_lottery.training.lines import Line
from tf_lottery.training.lines import interpolate

if typing.TYPE_CHECKING:
  from tf_lottery.search.loop import Search

# A function of the epoch is asked for epochs that the search does not reach.
_OTHER_EPOCHS = 10_000_000


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
      metric.

  Reference: Frankle et al., arXiv 1912.05671.
  """

  level: int
  density: float
  step: int
  line: Line
  objective: Objective
  threshold: float

  @property
  def barrier(self) -> float:
    """The barrier between the two ends, in units of the metric; see `Line`."""
    return self.line.barrier(self.objective)

  @property
  def is_stable(self) -> bool:
    """Whether the barrier is below the threshold."""
    return self.barrier < self.threshold


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
  round_ = search.round(level)
  if not 0 <= step < search.search_steps:
    raise ValueError(
      f"A step must be from 0 to {search.search_steps - 1}, before the end of"
      f" the training; got {step}."
    )
  first, second = (_trained(search, level, step, order) for order in (0, 1))
  line = interpolate(
    search.trainer,
    first,
    second,
    data,
    points=points,
    statistics_data=statistics_data,
  )
  return Instability(
    level, round_.density, step, line, search.objective, threshold(search)
  )


def threshold(search: "Search") -> float:
  """Returns the barrier below which training is stable.

  It is 2 % of what training gained, in units of the objective. For an accuracy
  that training brings from 0 to 1 these are the 2 points of the paper.
  """
  return 2 * tolerance_of(search.round(0), search.objective)


def _trained(search: "Search", level: int, step: int, order: int) -> Snapshot:
  """Returns the end of a training from a step, in one order of the data."""
  if not order and _went_on_from(search, level, step):
    return search.trained(level)
  start = _dense_at(search, step)
  if level and not search.rewind.keep_optimizer:
    start = dataclasses.replace(start, optimizer=None)
  return _train(
    search,
    search.round(level).ticket.mask,
    start,
    range(step, search.search_steps),
    search.directory.stability(level, step, order),
    order=order,
    level=level,
  )


def _went_on_from(search: "Search", level: int, step: int) -> bool:
  """Whether the Round of a Level went on from this very step to its end."""
  if search.round(level).stopped:
    return False
  if not level:
    return not step or search.captured(step) is not None
  rewind, per_epoch = search.rewind, search.protocol.steps_per_epoch
  return rewind.weights == rewind.position and (
    rewind.weights is not None and rewind.weights.iterations(per_epoch) == step
  )


def _dense_at(search: "Search", step: int) -> Snapshot:
  """Returns the dense network at a step, trained again if need be."""
  if not step:
    return search.initial
  if captured := search.captured(step):
    return captured
  done = search.directory.denses()
  if step in done:
    return Snapshot.load(done[step].final)
  before = max((other for other in done if other < step), default=0)
  return _train(
    search,
    Mask.ones(search.trainer.binding.shapes),
    _dense_at(search, before),
    range(before, step),
    search.directory.dense(step),
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
) -> Snapshot:
  """Trains from a snapshot, once, and returns the weights at the end."""
  protocol = dataclasses.replace(
    search.protocol,
    train=_in_order(search.protocol.train, order),
    seed=_seed(search.seed, order),
    test=None,
    keep_optimizer=True,
  )
  provenance = {"level": level, "order": order}
  ticket = Ticket(mask, start.without_random_states(), provenance)
  with search.directory.locked():
    round_, final = protocol.train_round(
      search.trainer, ticket, start, span, directory, evaluations=()
    )
  return final or round_.final


def _seed(seed: int, order: int) -> int:
  """Returns the seed of an order of the data; 0 is the order of the search."""
  return zlib.crc32(f"{seed} order {order}".encode()) >> 1 if order else seed


def _in_order(data: Data, order: int) -> Data:
  """Returns the data in another order; the seed decides it for arrays.

  Raises:
    ValueError: A stream has the same batches in another epoch.
  """
  if not order or not isinstance(data, StreamData):
    return data
  other = StreamData(lambda epoch: data.make(epoch + order * _OTHER_EPOCHS))
  here, there = (
    [np.asarray(a) for a in tf.nest.flatten(stream.first()) if a is not None]
    for stream in (data, other)
  )
  if all(map(np.array_equal, here, there)):
    raise ValueError(
      "The training data are a stream that begins with the same batch in each"
      " epoch, so they have one order only. Give arrays, or a function of the"
      " epoch that shuffles by it."
    )
  return other
