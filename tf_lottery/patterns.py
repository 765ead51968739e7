"""Patterns say what is pruned together: single weights, blocks or channels.

A pattern turns the scores of a weight's entries into scores of blocks, and the
blocks that are kept into a mask. `select` keeps the blocks with the highest
scores.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from tf_lottery import masks
from tf_lottery.weights import Weight


def _norm(blocks: np.ndarray) -> np.ndarray:
  if (blocks < 0).any():
    raise ValueError(
      f"score='norm' needs scores of at least 0, got {blocks.min()}, because a"
      " norm would rank the lowest score first. Use score='sum' or 'max'."
    )
  return np.sqrt(np.square(blocks).sum(-1))


def _mean(blocks: np.ndarray) -> np.ndarray:
  present = np.maximum((~np.isnan(blocks)).sum(-1), 1)
  return np.nansum(blocks, -1) / present


# Name -> the value that stands for pruned entries, and the function that pools.
_POOLS = {
  "mean": (np.nan, _mean),
  "sum": (0, lambda blocks: blocks.sum(-1)),
  "norm": (0, _norm),
  "max": (-np.inf, lambda blocks: blocks.max(-1)),
}


def _pool(score: str, blocks: np.ndarray, left: np.ndarray) -> np.ndarray:
  """Returns the score of each row, from its entries that are left."""
  pruned, pool = _POOLS[score]
  return np.where(left.any(-1), pool(np.where(left, blocks, pruned)), 0)


class Pattern(Protocol):
  """The methods that `select` and `shuffled` call on a pattern."""

  def pool(
    self, weight: Weight, scores: np.ndarray, left: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the score of each block, and whether it may be kept.

    Args:
      weight: The weight.
      scores: The scores of its entries, an array of its shape.
      left: Which of its entries are left, a boolean array of its shape.

    Returns:
      Two vectors with one entry for each block.
    """
    ...

  def expand(self, weight: Weight, kept: np.ndarray) -> np.ndarray:
    """Returns the mask of the weight's shape that keeps these blocks.

    By default, each entry of the weight is a block.
    """
    return kept.reshape(weight.shape)

  def spares(self, weight: Weight) -> bool:
    """Whether the weight must not be pruned at all."""
    del weight
    return False

  def shuffle(
    self, weight: Weight, mask: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Returns a mask with as many kept entries at other places.

    Args:
      weight: The weight that the mask belongs to.
      mask: Boolean array of the weight's shape that has this pattern.
      rng: Draws the places.
    """
    ...


@dataclasses.dataclass(frozen=True)
class Unstructured(Pattern):
  """See `unstructured`."""

  def pool(
    self, weight: Weight, scores: np.ndarray, left: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Each entry is a block."""
    del weight
    return scores.ravel(), left.ravel()

  def shuffle(
    self, weight: Weight, mask: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Moves the kept entries."""
    return self.expand(weight, rng.permutation(mask.ravel()))


def unstructured() -> Unstructured:
  """Prunes each entry by itself, as in the paper on lottery tickets."""
  return Unstructured()


@dataclasses.dataclass(frozen=True)
class Block(Pattern):
  """See `block`."""

  outputs: int
  inputs: int
  score: str = "mean"

  def pool(
    self, weight: Weight, scores: np.ndarray, left: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Pools each block, which may be kept while any of its entries is left."""
    folded = self._fold(weight, left)
    pooled = _pool(self.score, self._fold(weight, scores), folded)
    return pooled, np.any(folded, -1)

  def expand(self, weight: Weight, kept: np.ndarray) -> np.ndarray:
    """Spreads each block over its entries."""
    rows, taps, columns = _canonical_shape(weight)
    grid = self._grid(weight)
    spread = np.broadcast_to(
      kept.reshape(*grid, 1, 1), (*grid, self.outputs, self.inputs)
    )
    whole = spread.transpose(0, 3, 1, 2, 4).reshape(
      grid[0] * self.outputs, taps, grid[2] * self.inputs
    )
    return _from_canonical(weight, whole[:rows, :, :columns])

  def shuffle(
    self, weight: Weight, mask: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Moves each kept block to the place of a block of the same size."""
    kept = np.any(self._fold(weight, mask), -1)
    sizes = self._fold(weight, np.ones(weight.shape, bool)).sum(-1)
    # Blocks at the edges are smaller, and the count of entries must not change.
    for size in np.unique(sizes):
      alike = sizes == size
      kept[alike] = rng.permutation(kept[alike])
    return self.expand(weight, kept)

  def _grid(self, weight: Weight) -> tuple[int, int, int]:
    rows, taps, columns = _canonical_shape(weight)
    return -(-rows // self.outputs), taps, -(-columns // self.inputs)

  def _fold(self, weight: Weight, array: np.ndarray) -> np.ndarray:
    """Returns one row for each block, with zeros beyond the edges."""
    grid = self._grid(weight)
    canonical = _to_canonical(weight, array)
    missing = (
      grid[0] * self.outputs - canonical.shape[0],
      grid[2] * self.inputs - canonical.shape[2],
    )
    whole = np.pad(canonical, ((0, missing[0]), (0, 0), (0, missing[1])))
    parts = whole.reshape(grid[0], self.outputs, grid[1], grid[2], self.inputs)
    return parts.transpose(0, 2, 3, 1, 4).reshape(
      -1, self.outputs * self.inputs
    )


def block(outputs: int, inputs: int, *, score: str = "mean") -> Block:
  """Prunes blocks of consecutive inputs of consecutive outputs.

  TFLite's fast kernel for fully connected layers takes `block(1, 4)`, if the
  number of inputs is a multiple of four. The inputs of a convolution are the
  channels at one place of its window; the inputs of a depthwise convolution are
  the places. Blocks at the edges may be smaller.

  Args:
    outputs: Number of outputs in a block, at least 1.
    inputs: Number of inputs in a block, at least 1.
    score: How the score of a block is computed from the scores that are left in
      it: `"mean"`, `"sum"`, `"max"` or `"norm"`, the Euclidean norm of scores
      that are at least 0. Defaults to `"mean"`, which is fair to blocks of
      different sizes.

  Raises:
    ValueError: An argument is out of range.

  >>> weight = Weight("w", "w", "kernel", "dense", (4, 2), True, "")
  >>> scores = np.array([[9, 1], [0, 1], [0, 1], [0, 1]])
  >>> block(1, 4).pool(weight, scores, scores >= 0)[0]
  array([2.25, 1.  ])
  """
  for name, value in (("outputs", outputs), ("inputs", inputs)):
    if value < 1:
      raise ValueError(f"{name} must be at least 1, got {value}.")
  _check_score(score)
  return Block(outputs, inputs, score)


@dataclasses.dataclass(frozen=True)
class Channel(Pattern):
  """See `channel`."""

  score: str = "mean"

  def pool(
    self, weight: Weight, scores: np.ndarray, left: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Pools the entries of each output."""
    rows = _canonical_shape(weight)[0]
    folded = _to_canonical(weight, left).reshape(rows, -1)
    flat = _to_canonical(weight, scores).reshape(rows, -1)
    return _pool(self.score, flat, folded), np.any(folded, -1)

  def expand(self, weight: Weight, kept: np.ndarray) -> np.ndarray:
    """Spreads each output over its entries."""
    shape = _canonical_shape(weight)
    return _from_canonical(weight, np.broadcast_to(kept[:, None, None], shape))

  def shuffle(
    self, weight: Weight, mask: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Moves the kept outputs."""
    rows = _canonical_shape(weight)[0]
    kept = _to_canonical(weight, mask).reshape(rows, -1).any(-1)
    return self.expand(weight, rng.permutation(kept))

  def spares(self, weight: Weight) -> bool:
    """Spares the last layer, whose units are the classes."""
    return weight.is_output


def channel(*, score: str = "mean") -> Channel:
  """Prunes whole units of dense layers and whole filters of convolutions.

  `compact` can then make the model smaller. The last layer keeps its units,
  which are the classes. Densities are fractions of channels, not of weights.

  Args:
    score: How the score of a channel is computed; see `block`.
  """
  _check_score(score)
  return Channel(score)


@dataclasses.dataclass(frozen=True)
class NOfM(Pattern):
  """See `n_of_m`."""

  n: int
  m: int

  def pool(
    self, weight: Weight, scores: np.ndarray, left: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Each entry is a block; the best n of each run of m may be kept."""
    canonical = _to_canonical(weight, left)
    missing = -canonical.shape[-1] % self.m
    runs = np.pad(
      np.where(canonical, _to_canonical(weight, scores), -np.inf),
      ((0, 0), (0, 0), (0, missing)),
      constant_values=-np.inf,
    ).reshape(-1, self.m)
    # Stable: among equal scores the lower index is kept.
    best = np.argsort(-runs, axis=-1, kind="stable")[:, : self.n]
    candidates = np.zeros(runs.shape, bool)
    np.put_along_axis(candidates, best, True, -1)
    whole = candidates.reshape(*canonical.shape[:2], -1)
    fits = whole[..., : canonical.shape[-1]] & canonical
    return scores.ravel(), _from_canonical(weight, fits).ravel()

  def shuffle(
    self, weight: Weight, mask: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Moves the kept entries within each run of m, and the runs."""
    canonical = _to_canonical(weight, mask)
    columns = canonical.shape[-1]
    # Where m does not divide the inputs, the last run of an output is shorter.
    cut = columns - columns % self.m
    parts = []
    for part, size in (
      (canonical[..., :cut], self.m),
      (canonical[..., cut:], columns - cut),
    ):
      runs = part.reshape(-1, max(size, 1))
      moved = rng.permuted(rng.permutation(runs), axis=-1)
      parts.append(moved.reshape(part.shape))
    return _from_canonical(weight, np.concatenate(parts, axis=-1))


def n_of_m(n: int, m: int) -> NOfM:
  """Keeps at most n of m consecutive inputs of an output.

  Sparse tensor cores take `n_of_m(2, 4)` (Mishra et al., arXiv 2104.08378).
  Densities are at most n / m; at that density each run of m keeps its best n.
  Use a schedule that begins there, such as `one_shot(0.5)`.

  Args:
    n: Number of inputs to keep, from 1 to m.
    m: Number of inputs in a run.

  Raises:
    ValueError: n is not from 1 to m.
  """
  if not 1 <= n <= m:
    raise ValueError(f"n must be from 1 to m = {m}, got {n}.")
  return NOfM(n, m)


def get(pattern: str | Pattern) -> Pattern:
  """Returns the pattern of a name; a pattern is returned as it is.

  Args:
    pattern: `"unstructured"`, `"channel"`, `"block_1x4"` or any
      `"block_OUTPUTSxINPUTS"`, `"2_of_4"` or any `"N_of_M"`.

  Raises:
    ValueError: There is no pattern of that name.
  """
  if not isinstance(pattern, str):
    return pattern
  if pattern == "unstructured":
    return unstructured()
  if pattern == "channel":
    return channel()
  if match := re.fullmatch(r"block_(\d+)x(\d+)", pattern):
    return block(*map(int, match.groups()))
  if match := re.fullmatch(r"(\d+)_of_(\d+)", pattern):
    return n_of_m(*map(int, match.groups()))
  raise ValueError(
    "pattern must be unstructured, channel, block_OUTPUTSxINPUTS or N_of_M, got"
    f" {pattern!r}."
  )


def shuffled(
  mask: masks.Mask,
  weights: Iterable[Weight],
  pattern: Pattern,
  seed: int,
) -> masks.Mask:
  """Returns a mask with the same count in each weight, at other places.

  Args:
    mask: A mask that has the pattern.
    weights: The weights that the mask covers.
    pattern: What is pruned together, and so moves together.
    seed: Seed of the draw.
  """
  rng = np.random.default_rng(seed)
  by_key = {weight.key: weight for weight in weights}
  return masks.Mask(
    {
      key: pattern.shuffle(by_key[key], array, rng)
      for key, array in mask.items()
    }
  )


def _check_score(score: str) -> None:
  if score not in _POOLS:
    raise ValueError(f"score must be one of {list(_POOLS)}, got {score!r}.")


# The canonical shape of a weight is (outputs, places of the window, inputs).


def _order(weight: Weight) -> tuple[int, ...]:
  """Returns the weight's axes in canonical order."""
  *places, inputs, outputs = range(len(weight.shape))
  if weight.role == "depthwise_kernel":
    return (inputs, outputs, *places)
  if weight.is_transposed:
    inputs, outputs = outputs, inputs
  return (outputs, *places, inputs)


def _canonical_shape(weight: Weight) -> tuple[int, int, int]:
  sizes = [weight.shape[axis] for axis in _order(weight)]
  if weight.role == "depthwise_kernel":
    return sizes[0] * sizes[1], 1, int(np.prod(sizes[2:]))
  return sizes[0], int(np.prod(sizes[1:-1])), sizes[-1]


def _to_canonical(weight: Weight, array: np.ndarray) -> np.ndarray:
  return array.transpose(_order(weight)).reshape(_canonical_shape(weight))


def _from_canonical(weight: Weight, array: np.ndarray) -> np.ndarray:
  order = _order(weight)
  sizes = [weight.shape[axis] for axis in order]
  return array.reshape(sizes).transpose(np.argsort(order))
