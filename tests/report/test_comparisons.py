"""Comparisons: which test is used, and what it says."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from tf_lottery.report import comparisons
from tf_lottery.report.comparisons import Comparison


@pytest.fixture(autouse=True)
def no_warnings():
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    yield


def by_number(values):
  return dict(enumerate(values))


def compare(first, second):
  return Comparison.of(by_number(first), by_number(second))


FIRST, SECOND = [3.1, 2.9, 3.4, 3.0], [2.5, 2.8, 2.7, 2.6]


@pytest.mark.parametrize("margin", [0.0, -0.5, 0.4])
def test_pairs_are_tested_by_scipys_paired_t_test(margin):
  found = compare(FIRST, SECOND)
  shifted = np.add(SECOND, margin)
  greater = stats.ttest_rel(FIRST, shifted, alternative="greater").pvalue
  less = stats.ttest_rel(FIRST, shifted, alternative="less").pvalue
  assert (found.test, found.n) == ("paired t", 4)
  assert found.p_greater(margin) == pytest.approx(greater)
  assert found.p_less(margin) == pytest.approx(less)
  assert found.difference == pytest.approx(0.45)


def test_only_replicates_that_have_both_are_pairs():
  first = {0: 9.0, 1: 3.1, 2: 2.9, 3: 3.4, 4: 3.0}
  second = {1: 2.5, 2: 2.8, 3: 2.7, 4: 2.6, 7: -9.0}
  found, expected = Comparison.of(first, second), compare(FIRST, SECOND)
  assert (found.n, found.paired) == (4, True)
  assert found.p_greater() == expected.p_greater()
  assert found.difference == expected.difference


@pytest.mark.parametrize("second", [{4: 2.5, 5: 2.8, 6: 2.7}, {3: 2.5, 9: 2.8}])
def test_without_two_pairs_it_is_the_test_of_welch(second):
  found = Comparison.of(by_number(FIRST), second)
  expected = stats.ttest_ind(
    FIRST, list(second.values()), equal_var=False, alternative="greater"
  )
  assert (found.test, found.paired) == ("Welch", False)
  assert found.n == len(second)
  assert found.p_greater() == pytest.approx(expected.pvalue)


def test_differences_that_do_not_vary_are_tested_as_if_there_were_no_pairs():
  found = compare([0.91, 0.92, 0.93], [0.81, 0.82, 0.83])
  assert found.test == "Welch"
  expected = comparisons.welch([0.91, 0.92, 0.93], [0.81, 0.82, 0.83])
  assert found.p_greater() == expected < 0.001


def test_where_nothing_varies_each_pair_counts_as_a_toss_of_a_coin():
  found = compare([1.0] * 5, [0.9] * 5)
  assert (found.test, found.n) == ("sign", 5)
  assert found.p_greater() == 0.5**5
  assert found.p_less() == 1.0
  # Not above a margin that is as large as the difference, but for rounding.
  assert found.p_greater(0.1) == 1.0
  assert compare([0.0] * 3, [0.0] * 3).p_greater(-0.01) == 0.125


@pytest.mark.parametrize(
  ("first", "second"),
  [
    ({}, {}),
    ({0: 1.0}, {}),
    ({0: 1.0}, {0: 2.0}),
    ({0: 1.0, 1: 2.0}, {5: 1.0}),
  ],
)
def test_too_few_values_have_no_test(first, second):
  found = Comparison.of(first, second)
  assert found.test == ""
  assert found.p_greater() is found.p_less() is None
  assert found.needed(0.0, 0.05) is None
  assert (found.difference is None) == (not first or not second)


@pytest.mark.parametrize(
  ("effect", "significance", "n"),
  [(1.0, 0.05, 8), (0.5, 0.05, 27), (2.0, 0.05, 4), (1.0, 0.025, 10)],
)
def test_as_many_are_needed_as_tables_of_the_power_of_t_tests_say(
  effect, significance, n
):
  """By G*Power and R's power.t.test(type="paired")."""
  noise = np.array([-1.0, 0.0, 1.0])  # of standard deviation 1
  found = compare(effect + noise, np.zeros(3))
  assert found.needed(0.0, significance) == n
  fewer, enough = comparisons.power([n - 1, n], effect, significance)
  assert fewer < comparisons.POWER <= enough


def test_as_many_are_needed_as_have_that_power_in_a_simulation():
  rng = np.random.default_rng(0)
  values = rng.normal(0.7, 1.0, (4000, 15))
  passed = stats.ttest_1samp(values, 0, axis=1, alternative="greater").pvalue
  rate = np.mean(passed < 0.05)
  assert comparisons.power(15, 0.7, 0.05) == pytest.approx(rate, abs=0.03)


def test_more_than_fifty_are_not_counted():
  found = compare([0.01 - 1, 0.01, 0.01 + 1], [0.0, 0.0, 0.0])
  assert found.needed(0.0, 0.05) == comparisons.MOST + 1


def test_more_of_the_same_does_not_show_what_the_mean_contradicts():
  found = compare([1.0, 2.0, 1.5], [2.0, 2.1, 2.2])
  assert found.needed(0.0, 0.05) is None
  assert found.needed(-1.0, 0.05) > 3


def test_the_sign_test_needs_as_many_as_make_it_small():
  found = compare([1.0, 1.0], [1.0, 1.0])
  assert found.needed(-0.01, 0.05) == 5
  assert 0.5**5 < 0.05 < 0.5**4
  assert found.needed(-0.01, 0.025) == math.ceil(math.log2(40))


@pytest.mark.parametrize("margin", [0.0, -0.5])
def test_welch_is_scipys_one_sided_test(margin):
  first, second = [3.1, 2.9, 3.4], [2.5, 2.8, 2.2, 2.6]
  shifted = [value + margin for value in second]
  expected = stats.ttest_ind(
    first, shifted, equal_var=False, alternative="greater"
  )
  assert comparisons.welch(first, second, margin) == pytest.approx(
    expected.pvalue
  )


@pytest.mark.parametrize(
  ("first", "second"),
  [
    ([0.9, 0.9], [0.8, 0.8]),
    ([0.0, 0.0], [0.0, 0.0]),
    ([0.9], [0.8, 0.8]),
    ([], [0.8, 0.8]),
  ],
)
def test_samples_that_do_not_vary_or_are_too_few_show_nothing(first, second):
  assert comparisons.welch(first, second) is None


def test_one_sample_that_does_not_vary_is_tested_without_a_warning():
  assert comparisons.welch([0.9, 0.9, 0.9], [0.8, 0.81, 0.79]) < 0.01
