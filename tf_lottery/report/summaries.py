"""Summaries: the mean and range of each method at each Level.

All functions take the trials of one experiment. Only finished trainings count.
Each replicate counts once: the draws of a control are first averaged within
their replicate.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from tf_lottery.report import records

STEP = "early_stop_step"
EARLY = "early"
END = "end"


@dataclasses.dataclass(frozen=True)
class Summary:
  """The values of one method at one Level.

  Attributes:
    method: `"dense"`, `"ticket"`, or the name of a control.
    level: The Level.
    density: The mean density of this Level's tickets; the method's own if there
      is no ticket.
    measure: The field of `Trial` that is summarised.
    mean: The mean over replicates of the mean over each replicate's draws.
    low: The minimum over all replicates and draws.
    high: The maximum over all replicates and draws.
    n: The number of replicates.
    draws: The number of trainings, each draw of each replicate counted.
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


def measure_at(when: str, trials: Sequence[records.Trial]) -> str:
  """Returns the field of `Trial` to compare at one moment of the training.

  That is the test value if any trial has one, else the validation value.

  Args:
    when: `"early"` for the early stop, `"end"` for the end of training.
    trials: The trials of one experiment.

  Raises:
    ValueError: `when` is neither of them.
  """
  if when not in (EARLY, END):
    raise ValueError(f"when must be 'early' or 'end', got {when!r}.")
  tested = any(getattr(trial, f"test_{when}") is not None for trial in trials)
  return f"{'test' if tested else 'val'}_{when}"


def summarise(trials: Sequence[records.Trial], measure: str) -> list[Summary]:
  """Returns one row for each method and Level, sorted by Level.

  At each Level the ticket comes before its controls.

  Args:
    trials: The trials of one experiment.
    measure: A field of `Trial`, such as `"test_early"`; see `measure_at`.
  """
  densities = level_densities(trials)
  groups = collections.defaultdict(list)
  for trial in trials:
    if trial.done and getattr(trial, measure) is not None:
      groups[trial.level, _rank(trial.method), trial.method].append(trial)
  rows = []
  for (level, _, method), group in sorted(groups.items()):
    own = _mean([t.density for t in group if t.density is not None])
    density = densities.get(level, own)
    if density is None or density <= 0:
      continue
    values = [getattr(trial, measure) for trial in group]
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
  trials: Sequence[records.Trial], method: str, level: int, measure: str
) -> list[float]:
  """Returns one value for each replicate: the mean over its draws."""
  draws = collections.defaultdict(list)
  for trial in trials:
    value = getattr(trial, measure)
    ours = (trial.method, trial.level) == (method, level)
    if ours and trial.done and value is not None:
      draws[trial.replicate].append(value)
  return [float(np.mean(values)) for _, values in sorted(draws.items())]


def level_densities(trials: Sequence[records.Trial]) -> dict[int, float]:
  """Returns the mean density of the dense network or the tickets, by Level."""
  found = collections.defaultdict(list)
  for trial in trials:
    if trial.method in ("dense", "ticket") and trial.density is not None:
      found[trial.level].append(trial.density)
  return {
    level: float(np.mean(values))
    for level, values in sorted(found.items())
    if min(values) > 0
  }


def _mean(values: Sequence[float]) -> float | None:
  return float(np.mean(values)) if len(values) else None


def _rank(method: str) -> int:
  return {"dense": 0, "ticket": 1}.get(method, 2)
