"""Tickets: a mask, the weights to start from, and how they were found."""

import dataclasses
import functools
import logging
import math
import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Literal
from typing import NotRequired
from typing import TypedDict

import numpy as np

from tf_lottery import masks
from tf_lottery import transferring
from tf_lottery.storage import coding
from tf_lottery.storage import files
from tf_lottery.storage import schemas
from tf_lottery.storage import tensor_files
from tf_lottery.storage.files import FileFormatError
from tf_lottery.weights import Weight

_log = logging.getLogger("tf_lottery")

# The place of a ticket in a SavedModel. Servers do not look there.
IN_SAVED_MODEL = pathlib.PurePath("assets.extra", "ticket.safetensors")

# The memory that a ticket file may need: this many bytes, or this many times
# its own size, whichever is more.
_MEMORY = 64 * 2**20
_MEMORY_PER_BYTE = 4096


class _Metadata(TypedDict):
  shapes: dict[str, schemas.Shape]  # of the weights that the mask covers
  codes: NotRequired[dict[str, Literal["bits", "gaps"]]]  # absent in format 1
  order: list[str]  # the keys of all weights
  provenance: dict[str, Any]


class TicketFile:
  """A ticket file that was read and checked; its arrays are built on demand.

  In memory, mask and start weights also take room for the pruned entries, which
  the file does not hold. A file is refused if they would take more than 64 MiB
  and more than 4096 times the size of the file. Files that `Ticket.save` writes
  stay below that limit: they have at least one byte for every 255 entries.

  Args:
    path: The path of the file, or of a SavedModel that carries a ticket.

  Raises:
    FileNotFoundError: There is no such file.
    FileFormatError: The file is truncated, altered, in a newer format or not a
      ticket.
  """

  def __init__(self, path: str | os.PathLike):
    if pathlib.Path(path).is_dir():
      path = pathlib.Path(path) / IN_SAVED_MODEL
    self._tensors, self._metadata = tensor_files.read(path, "ticket", _Metadata)
    try:
      self._check(os.path.getsize(path))
    except ValueError as error:
      raise FileFormatError(f"{path} is damaged: {error}") from error

  @property
  def provenance(self) -> dict[str, Any]:
    """How the ticket was found, in values that JSON can hold."""
    return self._metadata["provenance"]

  @property
  def names(self) -> list[str]:
    """The names of the mask's weights; their keys if the file has no names."""
    order = self._metadata["order"]
    names = self.provenance.get("weights")
    if not isinstance(names, list) or len(names) != len(order):
      names = order
    by_key = dict(zip(order, names, strict=True))
    return [str(by_key[key]) for key in self._metadata["shapes"]]

  @functools.cached_property
  def mask(self) -> masks.Mask:
    """Which weights are kept."""
    return masks.Mask(
      {
        key: coding.decode(
          self._code(key), self._tensors[f"mask/{key}"], math.prod(shape)
        ).reshape(shape)
        for key, shape in self._metadata["shapes"].items()
      }
    )

  def start(self) -> dict[str, np.ndarray]:
    """Builds the start weights, which are zero where the mask prunes."""
    start = {}
    for key in self._metadata["order"]:
      if key in self.mask:
        kept = self._tensors[f"kept/{key}"]
        start[key] = np.zeros(self.mask[key].shape, kept.dtype)
        start[key][self.mask[key]] = kept
      else:
        start[key] = self._tensors[f"whole/{key}"]
    return start

  def _code(self, key: str) -> str:
    return self._metadata.get("codes", {}).get(key, "bits")

  def _check(self, file_size: int) -> None:
    """Raises ValueError unless arrays and metadata are those of a ticket."""
    shapes, order = self._metadata["shapes"], self._metadata["order"]
    names = [f"{'kept' if key in shapes else 'whole'}/{key}" for key in order]
    names += [f"mask/{key}" for key in shapes]
    is_covered = shapes.keys() <= set(order)
    if sorted(names) != sorted(self._tensors) or not is_covered:
      raise ValueError("Its arrays are not those that its metadata name.")
    memory = 0
    for key, shape in shapes.items():
      kept = self._tensors[f"kept/{key}"]
      code = self._tensors[f"mask/{key}"]
      count = coding.count(self._code(key), code, math.prod(shape))
      if kept.shape != (count,):
        raise ValueError(
          f"There must be {count} start weights for {key!r}, got an array of"
          f" shape {kept.shape}."
        )
      # A side of 0 counts as 1: NumPy refuses vast shapes of empty arrays too.
      memory += math.prod(side or 1 for side in shape) * (1 + kept.itemsize)
    limit = max(_MEMORY, _MEMORY_PER_BYTE * file_size)
    if memory > limit:
      raise ValueError(
        f"A ticket file of {file_size:,} bytes may take at most {limit:,} bytes"
        f" of memory, and the shapes of its mask need {memory:,}."
      )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Ticket:
  """A sparse network before its training, which can be trained again anywhere.

  Attributes:
    mask: The mask of the prunable weights.
    start: Key -> array of each weight before training; zero where the mask
      prunes.
    provenance: How the ticket was found, in values that JSON can hold.

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

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Ticket) and self.equals(other)

  __hash__ = None  # type: ignore[assignment]

  def __repr__(self) -> str:
    facts = {k: self.provenance.get(k) for k in ("level", "seed", "control")}
    known = [f"{k} {v}" for k, v in facts.items() if v is not None]
    kept = f"{self.mask.kept:,} of {self.mask.size:,} prunable weights"
    return f"Ticket({', '.join([f'density {self.density:.4f}', kept, *known])})"

  @classmethod
  def from_model(cls, model: Any, **provenance: Any) -> "Ticket":
    """Returns the ticket of a lottery-ready model: its mask, initial weights.

    Raises:
      ValueError: `lottery_prune` was not called on the model.
      RuntimeError: The mask does not hold; see `Binding.check_held`.
    """
    # Imported here, because a report reads tickets without TensorFlow.
    from tf_lottery import wrappers

    binding = wrappers.bind(model)
    weights = {**binding.read(), **binding.initial()}
    binding.check_held()
    return cls(binding.mask, weights, provenance)

  @property
  def density(self) -> float:
    """Fraction of the prunable weights that is kept, in [0, 1]."""
    return self.mask.density

  def equals(self, other: "Ticket") -> bool:
    """Whether masks and start weights are the same, bit for bit."""
    return (
      self.mask == other.mask
      and self.start.keys() == other.start.keys()
      and all(
        np.array_equal(value, other.start[key], equal_nan=True)
        for key, value in self.start.items()
      )
    )

  def fingerprint(self) -> str:
    """Returns a hash of the mask and the start weights."""
    arrays = {f"mask/{key}": kept for key, kept in self.mask.items()}
    arrays |= {f"start/{key}": value for key, value in self.start.items()}
    return tensor_files.digest(arrays)

  def match(
    self, model: Any, *, anew: Sequence[str] = ()
  ) -> transferring.Match:
    """Returns which weight of this ticket each weight of a model comes from.

    Printing it shows a table. `transfer` carries the ticket along it; see there
    for the arguments and the errors.
    """
    names = self.provenance.get("weights")
    if not isinstance(names, list) or len(names) != len(self.start):
      names = list(self.start)
    return transferring.match(
      {key: value.shape for key, value in self.start.items()},
      dict(zip(self.start, map(str, names), strict=True)),
      _bound(model).report,
      anew,
    )

  def transfer(
    self,
    model: Any,
    *,
    anew: Sequence[str] = (),
    sparse: bool = False,
    seed: int = 0,
    start: Mapping[str, np.ndarray] | None = None,
  ) -> "Ticket":
    """Returns this ticket for another network: mask and start weights.

    The network may have another output layer, for another number of classes, or
    more or fewer layers of the same widths; see `transferring.match`. Weights
    that the ticket does not have are drawn anew: they keep the values that the
    model has now, or the initial weights of a lottery-ready model.

    Args:
      model: A built model of either Keras generation, or its `Binding`. It is
        not changed; `apply` puts the new ticket on it.
      anew: Layers of the model to draw anew although the ticket has a
        counterpart, or although they are not among the last: names with the
        wildcards of `fnmatch`, kinds, or `"output"`. Defaults to `()`.
      sparse: Whether to prune the weights that are drawn anew, at random and to
        the density of this ticket. Defaults to `False`: they are dense.
      seed: Seed of that draw. Defaults to `0`.
      start: Key -> array of the model's own start weights, such as those of a
        later step. Defaults to `None`: those that it has.

    Returns:
      The ticket. Its provenance names this one, and says what was drawn anew.

    Raises:
      ValueError: A layer that is not among the last has no counterpart, as in a
        wider network.

    Example:
    ```python
    ticket = Ticket.load("ticket.safetensors")
    other = make_model(classes=5)
    print(ticket.match(other))  # which weight comes from which
    ticket.transfer(other).apply(other)
    other.fit(x, y)
    ```

    Reference: Morcos et al., arXiv 1906.02773; Chen et al., arXiv 2103.16547.
    """
    binding = _bound(model)
    found = self.match(binding, anew=anew)
    if start is None:
      initial = binding.initial() if binding.is_ready else {}
      start = {**binding.read(), **initial}
    layers = {w.layer for w in found.anew if w.prunable}
    # An output layer of its own is what one expects.
    _tell(
      found.sentence(), logging.WARNING if len(layers) > 1 else logging.INFO
    )
    known = {k: self.provenance.get(k) for k in ("level", "seed", "control")}
    return Ticket(
      found.carry_mask(self.mask, sparse=sparse, seed=seed),
      found.carry_values(self.start, start),
      {
        "level": known["level"],
        "seed": known["seed"],
        "source": {**known, "fingerprint": self.fingerprint()},
        "drawn_anew": [weight.name for weight in found.anew],
        "left_out": list(found.left_out),
        "weights": [weight.name for weight in binding.report],
      },
    )

  def apply(self, model: Any, *, weights: bool = True) -> None:
    """Writes the start weights into a model, and holds the mask on it.

    The model may be built anew, and with the other Keras generation. On a plain
    model the mask is held while the model object lives: a `.keras` file of the
    model has the zeros, but not the mask. Files of a lottery-ready model keep
    the mask; its initial weights are then the start weights of the ticket.

    Args:
      model: A built model of the ticket's architecture.
      weights: Whether to write the start weights. If not, the model keeps its
        own weights under the mask. Defaults to `True`.

    Raises:
      ValueError: The architecture differs; the message names the weight.
    """
    from tf_lottery import wrappers

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

  def _covers(self, weight: Weight) -> bool:
    return weight.key in self.mask

  def save(self, path: str | os.PathLike) -> None:
    """Saves the ticket as one tensor file, without the pruned weights.

    The mask of a weight takes one bit for each entry or about one byte for each
    kept entry, whichever is less.

    Raises:
      TypeError: JSON cannot hold the provenance.
      ValueError: `load` would refuse the provenance; the message says why.
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
    tensor_files.write(path, "ticket", tensors, metadata)

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Ticket":
    """Loads a ticket that `save` saved, bit for bit.

    Args:
      path: The path of the file, or of a SavedModel that carries a ticket.

    Raises:
      FileNotFoundError: There is no such file.
      FileFormatError: The file is truncated, altered, in a newer format or not
        a ticket; or it would take too much memory, see `TicketFile`.
    """
    if not (path := pathlib.Path(path)).exists():
      files.recover(path.resolve().parent)
    if path.is_dir() and not (path / IN_SAVED_MODEL).exists():
      raise FileNotFoundError(
        f"{path} carries no ticket. Export it with carry_ticket=ticket, or load"
        " the file that Ticket.save wrote."
      )
    file = TicketFile(path)
    return cls(file.mask, file.start(), file.provenance)


@functools.cache
def _tell(sentence: str, level: int) -> None:
  """Says once what a transfer leaves out: controls transfer many times."""
  _log.log(level, "The ticket is transferred. %s", sentence)


def _bound(model: Any) -> Any:
  """Returns the binding of a model; a `Binding` is returned as it is."""
  from tf_lottery import wrappers

  return model if isinstance(model, wrappers.Binding) else wrappers.bind(model)
