"""Masks: which weights of a network are kept."""

import dataclasses
import math
import os
from collections.abc import Iterator
from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from tf_lottery.storage import coding
from tf_lottery.storage import schemas
from tf_lottery.storage import tensor_files
from tf_lottery.storage.files import FileFormatError


class _Metadata(TypedDict):
  shapes: dict[str, schemas.Shape]


@dataclasses.dataclass(frozen=True)
class LayerDensity:
  """One row of `Mask.table()`.

  Attributes:
    key: the weight's key.
    kept: how many of its entries are kept.
    size: how many it has.
  """

  key: str
  kept: int
  size: int

  @property
  def density(self) -> float:
    """Fraction kept, in [0, 1]."""
    return self.kept / self.size


class Mask(Mapping[str, np.ndarray]):
  """An immutable map: weight key -> boolean array; True = kept.

  Arrays are read-only and have the shapes of the weights. Two masks are equal
  when they have the same keys and the same entries.

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
    """The mask of a dense network: everything is kept."""
    return cls({key: np.ones(shape, bool) for key, shape in shapes.items()})

  @classmethod
  def random(
    cls, shapes: Mapping[str, tuple[int, ...]], density: float, seed: int
  ) -> "Mask":
    """A mask drawn at random, exact in its overall count.

    Args:
      shapes: weight key -> shape.
      density: fraction kept over all weights together, in (0, 1].
      seed: the same seed gives the same mask.
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

  def shuffled(self, seed: int) -> "Mask":
    """The same count in each weight, at places drawn at random."""
    rng = np.random.default_rng(seed)
    return Mask(
      {
        key: rng.permutation(array.ravel()).reshape(array.shape)
        for key, array in self.items()
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

  __hash__ = None

  def __repr__(self) -> str:
    return f"Mask({len(self)} weights, density {self.density:.4f})"

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Weight key -> shape."""
    return {key: array.shape for key, array in self.items()}

  @property
  def size(self) -> int:
    """How many entries there are, kept or not."""
    return sum(array.size for array in self.values())

  @property
  def kept(self) -> int:
    """How many entries are kept."""
    return sum(int(np.count_nonzero(array)) for array in self.values())

  @property
  def density(self) -> float:
    """Fraction kept over all weights of the mask, in [0, 1]."""
    return self.kept / self.size if self.size else 1.0

  def table(self) -> list[LayerDensity]:
    """The count and density of each weight, in order."""
    return [
      LayerDensity(key, int(np.count_nonzero(array)), array.size)
      for key, array in self.items()
    ]

  def distance(self, other: "Mask") -> float:
    """Hamming distance to another mask as a fraction of all entries.

    This is the distance of Early-Bird tickets (You et al., arXiv 1909.11957).
    """
    self._check_same_weights(other)
    differing = sum(
      int(np.count_nonzero(array != other[key])) for key, array in self.items()
    )
    return differing / self.size if self.size else 0.0

  def issubset(self, other: "Mask") -> bool:
    """Whether everything that is kept here is kept in `other` too."""
    self._check_same_weights(other)
    return not any(np.any(array & ~other[key]) for key, array in self.items())

  def pack(self) -> dict[str, np.ndarray]:
    """Each array as bits: weight key -> uint8 vector of ceil(size / 8)."""
    return {key: np.packbits(array) for key, array in self.items()}

  @classmethod
  def unpack(
    cls,
    packed: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
  ) -> "Mask":
    """Makes the mask that `pack` packed.

    Raises:
      ValueError: keys differ, or bits and shape do not have the same size.
    """
    if packed.keys() != shapes.keys():
      raise ValueError(
        "Each weight must have bits and a shape, got bits for"
        f" {sorted(packed)} and shapes for {sorted(shapes)}."
      )
    return cls(
      {
        key: coding.kept("bits", packed[key], math.prod(shape)).reshape(shape)
        for key, shape in shapes.items()
      }
    )

  def save(self, path: str | os.PathLike) -> None:
    """Saves the mask, one bit an entry, as a checked safetensors file."""
    shapes = {key: list(shape) for key, shape in self.shapes.items()}
    tensor_files.write(path, "mask", self.pack(), {"shapes": shapes})

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Mask":
    """Loads a mask that `save` saved.

    Raises:
      FileNotFoundError: there is no such file.
      FileFormatError: the file is damaged, newer, or no mask.
    """
    packed, metadata = tensor_files.read(path, "mask", _Metadata)
    try:
      return cls.unpack(packed, metadata["shapes"])
    except ValueError as error:
      raise FileFormatError(f"{path} is damaged: {error}") from error

  def _check_same_weights(self, other: "Mask") -> None:
    if self.shapes != other.shapes:
      raise ValueError(
        "Masks can be compared only over the same weights, got"
        f" {self.shapes} and {other.shapes}."
      )


def check_density(density: float) -> None:
  """Raises ValueError unless `density` is in (0, 1]."""
  if not 0 < density <= 1:
    raise ValueError(f"density must be in (0, 1], got {density}.")
