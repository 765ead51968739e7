"""Summaries: the mean and range of each method at each Level.

All functions take the Rounds of one experiment. Only finished ones count.
Each replicate counts once: the draws of a control are first averaged within
their replicate.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from tf_lottery.report.records import RoundRecord
from tf_lottery.search.rounds import EARLY
from tf_lottery.search.rounds import END

STEP = "early_stop_step"
# The moment that headline, verdicts and the main figure are about: the weights
# at the end of training are those that are chosen, exported and taken.
HEADLINE = END
MOMENTS = (HEADLINE, EARLY)


@dataclasses.dataclass(frozen=True)
class Summary:
  """The values of one method at one Level.

  Attributes:
    method: `"dense"`, `"ticket"`, or the name of a control.
    level: The Level.
    density: The mean density of this Level's tickets; the method's own if there
      is no ticket.
    measure: The field of `RoundRecord` that is summarised.
    mean: The mean over replicates of the mean over each replicate's draws.
    low: The minimum over all replicates and draws.
    high: The maximum over all replicates and draws.
    n: The number of replicates.
    draws: The number of Rounds, each draw of each replicate counted.
  """

  method: str
  level: int
  density: float
  measure: str
  mean: float
  low: float
  high: float
  n: int
  draws: int


def measure_at(when: str, rounds: Sequence[RoundRecord]) -> str:
  """Returns the field of `RoundRecord` to compare at one moment.

  That is the test value if any Round has one, else the validation value.

  Args:
    when: `"early"` for the early stop, `"end"` for the end of training.
    rounds: The Rounds of one experiment.

  Raises:
    ValueError: `when` is neither of them.
  """
  if when not in MOMENTS:
    raise ValueError(f"when must be 'early' or 'end', got {when!r}.")
  tested = any(getattr(round_, f"test_{when}") is not None for round_ in rounds)
  return f"{'test' if tested else 'val'}_{when}"


def summarise(rounds: Sequence[RoundRecord], measure: str) -> list[Summary]:
  """Returns one row for each method and Level, sorted by Level.

  At each Level the ticket comes before its controls.

  Args:
    rounds: The Rounds of one experiment.
    measure: A field of `RoundRecord`, such as `"test_early"`; see `measure_at`.
  """
  densities = level_densities(rounds)
  groups = collections.defaultdict(list)
  for round_ in rounds:
    if round_.done and getattr(round_, measure) is not None:
      is_control = round_.method not in ("dense", "ticket")
      groups[round_.level, is_control, round_.method].append(round_)
  rows = []
  for (level, _, method), group in sorted(groups.items()):
    own = [r.density for r in group if r.density is not None]
    density = densities.get(level, float(np.mean(own)) if own else 0.0)
    if density <= 0:
      continue
    values = [getattr(round_, measure) for round_ in group]
    means = replicate_values(group, method, level, measure)
    rows.append(
      Summary(
        method,
        level,
        density,
        measure,
        float(np.mean(means)),
        min(values),
        max(values),
        len(means),
        len(values),
      )
    )
  return rows


def replicate_values(
  rounds: Sequence[RoundRecord], method: str, level: int, measure: str
) -> list[float]:
  """Returns one value for each replicate: the mean over its draws."""
  found = values_by_replicate(rounds, measure).get((method, level), {})
  return list(found.values())


def values_by_replicate(
  rounds: Sequence[RoundRecord], measure: str
) -> dict[tuple[str, int], dict[int, float]]:
  """Returns (method, Level) -> replicate -> the mean over its draws."""
  draws: dict[tuple[str, int], dict[int, list[float]]] = {}
  for round_ in sorted(rounds, key=lambda round_: round_.replicate):
    value = getattr(round_, measure)
    if round_.done and value is not None:
      ours = draws.setdefault((round_.method, round_.level), {})
      ours.setdefault(round_.replicate, []).append(value)
  return {
    key: {number: float(np.mean(values)) for number, values in ours.items()}
    for key, ours in draws.items()
  }


def level_densities(rounds: Sequence[RoundRecord]) -> dict[int, float]:
  """Returns the mean density of the dense network or the tickets, by Level."""
  found = collections.defaultdict(list)
  for round_ in rounds:
    if round_.method in ("dense", "ticket") and round_.density is not None:
      found[round_.level].append(round_.density)
  return {
    level: float(np.mean(values))
    for level, values in sorted(found.items())
    if min(values) > 0
  }
