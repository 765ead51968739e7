"""The levels of looks are the published ones, and those of t tests hold."""

import math

import numpy as np
import pytest
from scipy import special
from scipy import stats

from tf_lottery.report import spending

FIVE = np.arange(1, 6) / 5


def z_tests(experiments=2**18):
  """P values of the normal test at five equal looks, without an effect."""
  rng = np.random.default_rng(7)
  sums = rng.standard_normal((5, experiments)).cumsum(0)
  return special.ndtr(-sums / np.sqrt(np.arange(1, 6))[:, None])


def test_the_levels_of_pococks_function_are_the_published_ones():
  spent = 0.025 * np.log(1 + (math.e - 1) * FIVE)
  found = stats.norm.isf(spending.levels(z_tests(), spent))
  expected = [2.438, 2.427, 2.410, 2.397, 2.386]
  assert found == pytest.approx(expected, abs=0.03)


def test_the_levels_of_obrien_and_flemings_function_are_the_published_ones():
  spent = 2 * stats.norm.sf(stats.norm.isf(0.0125) / np.sqrt(FIVE))
  found = stats.norm.isf(spending.levels(z_tests(), spent))
  # The first is 4.877: too rare to be simulated, but known without.
  assert found[0] == pytest.approx(4.877, abs=0.001)
  assert found[2:] == pytest.approx([2.680, 2.290, 2.031], abs=0.03)


def test_the_only_look_has_all():
  (one,) = spending.significances([3])
  assert one == pytest.approx((0.05, 0.025))


def test_each_replicate_may_use_as_much():
  assert spending.spent(0.05, [0.25, 1]) == pytest.approx([0.0125, 0.05])
  (full, half), *_ = spending.significances([4, 8, 16])
  assert (full, half) == pytest.approx((0.0125, 0.00625))


@pytest.mark.parametrize("half", [0, 1])
def test_t_tests_at_all_looks_are_wrong_as_often_as_one(half):
  planned = [4, 6, 8, 12]
  levels = [pair[half] for pair in spending.significances(planned)]
  values = np.random.default_rng(1).standard_normal((12, 60_000))

  def rate(levels):
    passed = [
      stats.ttest_1samp(values[:n], 0.0, alternative="greater").pvalue < level
      for n, level in zip(planned, levels, strict=True)
    ]
    return np.any(passed, axis=0).mean()

  alpha = (0.05, 0.025)[half]
  assert rate(levels) == pytest.approx(alpha, abs=0.004)
  assert rate([alpha] * 4) > 2 * alpha


def test_the_levels_are_the_same_each_time():
  assert spending.significances([4, 6]) == spending.significances([4, 6])
