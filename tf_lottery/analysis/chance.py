"""Counts, and what chance alone would give."""

import dataclasses
import math

# The columns of `AgainstChance.cells` after the count.
HEADER = ("by chance", "ratio", "z")


@dataclasses.dataclass(frozen=True)
class AgainstChance:
  """A count, and the distribution of this count by chance.

  Attributes:
    count: The count that was found.
    expected: Its mean by chance.
    deviation: Its standard deviation by chance.
  """

  count: int
  expected: float
  deviation: float

  @property
  def ratio(self) -> float:
    """The count divided by its mean by chance; NaN if that mean is 0."""
    return self.count / self.expected if self.expected else math.nan

  @property
  def z(self) -> float:
    """By how many standard deviations the count is above its mean by chance.

    Chance alone gives values between -2 and 2 in 95 % of cases, if the counts
    are not tiny. It is NaN if chance gives one count only.
    """
    above = self.count - self.expected
    return above / self.deviation if self.deviation else math.nan

  def cells(self) -> tuple[str, ...]:
    """Returns the count, and the cells below `HEADER`, for a text table."""
    return (
      f"{self.count:,}",
      f"{self.expected:,.1f}",
      "-" if math.isnan(self.ratio) else f"{self.ratio:.2f}",
      "-" if math.isnan(self.z) else f"{self.z:+.1f}",
    )


def hypergeometric(size: int, first: int, second: int) -> tuple[float, float]:
  """Returns mean and variance of how many places two random sets share.

  The mean is `a b / n` and the variance `a b (n - a) (n - b) / (n² (n - 1))`
  for sets of `a` and `b` of `n` places.

  Args:
    size: The number of places, at least 1.
    first: The number of places in the first set, from 0 to `size`.
    second: The number of places in the second set, from 0 to `size`.

  >>> mean, variance = hypergeometric(4, 2, 2)
  >>> print(f"{mean:.2f} {variance:.3f}")
  1.00 0.333
  """
  mean = first * second / size
  left = (size - first) * (size - second) / size / max(size - 1, 1)
  return mean, mean * left
