"""How much two masks overlap, against chance."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from tf_lottery import text_table
from tf_lottery.analysis import chance
from tf_lottery.masks import Mask
from tf_lottery.search.rounds import Round
from tf_lottery.tickets import Ticket

# What a mask is taken from.
Masked = Mask | Ticket | Round


@dataclasses.dataclass(frozen=True)
class Overlap(chance.AgainstChance):
  """How many places two masks both keep, against chance; `str` gives a table.

  Attributes:
    count: The number of places that both keep.
    expected: Its mean for random masks that keep as many places of each weight.
    deviation: Its standard deviation for such masks.
    first: The number of places that the first mask keeps.
    second: The number of places that the second mask keeps.
    size: The number of all places.
    weights: Weight key -> the overlap in this weight. It is empty in the
      overlap of one weight.
  """

  first: int
  second: int
  size: int
  weights: Mapping[str, "Overlap"] = dataclasses.field(default_factory=dict)

  @property
  def density(self) -> float:
    """Fraction of the places that the first mask keeps, in [0, 1]."""
    return self.first / self.size if self.size else 1.0

  @property
  def share(self) -> float:
    """Fraction of the smaller mask's places that both keep, in [0, 1]."""
    return self.count / self._smaller if self._smaller else math.nan

  @property
  def expected_share(self) -> float:
    """The mean of `share` by chance, in [0, 1]."""
    return self.expected / self._smaller if self._smaller else math.nan

  @property
  def jaccard(self) -> float:
    """Fraction of the places kept by either mask that both keep, in [0, 1]."""
    either = self.first + self.second - self.count
    return self.count / either if either else math.nan

  @property
  def is_nested(self) -> bool:
    """Whether one mask keeps every place that the other keeps."""
    return self.count == self._smaller

  def __str__(self) -> str:
    parts = {**self.weights, "all": self}
    rows = [
      (
        name,
        *(f"{count:,}" for count in (part.size, part.first, part.second)),
        *part.cells(),
        f"{part.jaccard:.3f}",
      )
      for name, part in parts.items()
    ]
    columns = ("weight", "places", "first", "second", "both")
    header = (*columns, *chance.HEADER, "Jaccard")
    table = text_table.render(header, rows, "<>>>>>>>>")
    if not self.is_nested:
      return table
    return (
      f"{table}\nOne mask keeps every place that the other keeps, as Levels of"
      " one search do: the\noverlap is the largest possible."
    )

  @property
  def _smaller(self) -> int:
    return min(self.first, self.second)


def overlap(first: Masked, second: Masked) -> Overlap:
  """Counts the places that two masks both keep, and compares with chance.

  Chance gives two random masks that keep as many places of each weight as the
  two masks do, so agreement about how dense each layer is does not count.
  Compare the same Level of two replicates or of two search methods. Two Levels
  of one search tell nothing: the later keeps a subset of the earlier's places,
  so their overlap is always the largest possible.

  Positions are compared, and units of a hidden layer have no order that two
  seeds share: both may learn the same units at other positions. Where masks
  keep few whole units, these coincide more or less often by luck, so `z`, which
  supposes that each entry is kept by itself, may be far from 0 in both
  directions. Inputs of the first weight and outputs of the last have an order.

  Args:
    first: A `Mask`, or a `Ticket` or a `Round`, which has one.
    second: Another one over the same weights.

  Raises:
    TypeError: An argument has no mask.
    ValueError: The masks are over different weights.

  >>> first = Mask({"0/kernel": np.array([True, True, False, False])})
  >>> second = Mask({"0/kernel": np.array([True, False, True, False])})
  >>> print(overlap(first, second))
  weight    places  first  second  both  by chance  ratio     z  Jaccard
  0/kernel       4      2       2     1        1.0   1.00  +0.0    0.333
  all            4      2       2     1        1.0   1.00  +0.0    0.333
  """
  one, other = mask_of(first), mask_of(second)
  one.check_same_weights(other)
  parts = {key: _of_weight(kept, other[key]) for key, kept in one.items()}
  # Weights are drawn independently, so their variances add up.
  return Overlap(
    count=sum(part.count for part in parts.values()),
    expected=math.fsum(part.expected for part in parts.values()),
    deviation=math.hypot(*(part.deviation for part in parts.values())),
    first=one.kept,
    second=other.kept,
    size=one.size,
    weights=parts,
  )


def mask_of(masked: Masked) -> Mask:
  """Returns a mask as it is, and the mask of a Ticket or a Round.

  Raises:
    TypeError: The argument has no mask.
  """
  if isinstance(masked, Round):
    masked = masked.ticket
  if isinstance(masked, Ticket):
    masked = masked.mask
  if not isinstance(masked, Mask):
    raise TypeError(
      f"A Mask, a Ticket or a Round is needed, got {type(masked).__name__}. The"
      " mask of a lottery-ready model is bind(model).mask."
    )
  return masked


def _of_weight(first: np.ndarray, second: np.ndarray) -> Overlap:
  counts = int(np.count_nonzero(first)), int(np.count_nonzero(second))
  mean, variance = chance.hypergeometric(max(first.size, 1), *counts)
  both = int(np.count_nonzero(first & second))
  return Overlap(both, mean, math.sqrt(variance), *counts, first.size)
