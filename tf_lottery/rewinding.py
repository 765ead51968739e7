"""Snapshots of a model, and where the next Round starts from them."""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from tf_lottery import files
from tf_lottery import schedules


@dataclasses.dataclass(frozen=True)
class Snapshot:
  """All of a model's variables at a step of training.

  Attributes:
    step: optimizer updates made so far.
    weights: key -> array: weights, moving statistics, random states.
    optimizer: the optimizer's variables in their order; `None` when they were
      not asked for.
  """

  step: int
  weights: Mapping[str, np.ndarray]
  optimizer: tuple[np.ndarray, ...] | None = None

  def fingerprint(self) -> str:
    """A hash of all weights, for run declarations."""
    return files.digest(self.weights)

  def save(self, path: str | os.PathLike, *, durable: bool = True) -> None:
    """Saves the snapshot as a checked safetensors file."""
    tensors = {f"weights/{key}": array for key, array in self.weights.items()}
    for index, array in enumerate(self.optimizer or ()):
      tensors[f"optimizer/{index}"] = array
    metadata = {
      "step": self.step,
      "keys": list(self.weights),
      "optimizer": None if self.optimizer is None else len(self.optimizer),
    }
    files.write_tensors(path, "snapshot", tensors, metadata, durable=durable)

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Snapshot":
    """Loads what `save` saved.

    Raises:
      FileNotFoundError: there is no such file.
      FileFormatError: the file is damaged, newer, or no snapshot.
    """
    tensors, metadata = files.read_tensors(path, "snapshot")
    count = metadata["optimizer"]
    return cls(
      metadata["step"],
      {key: tensors[f"weights/{key}"] for key in metadata["keys"]},
      None
      if count is None
      else tuple(tensors[f"optimizer/{index}"] for index in range(count)),
    )


@dataclasses.dataclass(frozen=True)
class Rewind:
  """Where the Rounds after Level 0 start. Made by the functions below.

  Attributes:
    weights: the step whose weights, moving statistics and random states are
      restored; `None` means the end of the Round before.
    position: the step at which the learning-rate schedule and the order of
      the data go on; `None` means the end of training.
    keep_optimizer: whether the optimizer's slots (momenta) of that step are
      restored too, instead of beginning fresh.
  """

  weights: schedules.Step | None
  position: schedules.Step | None
  keep_optimizer: bool = False

  def leg(self, steps: int, steps_per_epoch: int) -> tuple[int, int]:
    """The first step of a Round after Level 0, and the one at which it ends.

    Args:
      steps: length of the dense training, in optimizer updates.
      steps_per_epoch: to count epochs in updates.

    Raises:
      ValueError: the step to rewind to is not before the end of training.
    """
    if self.position is None:
      return steps, 2 * steps
    start = self.position.iterations(steps_per_epoch)
    if start >= steps:
      raise ValueError(
        f"The step to rewind to must be before the end of training, got"
        f" {self.position} = {start} iterations of {steps}."
      )
    return start, steps


def to_init() -> Rewind:
  """Back to initialisation: the original lottery ticket.

  The optimizer begins fresh, as in the paper: a Round is a training of its
  own.

  Reference: Frankle and Carbin, arXiv 1803.03635.
  """
  return Rewind(schedules.Step(0), schedules.Step(0))


def to_step(
  step: schedules.Step | int | str, *, keep_optimizer: bool = False
) -> Rewind:
  """Back to step k of the dense training ("late rewinding").

  Weights, moving statistics, random states, the position in the
  learning-rate schedule and the order of the data are those of step k.

  Args:
    step: `"500it"`, `"2ep"` or a number of iterations.
    keep_optimizer: whether the optimizer's slots of step k are restored. The
      papers' released code begins with fresh slots, and so does this library
      by default: Frankle et al. (arXiv 1912.05671) describe the weights and
      the schedule only. Note that Keras's Adam corrects its bias by the
      iteration count, which is k here: with fresh slots its first updates
      are larger than at step 0.
  """
  step = schedules.Step.parse(step)
  return Rewind(step, step, keep_optimizer)


def learning_rate(step: schedules.Step | int | str = 0) -> Rewind:
  """Keeps the trained weights and rewinds only the learning-rate schedule.

  Reference: Renda et al., arXiv 2003.02389.
  """
  return Rewind(None, schedules.Step.parse(step))


def finetune() -> Rewind:
  """Keeps the trained weights, and goes on where the schedule ended.

  Each Round is as long as the dense training, at the learning rate which the
  schedule gives after its end. Reference: Han et al., arXiv 1506.02626.
  """
  return Rewind(None, None)
