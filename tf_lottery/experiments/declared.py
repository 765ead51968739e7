"""Experiments on disk: reads what a directory declares."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tf_lottery.experiments import references
from tf_lottery.experiments.controls import WITH_SOURCE
from tf_lottery.experiments.experiment import BESIDE
from tf_lottery.experiments.experiment import GROWING
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.storage import files
from tf_lottery.storage import run_directory

# What a declaration also has, for readers that do not import the functions.
_DERIVED = ("id", "heading", "levels", "rounds", "source_heading", "trainings")
# Reads the experiments that versions before 0.2 declared, by reference:
# experiments know nothing of the papers.
_PAPERS = "tf_lottery.papers:experiment"


def may_declare(experiment: Experiment, directory: str | os.PathLike) -> bool:
  """Whether a directory holds no other experiment than this one.

  Where it holds another, its runs refuse this one, and its declaration must not
  be lost before.
  """
  try:
    found = run_directory.read_experiment(directory)
  except FileNotFoundError:
    return True
  mine = json.loads(json.dumps(experiment.to_json(strict=False)))
  # An earlier version did not have this field.
  found = {"method": "iterative", **found}
  if (found.get("budget") is None) != (experiment.budget is None):
    return False
  return _deciding(found) == _deciding(mine)


def check_source(experiment: Experiment, directory: str | os.PathLike) -> None:
  """Refuses another source than that whose tickets are trained there.

  Args:
    experiment: The target.
    directory: The directory of the target.

  Raises:
    ValueError: The directory declares another source, and has its tickets.
  """
  if experiment.source is None:
    return
  try:
    before = run_directory.read_experiment(directory).get("source")
  except FileNotFoundError:
    return
  mine = json.loads(json.dumps(experiment.source.to_json(strict=False)))
  if before is None or _deciding(before) == _deciding(mine):
    return
  if _has_transferred(pathlib.Path(directory)):
    raise ValueError(
      f"{directory} holds tickets that were transferred from another source"
      f" than {experiment.source.heading!r}. Give the experiment another name,"
      " or the source that it had."
    )


def _has_transferred(home: pathlib.Path) -> bool:
  """Whether a replicate has a control with the ticket of a source."""
  return any(
    control in WITH_SOURCE
    for path in home.iterdir()
    if run_directory.replicate_of(path) is not None
    for _, control, _, _ in run_directory.RunDirectory(
      path, writes=False
    ).rounds()
  )


def _deciding(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields that make it another experiment, where they are set."""
  apart = {*GROWING, *BESIDE, *_DERIVED, "schedule"}
  if fields.get("budget") is not None:
    apart.remove("tolerance")
  own = {
    name: value
    for name, value in fields.items()
    if name not in apart and value is not None
  }
  if "source" in own:
    own["source"] = _deciding(own["source"])
  return own


def of_run(run_dir: str | os.PathLike) -> tuple[Experiment, int]:
  """Returns the experiment of a run directory, and which replicate it is.

  Raises:
    FileNotFoundError: no `experiment.json` says which experiment it was.
    FileFormatError: the declaration is damaged, of a newer version, or names a
      function that cannot be imported.
  """
  path = pathlib.Path(run_dir).resolve()
  replicate = run_directory.replicate_of(path)
  home = path if replicate is None else path.parent
  try:
    declared = run_directory.read_experiment(home)
  except FileNotFoundError:
    raise FileNotFoundError(
      f"No {run_directory.EXPERIMENT} says how {run_dir} was found. Give the"
      " run directory of find_ticket.py or of a replicate of run_sweep.py; what"
      " find_ticket found is exported by tf_lottery.export."
    ) from None
  try:
    return _of_declaration(declared), replicate or 0
  except (TypeError, ValueError) as error:
    raise files.FileFormatError(
      f"{home / run_directory.EXPERIMENT} declares no experiment of this"
      f" version: {error}"
    ) from error


def _of_declaration(declared: Mapping[str, Any]) -> Experiment:
  if "recipe" in declared:  # of a version that knew only the papers' networks
    fields = {k: v for k, v in declared.items() if k not in ("id", "trainings")}
    return references.resolve(_PAPERS)(**fields)
  fields = {k: v for k, v in declared.items() if k not in _DERIVED}
  return Experiment.from_json(fields)
