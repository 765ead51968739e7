"""The claims of Frankle and Carbin, put to the test on an experiment."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tf_lottery import trials as trials_lib
from tf_lottery.report import summaries
from tf_lottery.report import verdicts


@dataclasses.dataclass(frozen=True)
class Claim:
  """One claim: that one method is better than another, at some densities.

  Attributes:
    sentence: the claim in words.
    first: the method that is said to be better.
    second: the other.
    densities: where: a density, whose nearest Level is taken; or the highest
      and the lowest of a range, of which every Level must agree.
    sooner: whether better means an earlier minimum of the validation loss.
    as_good: whether as good, within the tolerance, will do.
  """

  sentence: str
  first: str
  second: str
  densities: tuple[float, ...]
  sooner: bool = False
  as_good: bool = False


@dataclasses.dataclass(frozen=True)
class Finding:
  """What an experiment says about a claim.

  Attributes:
    claim: the claim.
    measure: the field of `Trial` that was compared.
    level: the Level at which; of a range, the one that decided.
    density: of that Level.
    word: `"holds"`, `"does not hold"` or `"cannot tell"`.
    reason: why not, in words; empty where numbers tell.
    first: the first method's mean.
    second: the second one's.
    p: of a one-sided Welch test whose null is that the claim is false:
      small is for it.
    p_against: of the contrary; small is against it.
    n: replicates of the two methods, the fewer.
  """

  claim: Claim
  measure: str
  level: int
  density: float
  word: str
  reason: str
  first: float
  second: float
  p: float | None
  p_against: float | None
  n: int


LENET = (
  Claim(
    "The ticket is at its lowest validation loss sooner than dense, near 21 %",
    "ticket",
    "dense",
    (0.2107,),
    sooner=True,
  ),
  Claim(
    "The ticket is better than dense, near 13.5 %",
    "ticket",
    "dense",
    (0.1352,),
  ),
  Claim(
    "The ticket is still as good as dense, near 3.6 %",
    "ticket",
    "dense",
    (0.0358,),
    as_good=True,
  ),
  Claim(
    "Random reinits are worse than dense, near 21 %",
    "dense",
    "random_reinit",
    (0.2107,),
  ),
  Claim(
    "The ticket is better than its random reinits, near 21 %",
    "ticket",
    "random_reinit",
    (0.2107,),
  ),
  Claim(
    "One-shot tickets are as good as dense, from 95 to 5.17 %",
    "one_shot",
    "dense",
    (0.95, 0.0517),
    as_good=True,
  ),
  Claim(
    "Random reinits are better than masks shuffled in each layer, near 21 %",
    "random_reinit",
    "shuffled_mask",
    (0.2107,),
  ),
  Claim(
    "Random reinits are better than random masks, near 21 %",
    "random_reinit",
    "random_mask",
    (0.2107,),
  ),
)

CONV = (
  Claim(
    "The ticket is at its lowest validation loss sooner than dense, near 9 %",
    "ticket",
    "dense",
    (0.09,),
    sooner=True,
  ),
  Claim(
    "The ticket is better than dense, near 9 %", "ticket", "dense", (0.09,)
  ),
  Claim(
    "The ticket is as good as dense, down to 2 %",
    "ticket",
    "dense",
    (0.99, 0.02),
    as_good=True,
  ),
  Claim(
    "The ticket is better than its random reinits, near 9 %",
    "ticket",
    "random_reinit",
    (0.09,),
  ),
)


def findings(
  trials: Sequence[trials_lib.Trial],
  tolerance: float = 0.005,
  claims: Sequence[Claim] = LENET,
) -> list[Finding]:
  """Each claim beside what the experiment shows, by one-sided Welch tests.

  A claim *holds* when the test is for it at 5 %, and *does not hold* when the
  test of its contrary is. Claims about values are tested at the early stop and
  at the end of training. Left out is a claim for which a method was not
  trained at a Level whose density is within 25 % of the claim's, or of the
  lower end of its range.

  Args:
    trials: of one experiment.
    tolerance: what counts as as good, in units of the metric.
    claims: which; `LENET` or `CONV`, for the paper's sections 2 and 3.

  Reference: Frankle and Carbin, arXiv 1803.03635, figures 3, 4 and 5.
  """
  verdicts.check_tolerance(tolerance)
  rows = []
  for claim in claims:
    if claim.sooner:
      measures = [summaries.STEP]
    else:
      measures = [
        summaries.measure_at(when, trials)
        for when in (summaries.EARLY, summaries.END)
      ]
    for measure in measures:
      at_levels = [
        _at_level(trials, claim, tolerance, measure, *level)
        for level in _levels(trials, claim)
      ]
      at_levels = [finding for finding in at_levels if finding]
      if at_levels:
        rows.append(_decisive(at_levels))
  return rows


def _levels(
  trials: Sequence[trials_lib.Trial], claim: Claim
) -> list[tuple[int, float]]:
  """The Levels and densities at which to test a claim."""
  densities = summaries.level_densities(trials)
  trained = {(t.method, t.level) for t in trials if t.done}
  levels = [
    (level, density)
    for level, density in densities.items()
    if all(
      (method, level if method != "dense" else 0) in trained
      for method in (claim.first, claim.second)
    )
    and level
  ]
  if len(claim.densities) == 2:
    high, low = claim.densities
    within = [(level, d) for level, d in levels if high >= d >= low * 0.995]
    reached = min((d for _, d in within), default=1.0) <= low * 1.25
    return within if reached else []
  (near,) = claim.densities
  levels.sort(key=lambda level: abs(math.log(level[1] / near)))
  return [(level, d) for level, d in levels[:1] if abs(d / near - 1) <= 0.25]


def _at_level(
  trials: Sequence[trials_lib.Trial],
  claim: Claim,
  tolerance: float,
  measure: str,
  level: int,
  density: float,
) -> Finding | None:
  first, second = (
    np.asarray(
      summaries.replicate_values(
        trials, method, 0 if method == "dense" else level, measure
      )
    )
    for method in (claim.first, claim.second)
  )
  if not len(first) or not len(second):
    return None
  sign = -1 if claim.sooner else verdicts.direction(trials)
  margin = tolerance if claim.as_good else 0.0
  p = verdicts.welch(sign * first, sign * second, -margin)
  p_against = verdicts.welch(sign * second, sign * first, margin)
  n = min(len(first), len(second))
  word, reason = _word(p, p_against)
  return Finding(
    claim,
    measure,
    level,
    density,
    word,
    reason,
    float(first.mean()),
    float(second.mean()),
    p,
    p_against,
    n,
  )


def _word(p: float | None, p_against: float | None) -> tuple[str, str]:
  if p is None:
    return "cannot tell", "too few replicates, or none that vary"
  if p < verdicts.SIGNIFICANCE:
    return "holds", ""
  if p_against < verdicts.SIGNIFICANCE:
    return "does not hold", ""
  return "cannot tell", "replicates vary too much, or are too few"


def _decisive(at_levels: Sequence[Finding]) -> Finding:
  """Of a range: the Level that is most against the claim, then least for it."""
  order = {"does not hold": 0, "cannot tell": 1, "holds": 2}
  return min(
    at_levels,
    key=lambda finding: (
      order[finding.word],
      -(finding.p or 0),
      -finding.level,
    ),
  )
