"""The run directory: where a run's files lie, and what makes one resume.

```
RUN/
  declaration.json        what the run was asked to do
  lock                    held while a process works here
  rewind.safetensors      the snapshot to which Rounds rewind
  level_00/ level_01/ ... one directory for each Round: Levels,
  level_03-one_shot-0/    and controls by Level, name and draw
    ticket.safetensors      mask and start weights
    checkpoint.safetensors  where to go on, while it is trained
    metrics.jsonl           one line for each evaluation
    final.safetensors       weights at the end
    round.json              its record; written last, so it marks the Round done
  tensorboard/            event files
  .tf_lottery-*           what a process writes at this moment: see files.py
```

This is the only module that builds these paths.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import filelock

from tf_lottery.storage import files
from tf_lottery.storage import schemas

EXPERIMENT = "experiment.json"

# No more digits than a number of 64 bits has for certain.
_ROUND = re.compile(r"level_(\d{1,18})(?:-(\w+?)(?:-(\d{1,18}))?)?")
_REPLICATE = re.compile(r"replicate_(\d{1,18})")


class RoundDirectory:
  """The files of one Round.

  Args:
    path: the directory; it is made when something is written.
    run: the run directory, which may be temporary: it must live as long.
    writes: whether this process writes. In a cluster only the chief does.
  """

  def __init__(
    self, path: pathlib.Path, *, run: "RunDirectory", writes: bool = True
  ):
    self.path = path
    self.run = run
    self.writes = writes
    self.ticket = path / "ticket.safetensors"
    self.checkpoint = path / "checkpoint.safetensors"
    self.final = path / "final.safetensors"
    self.tensorboard = path.parent / "tensorboard" / path.name
    self._metrics = path / "metrics.jsonl"
    self._record = path / "round.json"

  @property
  def is_done(self) -> bool:
    """Whether the Round is trained to its end."""
    return self._record.exists()

  def read_record(self) -> dict[str, Any]:
    """Reads the record that `finish` wrote.

    Raises:
      FileNotFoundError: the Round is not done.
      FileFormatError: the record is damaged.
    """
    return files.read_json(self._record, schemas.Record)

  def save(self, value: Any, path: pathlib.Path, **options: Any) -> None:
    """Saves a ticket or a snapshot, if this process writes."""
    if self.writes:
      value.save(path, **options)

  def finish(self, record: Mapping[str, Any]) -> None:
    """Marks the Round as done, once all its other files are written."""
    if self.writes:
      files.write_json(self._record, dict(record))
      self.checkpoint.unlink(missing_ok=True)

  def append_metrics(self, row: Mapping[str, float]) -> None:
    """Adds one line to the metrics."""
    if self.writes:
      self.path.mkdir(parents=True, exist_ok=True)
      with open(self._metrics, "a", encoding="utf-8") as file:
        file.write(json.dumps(dict(row)) + "\n")

  def read_metrics(
    self, on_damage: Callable[[files.FileFormatError], None] | None = None
  ) -> list[dict[str, float]]:
    """Reads all lines, except a last one that a killed process left half-done.

    Args:
      on_damage: called with what is wrong with each damaged line, which is
        then left out. Defaults to `None`: it is raised.

    Raises:
      FileFormatError: a line is damaged; the message names file and line.
    """
    try:
      *lines, last = files.read_bytes(self._metrics).split(b"\n")
    except FileNotFoundError:
      return []
    rows = []
    for number, line in enumerate([*lines, last] if last else lines, 1):
      try:
        row = schemas.parse(line, dict[str, float])
        schemas.check(row, schemas.Row)
        rows.append(row)
      except ValueError as error:
        is_cut = isinstance(error, json.JSONDecodeError) and line[:1] == b"{"
        if number > len(lines) and is_cut:
          break
        damage = files.FileFormatError(
          f"{self._metrics}, line {number}, is damaged: {error}. Delete the"
          " line, or the folder to train again."
        )
        if on_damage is None:
          raise damage from error
        on_damage(damage)
    return rows

  def keep_metrics_up_to(self, step: int) -> None:
    """Drops the lines that come after the checkpoint at `step`.

    Raises:
      FileFormatError: a line is damaged, see `read_metrics`.
    """
    rows = [row for row in self.read_metrics() if row["step"] <= step]
    if self._metrics.is_file():
      self.write_metrics(rows)

  def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
    """Replaces all lines of the metrics."""
    if self.writes:
      lines = "".join(json.dumps(dict(row)) + "\n" for row in rows)
      files.write_bytes(self._metrics, lines.encode(), durable=False)


class RunDirectory:
  """The directory of one run.

  Args:
    path: the directory; it is made when something is written.
    writes: whether this process writes. In a cluster only the chief does.
  """

  def __init__(self, path: str | os.PathLike, *, writes: bool = True):
    self.path = pathlib.Path(path)
    self.writes = writes
    self.rewind = self.path / "rewind.safetensors"
    self._declaration = self.path / "declaration.json"

  def round(self, name: str) -> RoundDirectory:
    """The directory of a Round, such as `"level_03"`."""
    return RoundDirectory(self.path / name, run=self, writes=self.writes)

  def level(self, level: int) -> RoundDirectory:
    """The directory of a Level's Round."""
    return self.round(f"level_{level:02d}")

  def control(self, level: int, name: str, draw: int = 0) -> RoundDirectory:
    """The directory of a control, by its Level, its name and its draw."""
    return self.round(f"level_{level:02d}-{name}-{draw}")

  def rounds(self) -> Iterator[tuple[int, str, int, RoundDirectory]]:
    """Yields the Level, control, draw and directory of each Round.

    The control of a Level itself is `""`.
    """
    for path in sorted(self.path.glob("level_*")):
      if match := _ROUND.fullmatch(path.name):
        level, control, draw = match.groups()
        yield int(level), control or "", int(draw or 0), self.round(path.name)

  def read_declaration(self) -> dict[str, Any]:
    """Reads what the run was asked to do.

    Readers of a run call it first, so it also recovers what killed processes
    left here.

    Raises:
      FileNotFoundError: the run was not declared.
      FileFormatError: the declaration is damaged.
    """
    files.recover(self.path, below=True)
    return files.read_json(self._declaration, schemas.Declaration)

  @contextlib.contextmanager
  def locked(self) -> Iterator[None]:
    """Keeps other processes out of the run directory while the block runs.

    The end of the process releases the lock too. It does nothing if this
    process does not write.

    Raises:
      RuntimeError: Another process works in the run directory.
      ValueError: Something other than a file bears the name of the lock file.
    """
    if not self.writes:
      yield
      return
    self.path.mkdir(parents=True, exist_ok=True)
    path = self.path / "lock"
    if path.exists() and not path.is_file():
      raise ValueError(
        f"{path} must be a file, which tf_lottery locks, and it is something"
        " else. Move it away, or give another run_dir."
      )
    lock = filelock.FileLock(path.resolve())  # It follows no link itself.
    try:
      lock.acquire(timeout=0)
    except filelock.Timeout:
      raise RuntimeError(
        f"Another process works in the run directory {self.path}. Wait for it"
        " to end, or give another run_dir."
      ) from None
    try:
      files.recover(self.path, below=True)
      yield
    finally:
      lock.release()

  def write_declaration(self, declaration: Mapping[str, Any]) -> None:
    """Writes what the run is asked to do, as JSON."""
    if self.writes:
      files.write_json(self._declaration, dict(declaration))


def temporary() -> RunDirectory:
  """Makes a run directory that is deleted together with the object."""
  directory = RunDirectory(tempfile.mkdtemp(prefix="tf_lottery-"))
  weakref.finalize(directory, shutil.rmtree, directory.path, ignore_errors=True)
  return directory


def read_experiment(home: str | os.PathLike) -> dict[str, Any]:
  """Reads the `experiment.json` of an experiment's directory.

  Raises:
    FileNotFoundError: there is none.
    FileFormatError: it is damaged.
  """
  return files.read_json(pathlib.Path(home) / EXPERIMENT, schemas.Experiment)


def replicate_directory(home: pathlib.Path, replicate: int) -> pathlib.Path:
  """The run directory of a replicate, below its experiment's directory."""
  return home / f"replicate_{replicate:02d}"


def replicate_of(path: pathlib.Path) -> int | None:
  """The number in the name of a replicate's run directory, else None."""
  match = _REPLICATE.fullmatch(path.name)
  return int(match[1]) if match else None
