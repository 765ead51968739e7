"""A Round while it is trained: stretches, evaluations and checkpoints."""

import dataclasses
import math
import time
import typing
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
from tf_lottery.storage.round_directory import RoundDirectory
from tf_lottery.tickets import Ticket
from tf_lottery.training.trainer import Trainer

if typing.TYPE_CHECKING:
  from tf_lottery.search.protocol import Protocol

# Step -> what to do with the snapshot of that step.
Captures = Mapping[int, Callable[[Snapshot], None]]
# Step -> what the mask becomes, given the mask that is held at that step, and
# the cost of the Round so far. The function finds the weights of that step on
# the trainer's model.
MaskChanges = Mapping[int, Callable[[Mask, Cost], Mask]]
# Returns metrics of the model as it is, which an evaluation does not give.
Observe = Callable[[], Mapping[str, float]]
# The rows so far -> whether the Round may end here.
Until = Callable[[Sequence[Mapping[str, float]]], bool]


@dataclasses.dataclass(kw_only=True)
class RoundTraining:
  """A Round while it is trained; see `Protocol.train_round`.

  Reports use two test results: at the end, and at the lowest validation loss.
  Which step has the lowest loss is known only later, so its weights are kept,
  and are tested when the epoch ends. To test at each new lowest loss would take
  about as long as all validations together.
  """

  protocol: "Protocol"
  trainer: Trainer
  ticket: Ticket
  span: range
  directory: RoundDirectory
  recorder: Recorder
  captures: Captures
  changes: MaskChanges
  evaluations: Collection[int] | None
  observe: Observe | None
  until: Until | None

  def __post_init__(self):
    # The step of the lowest loss and its weights, until they are tested.
    self._early: tuple[int, Mapping[str, np.ndarray]] | None = None
    self._last_change = max(self.changes, default=self.span.start)
    self._watch = Watch(
      trainer=self.trainer,
      ticket=self.ticket,
      span=self.span,
      directory=self.directory,
      recorder=self.recorder,
    )

  def run(self, step: int) -> int:
    """Trains from a step to the end of the Round, and returns its last step."""
    if self._had_stopped(step):
      self._test_end(step)
      self._watch.end()
      return step
    if self.observe:
      self.observe()
      again = self.trainer.collect()
      if step == self.span.start:  # else it is in the checkpoint's cost
        self.recorder.spent += again
    with self._bar(step) as bar:
      for stop in self._stops(step):
        began = time.perf_counter()
        loss = self._train(step, stop)
        bar.update(stop - step)
        step = stop
        row = self._evaluated(step, loss)
        self.recorder.seconds += time.perf_counter() - began
        if row:
          self.recorder.add(row)
        ends = step == self.span.stop or bool(row and self._may_stop())
        if ends or step % self.protocol.steps_per_epoch == 0:
          self._test_early_stop()
        if ends:
          self._test_end(step)
          break
        self._keep_checkpoint(step, bool(row))
    self._watch.end()
    return step

  def checkpoint(self, step: int) -> Snapshot:
    """Returns a snapshot from which this Round can go on."""
    snapshot = self._capture(step, optimizer=True)
    return dataclasses.replace(snapshot, cost=self.recorder.spent)

  def _capture(self, step: int, *, optimizer: bool) -> Snapshot:
    """Returns a snapshot, with the mask where it changes in training."""
    mask = bool(self.changes)
    return self.trainer.capture(step, optimizer=optimizer, mask=mask)

  def _train(self, step: int, stop: int) -> float:
    """Trains one stretch; then the mask may change, and snapshots are taken."""
    protocol, binding = self.protocol, self.trainer.binding
    loss = self.trainer.train(
      protocol.train,
      step,
      stop,
      batch_size=protocol.batch_size,
      seed=protocol.seed,
    )
    self.recorder.spent += self.trainer.collect()
    self._watch.loss(loss, range(step, stop))
    if stop in self.changes:
      binding.hold(self.changes[stop](binding.mask, self.recorder.spent))
      self.recorder.spent += self.trainer.collect()
    if stop in self.captures:
      self.captures[stop](self._capture(stop, optimizer=True))
    return loss

  def _evaluated(self, step: int, loss: float) -> dict[str, float] | None:
    """Returns the metrics of an evaluation, if one is due."""
    if not self._is_due(step):
      return None
    row = {"step": step, "loss": loss}
    row |= self.protocol.validated(self.trainer.evaluate)
    if self.observe:
      row |= self.observe()
      self.recorder.spent += self.trainer.collect()
    if is_lowest(row, self.recorder.history):
      self._early = step, self.trainer.binding.read()
    return row

  def _is_due(self, step: int) -> bool:
    if step == self.span.stop:
      return True
    if self.evaluations is not None:
      return step in self.evaluations
    return step % self.protocol.evaluate_every == 0 and (
      step >= self._last_change
    )

  def _may_stop(self) -> bool:
    return self.until is not None and self.until(self.recorder.history)

  def _had_stopped(self, step: int) -> bool:
    """Whether a process stopped here, and was killed before it said so."""
    rows = self.recorder.history
    return bool(rows) and rows[-1]["step"] == step and self._may_stop()

  def _test_end(self, step: int) -> None:
    """Tests the weights at the end, unless they were just tested."""
    began = time.perf_counter()
    if any(name.startswith("test_") for name in self.recorder.history[-1]):
      return
    metrics = self.protocol.tested(self.trainer.evaluate)
    self.recorder.seconds += time.perf_counter() - began
    self.recorder.amend(step, metrics)

  def _test_early_stop(self) -> None:
    """Tests the weights of the lowest loss, then restores the present ones."""
    if self._early is None:
      return
    (step, weights), self._early = self._early, None
    began = time.perf_counter()
    binding = self.trainer.binding
    now = binding.read()
    binding.write(weights)
    metrics = self.protocol.tested(self.trainer.evaluate)
    binding.write(now)
    self.recorder.seconds += time.perf_counter() - began
    self.recorder.amend(step, metrics)

  def _keep_checkpoint(self, step: int, evaluated: bool) -> None:
    """Saves a checkpoint at the end of an epoch.

    What is observed depends on the observation before, which must be repeated
    after a resumption: so there is a checkpoint at each of them too.
    """
    epoch_ends = step % self.protocol.steps_per_epoch == 0
    if epoch_ends or (evaluated and self.observe):
      path = self.directory.checkpoint
      self.directory.save(self.checkpoint(step), path, durable=False)

  def _stops(self, step: int) -> Iterator[int]:
    """Yields where training pauses: evaluations, ends of epochs, and others."""
    others = {*self.captures, *self.changes, *(self.evaluations or ())}
    periods = [self.protocol.steps_per_epoch]
    if self.evaluations is None:
      periods.append(self.protocol.evaluate_every)
    while step < self.span.stop:
      step = min(
        self.span.stop,
        *(step - step % every + every for every in periods),
        *(at for at in others if at > step),
      )
      yield step

  def _bar(self, step: int) -> tqdm.tqdm:
    return tqdm.tqdm(
      total=len(self.span),
      initial=step - self.span.start,
      desc=self.directory.path.name,
      unit="it",
      leave=False,
      disable=not self.protocol.progress,
    )


def is_lowest(
  row: Mapping[str, float], history: Sequence[Mapping[str, float]]
) -> bool:
  """Whether the validation loss of a row is below that of all rows before.

  The row of the start weights has no training loss, and does not count: the
  early stop is a step of training.
  """
  losses = [r["val_loss"] for r in history if "loss" in r]
  finite = [loss for loss in losses if not math.isnan(loss)]
  return row["val_loss"] < min(finite, default=math.inf)
