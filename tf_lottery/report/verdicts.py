"""Verdicts: which tickets win, by tests over the replicates."""

import collections
import dataclasses
import types
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from tf_lottery.objective import default_tolerance
from tf_lottery.report import sequences
from tf_lottery.report import summaries
from tf_lottery.report.comparisons import Comparison
from tf_lottery.report.records import RoundRecord
from tf_lottery.report.sequences import LevelTests
from tf_lottery.report.sequences import Outcome

# The probability that anything is shown wrongly, over all Levels.
SIGNIFICANCE = 0.05
# That of a sequence of tests that has all of it, and of one that has half.
ONE_LOOK = (SIGNIFICANCE, SIGNIFICANCE / 2)
# The words that are shown by tests which share the significance.
SHOWN = ("matching", "winning")
NOT_DECLARED = "not tested: the experiment declares other Levels"


@dataclasses.dataclass(frozen=True)
class Verdict:
  """The outcome of the tests of one Level's tickets.

  A difference is one between means, in units of the metric: over the replicates
  that have both methods, if there are two or more. A p value is None where
  there is no test; see `comparisons.Comparison`.

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
    test: The test of ticket and dense network: `"paired t"`, `"sign"` or
      `"Welch"`; empty if there is none.
    pairs: The number of replicates that have both ticket and dense network.
    reinit_test: The test of ticket and random reinits.
    reinit_pairs: The number of replicates that have both ticket and reinits.
    significance: `p_matching` must be below it for the ticket to match.
    reinit_significance: `p_reinit` must be below it for the ticket to win.
    tolerance: How much worse than the dense network a ticket may be and still
      match it, in units of the metric.
    needed: How many replicates are likely to show what these do not: that the
      ticket matches, or, if it does, that it wins. 51 stands for more than 50.
      None if more replicates are not likely to show it, or if nothing is known
      of how the values vary.
    to_test: Whether the Level is one of those to test. If not, there is no
      test, and one cannot tell.
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
  test: str
  pairs: int
  reinit_test: str
  reinit_pairs: int
  significance: float
  reinit_significance: float
  tolerance: float
  needed: int | None
  to_test: bool = True


def verdicts(
  rounds: Sequence[RoundRecord],
  tolerance: float | None = None,
  when: str = summaries.HEADLINE,
  levels: Collection[int] | None = None,
  significances: tuple[float, float] = ONE_LOOK,
  shown: Mapping[int, str] = types.MappingProxyType({}),
  diverged: Mapping[int, int] = types.MappingProxyType({}),
) -> list[Verdict]:
  """Returns one verdict for each Level that has tickets.

  A ticket is

  - *matching* if it is shown to be worse than the dense network by no more than
    the tolerance, and each larger ticket as well,
  - *winning* if it is matching, and shown to be better than its random reinits,
  - *below* if it is shown to be worse by more than the tolerance.

  Otherwise one *cannot tell*.

  All that is said to match and to win holds as a whole at a significance of
  5 %: the probability that any of these words is wrong is at most that. There
  are two sequences of tests, and each stops at its first test that fails:

  1. The tickets match: from the largest ticket to the smallest.
  2. The tickets are better than their random reinits: from the smallest ticket
     that is shown to match to the largest. Levels without reinits are left
     out. It begins with the smallest because initial weights matter most there.

  Each sequence has half of the 5 %. The first gives its half to the second if
  all tickets match; the second gives its half to the first if all tickets that
  have reinits, also those that do not match, are better than them. If there are
  no reinits, the first has all of it. It also stops at a ticket that diverged,
  or finished without a finite value, since that was not left out by chance.
  Where the second sequence begins depends on the first;
  `scripts/simulate_verdicts.py` counts how often a word is wrong all the same,
  see docs/results/verdicts.md in the repository.

  *Below* is a warning, not a claim: each Level is tested by itself at 5 %.

  Where there are many Levels, the first sequence is likely to stop early. If
  some were chosen before any result was known, these alone can be tested: then
  both sequences go through them only, and of all others one cannot tell.

  All this is so if the number of replicates was fixed before. If some are
  added until a word appears, each look at the data has a share of the 5 %; see
  `spending`. A word that a look has shown stays: its tests count as passed at
  all later looks, whatever the p values are by then.

  Tests are paired, as replicates have the seed in common; see
  `comparisons.Comparison`.

  Args:
    rounds: The Rounds of one experiment.
    tolerance: How much worse than the dense network a ticket may be and still
      match it, in units of the metric. At least 0. Defaults to `None`: see
      `tolerance_of`.
    when: `"early"` compares values at the early stop, `"end"` at the end of
      training. Defaults to `"end"`.
    levels: The Levels to test, chosen before any result was known. Defaults to
      `None`: all of them.
    significances: Of a sequence that has all of the 5 %, and of one that has
      half of it. Defaults to `(0.05, 0.025)`: the only look has all.
    shown: Level -> the word that an earlier look has shown. Defaults to `{}`.
    diverged: Level -> the number of replicates whose ticket diverged, beside
      the Rounds. Defaults to `{}`.

  Raises:
    ValueError: The tolerance is negative, or the Rounds do not tell whether
      more of the metric is better.

  Reference: Frankle and Carbin, arXiv 1803.03635, section 1.
  """
  measure = summaries.measure_at(when, rounds)
  margin = tolerance_of(rounds, tolerance, measure)
  sign = direction(rounds)
  found = _levels(rounds, measure, sign, margin, diverged)
  tested = [at for at in found if levels is None or at.level in levels]
  outcome = sequences.outcome(tested, significances, shown)
  every = [_verdict(at, outcome, measure, sign, margin) for at in found]
  return [
    v if levels is None or v.level in levels else untested(v) for v in every
  ]


def tolerance_of(
  rounds: Sequence[RoundRecord], tolerance: float | None, measure: str
) -> float:
  """Returns the tolerance, or the default one for the values of a measure.

  The default is `objective.default_tolerance` of the mean of the dense network
  over replicates, at the end and before training.

  Args:
    rounds: The Rounds of one experiment.
    tolerance: In units of the metric, or None for the default.
    measure: The field of `RoundRecord` that is compared.

  Raises:
    ValueError: The tolerance is negative.
  """
  check_tolerance(tolerance)
  if tolerance is not None:
    return tolerance
  start = f"{measure.split('_')[0]}_start"
  dense = [
    (getattr(r, measure), getattr(r, start, None))
    for r in rounds
    if r.method == "dense" and r.done and getattr(r, measure) is not None
  ]
  both = [(value, before) for value, before in dense if before is not None]
  if both:
    return default_tolerance(*map(float, np.mean(both, axis=0)))
  if not dense:
    return 0.0
  return default_tolerance(float(np.mean([value for value, _ in dense])))


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


def check_tolerance(tolerance: float | None) -> None:
  """Raises a `ValueError` if a tolerance is negative or not a number."""
  if tolerance is not None and not tolerance >= 0:
    raise ValueError(
      f"tolerance must be at least 0, got {tolerance}. It is in units of the"
      " metric: 0.005 is half a point of accuracy."
    )


def _levels(
  rounds: Sequence[RoundRecord],
  measure: str,
  sign: int,
  margin: float,
  diverged: Mapping[int, int],
) -> list[LevelTests]:
  """Compares the tickets of each Level, in the order of falling density."""
  values = {
    key: {replicate: sign * value for replicate, value in found.items()}
    for key, found in summaries.values_by_replicate(rounds, measure).items()
  }
  dense = values.get(("dense", 0), {})
  lost_tickets = collections.Counter(
    r.level for r in rounds if r.method == "ticket" and _is_lost(r)
  )
  found = []
  for level, density in summaries.level_densities(rounds).items():
    ticket = values.get(("ticket", level), {})
    reinit = values.get(("random_reinit", level), {})
    lost = lost_tickets[level] + diverged.get(level, 0)
    if not ticket and not lost:
      continue
    with_dense = Comparison.of(ticket, dense)
    with_reinit = Comparison.of(ticket, reinit)
    found.append(
      LevelTests(
        level,
        density,
        with_dense,
        with_reinit,
        (len(ticket), len(dense), len(reinit)),
        lost,
        with_dense.p_greater(-margin),
        with_dense.p_less(-margin),
        with_reinit.p_greater(),
      )
    )
  return sorted(found, key=lambda at: (-at.density, at.level))


def _is_lost(round_: RoundRecord) -> bool:
  """Whether a Round is finished, is whole, and has no finite value."""
  return round_.done and round_.val_end is None and not round_.damage


def _verdict(
  at: LevelTests, outcome: Outcome, measure: str, sign: int, margin: float
) -> Verdict:
  word, reason = _word(at, outcome)
  needed = None
  if word == "matching":
    needed = at.reinit.needed(0.0, outcome.reinit_significance)
  elif word == "cannot tell" and not at.lost:
    needed = at.dense.needed(-margin, outcome.significance)
  return Verdict(
    at.level,
    at.density,
    measure,
    word,
    reason,
    _signed(sign, at.dense.difference),
    at.p_matching,
    at.p_below,
    _signed(sign, at.reinit.difference),
    at.p_reinit,
    *at.n,
    at.dense.test,
    at.dense.n if at.dense.paired else 0,
    at.reinit.test,
    at.reinit.n if at.reinit.paired else 0,
    outcome.significance,
    outcome.reinit_significance,
    margin,
    needed,
  )


def untested(verdict: Verdict, reason: str = NOT_DECLARED) -> Verdict:
  """Keeps the differences of a verdict, and takes back its tests."""
  return dataclasses.replace(
    verdict,
    word="cannot tell",
    reason=reason,
    p_matching=None,
    p_below=None,
    p_reinit=None,
    test="",
    pairs=0,
    reinit_test="",
    reinit_pairs=0,
    needed=None,
    to_test=False,
  )


def _signed(sign: int, difference: float | None) -> float | None:
  return None if difference is None else sign * difference


def _word(at: LevelTests, outcome: Outcome) -> tuple[str, str]:
  """Returns the word for one Level, and the reason for it."""
  if at.level in outcome.matching:
    return _word_of_matching(at, outcome)
  if at.lost:
    tickets = "1 ticket has" if at.lost == 1 else f"{at.lost} tickets have"
    return "cannot tell", f"{tickets} no finite value"
  if at.p_below is not None and at.p_below < outcome.below_significance:
    return "below", "below dense by more than the tolerance"
  if at.p_matching is None:
    few = min(at.n[:2])
    if few > 1:
      return "cannot tell", "the replicates do not vary"
    count = f"{few} replicate{'s' * (few != 1)}"
    return "cannot tell", f"{count} so far; a test needs at least 2"
  if at.level != outcome.stopped:
    return "cannot tell", "not tested: a larger ticket is not shown to match"
  return "cannot tell", "replicates vary too much, or are too few"


def _word_of_matching(at: LevelTests, outcome: Outcome) -> tuple[str, str]:
  if outcome.shown.get(at.level) == "winning":
    return "winning", "better than its reinits, as an earlier look showed"
  if not at.n[2]:
    return "matching", "no random reinit was trained"
  if at.p_reinit is None:
    return "matching", "its random reinits are too few, or do not vary"
  if at.level in outcome.better:
    return "winning", "as good as dense, better than its reinits"
  if at.p_reinit < outcome.reinit_significance:
    return "matching", "a smaller ticket is not shown to be better than reinits"
  return "matching", "not shown to be better than its reinits"
