"""How a Round is trained: under a mask, recorded on the way, resumable."""

import dataclasses
import logging
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.rewinding import Snapshot
from tf_lottery.search.recorder import Recorder
from tf_lottery.search.round_training import Captures
from tf_lottery.search.round_training import MaskChanges
from tf_lottery.search.round_training import Observe
from tf_lottery.search.round_training import RoundTraining
from tf_lottery.search.round_training import Until
from tf_lottery.search.round_training import is_lowest
from tf_lottery.search.rounds import Round
from tf_lottery.storage.files import FileFormatError
from tf_lottery.storage.round_directory import RoundDirectory
from tf_lottery.storage.schemas import SmallestLayer
from tf_lottery.tickets import Ticket
from tf_lottery.training.data import Data
from tf_lottery.training.trainer import Trainer

_log = logging.getLogger("tf_lottery")

# Data -> the metrics on it, by name.
Evaluate = Callable[[Data], Mapping[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
  """How every Round of a search is trained and evaluated.

  Attributes:
    train: the data to train on.
    validation: the data by which tickets are chosen.
    test: data that is only reported; `None` where there is none.
    batch_size: examples in a step, over all replicas. A stream has its own.
    evaluate_every: optimizer updates between two evaluations.
    seed: of the order of the data.
    keep_optimizer: whether snapshots hold the optimizer's variables, because
      the next Rounds go on with them.
    progress: whether to show a progress bar.
  """

  train: Data
  validation: Data
  test: Data | None
  batch_size: int
  evaluate_every: int
  seed: int
  keep_optimizer: bool = False
  progress: bool = False

  @property
  def steps_per_epoch(self) -> int:
    """Optimizer updates in an epoch."""
    return self.train.steps_per_epoch(self.batch_size)

  def train_round(
    self,
    trainer: Trainer,
    ticket: Ticket,
    before: Snapshot,
    span: range,
    directory: RoundDirectory,
    *,
    captures: Captures | None = None,
    changes: MaskChanges | None = None,
    evaluations: Collection[int] | None = None,
    observe: Observe | None = None,
    until: Until | None = None,
    density: float | None = None,
    held: Round | None = None,
  ) -> tuple[Round, Snapshot | None]:
    """Trains one Round, or reads it back when it is done already.

    A Round that was interrupted goes on from its last checkpoint, which is
    written at the end of each epoch. So does a Round that `until` stopped, when
    it is asked for again and does not stop there any more.

    With `changes`, the mask changes within the training, between two stretches
    of the trainer's one compiled program. The slots of the optimizer stay as
    they are: those of pruned weights fade, and move nothing. The Round is about
    its last mask, which its ticket has at the end.

    Args:
      trainer: trains it.
      ticket: the mask and the start weights; its provenance names the Level.
      before: the random states to start from, and the optimizer's variables if
        it has them; without them the optimizer begins afresh.
      span: the optimizer updates of the Round. The learning-rate schedule and
        the order of the data are at `span.start` when it begins.
      directory: where its files go.
      captures: steps at which a snapshot is wanted, with the variables of the
        optimizer, and what to do with it.
      changes: steps after the start at which the mask changes, and how. A
        capture, an evaluation or a checkpoint of such a step comes after the
        change.
      evaluations: the steps of evaluations; the last step always has one.
        Defaults to each `evaluate_every`, from the last change on.
      observe: adds metrics to each evaluation, such as how far a mask has
        moved. It is also called before the first step, and after a resumption,
        with the weights as they are then; what it returns there is dropped.
      until: is asked after each evaluation, and stops the Round there.
      density: the density to record. Defaults to the mask's.
      held: the Round, if this process has trained it already and does not
        write: the chief of its cluster may not have written it yet.

    Returns:
      The Round; and the snapshot at its end, or `None` if it was read back.

    Raises:
      DivergedError: the loss or a weight is not finite any more; the Round is
        not recorded. A control trains to its end and is recorded as it is,
        with a warning: that it diverges where the ticket trains is a result.
      RuntimeError: a pruned weight is not zero at the end.
      ValueError: the directory holds another Round.
    """
    provenance = {**ticket.provenance, "step": span.start}
    ticket = dataclasses.replace(ticket, provenance=provenance)
    captures, changes = captures or {}, changes or {}
    _keep_ticket(ticket, directory, changes)
    if held or directory.is_done:
      round_ = held or _read_done(directory, span)
      stays = until is not None and until(round_.history)
      if stays or not round_.stopped:
        return round_, None
    snapshot, step = _beginning(ticket, before, span, directory, held)
    mask = ticket.mask if snapshot.mask is None else snapshot.mask
    trainer.restore(snapshot, mask, step)
    # Earlier versions did not write the cost into checkpoints.
    spent = snapshot.cost or Cost(steps=step - span.start)
    rows = held.rows if held else None
    with Recorder(directory, step, ticket.density, spent, rows) as recorder:
      begins = step == span.start and not recorder.history
      if begins and not changes and evaluations is None:
        self._evaluate_start(trainer, step, recorder)
        # Random states and statistics that an evaluation may have changed.
        trainer.binding.write(_not_in(mask, snapshot.weights))
      training = RoundTraining(
        protocol=self,
        trainer=trainer,
        ticket=ticket,
        span=span,
        directory=directory,
        recorder=recorder,
        captures=captures,
        changes=changes,
        evaluations=evaluations,
        observe=observe,
        until=until,
      )
      end = training.run(step)
    trainer.binding.check_held()
    stopped = end < span.stop
    checkpoint = training.checkpoint(end) if stopped else None
    if checkpoint:
      directory.save(checkpoint, directory.checkpoint, durable=False)
    final = trainer.capture(end, optimizer=self.keep_optimizer)
    directory.save(final, directory.final)
    if changes:
      ticket = dataclasses.replace(ticket, mask=trainer.binding.mask)
      directory.save(ticket, directory.ticket)
    record = recorder.record(
      level=ticket.provenance.get("level", 0),
      density=ticket.density if density is None else density,
      start=span.start,
      steps=end - span.start,
      seed=self.seed,
      **({"stopped": True} if stopped else {}),
      **_search_cost(ticket),
      smallest_layer=_smallest_layer(trainer, ticket),
    )
    directory.finish(record)
    checkpoint = None if directory.writes else checkpoint
    return Round.of(record, directory, recorder.history, checkpoint), final

  def _evaluate_start(
    self, trainer: Trainer, step: int, recorder: Recorder
  ) -> None:
    """Validates and tests the start weights under the mask, untrained."""
    began = time.perf_counter()
    row = self.validated(trainer.evaluate) | self.tested(trainer.evaluate)
    recorder.seconds += time.perf_counter() - began
    recorder.add({"step": step, **row})

  def evaluate(
    self,
    evaluate: Evaluate,
    history: Sequence[Mapping[str, float]],
    *,
    last: bool,
  ) -> dict[str, float]:
    """Validates; also tests, at a new lowest validation loss and at the end.

    This is for trainings that the `Trainer` does not do.

    Args:
      evaluate: gives the metrics of some data.
      history: the rows before.
      last: whether training is at its end.
    """
    row = self.validated(evaluate)
    if last or is_lowest(row, history):
      row |= self.tested(evaluate)
    return row

  def validated(self, evaluate: Evaluate) -> dict[str, float]:
    """Returns the metrics on the validation data, as `val_...`."""
    return _prefixed("val_", evaluate(self.validation))

  def tested(self, evaluate: Evaluate) -> dict[str, float]:
    """Returns the metrics on the test data, as `test_...`, if there are any."""
    return {} if self.test is None else _prefixed("test_", evaluate(self.test))


def _search_cost(ticket: Ticket) -> dict[str, Any]:
  """What drew the ticket of a Level, and its cost, if that is known."""
  provenance = ticket.provenance
  if "search_cost" not in provenance or "control" in provenance:
    return {}
  names = ("search_cost", "search")
  return {name: provenance[name] for name in names if name in provenance}


def _smallest_layer(trainer: Trainer, ticket: Ticket) -> SmallestLayer:
  row = min(ticket.mask.table(), key=lambda row: row.density)
  name = trainer.binding.report[row.key].name
  return {"name": name, "density": row.density}


def _not_in(
  mask: Mask, weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  return {key: value for key, value in weights.items() if key not in mask}


def _prefixed(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
  return {f"{prefix}{name}": value for name, value in metrics.items()}


def _keep_ticket(
  ticket: Ticket, directory: RoundDirectory, changes: MaskChanges
) -> None:
  """Saves the ticket, or checks that it is the one which is there.

  At its end, a Round whose mask changes has a ticket with the last mask.
  """
  if not directory.ticket.is_file():
    directory.save(ticket, directory.ticket)
    return
  found = Ticket.load(directory.ticket)
  if changes and found.mask.shapes == ticket.mask.shapes:
    ticket = dataclasses.replace(ticket, mask=found.mask)
  if not ticket.equals(found):
    raise ValueError(
      f"{directory.path} holds the training of another ticket. Give another"
      " name, or delete the directory."
    )


def _read_done(directory: RoundDirectory, span: range) -> Round:
  record = directory.read_record()
  start = record.get("start", span.start)
  found = range(start, start + record["steps"])
  if record.get("stopped"):
    found = range(start, start + len(span))  # as far as it is
  if found != span:
    raise ValueError(
      f"{directory.path} holds a training of steps {found.start} to"
      f" {found.stop}, and {span.start} to {span.stop} are asked for. Give"
      " another name."
    )
  return Round.of(record, directory)


def _beginning(
  ticket: Ticket,
  before: Snapshot,
  span: range,
  directory: RoundDirectory,
  held: Round | None,
) -> tuple[Snapshot, int]:
  """Returns the last checkpoint, or the start where there is none; its step."""
  snapshot = dataclasses.replace(
    before, weights={**before.weights, **ticket.start}
  )
  step = span.start
  try:
    held_here = held.checkpoint if held else None
    snapshot = held_here or Snapshot.load(directory.checkpoint)
    step = snapshot.step
  except FileNotFoundError:
    pass
  except FileFormatError as error:
    _log.warning("The Round starts again: %s", error)
  if not span.start <= step <= span.stop:
    raise ValueError(
      f"{directory.checkpoint} is of step {step}, and steps {span.start} to"
      f" {span.stop} are asked for. Give another name."
    )
  return snapshot, step
