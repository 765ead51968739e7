"""Steps of training, snapshots of a model, and where the next Round starts."""

import dataclasses
import os
import re
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NotRequired
from typing import TypedDict

import numpy as np

from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.storage import schemas
from tf_lottery.storage import tensor_files
from tf_lottery.storage.files import FileFormatError
from tf_lottery.weights import RANDOM_STATE


class _Metadata(TypedDict):
  step: schemas.Count
  keys: NotRequired[list[str]]  # The first versions did not write the order.
  optimizer: schemas.Count | None
  cost: NotRequired[schemas.Cost]


@dataclasses.dataclass(frozen=True)
class Step:
  """A point in training, counted in optimizer updates or in epochs.

  Attributes:
    count: Number of updates or epochs, at least 0. Epochs may be fractions.
    unit: `"it"` for iterations (optimizer updates) or `"ep"` for epochs.
  """

  count: float
  unit: str = "it"

  def __post_init__(self):
    if self.unit not in ("it", "ep") or self.count < 0:
      raise ValueError(
        "A step must be at least 0, in 'it' or 'ep', got"
        f" {self.count}{self.unit}."
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
    """Returns the step as a number of optimizer updates, rounded."""
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
    step: Number of optimizer updates made so far.
    weights: Key -> array of weights, moving statistics and random states.
    optimizer: The optimizer's variables in their order, or `None` if they were
      not captured.
    mask: The mask that was held, where it changes in training; else `None`.
    cost: The cost of the Round so far, in checkpoints; else `None`.
  """

  step: int
  weights: Mapping[str, np.ndarray]
  optimizer: tuple[np.ndarray, ...] | None = None
  mask: Mask | None = None
  cost: Cost | None = None

  def without_random_states(self) -> dict[str, np.ndarray]:
    """Returns the weights that a ticket holds: all but the random states."""
    return {
      key: value
      for key, value in self.weights.items()
      if not key.startswith(RANDOM_STATE)
    }

  def fingerprint(self) -> str:
    """Returns a hash of all weights, for run declarations."""
    return tensor_files.digest(self.weights)

  def save(self, path: str | os.PathLike, *, durable: bool = True) -> None:
    """Saves the snapshot as a tensor file."""
    tensors = {f"weights/{key}": array for key, array in self.weights.items()}
    for index, array in enumerate(self.optimizer or ()):
      tensors[f"optimizer/{index}"] = array
    for key, kept in (self.mask or {}).items():
      tensors[f"mask/{key}"] = kept
    metadata: dict[str, Any] = {
      "step": self.step,
      "keys": list(self.weights),
      "optimizer": None if self.optimizer is None else len(self.optimizer),
    }
    if self.cost is not None:
      metadata["cost"] = self.cost.to_json()
    tensor_files.write(path, "snapshot", tensors, metadata, durable=durable)

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Snapshot":
    """Loads a snapshot that `save` saved.

    Raises:
      FileNotFoundError: There is no such file.
      FileFormatError: The file is damaged, in a newer format or not a snapshot.
    """
    tensors, metadata = tensor_files.read(path, "snapshot", _Metadata)
    if (keys := metadata.get("keys")) is None:
      order = [name for name in tensors if name.startswith("weights/")]
    else:
      order = [f"weights/{key}" for key in keys]
    # A damaged count may be huge: no list of that length is made.
    count = min(metadata["optimizer"] or 0, len(tensors))
    slots = [f"optimizer/{index}" for index in range(count)]
    kept = [
      name
      for name in (f"mask/{key.removeprefix('weights/')}" for key in order)
      if name in tensors
    ]
    if sorted([*order, *slots, *kept]) != sorted(tensors) or any(
      tensors[name].dtype != bool for name in kept
    ):
      raise FileFormatError(
        f"{path} is damaged: its arrays are not those that its metadata name."
      )
    return cls(
      metadata["step"],
      {name.removeprefix("weights/"): tensors[name] for name in order},
      None
      if metadata["optimizer"] is None
      else tuple(tensors[name] for name in slots),
      Mask({name.removeprefix("mask/"): tensors[name] for name in kept})
      if kept
      else None,
      Cost.from_json(metadata["cost"]) if "cost" in metadata else None,
    )


@dataclasses.dataclass(frozen=True)
class Rewind:
  """The start of each Round after Level 0. The functions below make it.

  Attributes:
    weights: The step whose weights, moving statistics and random states are
      restored. `None` means the end of the previous Round.
    position: The step from which the learning-rate schedule and the data order
      continue. `None` means the end of the dense training.
    keep_optimizer: Whether the optimizer's slots (momenta) of that step are
      restored too. If not, the slots are new.
  """

  weights: Step | None
  position: Step | None
  keep_optimizer: bool = False

  def __str__(self) -> str:
    if self.weights is None:
      words = "finetune" if self.position is None else "learning rate"
      at = "" if self.position is None else f" of step {self.position}"
      return f"{words}{at}"
    return f"step {self.weights}" if self.weights.count else "init"

  def span(self, steps: int, steps_per_epoch: int) -> range:
    """Returns the optimizer updates of a Round after Level 0.

    Args:
      steps: Number of optimizer updates in a whole training.
      steps_per_epoch: Number of optimizer updates in an epoch.

    Raises:
      ValueError: The step to rewind to is not before the end of training.
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


@dataclasses.dataclass(frozen=True)
class Auto(Rewind):
  """See `auto`."""

  def __str__(self) -> str:
    return "auto"


def auto() -> Auto:
  """Rewinds to the earliest step from which training is stable.

  The search finds it after the training of the dense network. From a stable
  step, two trainings that see the data in different orders end in networks
  without a barrier between them. Frankle et al. find tickets that match where,
  and only where, training is stable from the step to which they rewind. A small
  network is stable from initialisation on; a deep one with a high learning rate
  is not. It costs one more training of the dense network if that is stable from
  initialisation on, and up to about four otherwise. If no step that is tried is
  stable, tickets rewind to the last one, the half of the training, and the
  printed search says so.

  Reference: Frankle et al., arXiv 1912.05671.
  """
  return Auto(Step(0), Step(0))


def to_init() -> Rewind:
  """Rewinds to initialisation, as for the original lottery ticket.

  The optimizer is new, as in the paper: each Round is a whole training.

  Reference: Frankle and Carbin, arXiv 1803.03635.
  """
  return Rewind(Step(0), Step(0))


def to_step(step: Step | int | str, *, keep_optimizer: bool = False) -> Rewind:
  """Rewinds to step k of the dense training ("late rewinding").

  Weights, moving statistics and random states are restored from step k. The
  learning-rate schedule and the data order continue from step k.

  Args:
    step: `"500it"`, `"2ep"` or a number of iterations.
    keep_optimizer: Whether the optimizer's slots of step k are restored. By
      default the slots are new, as in the papers' code; Frankle et al. (arXiv
      1912.05671) describe the weights and the schedule only. Keras's Adam
      corrects its bias by the iteration count, which is k here: with new slots
      its first updates are larger than at step 0.
  """
  step = Step.parse(step)
  return Rewind(step, step, keep_optimizer)


def learning_rate(step: Step | int | str = 0) -> Rewind:
  """Keeps the trained weights, and rewinds the learning-rate schedule only.

  Reference: Renda et al., arXiv 2003.02389.
  """
  return Rewind(None, Step.parse(step))


def finetune() -> Rewind:
  """Keeps the trained weights, and trains on from the end of the schedule.

  Each Round is as long as the dense training, at the learning rate that the
  schedule gives after its end. Reference: Han et al., arXiv 1506.02626.
  """
  return Rewind(None, None)


_BY_NAME: Mapping[str, Callable[[], Rewind]] = {
  "init": to_init,
  "auto": auto,
  "learning_rate": learning_rate,
  "finetune": finetune,
}


def get(rewind: "str | int | Step | Rewind") -> Rewind:
  """Returns the rewind of a name; a `Rewind` is returned as it is.

  Args:
    rewind: A `Rewind`; `"init"`, `"auto"`, `"learning_rate"` or `"finetune"`;
      or a step such as `"500it"`.

  Raises:
    ValueError: There is no rewind of that name.

  >>> get("init") == to_init(), get("500it") == to_step(500)
  (True, True)
  """
  if isinstance(rewind, Rewind):
    return rewind
  if isinstance(rewind, str) and rewind in _BY_NAME:
    return _BY_NAME[rewind]()
  try:
    return to_step(rewind)
  except ValueError:
    raise ValueError(
      f"rewind must be one of {', '.join(_BY_NAME)}, or a step such as"
      f" '500it' or '2ep'; got {rewind!r}."
    ) from None
