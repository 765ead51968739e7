"""The run directory: the files of one run, from which it can resume.

```
RUN/
  declaration.json        the settings of the run
  outcome.json            what the search found; it is written last
  stable_step.json        the step to rewind to, where the search finds it
  lock                    the lock of the process that works here
  rewind.safetensors      the snapshot to which Rounds rewind
  level_00/ level_01/ ... one directory for each Round: Levels,
  level_03-one_shot-0/    and controls by Level, name and draw
  search_01/              the trainings of the search itself
  stability_00-500-1/     trainings from a step in an order of the data, by
                          Level, step and order, to see whether they agree; of a
                          ticket, with the hash of its mask
  stability_dense-500/    the dense network's training up to that step, again
    ticket.safetensors      mask and start weights
    checkpoint.safetensors  the snapshot to resume from, during training
    step_500.safetensors    of Level 0: snapshots of steps to rewind to
    metrics.jsonl           one line for each evaluation
    final.safetensors       weights at the end
    round.json              the record; it is written last, so the Round is done
  search_on-NAME-0/       the run directory of a search of its own, on the
                          damaged data of a control
  tensorboard/            event files
  .tf_lottery-*           files that are being written, see files.py
```

This module and `round_directory.py` alone build these paths.
"""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import filelock

from tf_lottery.storage import files
from tf_lottery.storage import schemas
from tf_lottery.storage.round_directory import RoundDirectory

DECLARATION = "declaration.json"
OUTCOME = "outcome.json"
STABLE_STEP = "stable_step.json"
EXPERIMENT = "experiment.json"
TUNED_DENSE = "tuned_dense"
LOOKS = "looks.json"

# Every number of up to 18 digits fits in 64 bits.
_ROUND = re.compile(r"level_(\d{1,18})(?:-(\w+?)(?:-(\d{1,18}))?)?")
_SEARCH = re.compile(r"search_(\d{1,18})")
_STABILITY = re.compile(r"stability_\d{1,18}(_\w+)?-\d{1,18}-\d{1,18}")
_DENSE = re.compile(r"stability_dense-(\d{1,18})")
_SEARCH_ON = re.compile(r"search_on-(\w+?)-(\d{1,18})")
_REPLICATE = re.compile(r"replicate_(\d{1,18})")


class RunDirectory:
  """The directory of one run.

  Args:
    path: The path of the directory, which is made at the first write.
    writes: Whether this process writes. In a cluster only the chief does.
  """

  def __init__(self, path: str | os.PathLike, *, writes: bool = True):
    self.path = pathlib.Path(path)
    self.writes = writes
    self.rewind = self.path / "rewind.safetensors"
    self._declaration = self.path / DECLARATION
    self._lock: filelock.BaseFileLock | None = None

  def round(self, name: str) -> RoundDirectory:
    """Returns the directory of a Round by its name, such as `"level_03"`."""
    return RoundDirectory(self.path / name, run=self, writes=self.writes)

  def named(self, name: str) -> RoundDirectory:
    """Returns the directory of a Round that a user names.

    Raises:
      ValueError: The name is no plain name of a folder, or is one that Levels
        and controls bear.
    """
    names = (_ROUND, _SEARCH, _SEARCH_ON, _STABILITY, _DENSE)
    taken = any(pattern.fullmatch(name) for pattern in names)
    if taken or not re.fullmatch(r"\w[\w.-]*", name):
      raise ValueError(
        "name must have letters, digits and .-_ alone, and must not look like"
        " level_03, level_03-NAME-0, search_01, search_on-NAME-0,"
        f" stability_00-500-1 or stability_dense-500, got {name!r}."
      )
    return self.round(name)

  def level(self, level: int) -> RoundDirectory:
    """Returns the directory of a Level's Round."""
    return self.round(f"level_{level:02d}")

  def control(self, level: int, name: str, draw: int = 0) -> RoundDirectory:
    """Returns the directory of a control by its Level, name and draw."""
    return self.round(f"level_{level:02d}-{name}-{draw}")

  def search(self, number: int) -> RoundDirectory:
    """Returns the directory of a training of the search itself, from 1 on."""
    return self.round(f"search_{number:02d}")

  def searches(self) -> list[RoundDirectory]:
    """Returns the directories of the search's own trainings, in order.

    Those that found the step to rewind to come first.
    """
    found = {
      int(match[1]): path.name
      for path in self.path.glob("search_*")
      if (match := _SEARCH.fullmatch(path.name))
    }
    numbered = [self.round(found[number]) for number in sorted(found)]
    return [*self.stability_searches(), *numbered]

  def stability_searches(self) -> list[RoundDirectory]:
    """Returns the directories of the trainings that found where to rewind."""
    try:
      barriers = self.read_stable_step()["barriers"]
    except (FileNotFoundError, files.FileFormatError):
      return []
    return [self.stability(0, step, 1) for step, _ in barriers]

  def stability(
    self, level: int, step: int, order: int, ticket: str = ""
  ) -> RoundDirectory:
    """Returns the directory of a training that shows whether a step is stable.

    Args:
      level: The Level of the ticket.
      step: The step from which it is trained.
      order: The number of the order of the data; 0 is the search's.
      ticket: Tells tickets of one Level apart. Defaults to `""`.
    """
    name = f"{level:02d}_{ticket}" if ticket else f"{level:02d}"
    return self.round(f"stability_{name}-{step}-{order}")

  def dense(self, step: int) -> RoundDirectory:
    """Returns the directory of a training of the dense network up to a step."""
    return self.round(f"stability_dense-{step}")

  def denses(self) -> dict[int, RoundDirectory]:
    """Returns the directories of such trainings that are done, by step."""
    found = {
      int(match[1]): self.round(path.name)
      for path in self.path.glob("stability_dense-*")
      if (match := _DENSE.fullmatch(path.name))
    }
    return {step: found[step] for step in sorted(found) if found[step].is_done}

  def search_on(self, name: str, draw: int = 0) -> "RunDirectory":
    """Returns the run directory of the search on a control's damaged data."""
    path = self.path / f"search_on-{name}-{draw}"
    return RunDirectory(path, writes=self.writes)

  def searches_on(self) -> list["RunDirectory"]:
    """Returns the run directories of the searches on damaged data."""
    return [
      RunDirectory(path, writes=self.writes)
      for path in sorted(self.path.glob("search_on-*"))
      if _SEARCH_ON.fullmatch(path.name)
    ]

  def rounds(self) -> Iterator[tuple[int, str, int, RoundDirectory]]:
    """Yields the Level, control, draw and directory of each Round.

    For the Round of a Level itself, the control is `""`.
    """
    for path in sorted(self.path.glob("level_*")):
      if match := _ROUND.fullmatch(path.name):
        level, control, draw = match.groups()
        yield int(level), control or "", int(draw or 0), self.round(path.name)

  def read_declaration(self) -> dict[str, Any]:
    """Reads the settings of the run.

    Readers of a run call this first, so it also cleans up after processes that
    were killed here; see `files.recover`.

    Raises:
      FileNotFoundError: The run was not declared.
      FileFormatError: The declaration is damaged.
    """
    files.recover(self.path, below=True)
    return files.read_json(self._declaration, schemas.Declaration)

  @contextlib.contextmanager
  def locked(self) -> Iterator[None]:
    """Keeps other processes out of the run directory while the block runs.

    The end of the process releases the lock too. A process that does not write
    takes no lock.

    Raises:
      RuntimeError: Another process works in the run directory.
      ValueError: The path of the lock leads to something other than a file.
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
    if self._lock is None:
      # FileLock follows no symbolic links. One object counts its entries, so
      # that a function called in the block may lock again.
      self._lock = filelock.FileLock(path.resolve())
    try:
      self._lock.acquire(timeout=0)
    except filelock.Timeout:
      raise RuntimeError(
        f"Another process works in the run directory {self.path}. Wait for it"
        " to end, or give another run_dir."
      ) from None
    try:
      files.recover(self.path, below=True)
      yield
    finally:
      self._lock.release()

  def write_declaration(self, declaration: Mapping[str, Any]) -> None:
    """Writes the settings of the run as JSON."""
    if self.writes:
      files.write_json(self._declaration, dict(declaration))

  def read_outcome(self) -> dict[str, Any]:
    """Reads what `write_outcome` wrote.

    Raises:
      FileNotFoundError: The search has not ended, or an earlier version ran it.
      FileFormatError: The file is damaged.
    """
    return files.read_json(self.path / OUTCOME, schemas.Outcome)

  def read_stable_step(self) -> schemas.StableStep:
    """Reads what `write_stable_step` wrote.

    Raises:
      FileNotFoundError: The search has not found the step to rewind to.
      FileFormatError: The file is damaged.
    """
    return files.read_json(self.path / STABLE_STEP, schemas.StableStep)

  def write_stable_step(self, found: schemas.StableStep) -> None:
    """Writes the step to rewind to, and what it was found by, as JSON."""
    if self.writes:
      files.write_json(self.path / STABLE_STEP, dict(found))

  def write_outcome(self, outcome: Mapping[str, Any]) -> None:
    """Writes what a search found, as JSON."""
    if self.writes:
      files.write_json(self.path / OUTCOME, dict(outcome))


def temporary() -> RunDirectory:
  """Makes a run directory that is deleted together with the object."""
  directory = RunDirectory(tempfile.mkdtemp(prefix="tf_lottery-"))
  weakref.finalize(directory, shutil.rmtree, directory.path, ignore_errors=True)
  return directory


def read_experiment(home: str | os.PathLike) -> dict[str, Any]:
  """Reads the `experiment.json` of an experiment's directory.

  Raises:
    FileNotFoundError: There is no such file.
    FileFormatError: The file is damaged.
  """
  return files.read_json(pathlib.Path(home) / EXPERIMENT, schemas.Experiment)


def read_looks(home: str | os.PathLike) -> schemas.Looks:
  """Reads the `looks.json` of an experiment's directory.

  Raises:
    FileNotFoundError: The number of replicates is fixed, or none is trained.
    FileFormatError: The file is damaged.
  """
  return files.read_json(pathlib.Path(home) / LOOKS, schemas.Looks)


def write_looks(home: str | os.PathLike, looks: schemas.Looks) -> None:
  """Writes the `looks.json` of an experiment's directory, atomically."""
  files.write_json(pathlib.Path(home) / LOOKS, looks)


def replicate_directory(home: pathlib.Path, replicate: int) -> pathlib.Path:
  """Returns the run directory of a replicate, in its experiment's directory."""
  return home / f"replicate_{replicate:02d}"


def tuned_dense_directory(home: pathlib.Path, replicate: int) -> pathlib.Path:
  """Returns where `tune` trains its candidates, in an experiment's directory.

  The Rounds in it bear the names of the candidates. It has no declaration, so
  it is no run of the experiment.
  """
  return replicate_directory(home / TUNED_DENSE, replicate)


def replicate_of(path: pathlib.Path) -> int | None:
  """Returns the number of a replicate's run directory; None for others."""
  match = _REPLICATE.fullmatch(path.name)
  return int(match[1]) if match else None
