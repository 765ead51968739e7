"""Tickets: a mask, the weights to start from, and where they came from."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery import coding
from tf_lottery import files
from tf_lottery import masks
from tf_lottery import wrappers

# Where a SavedModel carries a ticket: servers do not look there.
IN_SAVED_MODEL = pathlib.PurePath("assets.extra", "ticket.safetensors")


@dataclasses.dataclass(frozen=True)
class Ticket:
  """Enough to train a sparse network again, here or elsewhere.

  Attributes:
    mask: which weights are kept.
    start: key -> array, of all weights; zero where the mask prunes.
    provenance: how it was found, as JSON can hold it.

  Example:
  ```python
  ticket = result.smallest_matching(tolerance=0.005)
  ticket.save("ticket.safetensors")
  ...
  model = make_model()
  Ticket.load("ticket.safetensors").apply(model)
  model.fit(x, y)
  ```
  """

  mask: masks.Mask
  start: Mapping[str, np.ndarray]
  provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    start = {key: np.asarray(value) for key, value in self.start.items()}
    for key, kept in self.mask.items():
      if key not in start or start[key].shape != kept.shape:
        found = start[key].shape if key in start else "none"
        raise ValueError(
          f"A ticket needs a start weight for each weight of its mask: {key!r}"
          f" has shape {kept.shape}, got {found}."
        )
      start[key] = np.where(kept, start[key], np.zeros_like(start[key]))
    object.__setattr__(self, "start", start)

  @classmethod
  def from_model(cls, model: Any, **provenance: Any) -> "Ticket":
    """The ticket of a lottery-ready model: its mask and initial weights.

    Raises:
      ValueError: `lottery_prune` was not called on the model.
      RuntimeError: the mask does not hold; see `Binding.check_held`.
    """
    binding = wrappers.bind(model)
    weights = {**binding.read(), **binding.initial()}
    binding.check_held()
    return cls(binding.mask, weights, provenance)

  @property
  def density(self) -> float:
    """Fraction of the prunable weights kept, in [0, 1]."""
    return self.mask.density

  def equals(self, other: "Ticket") -> bool:
    """Whether mask and start weights are the same, bit for bit."""
    return (
      self.mask == other.mask
      and self.start.keys() == other.start.keys()
      and all(
        np.array_equal(value, other.start[key], equal_nan=True)
        for key, value in self.start.items()
      )
    )

  def apply(self, model: Any, *, weights: bool = True) -> None:
    """Puts the ticket on a model: start weights, and the mask held.

    The model may be a rebuilt one, and of the other Keras generation. On a
    plain model the mask is held as long as the object lives: a `.keras` file
    of it has the zeros, not the mask. Apply the ticket to a lottery-ready
    model for files that keep it; its initial weights are then the ticket's.

    Args:
      model: a built model of the ticket's architecture.
      weights: whether the start weights are written; without them the model
        keeps its own, masked: the mask alone is transferred.

    Raises:
      ValueError: the architecture differs; the message names the weight.
    """
    binding = wrappers.bind(model, prunable=self._covers)
    own = {weight.key: weight for weight in binding.report}
    missing = [own[key].name for key in own if key not in self.start]
    if missing:
      raise ValueError(
        f"The model has weights that the ticket lacks: {', '.join(missing)}."
        " It is of another architecture."
      )
    binding.check_shapes(self.start)
    if weights:
      binding.write(self.start)
      if binding.is_ready:
        binding.store_initial()
    binding.hold(self.mask)

  def _covers(self, weight) -> bool:
    return weight.key in self.mask

  def shuffled(self, weights: Mapping[str, np.ndarray], seed: int) -> "Ticket":
    """A control: the same counts in each weight, at places drawn anew.

    Args:
      weights: the dense start weights, which a ticket does not hold where it
        prunes: `result.rounds[0].ticket.start`.
      seed: of the draw.
    """
    return self._control(
      self.mask.shuffled(seed), weights, "shuffled_mask", seed
    )

  def reinitialised(
    self, weights: Mapping[str, np.ndarray], seed: int
  ) -> "Ticket":
    """A control: the same mask on other start weights.

    Args:
      weights: a new draw from the same initialisers, e.g.
        `Trainer.draw(seed)`.
      seed: what the draw was seeded with, for the record.
    """
    return self._control(self.mask, weights, "random_reinit", seed)

  def _control(self, mask, start, control: str, seed: int) -> "Ticket":
    provenance = {**self.provenance, "control": control, "control_seed": seed}
    return Ticket(mask, start, provenance)

  def save(self, path: str | os.PathLike) -> None:
    """Saves the ticket as one checked safetensors file.

    Masks take a bit an entry or a byte a kept one, whichever is less, and
    start weights are stored at the kept coordinates only.
    """
    coded = {key: coding.smallest(kept) for key, kept in self.mask.items()}
    tensors = {f"mask/{key}": code for key, (_, code) in coded.items()}
    for key, value in self.start.items():
      if key in self.mask:
        tensors[f"kept/{key}"] = value[self.mask[key]]
      else:
        tensors[f"whole/{key}"] = value
    shapes = {key: list(shape) for key, shape in self.mask.shapes.items()}
    metadata = {
      "shapes": shapes,
      "codes": {key: name for key, (name, _) in coded.items()},
      "order": list(self.start),
      "provenance": dict(self.provenance),
    }
    files.write_tensors(path, "ticket", tensors, metadata)

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Ticket":
    """Loads what `save` saved, bit for bit.

    Args:
      path: of the file, or of a SavedModel that carries a ticket.

    Raises:
      FileNotFoundError: there is no such file.
      FileFormatError: the file is truncated, altered, newer, or no ticket.
    """
    if pathlib.Path(path).is_dir():
      path = pathlib.Path(path) / IN_SAVED_MODEL
    tensors, metadata = files.read_tensors(path, "ticket")
    shapes = metadata["shapes"]
    codes = metadata.get("codes", {})  # files of version 1 have bits alone
    mask = masks.Mask(
      {
        key: coding.kept(
          codes.get(key, "bits"), tensors[f"mask/{key}"], math.prod(shape)
        ).reshape(shape)
        for key, shape in shapes.items()
      }
    )
    start = {}
    for key in metadata["order"]:
      if key in shapes:
        kept = tensors[f"kept/{key}"]
        value = np.zeros(math.prod(shapes[key]), kept.dtype)
        value[mask[key].ravel()] = kept
        start[key] = value.reshape(shapes[key])
      else:
        start[key] = tensors[f"whole/{key}"]
    return cls(mask, start, metadata["provenance"])
