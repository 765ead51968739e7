"""Legs: one training from a snapshot under a mask, recorded and resumable."""

import dataclasses
import logging
import shutil
import time
from collections.abc import Callable
from collections.abc import Iterator

import tensorflow as tf
import tqdm

from tf_lottery import data as data_lib
from tf_lottery import files
from tf_lottery import masks
from tf_lottery import rewinding
from tf_lottery import rundir
from tf_lottery import training

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
  """

  train: data_lib.Data
  validation: data_lib.Data
  test: data_lib.Data | None
  batch_size: int
  steps_per_epoch: int
  evaluate_every: int
  seed: int


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


def run(
  trainer: training.Trainer,
  protocol: Protocol,
  leg: Leg,
  directory: rundir.LegDirectory,
  bar: tqdm.tqdm,
) -> tuple[list[dict[str, float]], rewinding.Snapshot]:
  """Trains a leg to its end, or on from its last checkpoint.

  A checkpoint is written at the end of each epoch. The weights at the end go
  to the directory; the caller marks it as done.

  Returns:
    One row for each evaluation (`step`, `seconds`, the training `loss` since
    the boundary before, and `val_*` and `test_*` metrics), and the snapshot at
    the end.

  Raises:
    RuntimeError: a pruned weight is not zero at the end.
  """
  step = _begin(trainer, leg, directory)
  bar.update(step - leg.start)
  with _Recorder(directory, step) as recorder:
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
      evaluated = step % protocol.evaluate_every == 0 or step == leg.stop
      metrics = _evaluate(trainer, protocol) if evaluated else {}
      recorder.seconds += time.perf_counter() - began
      if evaluated:
        recorder.add({"step": step, "loss": loss, **metrics})
      if step % protocol.steps_per_epoch == 0 and step < leg.stop:
        checkpoint = trainer.capture(step, optimizer=True)
        if directory.writes:
          checkpoint.save(directory.checkpoint, durable=False)
  trainer.binding.check_held()
  final = trainer.capture(step, optimizer=leg.keep_optimizer)
  if directory.writes:
    final.save(directory.final)
  return recorder.history, final


class _Recorder:
  """What a leg tells on its way: lines of metrics, and TensorBoard events.

  Attributes:
    history: the rows so far, those before the checkpoint included.
    seconds: of training and evaluation so far.
  """

  def __init__(self, directory: rundir.LegDirectory, step: int):
    self._directory = directory
    directory.keep_metrics_up_to(step)
    self.history = directory.read_metrics()
    self.seconds = self.history[-1]["seconds"] if self.history else 0.0
    self._writer = tf.summary.create_noop_writer()
    if directory.writes:
      # Written anew, so that no step is there twice.
      shutil.rmtree(directory.tensorboard, ignore_errors=True)
      path = str(directory.tensorboard)
      self._writer = tf.summary.create_file_writer(path)
    for row in self.history:
      self._write_events(row)

  def __enter__(self) -> "_Recorder":
    return self

  def __exit__(self, *exception: object) -> None:
    self._writer.close()

  def add(self, row: dict[str, float]) -> None:
    """Records one evaluation."""
    row = {**row, "seconds": self.seconds}
    self.history.append(row)
    self._directory.append_metrics(row)
    self._write_events(row)

  def _write_events(self, row: dict[str, float]) -> None:
    # tf.summary.scalar asks for TensorBoard to be installed; this does not.
    scalar = tf.compat.v1.SummaryMetadata(
      plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR"
    )
    with self._writer.as_default(step=int(row["step"])):
      for name, value in row.items():
        if name != "step":
          tf.summary.write(name, value, metadata=scalar)
    self._writer.flush()


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


def _evaluate(
  trainer: training.Trainer, protocol: Protocol
) -> dict[str, float]:
  parts = {"val": protocol.validation, "test": protocol.test}
  return {
    f"{prefix}_{name}": value
    for prefix, data in parts.items()
    if data is not None
    for name, value in trainer.evaluate(data).items()
  }
