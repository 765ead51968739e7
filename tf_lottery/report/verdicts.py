"""Verdicts: which tickets win, by tests over an experiment's replicates."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from scipy import stats

from tf_lottery import trials as trials_lib
from tf_lottery.report import summaries

SIGNIFICANCE = 0.05


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What is shown about the tickets of one Level.

  Differences are those of means, in units of the metric; a p value is that of
  a one-sided Welch test, and None where there are too few replicates.

  Attributes:
    level: which Level.
    density: of its tickets.
    measure: the field of `Trial` that is compared.
    word: `"winning"`, `"matching"`, `"below"` or `"cannot tell"`.
    reason: why, in words.
    difference: ticket - dense.
    p_matching: small shows that the ticket is not worse than dense by the
      tolerance.
    p_below: small shows that it is.
    reinit_difference: ticket - random reinit.
    p_reinit: small shows that the ticket is better than its random reinits.
    n_ticket: how many replicates of the ticket.
    n_dense: how many replicates of the dense network.
    n_reinit: how many replicates of its random reinits.
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
  first: Sequence[float], second: Sequence[float], margin: float = 0.0
) -> float | None:
  """The p value of mean(first) <= mean(second) + margin, one-sided.

  A small one shows that `first` is greater by more than `margin`. Variances
  may differ (Welch, 1947).

  Returns:
    None where a sample has less than two values, or neither varies.
  """
  if min(len(first), len(second)) < 2:
    return None
  first, second = np.asarray(first, float), np.asarray(second, float) + margin
  if _is_constant(first) and _is_constant(second):
    return None
  # From moments: of samples, SciPy warns where one of them is constant.
  result = stats.ttest_ind_from_stats(
    first.mean(),
    first.std(ddof=1),
    len(first),
    second.mean(),
    second.std(ddof=1),
    len(second),
    equal_var=False,
    alternative="greater",
  )
  return float(result.pvalue)


def verdicts(
  trials: Sequence[trials_lib.Trial],
  tolerance: float = 0.005,
  when: str = summaries.EARLY,
) -> list[Verdict]:
  """One verdict for each Level below the dense one.

  A ticket is *matching* when a one-sided Welch test rejects, at 5 %, that it
  is worse than the dense network by more than the tolerance; *below* when the
  test rejects that it is not. It is *winning* when it is matching and better
  than its random reinits by the same test. Otherwise one *cannot tell*. Each
  Level is tested by itself.

  Args:
    trials: of one experiment.
    tolerance: in units of the metric. Defaults to `0.005`, half a point of
      accuracy.
    when: `"early"`, at the early stop, or `"end"`, at the end of training.

  Raises:
    ValueError: the tolerance is negative, or the trials do not tell whether
      more of the metric is better.

  Reference: Frankle and Carbin, arXiv 1803.03635, section 1.
  """
  check_tolerance(tolerance)
  field = summaries.measure_at(when, trials)
  sign = direction(trials)
  dense = summaries.replicate_values(trials, "dense", 0, field)
  rows = []
  for level, density in summaries.level_densities(trials).items():
    ticket = summaries.replicate_values(trials, "ticket", level, field)
    reinit = summaries.replicate_values(trials, "random_reinit", level, field)
    if level and ticket:
      compared = _compare(
        *(sign * np.asarray(values) for values in (ticket, dense, reinit)),
        tolerance,
      )
      for name in ("difference", "reinit_difference"):
        if compared[name] is not None:
          compared[name] *= sign
      rows.append(Verdict(level, density, field, **compared))
  return rows


def direction(trials: Sequence[trials_lib.Trial]) -> int:
  """Returns 1 if more of the metric is better, -1 if less of it is.

  Args:
    trials: Trials of one metric. Those that do not know its direction follow
      the others.

  Raises:
    ValueError: No trial knows the direction, or two contradict each other.
  """
  known = {trial.direction for trial in trials} - {None}
  if trials and len(known) != 1:
    raise ValueError(
      f"The runs must agree on whether more or less of {trials[0].monitor!r} is"
      f" better, got {sorted(known) or 'no direction'}. Call find_ticket again"
      " on a run that does not declare it, with objective=tf_lottery.Objective("
      f"{trials[0].monitor!r}, 'min') or 'max': it trains nothing that is done."
    )
  return -1 if known == {"min"} else 1


def check_tolerance(tolerance: float) -> None:
  """Refuses a tolerance that is negative or no number."""
  if not tolerance >= 0:
    raise ValueError(
      f"tolerance must be at least 0, got {tolerance}. It is in units of the"
      " metric: 0.005 is half a point of accuracy."
    )


def _compare(
  ticket: np.ndarray, dense: np.ndarray, reinit: np.ndarray, tolerance: float
) -> dict[str, object]:
  """The fields of a verdict; of all values, more is better."""
  fields = {
    "difference": _difference(ticket, dense),
    "p_matching": welch(ticket, dense, -tolerance),
    "p_below": welch(dense, ticket, tolerance),
    "reinit_difference": _difference(ticket, reinit),
    "p_reinit": welch(ticket, reinit),
    "n_ticket": len(ticket),
    "n_dense": len(dense),
    "n_reinit": len(reinit),
  }
  word, reason = _word(fields)
  return {"word": word, "reason": reason, **fields}


def _word(fields: Mapping[str, object]) -> tuple[str, str]:
  if fields["p_matching"] is None:
    few = min(fields["n_ticket"], fields["n_dense"])
    if few > 1:
      return "cannot tell", "replicates do not vary: nothing to test by"
    count = f"{few} replicate{'s' * (few != 1)}"
    return "cannot tell", f"{count} so far; a test needs at least 2"
  if fields["p_below"] < SIGNIFICANCE:
    return "below", "below dense by more than the tolerance"
  if fields["p_matching"] >= SIGNIFICANCE:
    return "cannot tell", "replicates vary too much, or are too few"
  if not fields["n_reinit"]:
    return "matching", "no random reinit beside it"
  if fields["p_reinit"] is None:
    return "matching", "its reinits are too few, or do not vary, to test"
  if fields["p_reinit"] < SIGNIFICANCE:
    return "winning", "as good as dense, better than its reinits"
  return "matching", "not shown to be better than its reinits"


def _difference(first: np.ndarray, second: np.ndarray) -> float | None:
  return (
    float(first.mean() - second.mean()) if len(first) * len(second) else None
  )


def _is_constant(values: np.ndarray) -> bool:
  return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())
