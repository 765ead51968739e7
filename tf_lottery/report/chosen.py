"""Which Levels replicates have trained, where each chooses for itself."""

import itertools
from collections.abc import Sequence

from tf_lottery.report.evidence import Evidence


def sentences(evidence: Evidence) -> str:
  """Says which Levels were trained, which were stopped, and which were not.

  It is empty if all Levels are to be trained.
  """
  if evidence.trains_all or not evidence.replicates:
    return ""
  number = evidence.replicates
  every = [n for n, found in evidence.finished.items() if found >= number]
  some = [n for n, found in evidence.finished.items() if 0 < found < number]
  stopped = sorted({r.level for r in evidence.rounds if r.stopped})
  none = [
    n
    for n, found in evidence.finished.items()
    if not found and n not in stopped
  ]
  parts = [
    f"Each replicate trained the Levels that its search chose, of"
    f" {len(evidence.finished)}."
  ]
  if every:
    in_all = f"all {number} replicates" if number > 1 else "the one replicate"
    parts.append(f"{_levels(every)} trained to the end in {in_all}.")
  if some:
    counts = ", ".join(f"{n} ({evidence.finished[n]})" for n in some)
    parts.append(
      f"Some of the {number} replicates trained Level{'s' * (len(some) > 1)}"
      f" {counts}; Levels that not all have trained are not tested, because who"
      " trained them depends on how they did."
    )
  if stopped:
    parts.append(
      f"{_levels(stopped)} stopped early in some replicates: the values at the"
      " stop are in no mean, and the cost is counted."
    )
  if none:
    parts.append(f"{_levels(none)} not trained.")
  if some or stopped or none:
    parts.append(
      "How tickets do at the densities between those that were tested is"
      " unknown."
    )
  return " ".join(parts)


def _levels(numbers: Sequence[int]) -> str:
  """Writes `"Level 3 was"`, or `"Levels 1 to 3 and 5 were"`."""
  if len(numbers) == 1:
    return f"Level {numbers[0]} was"
  texts: list[str] = []
  for _, group in itertools.groupby(
    enumerate(numbers), lambda pair: pair[1] - pair[0]
  ):
    run = [number for _, number in group]
    texts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
  *others, last = texts
  listed = f"{', '.join(others)} and {last}" if others else last
  return f"Levels {listed} were"
