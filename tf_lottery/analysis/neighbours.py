"""Whether a ticket keeps neighbouring inputs together, against chance."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tf_lottery import text_table
from tf_lottery.analysis import chance
from tf_lottery.analysis.masks import Masked
from tf_lottery.analysis.masks import mask_of

# Random masks to compare with, and how often all places trade units before the
# first and between two of them.
_DRAWS = 50
_TRADES_BEFORE = 20
_TRADES_BETWEEN = 3


@dataclasses.dataclass(frozen=True)
class Adjacency:
  """How many pairs of neighbouring inputs are kept for the same unit.

  `str` gives a table.

  If the first ratio is above 1 and the second is about 1, neighbours are kept
  together only because they are popular: some inputs, as in the middle of an
  image, are kept for more units than others. If the second ratio is above 1
  too, units keep neighbours together.

  Attributes:
    inputs_shuffled: The number of pairs, against masks in which each unit keeps
      as many inputs, at random places. Mean and deviation are exact.
    counts_fixed: The number of pairs, against masks in which each unit keeps as
      many inputs of each channel, and each input is kept for as many units.
      Mean and deviation are those of 50 random masks.
  """

  inputs_shuffled: chance.AgainstChance
  counts_fixed: chance.AgainstChance

  @property
  def pairs(self) -> int:
    """The number of pairs."""
    return self.inputs_shuffled.count

  def __str__(self) -> str:
    rows = [
      ("each unit's inputs shuffled", *self.inputs_shuffled.cells()),
      ("and each input as popular", *self.counts_fixed.cells()),
    ]
    header = ("compared with", "pairs", *chance.HEADER)
    return text_table.render(header, rows, "<>>>>")


def adjacency(
  masked: Masked,
  shape: Sequence[int],
  key: str | None = None,
  seed: int = 0,
) -> Adjacency:
  """Counts pairs of neighbouring inputs that are kept for the same unit.

  Neighbours are one step apart along one axis of the input, such as an image's
  height or width.

  Args:
    masked: A `Mask`, or a `Ticket` or a `Round`, which has one.
    shape: The shape of the input without its channels: `(40,)` for a signal,
      `(28, 28)` for a flattened image. Channels come last, and only inputs of
      the same channel are neighbours. For a convolution, the shape of its
      window.
    key: The key of the weight that takes the input. Defaults to `None`: the
      first weight of the mask.
    seed: Seed of the random masks of `counts_fixed`. Defaults to `0`.

  Raises:
    TypeError: The first argument has no mask.
    ValueError: The mask has no such weight, or the weight takes no inputs of
      this shape.

  >>> from tf_lottery import Mask
  >>> kept = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
  >>> adjacency(Mask({"0/kernel": kept}), (4,)).pairs
  2

  Reference: Greydanus and Kobak, arXiv 2011.14439.
  """
  kept = by_place(masked, shape, key)
  pairs = _count(kept, shape)
  return Adjacency(
    _inputs_shuffled(pairs, kept.sum(axis=0), shape),
    _counts_fixed(pairs, kept, shape, np.random.default_rng(seed)),
  )


def by_place(
  masked: Masked, shape: Sequence[int], key: str | None = None
) -> np.ndarray:
  """Returns which weights are kept at each place of the input.

  Args:
    masked: See `adjacency`.
    shape: See `adjacency`.
    key: See `adjacency`.

  Returns:
    A boolean array of shape `(places, channels, units)`. Places are in the
    order of the flattened input.

  Raises:
    ValueError: See `adjacency`.
  """
  mask, places = mask_of(masked), math.prod(shape)
  key = next(iter(mask), "") if key is None else key
  if key not in mask:
    raise ValueError(f"The mask has no weight {key!r}; it has {list(mask)}.")
  kept = mask[key]
  is_window = kept.shape[: len(shape)] == tuple(shape)
  takes = kept.ndim > 1 and places > 0 and kept.shape[0] % places == 0
  if not shape or not (is_window or takes):
    raise ValueError(
      f"The weight {key!r} of shape {kept.shape} takes no inputs of shape"
      f" {tuple(shape)}: the first axis must have a multiple of {places}"
      " entries, or, of a convolution, the first axes must be its window, as in"
      " (3, 3). Give the key of the weight that takes the input."
    )
  return kept.reshape(places, -1, kept.shape[-1])


def _neighbours(grid: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns all places but the last along an axis, and all but the first."""
  places = range(grid.shape[axis])
  return grid.take(places[:-1], axis), grid.take(places[1:], axis)


def _count(kept: np.ndarray, shape: Sequence[int]) -> int:
  """Counts the pairs of neighbours that are kept for the same unit."""
  grid = kept.reshape(*shape, -1)
  pairs = (_neighbours(grid, axis) for axis in range(len(shape)))
  return sum(int(np.count_nonzero(one & other)) for one, other in pairs)


def _inputs_shuffled(
  pairs: int, by_unit: np.ndarray, shape: Sequence[int]
) -> chance.AgainstChance:
  """Compares with masks in which each unit keeps as many random places.

  With `p[r]`, the probability that r given places are all kept, the mean is
  `E p[2]` for E pairs of neighbours. W of the pairs of pairs share a place and
  D do not, so the variance is `E p[2] + 2 W p[3] + 2 D p[4] - (E p[2])²`.

  Args:
    pairs: The number of pairs that were found.
    by_unit: How many places each unit keeps.
    shape: The shape of the input.
  """
  size = math.prod(shape)
  steps = np.zeros(shape, int)  # how many neighbours each place has
  for axis in range(len(shape)):
    for side in _neighbours(np.arange(size).reshape(shape), axis):
      np.add.at(steps.reshape(-1), side.ravel(), 1)
  edges = int(steps.sum()) // 2
  sharing = int((steps * (steps - 1)).sum()) // 2
  apart = edges * (edges - 1) // 2 - sharing
  p2, p3, p4 = (_all_kept(by_unit, size, r) for r in (2, 3, 4))
  mean = edges * p2
  variance = mean + 2 * sharing * p3 + 2 * apart * p4 - mean**2
  # Rounding may leave a tiny negative number where there is no variance.
  spread = math.sqrt(np.maximum(variance, 0).sum())
  return chance.AgainstChance(pairs, float(mean.sum()), spread)


def _all_kept(kept: np.ndarray, size: int, places: int) -> np.ndarray:
  """Returns the probability that some given places are all kept."""
  probability = np.ones(kept.shape)
  for taken in range(min(places, size)):
    probability *= np.maximum(kept - taken, 0) / (size - taken)
  return probability


def _counts_fixed(
  pairs: int,
  kept: np.ndarray,
  shape: Sequence[int],
  rng: np.random.Generator,
) -> chance.AgainstChance:
  """Compares with random masks that have the same counts in each channel."""
  for _ in range(_TRADES_BEFORE):
    kept = _traded(kept, rng)
  drawn = []
  for _ in range(_DRAWS):
    for _ in range(_TRADES_BETWEEN):
      kept = _traded(kept, rng)
    drawn.append(_count(kept, shape))
  mean, deviation = np.mean(drawn), np.std(drawn, ddof=1)
  return chance.AgainstChance(pairs, float(mean), float(deviation))


def _traded(kept: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Draws partners, which share out anew the units that only one of them has.

  They do so in each channel. How many units keep an input stays, and how many
  inputs of a channel a unit keeps. Many trades lead to each mask that has these
  counts with equal probability.

  Reference: Strona et al., Nature Communications 5:4114, 2014 ("curveball").
  """
  half = len(kept) // 2
  order = rng.permutation(len(kept))
  first, second = order[:half], order[half : 2 * half]
  differ = kept[first] ^ kept[second]
  own = (kept[first] & differ).sum(axis=-1, keepdims=True)
  # As many of these units as it had go to the first, those of lowest draws.
  draws = np.where(differ, rng.random(differ.shape), np.inf)
  ends = np.full((*draws.shape[:-1], 1), np.inf)
  ordered = np.concatenate([np.sort(draws), ends], axis=-1)
  taken = draws < np.take_along_axis(ordered, own, axis=-1)
  both = kept[first] & kept[second]
  kept = kept.copy()
  kept[first], kept[second] = both | taken, both | (differ & ~taken)
  return kept
