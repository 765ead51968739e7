"""Alpha spending: how several looks at the data share one significance.

Who looks at the verdicts after 4 replicates, after 6, after 8 and so on, and
stops when a word appears, is wrong in more than one of twenty experiments. In a
group-sequential test the looks share the significance. The look at a fraction t
of the greatest number of replicates may use what a spending function a says,
less what the looks before have used:

  P(the first p value below its level is that of look k) = a(t_k) - a(t_(k-1)),

if there is nothing to be found. Here a(t) = alpha * t: each replicate may use
as much as any other. A function like that of O'Brien and Fleming leaves nearly
all to the last look, so that large differences need more replicates; one like
Pocock's leaves less, so that small ones are found less often. The page
docs/results/sequential.md in the repository compares the three.

The levels are usually computed for statistics that are normal. The t tests of
few pairs are not, and with such levels 5.4 % of all single tests would be wrong
instead of 5 %. So the levels are those of simulated t tests.

References: Lan and DeMets, Biometrika 70, 1983; Jennison and Turnbull, Group
Sequential Methods with Applications to Clinical Trials, 2000, chapters 3 and 7;
for sequences of tests, Maurer and Bretz, Statistics in Biopharmaceutical
Research 5, 2013.
"""

import math
from collections.abc import Iterable
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from tf_lottery.report.verdicts import SIGNIFICANCE

NAME = "linear"
_EXPERIMENTS = 2**18


def spent(alpha: float, fractions: npt.ArrayLike) -> np.ndarray:
  """Returns what looks may have used of a significance: alpha * t.

  Args:
    alpha: The significance of all looks together, in (0, 1).
    fractions: Of the greatest number of replicates, at each look, in (0, 1].
  """
  return alpha * np.asarray(fractions, float)


def significances(planned: Sequence[int]) -> list[tuple[float, float]]:
  """Returns the significance of each look.

  Args:
    planned: The number of replicates at each look, rising.

  Returns:
    For each look, that of a sequence of tests that has all of the 5 %, and that
    of one that has half of it.

  Example:
  >>> [round(full, 3) for full, _ in significances([3, 6, 12])]
  [0.013, 0.014, 0.031]
  """
  p_values = _under_the_null(planned)
  fractions = np.asarray(planned) / planned[-1]
  full, half = (
    levels(p_values, spent(alpha, fractions))
    for alpha in (SIGNIFICANCE, SIGNIFICANCE / 2)
  )
  return list(zip(full, half, strict=True))


def levels(p_values: np.ndarray, spent: Iterable[float]) -> list[float]:
  """Returns below which p value each look rejects, so that it uses its share.

  Args:
    p_values: Of experiments without an effect, with the shape (looks,
      experiments).
    spent: The fraction of these experiments in which this look or one before
      rejects, rising.
  """
  rejected = np.zeros(p_values.shape[1], bool)
  found: list[float] = []
  for p, total in zip(p_values, spent, strict=True):
    level = float(total)  # p values are uniform, as long as none was left out
    if found:
      further = round(total * len(rejected)) - int(rejected.sum())
      left = p[~rejected]
      level = float(np.partition(left, further)[further])
    found.append(level)
    rejected |= p < level
  return found


def _under_the_null(planned: Sequence[int]) -> np.ndarray:
  """Simulates the p values of paired t tests at each look, without an effect.

  The draws are those of one seed: the same plan has the same levels.
  """
  rng = np.random.default_rng(0)
  differences = rng.standard_normal((planned[-1], _EXPERIMENTS))
  found = []
  for number in planned:
    seen = differences[:number]
    t = seen.mean(0) / (seen.std(0, ddof=1) / math.sqrt(number))
    found.append(special.stdtr(number - 1, -t))
  return np.array(found)
