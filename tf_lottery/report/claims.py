"""Claims about tickets and their controls, and the test of them."""

import dataclasses
import math
from collections.abc import Sequence

from tf_lottery.report import summaries
from tf_lottery.report import verdicts
from tf_lottery.report.comparisons import Comparison
from tf_lottery.report.records import RoundRecord


@dataclasses.dataclass(frozen=True)
class Claim:
  """The claim that one method is better than another at some densities.

  Attributes:
    sentence: The claim in words.
    first: The method that is said to be better: `"dense"`, `"ticket"`, or the
      name of a control.
    second: The method that it is compared with.
    densities: Either one density, for which the nearest Level is tested; or
      the highest and the lowest density of a range, in which the claim must
      hold at every Level.
    sooner: Whether better means that the validation loss is at its minimum
      after fewer steps. Defaults to `False`: better values of the metric.
    as_good: Whether the claim also holds where `first` is worse by less than
      the tolerance. Defaults to `False`.
    source: The paper that makes the claim.
  """

  sentence: str
  first: str
  second: str
  densities: tuple[float, ...]
  sooner: bool = False
  as_good: bool = False
  source: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
  """The outcome of the test of a claim.

  Attributes:
    claim: The claim.
    measure: The field of `RoundRecord` that was compared.
    level: The Level that was tested; for a range, the Level that decided.
    density: The mean density of that Level's tickets.
    word: `"holds"`, `"does not hold"` or `"cannot tell"`.
    reason: Why one cannot tell, in words; empty for the other two.
    first: The mean of the first method.
    second: The mean of the second method.
    p: The p value of a one-sided test. If it is small, the claim holds.
    p_against: The p value of the opposite test. If it is small, the claim does
      not hold.
    n: The number of pairs; without pairs, of replicates of the method that has
      fewer of them.
    test: The test: `"paired t"`, `"sign"` or `"Welch"`; empty if there is none.
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
  test: str


def findings(
  rounds: Sequence[RoundRecord],
  claims: Sequence[Claim],
  tolerance: float | None = None,
) -> list[Finding]:
  """Tests claims on the Rounds of an experiment, each by itself.

  The tests are one-sided, and paired where replicates have both methods; see
  `comparisons.Comparison`.

  A claim *holds* if the test rejects its opposite at a significance of 5 %, and
  *does not hold* if the test rejects the claim itself. Claims about values are
  tested twice: at the end of training and at the early stop.

  A claim is left out if one of its methods was not trained at any Level whose
  density is within 25 % of the claim's density, or of the lower end of its
  range.

  Args:
    rounds: The Rounds of one experiment.
    claims: The claims to test.
    tolerance: By how much a value may be worse and still count as as good, in
      units of the metric. Defaults to `None`: see `verdicts.tolerance_of`.

  Returns:
    One finding for each claim and measure that could be tested.

  Raises:
    ValueError: The tolerance is negative, or the Rounds do not tell whether
      more of the metric is better.
  """
  verdicts.check_tolerance(tolerance)
  rows = []
  for claim in claims:
    for measure in _measures(rounds, claim):
      tested = [
        _at_level(rounds, claim, tolerance, measure, level, density)
        for level, density in _levels(rounds, claim)
      ]
      if found := [finding for finding in tested if finding]:
        rows.append(_decisive(found))
  return rows


def _measures(rounds: Sequence[RoundRecord], claim: Claim) -> list[str]:
  """Returns the fields of `RoundRecord` that a claim is about."""
  if claim.sooner:
    return [summaries.STEP]
  return [summaries.measure_at(when, rounds) for when in summaries.MOMENTS]


def _levels(
  rounds: Sequence[RoundRecord], claim: Claim
) -> list[tuple[int, float]]:
  """Returns the Levels at which to test a claim, with their densities."""
  densities = summaries.level_densities(rounds)
  trained = {(r.method, r.level) for r in rounds if r.done}
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
  rounds: Sequence[RoundRecord],
  claim: Claim,
  tolerance: float | None,
  measure: str,
  level: int,
  density: float,
) -> Finding | None:
  """Tests a claim at one Level; None if a method has no values there."""
  sign = -1 if claim.sooner else verdicts.direction(rounds)
  values = summaries.values_by_replicate(rounds, measure)
  first, second = (
    {
      replicate: sign * value
      for replicate, value in values.get(
        (method, 0 if method == "dense" else level), {}
      ).items()
    }
    for method in (claim.first, claim.second)
  )
  if not first or not second:
    return None
  margin = 0.0
  if claim.as_good:
    margin = verdicts.tolerance_of(rounds, tolerance, measure)
  compared = Comparison.of(first, second)
  p, p_against = compared.p_greater(-margin), compared.p_less(-margin)
  word, reason = _word(p, p_against)
  return Finding(
    claim,
    measure,
    level,
    density,
    word,
    reason,
    sign * float(compared.first.mean()),
    sign * float(compared.second.mean()),
    p,
    p_against,
    compared.n,
    compared.test,
  )


def _word(p: float | None, p_against: float | None) -> tuple[str, str]:
  """Returns the word for two p values, and the reason if one cannot tell."""
  if p is None or p_against is None:
    return "cannot tell", "too few replicates, or none that vary"
  if p < verdicts.SIGNIFICANCE:
    return "holds", ""
  if p_against < verdicts.SIGNIFICANCE:
    return "does not hold", ""
  return "cannot tell", "replicates vary too much, or are too few"


def _decisive(at_levels: Sequence[Finding]) -> Finding:
  """Returns the finding with the strongest evidence against a claim.

  If no Level contradicts the claim, the one with the weakest evidence for it.
  """
  order = {"does not hold": 0, "cannot tell": 1, "holds": 2}
  return min(
    at_levels,
    key=lambda finding: (
      order[finding.word],
      -(finding.p or 0),
      -finding.level,
    ),
  )
