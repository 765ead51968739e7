"""Where the Rounds of a search start and end: weights, steps and rewinds."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from tf_lottery.rewinding import Auto
from tf_lottery.rewinding import Rewind
from tf_lottery.rewinding import Snapshot
from tf_lottery.search import stable_step
from tf_lottery.search.protocol import Captures
from tf_lottery.search.rounds import Round
from tf_lottery.storage.run_directory import RunDirectory


class Starts:
  """The snapshots of one search from which its Rounds start.

  In a cluster only the chief writes, and the others must not read too soon. So
  the snapshots that the next Round needs stay in memory.

  Args:
    initial: the snapshot of the initial weights.
    rewind: where the Rounds after Level 0 start.
    steps_per_epoch: optimizer updates in an epoch.
    directory: the run directory.
  """

  def __init__(
    self,
    initial: Snapshot,
    rewind: Rewind,
    steps_per_epoch: int,
    directory: RunDirectory,
  ):
    self._initial = initial
    self._rewind = rewind
    self._steps_per_epoch = steps_per_epoch
    self._directory = directory
    self._recent: dict[pathlib.Path, Snapshot] = {}
    # What a process that does not write has captured in the dense training.
    self._captured: dict[int, Snapshot] = {}

  def of_level(self, level: int, rewind: Rewind) -> Snapshot:
    """Returns the snapshot from which a Level starts."""
    step = self._step_of(rewind)
    if not level or step == 0:
      return self._initial
    start = self._rewound() if step else self.trained(level - 1)
    if rewind.keep_optimizer:
      return start
    return dataclasses.replace(start, optimizer=None)

  def span(self, level: int, steps: int, rewind: Rewind) -> range:
    """Returns the optimizer updates of a Level's training."""
    if not level:
      return range(steps)
    return rewind.span(steps, self._steps_per_epoch)

  def dense(self) -> Mapping[str, np.ndarray]:
    """The dense network's weights where Rounds start.

    These are the weights of initialisation or of step k. If Rounds continue
    from trained weights, these are the weights at the end of Level 0.
    """
    if self._rewind.weights is not None:
      return self._rewound().weights
    return self.trained(0).weights

  def trained(self, level: int) -> Snapshot:
    """The weights at the end of a Level's training."""
    directory = self._directory.level(level)
    return self._recent.get(directory.path) or Snapshot.load(directory.final)

  def remember(self, round_: Round, final: Snapshot | None) -> Round:
    """Keeps the weights of the last Round in memory, and no others."""
    rewind = self._directory.rewind
    self._recent = {k: v for k, v in self._recent.items() if k == rewind}
    if final is not None:
      self._recent[round_.directory.path] = final
    return round_

  def captures(self, steps: int) -> Captures:
    """What Level 0 keeps: snapshots of the steps to which others may rewind.

    Args:
      steps: Optimizer updates in the training.
    """
    if isinstance(self._rewind, Auto):
      return dict.fromkeys(stable_step.candidates(steps), self._keep_candidate)
    step = self._step_of(self._rewind)
    return {step: self._keep_rewind} if step else {}

  def _keep_candidate(self, snapshot: Snapshot) -> None:
    if self._directory.writes:
      snapshot.save(self._directory.level(0).snapshot(snapshot.step))
    else:
      self._captured[snapshot.step] = snapshot

  def _keep_rewind(self, snapshot: Snapshot) -> None:
    if not self._rewind.keep_optimizer:
      snapshot = dataclasses.replace(snapshot, optimizer=None)
    self._recent[self._directory.rewind] = snapshot
    if self._directory.writes:
      snapshot.save(self._directory.rewind)

  def captured(self, step: int) -> Snapshot | None:
    """The snapshot of a step that the training of Level 0 has captured."""
    path = self._directory.level(0).snapshot(step)
    if path.is_file():
      return Snapshot.load(path)
    return self._captured.get(step)

  def settle(self, rewind: Rewind, snapshot: Snapshot, steps: int) -> None:
    """Sets the rewind that was found, and drops the snapshots of others.

    Args:
      rewind: Where the Rounds after Level 0 start.
      snapshot: The dense network there.
      steps: Optimizer updates in the training of Level 0.
    """
    self._rewind = rewind
    step = self._step_of(rewind)
    if step and not self._directory.rewind.is_file():
      self._keep_rewind(snapshot)
    if self._directory.writes:
      for candidate in set(stable_step.candidates(steps)) - {step}:
        path = self._directory.level(0).snapshot(candidate)
        path.unlink(missing_ok=True)

  def check(self, rewind: Rewind) -> Rewind:
    """Refuses a rewind to what this search did not keep.

    Raises:
      ValueError: The search has no weights of that step, or no optimizer
        variables.
    """
    if self._step_of(rewind) not in (None, 0, self._step_of(self._rewind)):
      raise ValueError(
        f"This search has no weights of step {rewind.weights}: it rewinds to"
        f" {self._rewind.weights}. Rewind to initialisation or to that step."
      )
    if rewind.keep_optimizer and not self._rewind.keep_optimizer:
      raise ValueError(
        "This search kept no optimizer variables, so keep_optimizer=True cannot"
        " restore them. Search with keep_optimizer=True, or leave it out."
      )
    return rewind

  def _step_of(self, rewind: Rewind) -> int | None:
    """Returns the step whose weights are restored; None for trained weights."""
    if rewind.weights is None:
      return None
    return rewind.weights.iterations(self._steps_per_epoch)

  def _rewound(self) -> Snapshot:
    if not self._step_of(self._rewind):
      return self._initial
    path = self._directory.rewind
    return self._recent.get(path) or Snapshot.load(path)
