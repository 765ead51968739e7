"""Steps of training, snapshots of a model, and where the next Round starts."""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import NotRequired
from typing import TypedDict

import numpy as np

from tf_lottery.storage import schemas
from tf_lottery.storage import tensor_files
from tf_lottery.storage.files import FileFormatError
from tf_lottery.weights import RANDOM_STATE


class _Metadata(TypedDict):
  step: schemas.Count
  keys: NotRequired[list[str]]  # the first snapshots did not write their order
  optimizer: schemas.Count | None


@dataclasses.dataclass(frozen=True)
class Step:
  """A point in training, counted in optimizer updates or in epochs.

  Attributes:
    count: how many, at least 0; epochs may be fractions.
    unit: `"it"` for iterations (optimizer updates) or `"ep"` for epochs.
  """

  count: float
  unit: str = "it"

  def __post_init__(self):
    if self.unit not in ("it", "ep") or self.count < 0:
      raise ValueError(
        f"A step must be at least 0, in it or ep, got {self.count}{self.unit}."
      )

  @classmethod
  def parse(cls, text: "str | int | Step") -> "Step":
    """Reads `"500it"`, `"2ep"`, or a whole number of iterations.

    >>> Step.parse("500it")
    Step(count=500, unit='it')
    >>> Step.parse("1.5ep").iterations(steps_per_epoch=100)
    150
    """
    if isinstance(text, Step):
      return text
    match = re.fullmatch(r"(\d+)(it)?|(\d+(?:\.\d+)?)ep", str(text).strip())
    if not match:
      raise ValueError(
        'A step must be like "500it", "2ep" or a whole number of iterations,'
        f" got {text!r}."
      )
    if match[1]:
      return cls(int(match[1]))
    return cls(float(match[3]), "ep")

  def iterations(self, steps_per_epoch: int) -> int:
    """The step as a count of optimizer updates, rounded to the nearest."""
    if self.unit == "it":
      return int(self.count)
    return round(self.count * steps_per_epoch)

  def __str__(self) -> str:
    whole = float(self.count).is_integer()
    return f"{int(self.count) if whole else self.count}{self.unit}"


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

  def without_random_states(self) -> dict[str, np.ndarray]:
    """Key -> array of the model's own weights: those that a ticket holds."""
    return {
      key: value
      for key, value in self.weights.items()
      if not key.startswith(RANDOM_STATE)
    }

  def fingerprint(self) -> str:
    """A hash of all weights, for run declarations."""
    return tensor_files.digest(self.weights)

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
    tensor_files.write(path, "snapshot", tensors, metadata, durable=durable)

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Snapshot":
    """Loads a snapshot that `save` saved.

    Raises:
      FileNotFoundError: there is no such file.
      FileFormatError: the file is damaged, newer, or no snapshot.
    """
    tensors, metadata = tensor_files.read(path, "snapshot", _Metadata)
    if (keys := metadata.get("keys")) is None:
      order = [name for name in tensors if name.startswith("weights/")]
    else:
      order = [f"weights/{key}" for key in keys]
    # A count may be wrong by any amount: no list is made of that length.
    count = min(metadata["optimizer"] or 0, len(tensors))
    slots = [f"optimizer/{index}" for index in range(count)]
    if sorted([*order, *slots]) != sorted(tensors):
      raise FileFormatError(
        f"{path} is damaged: its arrays are not those that its metadata name."
      )
    return cls(
      metadata["step"],
      {name.removeprefix("weights/"): tensors[name] for name in order},
      None
      if metadata["optimizer"] is None
      else tuple(tensors[name] for name in slots),
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

  weights: Step | None
  position: Step | None
  keep_optimizer: bool = False

  def span(self, steps: int, steps_per_epoch: int) -> range:
    """The optimizer updates of a Round after Level 0.

    Args:
      steps: length of the dense training, in optimizer updates.
      steps_per_epoch: to count epochs in updates.

    Raises:
      ValueError: the step to rewind to is not before the end of training.
    """
    if self.position is None:
      return range(steps, 2 * steps)
    start = self.position.iterations(steps_per_epoch)
    if start >= steps:
      raise ValueError(
        f"The step to rewind to must be before the end of training, got"
        f" {self.position} = {start} iterations of {steps}."
      )
    return range(start, steps)


def to_init() -> Rewind:
  """Back to initialisation: the original lottery ticket.

  The optimizer begins fresh, as in the paper: a Round is a training of its
  own.

  Reference: Frankle and Carbin, arXiv 1803.03635.
  """
  return Rewind(Step(0), Step(0))


def to_step(step: Step | int | str, *, keep_optimizer: bool = False) -> Rewind:
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
  step = Step.parse(step)
  return Rewind(step, step, keep_optimizer)


def learning_rate(step: Step | int | str = 0) -> Rewind:
  """Keeps the trained weights and rewinds only the learning-rate schedule.

  Reference: Renda et al., arXiv 2003.02389.
  """
  return Rewind(None, Step.parse(step))


def finetune() -> Rewind:
  """Keeps the trained weights, and goes on where the schedule ended.

  Each Round is as long as the dense training, at the learning rate which the
  schedule gives after its end. Reference: Han et al., arXiv 1506.02626.
  """
  return Rewind(None, None)
