"""The two sequences of tests that verdicts come from.

The first goes from the largest ticket to the smallest: each matches the dense
network. The second goes from the smallest ticket that matches to the largest:
each is better than its random reinits. A sequence stops at its first test that
fails, and each may give its half of the significance to the other.
"""

import dataclasses
import itertools
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from tf_lottery.report.comparisons import Comparison


@dataclasses.dataclass(frozen=True)
class LevelTests:
  """The tests of one Level's tickets, whose better values are higher.

  Attributes:
    level: The Level.
    density: The mean density of its tickets.
    dense: The tickets and the dense network.
    reinit: The tickets and their random reinits.
    n: The numbers of replicates of ticket, dense network and reinits.
    lost: The number of tickets that diverged, or finished without a finite
      value.
    p_matching: See `verdicts.Verdict`, as for the other p values.
    p_below: None if there is no test.
    p_reinit: None if there is no test.
  """

  level: int
  density: float
  dense: Comparison
  reinit: Comparison
  n: tuple[int, int, int]
  lost: int
  p_matching: float | None
  p_below: float | None
  p_reinit: float | None


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What the two sequences of tests have shown.

  Attributes:
    matching: The Levels whose tickets match.
    better: The Levels whose tickets match and are better than their reinits.
    stopped: The Level where the first sequence stopped; None if it did not.
    significance: That of the first sequence.
    reinit_significance: That of the second sequence.
    below_significance: That of the tests which show that a ticket is below.
    shown: Level -> the word that an earlier look has shown.
  """

  matching: Collection[int]
  better: Collection[int]
  stopped: int | None
  significance: float
  reinit_significance: float
  below_significance: float
  shown: Mapping[int, str]


def outcome(
  levels: Sequence[LevelTests],
  significances: tuple[float, float],
  shown: Mapping[int, str],
) -> Outcome:
  """Goes through the two sequences of tests, which share the significance.

  Args:
    levels: The Levels to test, in the order of falling density.
    significances: Of a sequence that has all of it, and of one that has half.
    shown: Level -> the word that an earlier look has shown.
  """
  full, half = significances
  won = {level for level, word in shown.items() if word == "winning"}

  def p_reinit(at: LevelTests) -> float | None:
    return 0.0 if at.level in won else at.p_reinit

  def p_matching(at: LevelTests) -> float | None:
    if at.level in shown:
      return 0.0
    return None if at.lost else at.p_matching

  # Reinits that are still too few to be tested are no test that failed.
  with_reinits = [at for at in reversed(levels) if p_reinit(at) is not None]
  all_better = _passed(map(p_reinit, with_reinits), half)
  first = full if all_better == len(with_reinits) else half
  passed = _passed(map(p_matching, levels), first)
  second = full if passed == len(levels) else half
  matching = {at.level for at in levels[:passed]} | shown.keys()
  compared = [at for at in with_reinits if at.level in matching]
  better = _passed(map(p_reinit, compared), second)
  return Outcome(
    matching,
    {at.level for at in compared[:better]} | won,
    levels[passed].level if passed < len(levels) else None,
    first,
    second,
    full,
    shown,
  )


def _passed(p_values: Iterable[float | None], significance: float) -> int:
  """Counts the tests that are passed before the first that fails."""
  return sum(
    1
    for _ in itertools.takewhile(
      lambda p: p is not None and p < significance, p_values
    )
  )
