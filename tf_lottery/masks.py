"""Masks say which weights of a network are kept."""

import dataclasses
import math
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from tf_lottery.storage import coding
from tf_lottery.storage import schemas
from tf_lottery.storage import tensor_files
from tf_lottery.storage.files import FileFormatError
from tf_lottery.weights import Weight


class _Metadata(TypedDict):
  shapes: dict[str, schemas.Shape]


@dataclasses.dataclass(frozen=True)
class LayerDensity:
  """One row of `Mask.table()`.

  Attributes:
    key: The key of the weight.
    kept: The number of its entries that are kept.
    size: The number of all its entries.
  """

  key: str
  kept: int
  size: int

  @property
  def density(self) -> float:
    """Fraction kept, in [0, 1]."""
    return self.kept / self.size


class Mask(Mapping[str, np.ndarray]):
  """An immutable map: weight key -> boolean array; True means kept.

  Arrays are read-only and have the shapes of the weights. Two masks are equal
  if they have the same keys and the same entries.

  Example:
  >>> mask = Mask({"0/kernel": [[True, False], [True, True]]})
  >>> mask.density
  0.75
  """

  def __init__(self, arrays: Mapping[str, np.ndarray]):
    self._arrays = {}
    for key, array in arrays.items():
      array = np.array(array)
      if array.dtype != bool:
        raise TypeError(
          f"A mask's arrays must be boolean, got {array.dtype} for {key!r}."
          " Compare the array with zero first."
        )
      array.setflags(write=False)
      self._arrays[key] = array

  @classmethod
  def ones(cls, shapes: Mapping[str, tuple[int, ...]]) -> "Mask":
    """Returns the mask of a dense network, which keeps every entry."""
    return cls({key: np.ones(shape, bool) for key, shape in shapes.items()})

  @classmethod
  def random(
    cls, shapes: Mapping[str, tuple[int, ...]], density: float, seed: int
  ) -> "Mask":
    """Draws a mask that keeps exactly `round(density * size)` entries.

    Args:
      shapes: Weight key -> shape.
      density: Fraction kept of all weights together, in (0, 1].
      seed: Seed of the draw.
    """
    check_density(density)
    sizes = [math.prod(shape) for shape in shapes.values()]
    total = sum(sizes)
    flat = np.arange(total) < round(density * total)
    np.random.default_rng(seed).shuffle(flat)
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return cls(
      {
        key: part.reshape(shape)
        for (key, shape), part in zip(shapes.items(), parts, strict=True)
      }
    )

  def __getitem__(self, key: str) -> np.ndarray:
    return self._arrays[key]

  def __iter__(self) -> Iterator[str]:
    return iter(self._arrays)

  def __len__(self) -> int:
    return len(self._arrays)

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, Mask):
      return NotImplemented
    return self.keys() == other.keys() and all(
      np.array_equal(array, other[key]) for key, array in self.items()
    )

  def __repr__(self) -> str:
    return f"Mask({len(self)} weights, density {self.density:.4f})"

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Weight key -> shape."""
    return {key: array.shape for key, array in self.items()}

  @property
  def size(self) -> int:
    """The number of entries, kept or not."""
    return sum(array.size for array in self.values())

  @property
  def kept(self) -> int:
    """The number of entries that are kept."""
    return sum(int(np.count_nonzero(array)) for array in self.values())

  @property
  def density(self) -> float:
    """Fraction kept of all weights together, in [0, 1]."""
    return self.kept / self.size if self.size else 1.0

  def table(self) -> list[LayerDensity]:
    """Returns the count and the density of each weight, in order."""
    return [
      LayerDensity(key, int(np.count_nonzero(array)), array.size)
      for key, array in self.items()
    ]

  def distance(self, other: "Mask") -> float:
    """Returns the fraction of all entries that differ from another mask.

    Early-Bird tickets are found by this distance (You et al., arXiv
    1909.11957).
    """
    self.check_same_weights(other)
    differing = sum(
      int(np.count_nonzero(array != other[key])) for key, array in self.items()
    )
    return differing / self.size if self.size else 0.0

  def issubset(self, other: "Mask") -> bool:
    """Whether `other` keeps every entry that this mask keeps."""
    self.check_same_weights(other)
    return not any(np.any(array & ~other[key]) for key, array in self.items())

  def save(self, path: str | os.PathLike) -> None:
    """Saves the mask as a tensor file that takes one bit for each entry."""
    bits = {key: np.packbits(array) for key, array in self.items()}
    tensor_files.write(path, "mask", bits, {"shapes": self.shapes})

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Mask":
    """Loads a mask that `save` saved.

    Raises:
      FileNotFoundError: There is no such file.
      FileFormatError: The file is damaged, in a newer format or not a mask.
    """
    bits, metadata = tensor_files.read(path, "mask", _Metadata)
    shapes = metadata["shapes"]
    try:
      if bits.keys() != shapes.keys():
        raise ValueError(
          "Each weight must have bits and a shape, got bits for"
          f" {sorted(bits)} and shapes for {sorted(shapes)}."
        )
      return cls(
        {
          key: coding.decode("bits", bits[key], math.prod(shape)).reshape(shape)
          for key, shape in shapes.items()
        }
      )
    except ValueError as error:
      raise FileFormatError(f"{path} is damaged: {error}") from error

  def check_same_weights(self, other: "Mask") -> None:
    """Raises ValueError unless `other` has the same keys and shapes."""
    if self.shapes != other.shapes:
      raise ValueError(
        "Masks can be compared only over the same weights, got"
        f" {self.shapes} and {other.shapes}."
      )


def nearly_empty(mask: Mask, weights: Iterable[Weight]) -> str | None:
  """Says which weights a mask leaves nearly empty; `None` if it leaves none.

  A weight is nearly empty if its density is less than a tenth of the mask's. If
  it is less than half of the mask's, the weight is also nearly empty if at most
  one of its several inputs or outputs has an entry left, or, of an embedding,
  if most rows have none.
  """
  found = [
    f"{weight.name} keeps {np.count_nonzero(kept):,} of {kept.size:,}"
    for weight, kept in ((weight, mask[weight.key]) for weight in weights)
    if _is_nearly_empty(weight, kept, mask.density)
  ]
  if not found:
    return None
  shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
  return (
    f"At a density of {mask.density:.2%}, {len(found)} of {len(mask)} weights"
    f" are left nearly empty, so little passes them: {shown}. Give higher"
    " densities, or a scope that spares these weights, such as the default,"
    " layerwise() or global_(exempt=[...])."
  )


def _is_nearly_empty(weight: Weight, kept: np.ndarray, density: float) -> bool:
  own = kept.mean()
  if own >= density / 2 and own:
    return False  # The density is low, and not the weight's share of it.
  if own < density / 10 or not own:
    return True
  if weight.kind == "embedding":
    return kept.any(-1).mean() < 0.5
  # The last two axes are inputs and outputs, in either order.
  for axis in range(max(kept.ndim - 2, 0), kept.ndim):
    others = tuple(other for other in range(kept.ndim) if other != axis)
    if np.count_nonzero(kept.any(others)) <= 1 < kept.shape[axis]:
      return True
  return False


def check_density(density: float) -> None:
  """Raises ValueError unless `density` is in (0, 1]."""
  if not 0 < density <= 1:
    raise ValueError(f"density must be in (0, 1], got {density}.")
