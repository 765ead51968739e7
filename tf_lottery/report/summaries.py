"""Summaries: what each method of an experiment reached at each Level.

All functions take the trials of one experiment. Only trainings that were
trained to their end count, and a replicate counts once: several draws of a
control are averaged within it first.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from tf_lottery import trials as trials_lib

STEP = "early_stop_step"
EARLY = "early"
END = "end"


@dataclasses.dataclass(frozen=True)
class Summary:
  """What one method reached at one Level.

  Attributes:
    method: `"dense"`, `"ticket"`, or the name of a control.
    level: which Level.
    density: of the tickets of this Level, or of the method if there is none.
    measure: the field of `Trial` that is summarised.
    mean: over replicates, after the mean over draws in each.
    low: the minimum over all replicates and draws.
    high: the maximum over all replicates and draws.
    n: how many replicates.
    draws: how many trainings, draws included.
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


def measure_at(when: str, trials: Sequence[trials_lib.Trial]) -> str:
  """The field to compare: of test data, or of validation where none is.

  Args:
    when: `"early"`, at the early stop, or `"end"`, at the end of training.
    trials: of one experiment.
  """
  if when not in (EARLY, END):
    raise ValueError(f"when must be 'early' or 'end', got {when!r}.")
  tested = any(getattr(trial, f"test_{when}") is not None for trial in trials)
  return f"{'test' if tested else 'val'}_{when}"


def summarise(
  trials: Sequence[trials_lib.Trial], measure: str
) -> list[Summary]:
  """One row for each method and Level, the dense network first.

  Args:
    trials: of one experiment.
    measure: a field of `Trial`, such as `"test_early"`; see `measure_at`.
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
  trials: Sequence[trials_lib.Trial], method: str, level: int, measure: str
) -> list[float]:
  """One value for each replicate: the mean over its draws."""
  draws = collections.defaultdict(list)
  for trial in trials:
    value = getattr(trial, measure)
    ours = (trial.method, trial.level) == (method, level)
    if ours and trial.done and value is not None:
      draws[trial.replicate].append(value)
  return [float(np.mean(values)) for _, values in sorted(draws.items())]


def level_densities(trials: Sequence[trials_lib.Trial]) -> dict[int, float]:
  """The mean density of each Level's tickets; 1 for the dense Level."""
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
