"""Legs: one training from a snapshot under a mask, recorded and resumable."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tqdm

from tf_lottery import data as data_lib
from tf_lottery import files
from tf_lottery import masks
from tf_lottery import rewinding
from tf_lottery import rounds
from tf_lottery import rundir
from tf_lottery import tickets
from tf_lottery import training
from tf_lottery.wrappers import binding as binding_lib

_log = logging.getLogger("tf_lottery")


@dataclasses.dataclass(frozen=True)
class Protocol:
  """What all legs of a run share.

  Attributes:
    train: what to train on.
    validation: what to choose by.
    test: what to report on; `None` when there is none.
    batch_size: examples in a step (arrays only).
    steps_per_epoch: steps in an epoch of `train`.
    evaluate_every: steps between evaluations.
    seed: of the order of the data.
    progress: whether to show a progress bar.
  """

  train: data_lib.Data
  validation: data_lib.Data
  test: data_lib.Data | None
  batch_size: int
  steps_per_epoch: int
  evaluate_every: int
  seed: int
  progress: bool = False

  def evaluate(
    self,
    evaluate: Callable[[data_lib.Data], Mapping[str, float]],
    history: Sequence[Mapping[str, float]],
    *,
    last: bool,
  ) -> dict[str, float]:
    """Validates; tests at a new lowest validation loss, and at the end.

    These are the rows that anyone reports: the early stop, which is known
    only afterwards, and the last. Testing at each would cost twice as much as
    validating does.

    Args:
      evaluate: gives the metrics of some data.
      history: the rows before.
      last: whether training is at its end.
    """
    row = _prefixed("val_", evaluate(self.validation))
    losses = [r["val_loss"] for r in history if not math.isnan(r["val_loss"])]
    lowest = row["val_loss"] < min(losses, default=math.inf)
    if self.test is not None and (lowest or last):
      row |= _prefixed("test_", evaluate(self.test))
    return row


def _prefixed(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
  return {f"{prefix}{name}": value for name, value in metrics.items()}


@dataclasses.dataclass(frozen=True)
class Leg:
  """One training: where it begins, and what it leaves on the way.

  Attributes:
    snapshot: the weights to start from.
    mask: what is kept.
    start: the first step; order of the data and learning rate are its.
    stop: the step at which it ends.
    capture_at: a step at which `on_capture` gets a snapshot.
    keep_optimizer: whether that snapshot has the optimizer's variables.
    on_capture: what to do with it.
  """

  snapshot: rewinding.Snapshot
  mask: masks.Mask
  start: int
  stop: int
  capture_at: int | None = None
  keep_optimizer: bool = False
  on_capture: Callable[[rewinding.Snapshot], None] | None = None


def complete(
  trainer: training.Trainer,
  protocol: Protocol,
  leg: Leg,
  directory: rundir.LegDirectory,
  provenance: Mapping[str, Any],
  *,
  density: float | None = None,
) -> tuple[rounds.Round, rewinding.Snapshot | None]:
  """Trains a leg unless it is done.

  Args:
    trainer: what trains.
    protocol: on what.
    leg: from where to where.
    directory: where to keep it.
    provenance: of its ticket; `level` is in the record too.
    density: what to record. Defaults to the mask's.

  Returns:
    Its record, and the snapshot at the end if it was trained just now.

  Raises:
    ValueError: the directory holds the training of another leg.
  """
  ticket = _ticket(leg, provenance)
  if not directory.ticket.is_file():
    if directory.writes:
      ticket.save(directory.ticket)
  elif not ticket.equals(tickets.Ticket.load(directory.ticket)):
    raise ValueError(
      f"{directory.path} holds the training of another ticket. Give another"
      " name."
    )
  if directory.is_done:
    return _read_done(leg, directory), None
  history, final = run(trainer, protocol, leg, directory)
  record = rounds.record_of(
    history,
    level=provenance.get("level", 0),
    density=leg.mask.density if density is None else density,
    start=leg.start,
    steps=leg.stop - leg.start,
    seed=protocol.seed,
  )
  directory.finish(record)
  return rounds.Round.of(record, directory), final


def _read_done(leg: Leg, directory: rundir.LegDirectory) -> rounds.Round:
  record = directory.read_record()
  start = record.get("start", leg.start)
  stop = start + record["steps"]
  if (start, stop) != (leg.start, leg.stop):
    raise ValueError(
      f"{directory.path} holds a training of steps {start} to {stop}, and"
      f" {leg.start} to {leg.stop} are asked for. Give another name."
    )
  return rounds.Round.of(record, directory)


def _ticket(leg: Leg, provenance: Mapping[str, Any]) -> tickets.Ticket:
  start = {
    key: value
    for key, value in leg.snapshot.weights.items()
    if not key.startswith(binding_lib.RANDOM)
  }
  return tickets.Ticket(leg.mask, start, provenance)


def run(
  trainer: training.Trainer,
  protocol: Protocol,
  leg: Leg,
  directory: rundir.LegDirectory,
) -> tuple[list[dict[str, float]], rewinding.Snapshot]:
  """Trains a leg to its end, or on from its last checkpoint.

  A checkpoint is written at the end of each epoch. The weights at the end go
  to the directory; the caller marks it as done.

  Returns:
    One row for each evaluation (`step`, `seconds`, the training `loss` since
    the boundary before, `val_*`, and in some `test_*` metrics), and the
    snapshot at the end.

  Raises:
    RuntimeError: a pruned weight is not zero at the end.
  """
  step = _begin(trainer, leg, directory)
  with (
    rounds.Recorder(directory, step, leg.mask.density) as recorder,
    _bar(protocol, leg, directory, step) as bar,
  ):
    for until in _boundaries(protocol, leg, step):
      began = time.perf_counter()
      loss = trainer.train(
        protocol.train,
        step,
        until,
        batch_size=protocol.batch_size,
        seed=protocol.seed,
      )
      bar.update(until - step)
      step = until
      if step == leg.capture_at and leg.on_capture:
        leg.on_capture(trainer.capture(step, optimizer=leg.keep_optimizer))
      last = step == leg.stop
      if last or step % protocol.evaluate_every == 0:
        metrics = protocol.evaluate(
          trainer.evaluate, recorder.history, last=last
        )
        recorder.seconds += time.perf_counter() - began
        recorder.add({"step": step, "loss": loss, **metrics})
      else:
        recorder.seconds += time.perf_counter() - began
      if step % protocol.steps_per_epoch == 0 and not last:
        checkpoint = trainer.capture(step, optimizer=True)
        if directory.writes:
          checkpoint.save(directory.checkpoint, durable=False)
  trainer.binding.check_held()
  final = trainer.capture(step, optimizer=leg.keep_optimizer)
  if directory.writes:
    final.save(directory.final)
  return recorder.history, final


def _bar(protocol, leg, directory, step) -> tqdm.tqdm:
  return tqdm.tqdm(
    total=leg.stop - leg.start,
    initial=step - leg.start,
    desc=directory.path.name,
    unit="it",
    leave=False,
    disable=not protocol.progress,
  )


def _begin(
  trainer: training.Trainer, leg: Leg, directory: rundir.LegDirectory
) -> int:
  """Restores the last checkpoint, or the start; returns the step."""
  try:
    snapshot = rewinding.Snapshot.load(directory.checkpoint)
    step = snapshot.step
  except FileNotFoundError:
    snapshot, step = leg.snapshot, leg.start
  except files.FileFormatError as error:
    _log.warning("Starting the leg again: %s", error)
    snapshot, step = leg.snapshot, leg.start
  if not leg.start <= step <= leg.stop:
    raise ValueError(
      f"{directory.checkpoint} is of step {step}, and steps {leg.start} to"
      f" {leg.stop} are asked for. Give another name."
    )
  trainer.restore(snapshot, leg.mask, step)
  return step


def _boundaries(protocol: Protocol, leg: Leg, step: int) -> Iterator[int]:
  """The steps at which to stop: evaluations, ends of epochs, the capture."""
  while step < leg.stop:
    until = min(
      leg.stop,
      *(
        step - step % every + every
        for every in (protocol.evaluate_every, protocol.steps_per_epoch)
      ),
    )
    if leg.capture_at is not None and step < leg.capture_at < until:
      until = leg.capture_at
    yield until
    step = until
