"""Trials: every training of every run, read from run directories.

Reads files only: of finished runs, of those that go on, and of those that were
killed. A file that is damaged counts as not there, and is noted as damage.
"""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from tf_lottery import objective as objective_lib
from tf_lottery import tickets
from tf_lottery.storage import files
from tf_lottery.storage import run_directory

_Value = TypeVar("_Value")


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
    damage: what of its files could not be read, and why; one sentence a line.
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
  damage: str = ""


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
    replicate = run_directory.replicate_of(path)
    if (
      replicate is None
      or not (path.parent / run_directory.EXPERIMENT).is_file()
    ):
      return cls(path, path.name, 0, path)
    run = cls(path, path.parent.name, replicate, path.parent)
    declared = run.declared.get("id") or run.experiment
    return dataclasses.replace(run, experiment=declared)

  @property
  def declared(self) -> dict[str, Any]:
    """The declaration of its experiment; empty if it stands alone."""
    return self._declared([])

  @property
  def declaration(self) -> dict[str, Any]:
    """What the run was asked to do; empty where that cannot be read."""
    return self._declaration([])

  @property
  def damage(self) -> list[str]:
    """Which of the two cannot be read, and why; see `read_trials` for more."""
    damage: list[str] = []
    self._declared(damage)
    self._declaration(damage)
    return damage

  @property
  def directory(self) -> run_directory.RunDirectory:
    """Its files."""
    return run_directory.RunDirectory(self.path, writes=False)

  def _declared(self, damage: list[str]) -> dict[str, Any]:
    read = functools.partial(run_directory.read_experiment, self.home)
    return _read(read, damage) or {}

  def _declaration(self, damage: list[str]) -> dict[str, Any]:
    return _read(self.directory.read_declaration, damage) or {}


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
  return [_read_trial(run, declaration, *leg) for leg in run.directory.rounds()]


def read_rows(
  leg: run_directory.RoundDirectory, damage: list[str] | None = None
) -> list[dict[str, float]]:
  """Reads the evaluations of a leg, without damaged lines.

  Args:
    leg: the directory of the training.
    damage: gets a sentence for each line, or the file, that cannot be read.
  """
  damage = [] if damage is None else damage
  return (
    _read(lambda: leg.read_metrics(lambda e: damage.append(str(e))), damage)
    or []
  )


def read_ticket(
  leg: run_directory.RoundDirectory, damage: list[str] | None = None
) -> tickets.TicketFile | None:
  """Reads a leg's ticket, whose mask is built when it is asked for.

  Args:
    leg: the directory of the training.
    damage: gets a sentence if the file is there and cannot be read.

  Returns:
    None where there is no ticket that can be read.
  """
  return _read(lambda: tickets.TicketFile(leg.ticket), damage)


def read_record(
  leg: run_directory.RoundDirectory, damage: list[str] | None = None
) -> dict[str, Any]:
  """Reads the record that a leg left at its end; empty where there is none.

  Args:
    leg: the directory of the training.
    damage: gets a sentence if the file is there and cannot be read.
  """
  return _read(leg.read_record, damage) or {}


def number(row: Mapping[str, float], name: str) -> float | None:
  """The number of that name in a row, if it is there and finite, else None."""
  value = row.get(name)
  return value if value is not None and math.isfinite(value) else None


def _read(
  read: Callable[[], _Value], damage: list[str] | None
) -> _Value | None:
  """Reads a file; None where it is absent or damaged, which is noted."""
  try:
    return read()
  except FileNotFoundError:
    return None  # not written yet
  except (OSError, files.FileFormatError) as error:
    if damage is not None:
      damage.append(str(error))
    return None


def _read_trial(
  run: Run,
  declaration: Mapping[str, Any],
  level: int,
  control: str,
  draw: int,
  leg: run_directory.RoundDirectory,
) -> Trial:
  damage: list[str] = []
  # Before the rows: a leg that ends between the two is then not done yet.
  record = read_record(leg, damage)
  rows = read_rows(leg, damage)
  ticket = functools.cache(lambda: read_ticket(leg, damage))
  monitor, direction = _objective(declaration, rows)
  start = _start(record, ticket)
  last = rows[-1] if rows else {}
  return Trial(
    run=str(run.path),
    experiment=run.experiment,
    replicate=run.replicate,
    method=control or ("ticket" if level else "dense"),
    draw=draw,
    level=level,
    density=_density(record, ticket, declaration, level),
    steps=last["step"] - start if rows else 0,
    seconds=record.get("seconds") or last.get("seconds") or 0.0,
    done=bool(record),
    monitor=monitor,
    direction=direction,
    **_values(rows, monitor, start),
    damage="\n".join(damage),
  )


def _start(
  record: Mapping[str, Any], ticket: Callable[[], tickets.TicketFile | None]
) -> int:
  """The step at which a training began: controls may begin where others end."""
  if "start" in record:
    return record["start"]
  file = ticket()
  step = file.provenance.get("step") if file else None
  # A ticket of the user's own may say anything.
  return step if isinstance(step, int) and 0 <= step < 2**53 else 0


def _values(
  rows: Sequence[Mapping[str, float]], monitor: str, start: int
) -> dict[str, Any]:
  """The values at the minimum of the validation loss, and at the end."""
  early = min(
    (row for row in rows if math.isfinite(row["val_loss"])),
    key=lambda row: row["val_loss"],
    default={},
  )
  last = rows[-1] if rows else {}
  return {
    "early_stop_step": early["step"] - start if early else None,
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
  ticket: Callable[[], tickets.TicketFile | None],
  declaration: Mapping[str, Any],
  level: int,
) -> float | None:
  if "density" in record:
    return record["density"]
  if file := ticket():
    return file.mask.density
  if not level:
    return 1.0
  schedule = declaration.get("schedule", [])
  return schedule[level - 1] if level <= len(schedule) else None
