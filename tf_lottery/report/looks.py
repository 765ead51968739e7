"""Looks: verdicts on replicates that are trained and judged in turns.

A look judges the replicates that are trained so far. The verdicts are settled
if more replicates are unlikely to show more, so that no further look is taken.
"""

import collections
import dataclasses
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from tf_lottery.report.records import RoundRecord
from tf_lottery.report.run_folders import Run
from tf_lottery.report.verdicts import SHOWN
from tf_lottery.report.verdicts import Verdict

# Judges a number of replicates, by the significances of a look, and with the
# words that looks before have shown by Level; see `verdicts.verdicts`.
Judge = Callable[[int, tuple[float, float], Mapping[int, str]], list[Verdict]]


def verdicts_at(
  looks: Iterable[tuple[int, tuple[float, float]]],
  judge: Judge,
  recorded: Sequence[Mapping[int, str]] = (),
) -> Iterator[list[Verdict]]:
  """Yields the verdicts at each look.

  A look may reject what it tests by its own significance alone, and what it has
  shown stays shown: later looks count it as a test that is passed. So about 5 %
  hold for all words together, whichever look says them. It is not exactly 5 %,
  because the second sequence of tests begins at the smallest ticket that is
  shown to match, which may change from look to look.

  What a look has shown depends on nothing that was trained since: a look whose
  words are recorded shows these words, and no others.

  Args:
    looks: The number of replicates and the significances of each look; see
      `spending.significances`.
    judge: Returns the verdicts on the first replicates.
    recorded: Level -> word, for each look whose words were written down when it
      was taken. Defaults to `()`: all looks are judged now.
  """
  shown: dict[int, str] = {}
  for at, (number, significances) in enumerate(looks):
    found = judge(number, significances, shown)
    if at < len(recorded):
      found = [_as_recorded(v, recorded[at].get(v.level)) for v in found]
    shown = words(found)
    yield found


def words(found: Iterable[Verdict]) -> dict[int, str]:
  """Returns Level -> the word that verdicts show, where they show one."""
  return {v.level: v.word for v in found if v.word in SHOWN}


def _as_recorded(verdict: Verdict, word: str | None) -> Verdict:
  """Gives a verdict the word that its look has shown when it was taken.

  Args:
    verdict: The verdict, judged now.
    word: The word; None if the look has shown none.
  """
  if word == (verdict.word if verdict.word in SHOWN else None):
    return verdict
  if word is None:
    return dataclasses.replace(
      verdict, word="cannot tell", reason="not shown when the look was taken"
    )
  return dataclasses.replace(
    verdict, word=word, reason="shown when the look was taken", to_test=True
  )


def diverged_tickets(
  runs: Sequence[Run], rounds: Iterable[RoundRecord]
) -> dict[int, int]:
  """Counts the tickets that diverged in a replicate, by Level.

  A search stops at the first training that diverges, so it is the first Level
  that a replicate has not finished. If that is the dense network, the replicate
  has no ticket that could count.

  Args:
    runs: The replicates of an experiment that trains all Levels.
    rounds: Their Rounds.
  """
  done = {
    (r.replicate, r.level)
    for r in rounds
    if r.done and r.method in ("dense", "ticket")
  }
  found: collections.Counter[int] = collections.Counter()
  for run in runs:
    if run.looks and run.replicate in run.looks.get("diverged", ()):
      levels = range(1 + len(run.declaration.get("schedule") or ()))
      open_ = (n for n in levels if (run.replicate, n) not in done)
      if first := next(open_, 0):
        found[first] += 1
  return dict(found)


def is_settled(found: Sequence[Verdict], levels: Collection[int]) -> bool:
  """Whether more replicates are unlikely to show that a smaller ticket wins.

  The question is about the smallest ticket that may match, of those that have
  controls. A test that was not passed is open as long as the mean over the
  replicates is on the side that the test should show. The verdicts are settled
  if

  - the tests from the largest ticket down have passed the smallest ticket that
    may match, or have stopped at a Level whose test is not open, and
  - the smallest ticket that is shown to match, of those that have random
    reinits, is shown to win, or its test is not open.

  Larger tickets that do not win are not waited for. To stop can only lose
  words, never add a wrong one. What it loses, and what it saves, is counted in
  docs/results/sequential.md in the repository.

  Args:
    found: The verdicts at a look.
    levels: The Levels that have controls; if there are none, all count.
  """
  hopeful = [
    v.level
    for v in found
    if v.to_test
    and (not levels or v.level in levels)
    and (v.word in SHOWN or _is_open(v, v.p_matching))
  ]
  smallest = max(hopeful, default=0)
  judged = [v for v in found if v.to_test and v.level <= smallest]
  stopped = next((v for v in judged if v.word not in SHOWN), None)
  if stopped and _is_open(stopped, stopped.p_matching):
    return False
  for v in reversed(judged):
    if v.word in SHOWN and v.n_reinit:
      return v.word == "winning" or not _is_open(v, v.p_reinit)
  return True


def _is_open(verdict: Verdict, p: float | None) -> bool:
  """Whether more replicates may pass a test that a Level did not pass."""
  if verdict.word == "below":
    return False
  return p is None or verdict.needed is not None
