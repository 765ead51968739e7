"""Compresses the rows of a weight, in the sparse form of TFLite (CSR).

All dimensions but the last are dense. Along the last dimension, entries or
blocks of entries that are zero are left out. Row `r` has its columns at
`indices[segments[r]:segments[r + 1]]`, and its entries at the same places of
`values`.
"""

import dataclasses

import numpy as np

# TFLite's fast kernel takes blocks of this many consecutive inputs.
BLOCK = 4


@dataclasses.dataclass(frozen=True)
class CompressedRows:
  """A weight in TFLite's sparse form.

  Attributes:
    shape: The shape of the dense weight.
    block: How many consecutive entries of a row have one index, 1 or 4.
    segments: Where each row begins in `indices`, and where the last one ends.
    indices: The columns of the kept blocks, row after row, counted in blocks.
    values: The entries of the kept blocks, row after row.
  """

  shape: tuple[int, ...]
  block: int
  segments: np.ndarray
  indices: np.ndarray
  values: np.ndarray

  @property
  def arrays(self) -> list[np.ndarray]:
    """The arrays that a file stores."""
    return [self.segments, self.indices, self.values]

  @property
  def nbytes(self) -> int:
    """The size of all arrays in bytes."""
    return sum(array.nbytes for array in self.arrays)


def compress(weight: np.ndarray, block: int = 1) -> CompressedRows:
  """Leaves out the zeros of a weight, or the blocks of nothing but zeros.

  A weight of nothing but zeros keeps its first block, because TFLite takes a
  tensor without bytes for one that is computed.

  Args:
    weight: An array of at least one dimension. The number of its columns must
      be a multiple of `block`.
    block: 1 or 4.

  Raises:
    ValueError: The columns cannot be divided into blocks.

  >>> compress(np.array([[0, 5, 0], [0, 0, 0], [7, 0, 8]])).indices
  array([1, 0, 2], dtype=uint8)
  """
  columns = weight.shape[-1]
  if columns % block:
    raise ValueError(
      f"Blocks of {block} need a multiple of {block} columns, got {columns}."
    )
  blocks = weight.reshape(-1, columns // block, block)
  kept = (blocks != 0).any(-1)
  if not kept.any():
    kept[:1, :1] = True
  rows, indices = np.nonzero(kept)
  segments = np.searchsorted(rows, np.arange(len(blocks) + 1))
  return CompressedRows(
    weight.shape,
    block,
    _smallest_type(segments),
    _smallest_type(indices),
    blocks[kept].ravel(),
  )


def _smallest_type(numbers: np.ndarray) -> np.ndarray:
  """Casts to the smallest of the types in which TFLite stores indices."""
  highest = numbers.max(initial=0)
  for dtype in (np.uint8, np.uint16):
    if highest <= np.iinfo(dtype).max:
      return numbers.astype(dtype)
  return numbers.astype(np.int32)
