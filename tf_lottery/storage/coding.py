"""Codes the places of the kept entries of an array in few bytes.

There are two codes. *Bits* take one bit for each entry. *Gaps* take one byte
for each kept entry and for each run of 255 pruned ones: fewer bytes where less
than about one entry in eight is kept, as in most tickets.
"""

import numpy as np

# The gap byte that means "255 pruned entries, and no kept one yet".
SKIP = 255


def to_gaps(kept: np.ndarray) -> np.ndarray:
  """Codes a boolean array as the distances between its kept entries.

  Args:
    kept: Boolean array of any shape, read in C order.

  Returns:
    A uint8 vector. A byte below 255 is the number of pruned entries before the
    next kept entry; 255 stands for 255 pruned entries. Fewer than 255 pruned
    entries at the end have no byte, so an array has at most
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
  return code[:-1]  # No kept entry follows the last gap.


def smallest(kept: np.ndarray) -> tuple[str, np.ndarray]:
  """Codes a boolean array by the shorter of the two codes.

  Returns:
    The name of the code, `"gaps"` or `"bits"`, and the code: the result of
    `to_gaps` or of `np.packbits`.
  """
  bits = np.packbits(kept)
  gaps = to_gaps(kept)
  return ("gaps", gaps) if len(gaps) < len(bits) else ("bits", bits)


def decode(name: str, code: np.ndarray, size: int) -> np.ndarray:
  """Decodes the result of `smallest` into a boolean vector of `size` entries.

  Raises:
    ValueError: No array of `size` entries has this code.

  >>> decode("gaps", np.array([1, 0, 2], np.uint8), 6)
  array([False,  True,  True, False, False,  True])
  """
  count(name, code, size)
  if name == "bits":
    return np.unpackbits(code, count=size).astype(bool)
  is_kept = code != SKIP
  places = np.cumsum(code.astype(np.int64) + is_kept)[is_kept] - 1
  kept = np.zeros(size, bool)
  kept[places] = True
  return kept


def count(name: str, code: np.ndarray, size: int) -> int:
  """Counts the kept entries of a code, without decoding it.

  Args:
    name: `"gaps"` or `"bits"`.
    code: The code, which may be damaged.
    size: The number of entries of the array.

  Raises:
    ValueError: No array of `size` entries has this code.
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
