"""Verdicts: which tickets win, by tests over the replicates."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from tf_lottery.report import summaries
from tf_lottery.report.records import RoundRecord

SIGNIFICANCE = 0.05


@dataclasses.dataclass(frozen=True)
class Verdict:
  """The outcome of the tests of one Level's tickets.

  A difference is one between means, in units of the metric. A p value is the
  result of a one-sided Welch test, and None where the replicates are too few or
  do not vary.

  Attributes:
    level: The Level.
    density: The mean density of its tickets.
    measure: The field of `RoundRecord` that is compared.
    word: `"winning"`, `"matching"`, `"below"` or `"cannot tell"`.
    reason: The reason for the word, in words.
    difference: The ticket's mean minus the dense network's.
    p_matching: If it is small, the ticket is not worse than the dense network
      by more than the tolerance.
    p_below: If it is small, the ticket is worse by more than the tolerance.
    reinit_difference: The ticket's mean minus its random reinits' mean.
    p_reinit: If it is small, the ticket is better than its random reinits.
    n_ticket: The number of replicates of the ticket.
    n_dense: The number of replicates of the dense network.
    n_reinit: The number of replicates of the random reinits.
  """

  level: int
  density: float
  measure: str
  word: str
  reason: str
  difference: float | None
  p_matching: float | None
  p_below: float | None
  reinit_difference: float | None
  p_reinit: float | None
  n_ticket: int
  n_dense: int
  n_reinit: int


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
  greater, less = np.asarray(first, float), np.asarray(second, float) + margin
  if min(len(greater), len(less)) < 2:
    return None
  if _is_constant(greater) and _is_constant(less):
    return None
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


def verdicts(
  rounds: Sequence[RoundRecord],
  tolerance: float = 0.005,
  when: str = summaries.EARLY,
) -> list[Verdict]:
  """Returns one verdict for each Level that has tickets.

  All tests are one-sided Welch tests at a significance of 5 %. A ticket is

  - *matching* if a test rejects that it is worse than the dense network by more
    than the tolerance,
  - *winning* if it is matching, and another test rejects that it is no better
    than its random reinits,
  - *below* if a test rejects that it is at most the tolerance worse than the
    dense network.

  Otherwise one *cannot tell*. Levels are tested one by one, without a
  correction for their number.

  Args:
    rounds: The Rounds of one experiment.
    tolerance: How much worse than the dense network a ticket may be and still
      match it, in units of the metric. At least 0. Defaults to `0.005`, half a
      point of accuracy.
    when: `"early"` compares values at the early stop, `"end"` at the end of
      training. Defaults to `"early"`.

  Raises:
    ValueError: The tolerance is negative, or the Rounds do not tell whether
      more of the metric is better.

  Reference: Frankle and Carbin, arXiv 1803.03635, section 1.
  """
  check_tolerance(tolerance)
  measure = summaries.measure_at(when, rounds)
  sign = direction(rounds)

  def values(method: str, level: int) -> np.ndarray:
    return np.asarray(
      summaries.replicate_values(rounds, method, level, measure)
    )

  dense = values("dense", 0)
  rows = []
  for level, density in summaries.level_densities(rounds).items():
    ticket, reinit = values("ticket", level), values("random_reinit", level)
    if not level or not len(ticket):
      continue
    verdict = Verdict(
      level,
      density,
      measure,
      word="",
      reason="",
      difference=_difference(ticket, dense),
      p_matching=welch(sign * ticket, sign * dense, -tolerance),
      p_below=welch(sign * dense, sign * ticket, tolerance),
      reinit_difference=_difference(ticket, reinit),
      p_reinit=welch(sign * ticket, sign * reinit),
      n_ticket=len(ticket),
      n_dense=len(dense),
      n_reinit=len(reinit),
    )
    word, reason = _word(verdict)
    rows.append(dataclasses.replace(verdict, word=word, reason=reason))
  return rows


def direction(rounds: Sequence[RoundRecord]) -> int:
  """Returns 1 if more of the metric is better, -1 if less of it is.

  Args:
    rounds: Rounds of one metric. Those that do not know its direction follow
      the others.

  Raises:
    ValueError: No Round knows the direction, or two contradict each other.
  """
  known = {round_.direction for round_ in rounds if round_.direction}
  if rounds and len(known) != 1:
    raise ValueError(
      f"The runs must agree on whether more or less of {rounds[0].monitor!r} is"
      f" better, got {sorted(known) or 'no direction'}. Call find_ticket again"
      " on a run that does not declare it, with objective=tf_lottery.Objective("
      f"{rounds[0].monitor!r}, 'min') or 'max': it trains nothing that is done."
    )
  return -1 if known == {"min"} else 1


def check_tolerance(tolerance: float) -> None:
  """Raises a `ValueError` if a tolerance is negative or not a number."""
  if not tolerance >= 0:
    raise ValueError(
      f"tolerance must be at least 0, got {tolerance}. It is in units of the"
      " metric: 0.005 is half a point of accuracy."
    )


def _word(verdict: Verdict) -> tuple[str, str]:
  """Returns the word for the p values of a verdict, and the reason for it."""
  if verdict.p_matching is None or verdict.p_below is None:
    few = min(verdict.n_ticket, verdict.n_dense)
    if few > 1:
      return "cannot tell", "the replicates do not vary"
    count = f"{few} replicate{'s' * (few != 1)}"
    return "cannot tell", f"{count} so far; a test needs at least 2"
  if verdict.p_below < SIGNIFICANCE:
    return "below", "below dense by more than the tolerance"
  if verdict.p_matching >= SIGNIFICANCE:
    return "cannot tell", "replicates vary too much, or are too few"
  if not verdict.n_reinit:
    return "matching", "no random reinit was trained"
  if verdict.p_reinit is None:
    return "matching", "its random reinits are too few, or do not vary"
  if verdict.p_reinit < SIGNIFICANCE:
    return "winning", "as good as dense, better than its reinits"
  return "matching", "not shown to be better than its reinits"


def _difference(first: np.ndarray, second: np.ndarray) -> float | None:
  if not len(first) or not len(second):
    return None
  return float(first.mean() - second.mean())


def _is_constant(values: np.ndarray) -> bool:
  return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())
