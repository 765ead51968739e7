"""Evidence: the runs of one experiment and the statistics of their Rounds."""

import collections
import dataclasses
import functools
import math
import os
import pathlib
import types
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery import objective
from tf_lottery.masks import Mask
from tf_lottery.report import claims
from tf_lottery.report import looks
from tf_lottery.report import records
from tf_lottery.report import run_folders
from tf_lottery.report import summaries
from tf_lottery.report import verdicts
from tf_lottery.storage import schemas


@dataclasses.dataclass(frozen=True)
class Evidence:
  """The runs and Rounds of one experiment, and their statistics.

  Attributes:
    experiment: The id of the experiment; where several folders hold an
      experiment of that id, the path of its folder.
    runs: The run directories.
    rounds: All Rounds of Levels and controls in these directories, finished or
      not.
    tolerance: How much worse than the dense network a ticket may be and still
      match it, in units of the metric; None for the default.
    tested: The claims to test on this experiment.
    beside: The Rounds that count by their cost alone; see
      `records.read_beside`.
  """

  experiment: str
  runs: tuple[run_folders.Run, ...]
  rounds: tuple[records.RoundRecord, ...]
  tolerance: float | None = None
  tested: Sequence[claims.Claim] = ()
  beside: tuple[records.RoundRecord, ...] = ()

  @functools.cached_property
  def monitor(self) -> str:
    """The name of the metric.

    If Rounds name several metrics, the most frequent one: a damaged run may
    not know its own.
    """
    known = [r.monitor for r in self.rounds if r.val_end is not None]
    names = collections.Counter(known or [r.monitor for r in self.rounds])
    return names.most_common(1)[0][0] if names else "loss"

  @functools.cached_property
  def compared(self) -> tuple[records.RoundRecord, ...]:
    """The Rounds that have this metric."""
    return tuple(r for r in self.rounds if r.monitor == self.monitor)

  @functools.cached_property
  def fields(self) -> dict[str, str]:
    """The field of `RoundRecord` to compare at `"end"` and at `"early"`."""
    return {
      when: summaries.measure_at(when, self.compared)
      for when in summaries.MOMENTS
    }

  @functools.cached_property
  def metric(self) -> str:
    """The split and the metric in words, such as `"test accuracy"`."""
    test = self.fields[summaries.HEADLINE].startswith("test")
    split = "test" if test else "validation"
    return f"{split} {self.monitor.replace('_', ' ')}"

  @functools.cached_property
  def percent(self) -> bool:
    """Whether to show values of the metric in percent.

    That is so if more of the metric is better, if it cannot be negative, and if
    all of its values lie between 0 and 1.
    """
    values = [
      getattr(r, f) for r in self.compared for f in self.fields.values()
    ]
    return (
      self.has_direction
      and verdicts.direction(self.compared) > 0
      and not objective.can_be_negative(self.monitor)
      and all(0 <= value <= 1 for value in values if value is not None)
    )

  @functools.cached_property
  def sign(self) -> int | None:
    """1 if more of the metric is better, -1 if less is; None if unknown."""
    return verdicts.direction(self.compared) if self.has_direction else None

  @functools.cached_property
  def has_direction(self) -> bool:
    """Whether it is known if more or less of the metric is better."""
    try:
      verdicts.direction(self.compared)
    except ValueError:
      return False
    return True

  @functools.cached_property
  def declared_levels(self) -> tuple[int, ...] | None:
    """The Levels to test, which the experiment declares by their controls.

    None, which stands for all Levels, if it declares none, or leaves it to the
    search to choose them.
    """
    levels = self.runs[0].experiment_declaration.get("control_levels")
    return tuple(levels) if levels and isinstance(levels, list) else None

  @functools.cached_property
  def trains_all(self) -> bool:
    """Whether every Level is to be trained, and not those of a choice."""
    declared = self.runs[0].experiment_declaration
    if "choose" in declared:
      return declared["choose"] == "all" and declared.get("budget") is None
    return all(
      run.outcome.get("choose", "all") == "all"
      and (run.declaration.get("method") or {}).get("name") != "Anytime"
      for run in self.runs
    )

  @functools.cached_property
  def finished(self) -> dict[int, int]:
    """Level -> the number of replicates that trained its ticket to its end.

    It has all Levels of the schedule.
    """
    found = {
      level: 0
      for run in self.runs
      for level in range(1, 1 + len(run.declaration.get("schedule") or ()))
    }
    for round_ in self.rounds:
      if round_.method == "ticket":
        found.setdefault(round_.level, 0)
        found[round_.level] += round_.done
    return dict(sorted(found.items()))

  @functools.cached_property
  def judged_levels(self) -> tuple[int, ...] | None:
    """The Levels to test; None stands for all of them.

    Where each replicate chooses which Levels it trains, these are the Levels
    that all replicates trained to their ends: which replicates have trained
    another one depends on how they did, so their mean would mislead.
    """
    if self.trains_all:
      return self.declared_levels
    declared = self.declared_levels
    return tuple(
      level
      for level, number in self.finished.items()
      if number >= max(self.replicates, 1)
      and (declared is None or level in declared)
    )

  @functools.cached_property
  def trainings(self) -> tuple[records.RoundRecord, ...]:
    """All Rounds that have ended, also those that were stopped or replaced."""
    every = (*self.rounds, *self.beside)
    return tuple(r for r in every if r.done or r.stopped)

  @property
  def seconds(self) -> float:
    """The time of all training and evaluation, also of what goes on."""
    return sum(r.seconds for r in (*self.rounds, *self.beside))

  @functools.cached_property
  def replicates(self) -> int:
    """The number of replicates whose dense network is fully trained."""
    return len({r.replicate for r in self.rounds if not r.level and r.done})

  @functools.cached_property
  def unfinished(self) -> int:
    """The number of Rounds that are declared or begun but not finished."""
    experiment = self.runs[0].experiment_declaration
    if "rounds" in experiment:
      own = ("dense", "ticket")
      done = {
        (r.level, "" if r.method in own else r.method, r.draw, r.replicate)
        for r in self.rounds
        if r.done
      }
      return sum(
        (level, control, draw, replicate) not in done
        for level, control, draw in experiment["rounds"]
        for replicate in range(self.declared_replicates)
      )
    if "trainings" in experiment:  # of an earlier version
      trained = sum(r.done for r in self.rounds)
      return max(0, experiment["trainings"] - trained)
    begun = sum(not (r.done or r.stopped) for r in self.rounds)
    missing = 0
    for run in self.runs if self.trains_all else ():
      schedule = run.declaration.get("schedule")
      levels = 0 if schedule is None else len(schedule) + 1
      ours = {r.level for r in self.rounds if r.run == str(run.path)}
      missing += sum(level not in ours for level in range(levels))
    return begun + missing

  @functools.cached_property
  def declared_replicates(self) -> int:
    """The number of replicates to train, as far as it is known.

    If it depends on the verdicts, these are those of the last look once they
    are settled. Before, these are those that have begun, and at least those of
    the first look.
    """
    declared = self.runs[0].experiment_declaration.get("replicates", 1)
    if isinstance(declared, int):
      return declared
    plan = self.runs[0].looks
    if plan and plan.get("settled") and self.taken:
      return self.taken[-1][0]
    return max(len(self.runs), plan["planned"][0] if plan else 0)

  @functools.cached_property
  def in_looks(self) -> bool:
    """Whether the number of replicates depends on the verdicts."""
    declared = self.runs[0].experiment_declaration.get("replicates")
    return isinstance(declared, str) or bool(self.taken)

  @functools.cached_property
  def taken(self) -> tuple[tuple[int, tuple[float, float]], ...]:
    """The number of replicates and the significances of each look taken."""
    plan = self.runs[0].looks
    if plan is None:
      return ()
    planned = zip(plan["planned"], plan["significances"], strict=False)
    return tuple(
      (number, (full, half))
      for number, (full, half) in planned
      if number in plan["taken"]
    )

  @functools.cached_property
  def judged(self) -> "Evidence":
    """The evidence that the verdicts are about: that of the last look."""
    return self.first(self.taken[-1][0]) if self.taken else self

  def first(self, number: int) -> "Evidence":
    """Returns the evidence of the first replicates."""
    return dataclasses.replace(
      self,
      runs=tuple(r for r in self.runs if r.replicate < number) or self.runs[:1],
      rounds=tuple(r for r in self.rounds if r.replicate < number),
      beside=tuple(r for r in self.beside if r.replicate < number),
    )

  def with_looks(self, plan: schemas.Looks) -> "Evidence":
    """Returns the evidence with other looks than those that were read."""
    runs = tuple(dataclasses.replace(run, looks=plan) for run in self.runs)
    return dataclasses.replace(self, runs=runs)

  @property
  def by_hand(self) -> bool:
    """Whether the replicates were started one by one, without a declaration."""
    return len(self.runs) > 1 and self.runs[0].home == self.runs[0].path

  @property
  def masks(self) -> dict[int, tuple[Mask, list[str]]]:
    """Level -> mask of the first replicate, and the names of its weights."""
    return self._masks[0]

  @functools.cached_property
  def damage(self) -> tuple[str, ...]:
    """What could not be read, and why: a sentence for each file or line."""
    found = [text for run in self.runs for text in run.damage]
    every = (*self.rounds, *self.beside)
    found += [text for r in every for text in r.damage.splitlines()]
    return tuple(dict.fromkeys([*found, *self._masks[1]]))

  @functools.cached_property
  def _masks(
    self,
  ) -> tuple[dict[int, tuple[Mask, list[str]]], list[str]]:
    """The masks of the first replicate, and which tickets are damaged."""
    found: dict[int, tuple[Mask, list[str]]] = {}
    damage: list[str] = []
    directory = self.runs[0].directory
    for level, control, _, round_ in directory.rounds():
      if not control and (file := records.read_ticket(round_, damage)):
        found[level] = file.mask, file.names
    return found, damage

  def summary(self, measure: str) -> list[summaries.Summary]:
    """Returns one row for each method and Level; see `summaries.summarise`."""
    return summaries.summarise(self.compared, measure)

  def tolerance_at(self, when: str = summaries.HEADLINE) -> float:
    """Returns the tolerance, or the default; see `verdicts.tolerance_of`."""
    measure = self.fields[when]
    rounds = self.judged.compared
    return verdicts.tolerance_of(rounds, self.tolerance, measure)

  def _judge(
    self,
    when: str,
    significances: tuple[float, float] = verdicts.ONE_LOOK,
    shown: Mapping[int, str] = types.MappingProxyType({}),
  ) -> list[verdicts.Verdict]:
    """Judges all replicates at once, at the significances of a look."""
    levels = self.judged_levels
    found = verdicts.verdicts(
      self.compared,
      self.tolerance,
      when,
      None if levels is None else {*levels, *shown},
      significances,
      shown,
      self._diverged,
    )
    if self.trains_all:
      return found
    return [
      v
      if v.to_test or self.finished[v.level] >= self.replicates
      else dataclasses.replace(
        v,
        reason="not tested: trained to its end in"
        f" {self.finished[v.level]} of {self.replicates} replicates",
      )
      for v in found
    ]

  @functools.cached_property
  def _diverged(self) -> dict[int, int]:
    """Level -> the number of replicates whose ticket diverged.

    Where replicates choose their Levels, a Level is not tested at all unless
    every replicate has finished it.
    """
    if not self.trains_all:
      return {}
    return looks.diverged_tickets(self.runs, self.rounds)

  def shown(self) -> list[dict[int, str]]:
    """Returns Level -> the word that it has shown, for each look taken."""
    if not self.has_direction:
      return [{} for _ in self.taken]
    return [looks.words(found) for found in self._at_looks(summaries.HEADLINE)]

  def _at_looks(self, when: str) -> list[list[verdicts.Verdict]]:
    """Returns the verdicts at each look taken.

    The words that were written down are about the end of training, and the
    tolerance that was declared. By anything else all looks are judged now.
    """
    plan = self.runs[0].looks
    recorded: list[dict[int, str]] = []
    if plan and when == summaries.HEADLINE:
      declared = plan.get("declared", {}).get("tolerance")
      if declared == self.tolerance:
        recorded = [dict(words) for words in plan.get("shown", ())]
    judged = looks.verdicts_at(
      self.taken,
      lambda number, *how: self.first(number)._judge(when, *how),
      recorded,
    )
    return list(judged)

  def verdicts(self, when: str = summaries.HEADLINE) -> list[verdicts.Verdict]:
    """Returns one verdict for each Level; see `verdicts.verdicts`.

    If the number of replicates depends on the verdicts, they are those of the
    looks that were taken, whatever was trained since; see `looks.verdicts_at`.
    The list is empty if the direction of the metric is not known.
    """
    if not self.has_direction:
      return []
    if not self.in_looks:
      return self._judge(when)
    if not self.taken:
      return [
        verdicts.untested(v, "not tested: no look was taken yet")
        for v in self._judge(when)
      ]
    return self._at_looks(when)[-1]

  def findings(self) -> list[claims.Finding]:
    """Returns the outcomes of the claims; see `claims.findings`.

    The list is empty if the direction of the metric is not known.
    """
    if not self.has_direction:
      return []
    judged = None if self.trains_all else (0, *(self.judged_levels or ()))
    every = self.judged.compared
    rounds = [r for r in every if judged is None or r.level in judged]
    return claims.findings(rounds, self.tested, self.tolerance)


def gather(
  paths: Iterable[str | os.PathLike],
  tolerance: float | None = None,
  claims_by_recipe: Mapping[str, Sequence[claims.Claim]] | None = None,
) -> list[Evidence]:
  """Reads the evidence of each experiment at and below some paths.

  Args:
    paths: Run directories, or folders that contain some at any depth.
    tolerance: How much worse than the dense network a ticket may be and still
      match it, in units of the metric. At least 0. Defaults to `None`: the
      declared one, else see `verdicts.tolerance_of`.
    claims_by_recipe: The claims to test on the experiments of a recipe, by the
      name of the recipe. Defaults to `None`: no claims.

  Returns:
    One `Evidence` for each experiment. A run outside of an experiment's folder
    counts as an experiment.

  Raises:
    FileNotFoundError: A path has no run.
    ValueError: The tolerance is negative.
  """
  verdicts.check_tolerance(tolerance)
  by_home: dict[pathlib.Path, list[run_folders.Run]] = {}
  for run in run_folders.find_runs(paths):
    by_home.setdefault(run.home, []).append(run)
  ids = collections.Counter(runs[0].experiment for runs in by_home.values())
  found = []
  for home, runs in by_home.items():
    # Several folders may hold experiments of the same id.
    name = runs[0].experiment if ids[runs[0].experiment] == 1 else str(home)
    rounds = [r for run in runs for r in records.read_rounds(run)]
    declared = runs[0].experiment_declaration
    tested = (claims_by_recipe or {}).get(_recipe(declared), ())
    own = _tolerance(declared) if tolerance is None else tolerance
    beside = [r for run in runs for r in records.read_beside(run)]
    found.append(
      Evidence(name, tuple(runs), tuple(rounds), own, tested, tuple(beside))
    )
  return found


def _recipe(declared: Mapping[str, Any]) -> str:
  """Returns the paper's recipe that an experiment declares, else `""`."""
  if "recipe" in declared:  # of an early version, which had the papers' alone
    return str(declared["recipe"])
  arguments = declared.get("model_args")
  made_by = str(declared.get("make_model"))
  is_ours = made_by.startswith("tf_lottery.papers.")
  if not is_ours or not isinstance(arguments, Mapping):
    return ""
  return str(arguments.get("recipe"))


def _tolerance(declared: Mapping[str, Any]) -> float | None:
  """Returns the tolerance that an experiment declares; None if it has none."""
  value = declared.get("tolerance")
  if not isinstance(value, int | float) or isinstance(value, bool):
    return None
  return value if 0 <= value < math.inf else None
