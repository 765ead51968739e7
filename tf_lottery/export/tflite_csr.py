"""TFLite's sparse form of a weight: compressed rows, of entries or blocks.

All dimensions but the last are dense; along the last only what is kept is
stored. `segments[r]:segments[r + 1]` are row r's places in `indices`, the
columns that are kept, and in `values`.
"""

import dataclasses
import math

import numpy as np

# TFLite's fast kernel takes blocks of so many consecutive inputs.
BLOCK = 4


@dataclasses.dataclass(frozen=True)
class CompressedRows:
  """A weight in TFLite's sparse form.

  Attributes:
    shape: of the dense weight.
    block: how many consecutive entries of a row one index stands for, 1 or 4.
    segments: where each row begins and ends; one longer than there are rows.
    indices: the columns that are kept, in blocks.
    values: the kept entries, row after row.
  """

  shape: tuple[int, ...]
  block: int
  segments: np.ndarray
  indices: np.ndarray
  values: np.ndarray

  @property
  def nbytes(self) -> int:
    """Bytes of values and indices together."""
    return self.segments.nbytes + self.indices.nbytes + self.values.nbytes

  def expand(self) -> np.ndarray:
    """The dense weight."""
    columns = self.shape[-1] // self.block
    rows = math.prod(self.shape[:-1])
    dense = np.zeros((rows, columns, self.block), self.values.dtype)
    row = np.repeat(np.arange(rows), np.diff(self.segments.astype(np.int64)))
    dense[row, self.indices] = self.values.reshape(-1, self.block)
    return dense.reshape(self.shape)


def compress(array: np.ndarray, block: int = 1) -> CompressedRows:
  """Stores what is not zero; of blocks, those with any entry not zero.

  A weight of nothing but zeros keeps its first entry: TFLite takes a tensor
  without bytes for one that is computed.

  Args:
    array: of at least one dimension, and a multiple of `block` columns.
    block: 1 or 4.

  Raises:
    ValueError: the columns cannot be divided into blocks.

  >>> compress(np.array([[0, 5, 0], [0, 0, 0], [7, 0, 8]])).indices
  array([1, 0, 2], dtype=uint8)
  """
  columns = array.shape[-1]
  if columns % block:
    raise ValueError(
      f"Blocks of {block} need a multiple of {block} columns, got {columns}."
    )
  blocks = array.reshape(-1, columns // block, block)
  kept = (blocks != 0).any(-1)
  if not kept.any():
    kept[:1, :1] = True
  rows, indices = np.nonzero(kept)
  segments = np.searchsorted(rows, np.arange(len(blocks) + 1))
  return CompressedRows(
    array.shape,
    block,
    _smallest_type(segments),
    _smallest_type(indices),
    blocks[kept].ravel(),
  )


def _smallest_type(numbers: np.ndarray) -> np.ndarray:
  """As one of the three types that TFLite stores indices in."""
  highest = numbers.max(initial=0)
  for dtype in (np.uint8, np.uint16):
    if highest <= np.iinfo(dtype).max:
      return numbers.astype(dtype)
  return numbers.astype(np.int32)
