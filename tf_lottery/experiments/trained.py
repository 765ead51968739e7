"""What of an experiment is trained, and which Levels that chooses."""

import contextlib
import dataclasses
import os
import pathlib
import statistics
from collections.abc import Collection

import numpy as np

from tf_lottery.experiments.checking import CHOSEN
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.objective import Objective
from tf_lottery.search import rounds
from tf_lottery.search.rounds import Round
from tf_lottery.storage import files
from tf_lottery.storage import run_directory
from tf_lottery.storage.run_directory import RunDirectory
from tf_lottery.storage.run_directory import replicate_directory

# The Levels of a replicate, and the objective by which they are chosen.
_Levels = tuple[list[Round], Objective]


def chosen_levels(
  experiment: Experiment, root: str | os.PathLike
) -> tuple[int, ...]:
  """Returns the Levels that `control_levels="chosen"` stands for.

  These are the smallest Level that matches the dense network, by the mean of
  the validation values over the replicates that are found, and its neighbours.
  If no Level matches, it is Level 1. There is none before all Levels of a
  replicate are trained, and none if the experiment names its Levels. With a
  budget, it is those of the named Levels that the searches have drawn.

  With `replicates="auto"` only the replicates of the first look choose, so that
  all looks compare the same Levels.
  """
  if experiment.control_levels != CHOSEN:
    if experiment.budget is None:
      return ()
    named = set(experiment.control_levels)
    return tuple(n for n in _drawn(experiment, root) if n in named)
  found = _found(experiment, root, experiment.looks[0])
  if not found:
    return ()
  best = _smallest_matching(experiment, found)
  drawn = _drawn(experiment, root)
  near = [level for level in drawn if abs(level - best) < 2]
  return tuple(near or drawn[:1])


def _drawn(experiment: Experiment, root: str | os.PathLike) -> list[int]:
  """Returns the Levels that have tickets, or get them, in all replicates.

  A search within a budget draws no other Levels than it needs. With
  `replicates="auto"` these are the replicates of the first look.
  """
  every = list(range(1, experiment.levels + 1))
  if experiment.budget is None:
    return every
  directories = [
    RunDirectory(run_dir(experiment, replicate, root), writes=False)
    for replicate in range(experiment.looks[0])
  ]
  return [
    level
    for level in every
    if all(
      directory.level(level).ticket.is_file()
      for directory in directories
      if _has_chosen(experiment, directory)
    )
  ]


def smallest_matching_level(
  experiment: Experiment, root: str | os.PathLike
) -> int:
  """Returns the smallest Level that matches the dense network.

  Validation values are compared, in the mean over the replicates of which all
  Levels are trained. It is 0, the dense network, if no Level matches.

  Raises:
    ValueError: No replicate has all of its Levels yet.
  """
  found = _found(experiment, root, experiment.looks[-1])
  if not found:
    raise ValueError(
      f"No replicate of {experiment.id} in {root} has all of its"
      f" {experiment.levels} Levels yet. Run it to its end first."
    )
  return _smallest_matching(experiment, found)


def count_replicates(experiment: Experiment, root: str | os.PathLike) -> int:
  """Counts the replicates to train, as far as their number is known.

  With `replicates="auto"` these are those that have begun, or the first look's.
  """
  first, last = experiment.looks[0], experiment.looks[-1]
  further = range(first, last)
  return first + sum(run_dir(experiment, n, root).is_dir() for n in further)


def _count_to_train(experiment: Experiment, root: str | os.PathLike) -> int:
  """Counts the replicates to train: once settled, those of the last look."""
  number = count_replicates(experiment, root)
  if len(experiment.looks) > 1:
    with contextlib.suppress(FileNotFoundError, files.FileFormatError):
      looks = run_directory.read_looks(pathlib.Path(root) / experiment.id)
      if looks.get("settled") and looks["taken"]:
        return min(number, looks["taken"][-1])
  return number


def count_done(
  experiment: Experiment, root: str | os.PathLike
) -> tuple[int, int]:
  """Counts the Rounds of all replicates that are done, and all of them."""
  rounds_ = experiment.rounds(chosen_levels(experiment, root))
  replicates = _count_to_train(experiment, root)
  done = 0
  for replicate in range(replicates):
    directory = RunDirectory(run_dir(experiment, replicate, root), writes=False)
    done += sum(_is_whole(directory, *one) for one in rounds_)
  return done, replicates * len(rounds_)


def _is_whole(
  directory: RunDirectory, level: int, control: str, draw: int
) -> bool:
  """Whether a Round is trained to its end."""
  if control:
    return directory.control(level, control, draw).is_done
  round_ = directory.level(level)
  return round_.is_done and not round_.read_record().get("stopped")


def with_some_controls(
  experiment: Experiment, names: Collection[str] | None
) -> Experiment:
  """Returns an experiment with some of its controls, and without `retrain`.

  Args:
    experiment: The experiment.
    names: The controls. `None` returns the experiment as it is.
  """
  if names is None:
    return experiment
  kept = tuple(name for name in experiment.controls if name in names)
  return dataclasses.replace(experiment, controls=kept, retrain={})


def is_done(
  experiment: Experiment,
  replicate: int,
  root: str | os.PathLike,
  *,
  with_controls: bool = True,
  only: Collection[str] | None = None,
) -> bool:
  """Whether every Round of a replicate is trained to its end.

  Args:
    experiment: The experiment.
    replicate: The number of the replicate.
    root: The directory that holds the experiment's directory.
    with_controls: Whether the controls count. Defaults to `True`.
    only: The controls that count. Defaults to `None`: all, and `retrain`.
  """
  directory = RunDirectory(run_dir(experiment, replicate, root), writes=False)
  chosen = chosen_levels(experiment, root) if with_controls else None
  if with_controls and experiment.control_levels == CHOSEN and not chosen:
    return False
  if not experiment.trains_all and not _has_chosen(experiment, directory):
    return False
  wanted = with_some_controls(experiment, only).rounds(chosen)
  return all(
    _is_whole(directory, *one)
    for one in wanted
    if with_controls or not (one[1] or (one[0] and not experiment.trains_all))
  )


def _has_chosen(experiment: Experiment, directory: RunDirectory) -> bool:
  """Whether a search that leaves out Levels has come to its end."""
  try:
    outcome = directory.read_outcome()
  except FileNotFoundError:
    return False
  budget = experiment.budget
  if budget is None:
    return outcome["choose"] in (experiment.choose, "all")
  return (outcome["budget"] or 0.0) >= budget


def run_dir(
  experiment: Experiment, replicate: int, root: str | os.PathLike
) -> pathlib.Path:
  """The run directory of a replicate."""
  return replicate_directory(pathlib.Path(root) / experiment.id, replicate)


def _found(
  experiment: Experiment, root: str | os.PathLike, replicates: int
) -> list[_Levels]:
  """Reads those of some replicates of which all Levels are trained."""
  found = []
  for replicate in range(replicates):
    path = run_dir(experiment, replicate, root)
    directory = RunDirectory(path, writes=False)
    try:
      levels = rounds.read_levels(directory)
      objective = Objective.from_declaration(directory.read_declaration())
    except FileNotFoundError:
      continue
    if not experiment.trains_all:
      if _has_chosen(experiment, directory):
        # Not those that were trained since to compare replicates: the Levels
        # that are chosen must stay the same meanwhile.
        own = directory.read_outcome()["trained"]
        levels = [round_ for round_ in levels if round_.level in own]
        found.append((levels, objective))
    elif len(levels) > experiment.levels:
      found.append((levels[: experiment.levels + 1], objective))
  return found


def _smallest_matching(experiment: Experiment, found: list[_Levels]) -> int:
  """Chooses by the means over replicates, as one search chooses by values.

  If each replicate has trained Levels of its own choice, it is the median of
  what they have found.
  """
  if not experiment.trains_all:
    smallest = [
      rounds.smallest_matching_round(levels, objective, experiment.tolerance)
      for levels, objective in found
    ]
    return statistics.median_low(round_.level for round_ in smallest)
  objective = found[0][1]
  name = f"val_{objective.name}"
  tolerance = experiment.tolerance
  if tolerance is None:
    own = [rounds.tolerance_of(levels[0], objective) for levels, _ in found]
    tolerance = float(np.mean(own))
  means = []
  for same in zip(*(levels for levels, _ in found), strict=True):
    mean = float(np.mean([round_.metrics[name] for round_ in same]))
    metrics = {**same[0].metrics, name: mean}
    means.append(dataclasses.replace(same[0], metrics=metrics))
  return rounds.smallest_matching_round(means, objective, tolerance).level
