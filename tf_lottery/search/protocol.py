"""How a Round is trained: under a mask, recorded on the way, resumable."""

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tqdm

from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.rewinding import Snapshot
from tf_lottery.search.divergence import Watch
from tf_lottery.search.recorder import Recorder
from tf_lottery.search.rounds import Round
from tf_lottery.storage.files import FileFormatError
from tf_lottery.storage.run_directory import RoundDirectory
from tf_lottery.storage.schemas import SmallestLayer
from tf_lottery.tickets import Ticket
from tf_lottery.training.data import Data
from tf_lottery.training.trainer import Trainer

_log = logging.getLogger("tf_lottery")

# Step -> what to do with the snapshot of that step.
Captures = Mapping[int, Callable[[Snapshot], None]]
# Step -> what the mask becomes, given the mask that is held at that step, and
# the cost of the Round so far. The function finds the weights of that step on
# the trainer's model.
MaskChanges = Mapping[int, Callable[[Mask, Cost], Mask]]
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
    density: float | None = None,
  ) -> tuple[Round, Snapshot | None]:
    """Trains one Round, or reads it back when it is done already.

    A Round that was interrupted goes on from its last checkpoint, which is
    written at the end of each epoch.

    With `changes`, the mask changes within the training, between two stretches
    of the trainer's one compiled program. The slots of the optimizer stay as
    they are: those of pruned weights fade, and move nothing. The Round is about
    its last mask, which its ticket has at the end. So it is evaluated only from
    the last change on.

    Args:
      trainer: trains it.
      ticket: the mask and the start weights; its provenance names the Level.
      before: the random states to start from, and the optimizer's variables if
        it has them; without them the optimizer begins afresh.
      span: the optimizer updates of the Round. The learning-rate schedule and
        the order of the data are at `span.start` when it begins.
      directory: where its files go.
      captures: steps at which a snapshot is wanted, and what to do with it.
      changes: steps after the start at which the mask changes, and how. A
        capture, an evaluation or a checkpoint of such a step comes after the
        change.
      density: the density to record. Defaults to the mask's.

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
    if directory.is_done:
      return _read_done(directory, span), None
    snapshot, step = _beginning(ticket, before, span, directory)
    mask = ticket.mask if snapshot.mask is None else snapshot.mask
    trainer.restore(snapshot, mask, step)
    # Earlier versions did not write the cost into checkpoints.
    spent = snapshot.cost or Cost(steps=step - span.start)
    with Recorder(directory, step, ticket.density, spent) as recorder:
      if step == span.start and not recorder.history and not changes:
        self._evaluate_start(trainer, step, recorder)
        # Random states and statistics that an evaluation may have changed.
        trainer.binding.write(_not_in(mask, snapshot.weights))
      watch = Watch(
        trainer=trainer,
        ticket=ticket,
        span=span,
        directory=directory,
        recorder=recorder,
      )
      self._run(step, watch, captures, changes)
    trainer.binding.check_held()
    final = trainer.capture(span.stop, optimizer=self.keep_optimizer)
    directory.save(final, directory.final)
    if changes:
      ticket = dataclasses.replace(ticket, mask=trainer.binding.mask)
      directory.save(ticket, directory.ticket)
    record = recorder.record(
      level=ticket.provenance.get("level", 0),
      density=ticket.density if density is None else density,
      start=span.start,
      steps=len(span),
      seed=self.seed,
      smallest_layer=_smallest_layer(trainer, ticket),
    )
    directory.finish(record)
    return Round.of(record, directory), final

  def _evaluate_start(
    self, trainer: Trainer, step: int, recorder: Recorder
  ) -> None:
    """Validates and tests the start weights under the mask, untrained."""
    began = time.perf_counter()
    row = self._validated(trainer.evaluate) | self._tested(trainer.evaluate)
    recorder.seconds += time.perf_counter() - began
    recorder.add({"step": step, **row})

  def _run(
    self,
    step: int,
    watch: Watch,
    captures: Captures,
    changes: MaskChanges,
  ) -> None:
    """Trains from a step to the end of the Round.

    Reports use two test results: at the end, and at the lowest validation
    loss. Which step has the lowest loss is known only later, so its weights are
    kept, and are tested when the epoch ends. To test at each new lowest loss
    would take about as long as all validations together.
    """
    trainer, span = watch.trainer, watch.span
    directory, recorder = watch.directory, watch.recorder
    early = None  # the step of the lowest loss and its weights, until tested
    capture = functools.partial(trainer.capture, mask=bool(changes))
    changed = max(changes, default=span.start)
    with self._bar(span, step, directory) as bar:
      for until in self._stops(step, span, [*captures, *changes]):
        began = time.perf_counter()
        loss = trainer.train(
          self.train, step, until, batch_size=self.batch_size, seed=self.seed
        )
        recorder.spent += trainer.spent
        bar.update(until - step)
        watch.loss(loss, range(step, until))
        step, last = until, until == span.stop
        if step in changes:
          mask = changes[step](trainer.binding.mask, recorder.spent)
          trainer.binding.hold(mask)
        if step in captures:
          captures[step](capture(step, optimizer=self.keep_optimizer))
        row = {"step": step, "loss": loss}
        due = step % self.evaluate_every == 0 and step >= changed
        evaluates = last or due
        epoch_ends = last or step % self.steps_per_epoch == 0
        if evaluates:
          row |= self._validated(trainer.evaluate)
          lowest = _is_lowest(row, recorder.history)
          if last or (lowest and epoch_ends):
            row |= self._tested(trainer.evaluate)
          if lowest:
            early = None if epoch_ends else (step, trainer.binding.read())
        recorder.seconds += time.perf_counter() - began
        if evaluates:
          recorder.add(row)
        if epoch_ends and early:
          self._test_early_stop(trainer, recorder, *early)
          early = None
        if epoch_ends and not last:
          checkpoint = capture(step, optimizer=True)
          checkpoint = dataclasses.replace(checkpoint, cost=recorder.spent)
          directory.save(checkpoint, directory.checkpoint, durable=False)
    watch.end()

  def _test_early_stop(
    self,
    trainer: Trainer,
    recorder: Recorder,
    step: int,
    weights: Mapping[str, np.ndarray],
  ) -> None:
    """Tests earlier weights, then restores the current weights."""
    began = time.perf_counter()
    now = trainer.binding.read()
    trainer.binding.write(weights)
    metrics = self._tested(trainer.evaluate)
    trainer.binding.write(now)
    recorder.seconds += time.perf_counter() - began
    recorder.amend(step, metrics)

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
    row = self._validated(evaluate)
    if last or _is_lowest(row, history):
      row |= self._tested(evaluate)
    return row

  def _validated(self, evaluate: Evaluate) -> dict[str, float]:
    return _prefixed("val_", evaluate(self.validation))

  def _tested(self, evaluate: Evaluate) -> dict[str, float]:
    return {} if self.test is None else _prefixed("test_", evaluate(self.test))

  def _stops(
    self, step: int, span: range, others: Collection[int]
  ) -> Iterator[int]:
    """Yields where training pauses: evaluations, ends of epochs, and others."""
    while step < span.stop:
      step = min(
        span.stop,
        *(
          step - step % every + every
          for every in (self.evaluate_every, self.steps_per_epoch)
        ),
        *(at for at in others if at > step),
      )
      yield step

  def _bar(self, span: range, step: int, directory: RoundDirectory):
    return tqdm.tqdm(
      total=len(span),
      initial=step - span.start,
      desc=directory.path.name,
      unit="it",
      leave=False,
      disable=not self.progress,
    )


def _smallest_layer(trainer: Trainer, ticket: Ticket) -> SmallestLayer:
  row = min(ticket.mask.table(), key=lambda row: row.density)
  name = trainer.binding.report[row.key].name
  return {"name": name, "density": row.density}


def _is_lowest(
  row: Mapping[str, float], history: Sequence[Mapping[str, float]]
) -> bool:
  """Whether the validation loss of a row is below that of all rows before.

  The row of the start weights has no training loss, and does not count: the
  early stop is a step of training.
  """
  losses = [r["val_loss"] for r in history if "loss" in r]
  finite = [loss for loss in losses if not math.isnan(loss)]
  return row["val_loss"] < min(finite, default=math.inf)


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
) -> tuple[Snapshot, int]:
  """Returns the last checkpoint, or the start where there is none; its step."""
  snapshot = dataclasses.replace(
    before, weights={**before.weights, **ticket.start}
  )
  step = span.start
  try:
    snapshot = Snapshot.load(directory.checkpoint)
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
