"""Comparisons of two methods over replicates: tests, and their power."""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy import stats

PAIRED = "paired t"
SIGN = "sign"
WELCH = "Welch"

# Above this number of replicates, `Comparison.needed` does not search.
MOST = 50
POWER = 0.8


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
  """The values of two methods, one for each replicate, and tests of them.

  Two trainings of one replicate have the seed in common: the initial weights
  and the order of the data. So their difference varies less than each of them.
  The test is

  - the *paired t* test of the differences, if two replicates or more have both
    methods, and the differences vary,
  - else the test of *Welch* (1947), if each method has two values or more, and
    one of them varies,
  - else the *sign* test, if two replicates or more have both methods: p is 2 to
    the power of minus the number of pairs. Where nothing varies, as where all
    trainings reach 100 %, a t test would be sure after two replicates.

  All tests are one-sided.

  Attributes:
    first: Values of the first method. If `paired`, in the order of `second`.
    second: Values of the second method.
    paired: Whether the values are those of the same replicates.

  Example:
  >>> runs = Comparison.of({0: 3.0, 1: 5.0, 2: 4.5}, {0: 2.0, 1: 4.1, 2: 3.3})
  >>> runs.test, runs.n, round(runs.p_greater(), 4)
  ('paired t', 3, 0.0036)
  """

  first: np.ndarray
  second: np.ndarray
  paired: bool

  @classmethod
  def of(
    cls, first: Mapping[int, float], second: Mapping[int, float]
  ) -> "Comparison":
    """Compares two methods.

    Args:
      first: Replicate -> value of the first method.
      second: Replicate -> value of the second method.
    """
    both = sorted(first.keys() & second.keys())
    paired = len(both) > 1
    return cls(
      np.array([first[k] for k in (both if paired else first)], float),
      np.array([second[k] for k in (both if paired else second)], float),
      paired,
    )

  @property
  def n(self) -> int:
    """The number of pairs; without pairs, that of the smaller sample."""
    return min(len(self.first), len(self.second))

  @functools.cached_property
  def test(self) -> str:
    """`"paired t"`, `"sign"` or `"Welch"`; empty if there is no test."""
    scale = float(np.abs(self.first).max(initial=0.0))
    if self.paired and not _is_constant(self._differences, scale):
      return PAIRED
    if _is_constant(self.first) and _is_constant(self.second):
      return SIGN if self.paired else ""
    return WELCH if self.n > 1 else ""

  @property
  def difference(self) -> float | None:
    """Mean of the first minus mean of the second; None without values."""
    if not self.n:
      return None
    return float(self.first.mean() - self.second.mean())

  def p_greater(self, margin: float = 0.0) -> float | None:
    """Returns the p value of the null: first <= second + margin, on average.

    Args:
      margin: In units of the values. Defaults to `0.0`.

    Returns:
      A number in [0, 1]: if it is small, the first is greater by more than the
      margin. None if there is no test.
    """
    if self.test == SIGN:
      # Rounding must not decide: 0.9 - 0.8 is below 0.1.
      above = _exceeds(self._differences.mean(), margin, self.first)
      return 0.5**self.n if above else 1.0
    if self.test == PAIRED:
      excess = self._differences - margin
      t = excess.mean() / (excess.std(ddof=1) / math.sqrt(self.n))
      return float(special.stdtr(self.n - 1, -t))  # stats.t is slow to call
    return welch(self.first, self.second, margin)

  def p_less(self, margin: float = 0.0) -> float | None:
    """Returns the p value of the null: first >= second + margin, on average."""
    return Comparison(self.second, self.first, self.paired).p_greater(-margin)

  def needed(self, margin: float, significance: float) -> int | None:
    """Estimates how many replicates show that first > second + margin.

    It is the smallest number of pairs whose t test has a power of 80 %, if the
    difference and its standard deviation are as they are in these replicates.
    Two or three replicates tell them roughly, and so is the answer.

    Args:
      margin: In units of the values.
      significance: Below which p value the test shows it, in (0, 1).

    Returns:
      The number of all replicates, not of further ones: at least 2;
      `MOST + 1` if it is greater than `MOST`. None if there is no test yet, or
      if the mean difference is not above the margin, so that more of the same
      would not show it.
    """
    difference = self.difference
    if not self.test or difference is None:
      return None
    if not _exceeds(difference, margin, self.first):
      return None
    if self.test == SIGN:
      return math.floor(math.log(significance) / math.log(0.5)) + 1
    if self.test == PAIRED:
      spread = self._differences.std(ddof=1)
    else:
      spread = math.hypot(self.first.std(ddof=1), self.second.std(ddof=1))
    effect = (difference - margin) / spread
    numbers = np.arange(2, MOST + 1)
    few = power(numbers, effect, significance) < POWER
    return 2 + int(few.sum())

  @property
  def _differences(self) -> np.ndarray:
    return self.first - self.second


def power(n: npt.ArrayLike, effect: float, significance: float) -> np.ndarray:
  """Returns how probable it is that a one-sided paired t test is passed.

  Args:
    n: Numbers of pairs, each at least 2.
    effect: The mean of the differences, less the margin, in units of their
      standard deviation.
    significance: Of the test, in (0, 1).

  Returns:
    A probability for each number.

  Example:
  >>> power([3, 5, 10], 1.0, 0.05).round(2)
  array([0.32, 0.58, 0.9 ])
  """
  freedom = np.asarray(n) - 1
  threshold = stats.t.isf(significance, freedom)
  return stats.nct.sf(threshold, freedom, effect * np.sqrt(freedom + 1))


def welch(
  first: npt.ArrayLike, second: npt.ArrayLike, margin: float = 0.0
) -> float | None:
  """Returns the p value of the null mean(first) <= mean(second) + margin.

  If it is small, the mean of `first` is greater by more than `margin`. The two
  variances may differ (Welch, 1947).

  Args:
    first: One value for each replicate.
    second: One value for each replicate.
    margin: In units of the values. Defaults to `0.0`.

  Returns:
    A number in [0, 1]; None if a sample has fewer than two values, or if
    neither sample varies.
  """
  greater, less = np.asarray(first, float), np.asarray(second, float)
  if min(len(greater), len(less)) < 2:
    return None
  if _is_constant(greater) and _is_constant(less):
    return None
  less = less + margin
  # By means and variances: SciPy's test of samples warns if one is constant.
  result = stats.ttest_ind_from_stats(
    greater.mean(),
    greater.std(ddof=1),
    len(greater),
    less.mean(),
    less.std(ddof=1),
    len(less),
    equal_var=False,
    alternative="greater",
  )
  return float(result.pvalue)


def _is_constant(values: np.ndarray, scale: float = 0.0) -> bool:
  """Whether values are equal but for rounding, of numbers up to a scale."""
  if not len(values):
    return True
  return bool(np.ptp(values) <= 1e-12 * max(scale, np.abs(values).max()))


def _exceeds(difference: float, margin: float, values: np.ndarray) -> bool:
  """Whether a difference is above a margin by more than rounding."""
  return bool(difference - margin > 1e-12 * np.abs(values).max())
