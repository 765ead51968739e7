"""Evidence: the runs of one experiment, and what they show."""

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery import masks as masks_lib
from tf_lottery import metrics
from tf_lottery import trials as trials_lib
from tf_lottery.report import claims
from tf_lottery.report import summaries
from tf_lottery.report import verdicts


@dataclasses.dataclass(frozen=True)
class Evidence:
  """One experiment's runs and trials, with statistics of them.

  Attributes:
    experiment: its id.
    runs: its run directories.
    trials: of all of them, done or not.
    tolerance: how much worse than dense still matches, in units of the metric.
  """

  experiment: str
  runs: tuple[trials_lib.Run, ...]
  trials: tuple[trials_lib.Trial, ...]
  tolerance: float = 0.005

  @functools.cached_property
  def monitor(self) -> str:
    """The metric: that of most trials, for a damaged one may not know it."""
    known = [t.monitor for t in self.trials if t.val_end is not None]
    names = collections.Counter(known or [t.monitor for t in self.trials])
    return names.most_common(1)[0][0] if names else "loss"

  @functools.cached_property
  def compared(self) -> tuple[trials_lib.Trial, ...]:
    """The trials of that metric."""
    return tuple(t for t in self.trials if t.monitor == self.monitor)

  @functools.cached_property
  def fields(self) -> dict[str, str]:
    """`"early"` and `"end"` -> the field of `Trial` that is compared there."""
    return {
      when: summaries.measure_at(when, self.compared)
      for when in (summaries.EARLY, summaries.END)
    }

  @functools.cached_property
  def metric(self) -> str:
    """What is compared, in words, such as `"test accuracy"`."""
    test = self.fields[summaries.EARLY].startswith("test")
    split = "test" if test else "validation"
    return f"{split} {self.monitor.replace('_', ' ')}"

  @functools.cached_property
  def percent(self) -> bool:
    """Whether values are fractions that read best in percent."""
    values = [
      getattr(t, f) for t in self.compared for f in self.fields.values()
    ]
    return "acc" in self.monitor and all(
      0 <= value <= 1 for value in values if value is not None
    )

  @functools.cached_property
  def has_direction(self) -> bool:
    """Whether the metric's name tells if more of it is better."""
    try:
      metrics.lower_is_better(self.monitor)
    except ValueError:
      return False
    return True

  @functools.cached_property
  def replicates(self) -> int:
    """How many replicates of the dense network are trained."""
    return len({t.replicate for t in self.trials if not t.level and t.done})

  @functools.cached_property
  def unfinished(self) -> int:
    """How many trainings are declared or begun, and not at their end."""
    declared = _declared_trainings(self.runs[0].declared)
    if declared is not None:
      return max(0, declared - sum(trial.done for trial in self.trials))
    begun = sum(not trial.done for trial in self.trials)
    missing = 0
    for run in self.runs:
      schedule = run.declaration.get("schedule")
      levels = 0 if schedule is None else len(schedule) + 1
      ours = {t.level for t in self.trials if t.run == str(run.path)}
      missing += sum(level not in ours for level in range(levels))
    return begun + missing

  @property
  def masks(self) -> dict[int, tuple[masks_lib.Mask, list[str]]]:
    """Level -> mask of the first replicate, and the names of its weights."""
    return self._masks[0]

  @functools.cached_property
  def damage(self) -> tuple[str, ...]:
    """What could not be read, and why: a sentence for each file or line."""
    found = [text for run in self.runs for text in run.damage]
    found += [text for t in self.trials for text in t.damage.splitlines()]
    return tuple(dict.fromkeys([*found, *self._masks[1]]))

  @functools.cached_property
  def _masks(
    self,
  ) -> tuple[dict[int, tuple[masks_lib.Mask, list[str]]], list[str]]:
    """The masks of the first replicate, and which tickets are damaged."""
    found, damage = {}, []
    directory = self.runs[0].directory
    for level in summaries.level_densities(self.trials):
      if file := trials_lib.read_ticket(directory.level(level), damage):
        found[level] = file.mask, file.names
    return found, damage

  def summary(self, measure: str) -> list[summaries.Summary]:
    """A row for each method and Level; see `summaries.summarise`."""
    return summaries.summarise(self.compared, measure)

  def verdicts(self, when: str = summaries.EARLY) -> list[verdicts.Verdict]:
    """A verdict for each Level; see `verdicts.verdicts`."""
    if not self.has_direction:
      return []
    return verdicts.verdicts(self.compared, self.tolerance, when)

  def findings(self) -> list[claims.Finding]:
    """The paper's claims for such a network; see `claims.findings`."""
    if not self.has_direction:
      return []
    paper = claims.CONV if self._is_convolutional else claims.LENET
    return claims.findings(self.compared, self.tolerance, paper)

  @property
  def _is_convolutional(self) -> bool:
    return any("Conv" in name for name in layer_classes(self.runs))


def gather(
  paths: Iterable[str | os.PathLike], tolerance: float = 0.005
) -> list[Evidence]:
  """The evidence of each experiment at and below some paths.

  Args:
    paths: run directories, or folders above some.
    tolerance: see `Evidence`.

  Raises:
    FileNotFoundError: a path has no run.
    ValueError: the tolerance is negative.
  """
  verdicts.check_tolerance(tolerance)
  by_home: dict[pathlib.Path, list[trials_lib.Run]] = {}
  for run in trials_lib.find_runs(paths):
    by_home.setdefault(run.home, []).append(run)
  ids = collections.Counter(runs[0].experiment for runs in by_home.values())
  found = []
  for home, runs in by_home.items():
    # Runs in several folders may bear one name.
    name = runs[0].experiment if ids[runs[0].experiment] == 1 else str(home)
    trials = [trial for run in runs for trial in trials_lib.read_trials(run)]
    found.append(Evidence(name, tuple(runs), tuple(trials), tolerance))
  return found


def _declared_trainings(declared: Mapping[str, Any]) -> int | None:
  """How many trainings an experiment is to have; None if it does not say."""
  try:
    levels = len(declared["control_levels"]) or declared["levels"]
    controls = sum(
      declared["reinits"] if name == "random_reinit" else 1
      for name in declared["controls"]
    )
    each = 1 + declared["levels"] + levels * controls
    return declared["replicates"] * each
  except KeyError:
    return None


def layer_classes(runs: Sequence[trials_lib.Run]) -> list[str]:
  """The classes of the first run's layers, as far as they are declared."""
  layers = runs[0].declaration.get("layers", []) if runs else []
  return [str(layer.get("class", "")) for layer in layers]
