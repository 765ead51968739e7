"""Trials: every training of every run, read from run directories.

Reads files only: of finished runs, of those that go on, and of those that were
killed. What cannot be read counts as not there yet.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery import files
from tf_lottery import masks
from tf_lottery import objective as objective_lib
from tf_lottery import rundir

_REPLICATE = re.compile(r"replicate_(\d+)")
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclasses.dataclass(frozen=True)
class Trial:
  """One training: of a dense network, of a ticket, or of a control.

  Values are of the monitored metric; None where they are not known: before
  the first evaluation, without test data, or where they are not finite.

  Attributes:
    run: the run directory.
    experiment: the id of its experiment.
    replicate: which replicate of it.
    method: `"dense"`, `"ticket"`, or the name of the control.
    draw: which draw of a control.
    level: how often the network has been pruned; 0 is dense.
    density: fraction of the prunable weights kept.
    steps: the last step that was evaluated, counted from the start of this
      training, as is `early_stop_step`.
    seconds: of training and evaluation, up to there.
    done: whether it was trained to its end.
    monitor: the name of the metric.
    direction: `"max"` if more of it is better, `"min"` if less of it is; None
      where that is not known.
    early_stop_step: where the validation loss is at its minimum, found
      afterwards, as Frankle and Carbin (arXiv 1803.03635, section 2) do it.
    val_early: validation value at that step.
    test_early: test value at that step.
    val_end: validation value at the last step.
    test_end: test value at the last step.
  """

  run: str
  experiment: str
  replicate: int
  method: str
  draw: int
  level: int
  density: float | None
  steps: int
  seconds: float
  done: bool
  monitor: str
  direction: objective_lib.Direction | None = None
  early_stop_step: int | None = None
  val_early: float | None = None
  test_early: float | None = None
  val_end: float | None = None
  test_end: float | None = None


@dataclasses.dataclass(frozen=True)
class Run:
  """A run directory's place in its experiment.

  Attributes:
    path: the run directory.
    experiment: the id of its experiment.
    replicate: which replicate of it.
    home: the experiment's directory; the run's own if it stands alone.
  """

  path: pathlib.Path
  experiment: str
  replicate: int
  home: pathlib.Path

  @classmethod
  def at(cls, path: str | os.PathLike) -> "Run":
    """The run in a directory: `ROOT/ID/replicate_00`, or one by itself."""
    path = pathlib.Path(path).resolve()
    match = _REPLICATE.fullmatch(path.name)
    if not match or not (path.parent / "experiment.json").is_file():
      return cls(path, path.name, 0, path)
    run = cls(path, path.parent.name, int(match[1]), path.parent)
    declared = run.declared.get("id") or run.experiment
    return dataclasses.replace(run, experiment=str(declared))

  @property
  def declared(self) -> dict[str, Any]:
    """The declaration of its experiment; empty if it stands alone."""
    return _mapping(lambda: files.read_json(self.home / "experiment.json"))

  @property
  def declaration(self) -> dict[str, Any]:
    """What the run was asked to do; empty where that cannot be read."""
    return _mapping(self.directory.read_declaration)

  @property
  def directory(self) -> rundir.RunDirectory:
    """Its files."""
    return rundir.RunDirectory(self.path, writes=False)


def find_runs(paths: Iterable[str | os.PathLike]) -> list[Run]:
  """The runs at and below some paths, each once, by experiment and replicate.

  Args:
    paths: run directories, or folders anywhere above some.

  Raises:
    FileNotFoundError: a path is no directory, or has no run below it.
  """
  found = {}
  for path in paths:
    path = pathlib.Path(path)
    if not path.is_dir():
      raise FileNotFoundError(
        f"A run must be a directory, got {path}. Give a run directory, or a"
        " folder above some."
      )
    below = [Run.at(folder) for folder in _run_folders(path)]
    if not below:
      raise FileNotFoundError(
        f"There is no run in {path}: none of its folders has a"
        " declaration.json. Give the run_dir of find_ticket, or a folder above"
        " it."
      )
    found |= {run.path: run for run in below}
  return sorted(
    found.values(), key=lambda run: (run.experiment, run.home, run.replicate)
  )


def _run_folders(path: pathlib.Path) -> Iterator[pathlib.Path]:
  for folder, below, names in os.walk(path):
    # Other runs may lie in a run's folder, beside its legs.
    below[:] = [name for name in below if not name.startswith("level_")]
    if "declaration.json" in names:
      yield pathlib.Path(folder)


def read_trials(run: Run | str | os.PathLike) -> list[Trial]:
  """The trials of a run, done or not, by Level."""
  run = run if isinstance(run, Run) else Run.at(run)
  declaration = run.declaration
  return [_read_trial(run, declaration, *leg) for leg in run.directory.legs()]


def read_rows(leg: rundir.LegDirectory) -> list[dict[str, Any]]:
  """The evaluations of a leg: those of its rows that have a step."""
  try:
    rows = leg.read_metrics()
  except _UNREADABLE:
    return []
  return [
    row
    for row in rows
    if isinstance(row, dict) and number(row, "step") is not None
  ]


def read_mask(leg: rundir.LegDirectory) -> tuple[masks.Mask, list[str]] | None:
  """The mask of a leg's ticket, and its weights' names, in order.

  Returns:
    None where there is no ticket that can be read.
  """
  try:
    tensors, metadata = files.read_tensors(leg.ticket, "ticket")
    shapes = metadata["shapes"]
    mask = masks.Mask.unpack(
      {key: tensors[f"mask/{key}"] for key in shapes}, shapes
    )
    names = metadata["provenance"].get("weights", metadata["order"])
    by_key = dict(zip(metadata["order"], names, strict=True))
    return mask, [str(by_key[key]) for key in mask]
  except _UNREADABLE:
    return None


def read_record(leg: rundir.LegDirectory) -> dict[str, Any]:
  """What a leg left at its end; empty before that."""
  return _mapping(leg.read_record)


def number(row: Mapping[str, Any], name: str) -> float | None:
  """A finite number of a row, else None."""
  value = row.get(name)
  if isinstance(value, bool) or not isinstance(value, int | float):
    return None
  return value if math.isfinite(value) else None


def _mapping(read: Callable[[], Any]) -> dict[str, Any]:
  """A JSON object; empty where there is none that can be read."""
  with contextlib.suppress(*_UNREADABLE):
    value = read()
    return value if isinstance(value, dict) else {}
  return {}


def _read_trial(
  run: Run,
  declaration: Mapping[str, Any],
  level: int,
  control: str,
  draw: int,
  leg: rundir.LegDirectory,
) -> Trial:
  # Before the rows: a leg that ends between the two is then not done yet.
  record = read_record(leg)
  rows = read_rows(leg)
  monitor, direction = _objective(declaration, rows)
  start = _start(record, leg)
  last = rows[-1] if rows else {}
  return Trial(
    run=str(run.path),
    experiment=run.experiment,
    replicate=run.replicate,
    method=control or ("ticket" if level else "dense"),
    draw=draw,
    level=level,
    density=_density(record, leg, declaration, level),
    steps=int(last["step"]) - start if rows else 0,
    seconds=number(record, "seconds") or number(last, "seconds") or 0.0,
    done=bool(record),
    monitor=monitor,
    direction=direction,
    **_values(rows, monitor, start),
  )


def _start(record: Mapping[str, Any], leg: rundir.LegDirectory) -> int:
  """The step at which a training began: controls may begin where others end."""
  start = number(record, "start")
  if start is None:
    with contextlib.suppress(*_UNREADABLE):
      _, metadata = files.read_tensors(leg.ticket, "ticket")
      start = number(metadata["provenance"], "step")
  return int(start or 0)


def _values(
  rows: Sequence[Mapping[str, Any]], monitor: str, start: int
) -> dict[str, Any]:
  """The values at the minimum of the validation loss, and at the end."""
  early = min(
    (row for row in rows if number(row, "val_loss") is not None),
    key=lambda row: row["val_loss"],
    default={},
  )
  last = rows[-1] if rows else {}
  return {
    "early_stop_step": int(early["step"]) - start if early else None,
    "val_early": number(early, f"val_{monitor}"),
    "test_early": number(early, f"test_{monitor}"),
    "val_end": number(last, f"val_{monitor}"),
    "test_end": number(last, f"test_{monitor}"),
  }


def _objective(
  declaration: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[str, objective_lib.Direction | None]:
  """The name of the metric, and its direction where that is known."""
  reported = [name.removeprefix("val_") for row in rows[:1] for name in row]
  name = declaration.get("monitor") or objective_lib.default_name(reported)
  declared = {**declaration, "monitor": name}
  try:
    objective = objective_lib.Objective.from_declaration(declared)
  except ValueError:
    return str(name), None
  return objective.name, objective.direction


def _density(
  record: Mapping[str, Any],
  leg: rundir.LegDirectory,
  declaration: Mapping[str, Any],
  level: int,
) -> float | None:
  if (recorded := number(record, "density")) is not None:
    return recorded
  if ticket := read_mask(leg):
    return ticket[0].density
  if not level:
    return 1.0
  try:
    return float(declaration["schedule"][level - 1])
  except (*_UNREADABLE, LookupError):
    return None
