"""Where the kept entries of an array lie, in few bytes.

Two codes: *gaps*, one byte for each kept entry and for each run of 255 pruned
ones, and *bits*, one bit for each entry. Gaps are smaller below a density of
about one in eight, which is where tickets are.
"""

import numpy as np

# The gap byte that means "255 pruned entries, and no kept one yet".
SKIP = 255


def to_gaps(kept: np.ndarray) -> np.ndarray:
  """Codes a boolean array as the distances between its kept entries.

  Args:
    kept: boolean, of any shape; read in C order.

  Returns:
    A uint8 vector. Each byte below 255 is a kept entry, preceded by that
    number of pruned ones; 255 stands for 255 pruned entries. Fewer than 255
    pruned entries at the end have no byte, so an array has at most
    `255 * (len(code) + 1)` entries. Files of earlier versions have no byte for
    any pruned entry after the last kept one.

  >>> to_gaps(np.array([False, True, True, False, False, True]))
  array([1, 0, 2], dtype=uint8)
  """
  places = np.append(np.flatnonzero(kept), kept.size)
  gaps = np.diff(places, prepend=-1) - 1
  skips, rest = np.divmod(gaps, SKIP)
  code = np.full(len(places) + skips.sum(), SKIP, np.uint8)
  code[np.cumsum(skips + 1) - 1] = rest
  return code[:-1]  # the last gap ends at the end, not at a kept entry


def from_gaps(code: np.ndarray, size: int) -> np.ndarray:
  """Decodes the result of `to_gaps`: a boolean vector of `size` entries.

  Raises:
    ValueError: the code reaches past `size`.

  >>> from_gaps(np.array([1, 0, 2], np.uint8), 6)
  array([False,  True,  True, False, False,  True])
  """
  count("gaps", code, size)
  is_kept = code != SKIP
  places = np.cumsum(code.astype(np.int64) + is_kept)[is_kept] - 1
  kept = np.zeros(size, bool)
  kept[places] = True
  return kept


def smallest(kept: np.ndarray) -> tuple[str, np.ndarray]:
  """The shorter code of a boolean array: `"gaps"` or `"bits"`, and its bytes.

  Bits are those of `np.packbits`.
  """
  bits = np.packbits(kept)
  gaps = to_gaps(kept)
  return ("gaps", gaps) if len(gaps) < len(bits) else ("bits", bits)


def kept(name: str, code: np.ndarray, size: int) -> np.ndarray:
  """Decodes the result of `smallest`: a boolean vector of `size` entries.

  Raises:
    ValueError: the code is not that of an array of `size` entries.
  """
  if name == "gaps":
    return from_gaps(code, size)
  count(name, code, size)
  return np.unpackbits(code, count=size).astype(bool)


def count(name: str, code: np.ndarray, size: int) -> int:
  """Counts the kept entries of a code, in memory of the code's own size.

  Args:
    name: `"gaps"` or `"bits"`.
    code: what should be the code of an array.
    size: how many entries the array should have.

  Raises:
    ValueError: the code is not that of an array of `size` entries.
  """
  if code.dtype != np.uint8 or code.ndim != 1:
    raise ValueError(
      f"A code must be a vector of bytes, got {code.dtype} of shape"
      f" {code.shape}."
    )
  if name == "gaps":
    number = int(np.count_nonzero(code != SKIP))
    reached = int(code.sum(dtype=np.int64)) + number
    if reached > size:
      raise ValueError(
        f"A gap code must end within its array of {size} entries, got one of"
        f" {reached} entries."
      )
    return number
  if len(code) != -(-size // 8):
    raise ValueError(
      f"The bits of {size} entries must be {-(-size // 8)} bytes, got"
      f" {len(code)}."
    )
  bits = np.unpackbits(code)
  if bits[size:].any():
    raise ValueError("The bits after the last entry must be 0.")
  return int(bits.sum())
