"""Where the kept entries of an array lie, in few bytes.

Two codes: *gaps*, one byte for each kept entry and for each run of 255 pruned
ones, and *bits*, one bit for each entry. Below a density of about one in eight
gaps are the smaller, which is where tickets are.
"""

import numpy as np

# The gap byte that means "255 pruned entries, and no kept one yet".
SKIP = 255


def to_gaps(kept: np.ndarray) -> np.ndarray:
  """Codes a boolean array as the distances between its kept entries.

  Args:
    kept: boolean, of any shape; read in C order.

  Returns:
    A uint8 vector. Each byte below 255 is a kept entry, preceded by so many
    pruned ones; 255 stands for 255 pruned entries. Pruned entries after the
    last kept one are not coded.

  >>> to_gaps(np.array([False, True, True, False, False, True]))
  array([1, 0, 2], dtype=uint8)
  """
  places = np.flatnonzero(kept)
  gaps = np.diff(places, prepend=-1) - 1
  skips, rest = np.divmod(gaps, SKIP)
  code = np.full(len(places) + skips.sum(), SKIP, np.uint8)
  code[np.cumsum(skips + 1) - 1] = rest
  return code


def from_gaps(code: np.ndarray, size: int) -> np.ndarray:
  """What `to_gaps` coded: a boolean vector of `size` entries.

  Raises:
    ValueError: the code reaches past `size`.

  >>> from_gaps(np.array([1, 0, 2], np.uint8), 6)
  array([False,  True,  True, False, False,  True])
  """
  is_kept = code != SKIP
  places = np.cumsum(code.astype(np.int64) + is_kept)[is_kept] - 1
  if len(places) and places[-1] >= size:
    raise ValueError(
      f"A gap code must end within its array of {size} entries, got one that"
      f" reaches entry {places[-1]}."
    )
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
  """What `smallest` coded: a boolean vector of `size` entries."""
  if name == "gaps":
    return from_gaps(code, size)
  return np.unpackbits(code, count=size).astype(bool)
