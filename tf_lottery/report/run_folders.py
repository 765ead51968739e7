"""Run directories, and which of them are replicates of one experiment."""

import collections
import dataclasses
import itertools
import json
import os
import pathlib
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from tf_lottery.storage import files
from tf_lottery.storage import run_directory
from tf_lottery.storage import schemas

_Value = TypeVar("_Value")

# Fields of a declaration that differ between replicates: the seed, and the
# fingerprint of the initial weights, which follows from it.
_OF_THE_SEED = ("seed", "initial")
# The end of folder names such as "mine-seed-3" and "run_0".
_NUMBERED = re.compile(
  r"(?:(?:^|[\W_]+)(?:seed|replicate|run|rep))?(?:[\W_]+\d*)?$", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Run:
  """A run directory, its declaration and its place in an experiment.

  Attributes:
    path: The run directory.
    experiment: The id of the experiment.
    replicate: The number of the replicate in the experiment.
    home: The directory of the experiment; the run's own if it stands alone;
      that of the first replicate if the runs were started by hand.
    declaration: The declaration of the run; empty if it cannot be read.
    experiment_declaration: The declaration of the experiment; empty if the run
      stands alone, or if it cannot be read.
    damage: Which of these files cannot be read, and why.
    outcome: What the search found, of `outcome.json`; empty before its end, in
      runs of earlier versions, and if it cannot be read.
    looks: The looks of the experiment, of `looks.json`; None if the number of
      replicates is fixed, and if it cannot be read.
  """

  path: pathlib.Path
  experiment: str
  replicate: int
  home: pathlib.Path
  declaration: Mapping[str, Any]
  experiment_declaration: Mapping[str, Any]
  damage: tuple[str, ...]
  outcome: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  looks: schemas.Looks | None = None

  @classmethod
  def at(cls, path: str | os.PathLike) -> "Run":
    """Reads a run: `ROOT/ID/replicate_00`, or one that stands alone."""
    path = pathlib.Path(path).resolve()
    replicate = run_directory.replicate_of(path)
    if not (path.parent / run_directory.EXPERIMENT).is_file():
      replicate = None
    home = path if replicate is None else path.parent
    damage: list[str] = []
    experiment = (
      read_or_note(lambda: run_directory.read_experiment(home), damage) or {}
    )
    declaration = read_or_note(_directory(path).read_declaration, damage) or {}
    outcome = read_or_note(_directory(path).read_outcome, damage) or {}
    looks = read_or_note(lambda: run_directory.read_looks(home), damage)
    declared = None if replicate is None else experiment.get("id")
    return cls(
      path,
      declared or home.name,
      replicate or 0,
      home,
      declaration,
      experiment,
      tuple(damage),
      outcome,
      looks,
    )

  @property
  def directory(self) -> run_directory.RunDirectory:
    """The files of the run, for reading only."""
    return _directory(self.path)


def find_runs(paths: Iterable[str | os.PathLike]) -> list[Run]:
  """Returns the runs at and below some paths, by experiment and replicate.

  Runs that lie side by side without an `experiment.json` are replicates of one
  experiment if their declarations differ in the seed alone.

  Args:
    paths: Run directories, or folders that contain some at any depth. A run
      that lies below several of them is returned once.

  Raises:
    FileNotFoundError: A path is not a directory, or has no run below it.
  """
  found: dict[pathlib.Path, Run] = {}
  for path in map(pathlib.Path, paths):
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
  found |= _by_hand(found.values())
  return sorted(
    found.values(), key=lambda run: (run.experiment, run.home, run.replicate)
  )


def read_or_note(
  read: Callable[[], _Value], damage: list[str]
) -> _Value | None:
  """Reads a file; returns None if it is absent or damaged, and notes damage."""
  try:
    return read()
  except FileNotFoundError:
    return None  # not written yet
  except (OSError, files.FileFormatError) as error:
    damage.append(str(error))
    return None


def _directory(path: pathlib.Path) -> run_directory.RunDirectory:
  return run_directory.RunDirectory(path, writes=False)


def _run_folders(path: pathlib.Path) -> Iterator[pathlib.Path]:
  for folder, below, names in os.walk(path):
    # Other runs may lie in a run's folder, beside its Rounds.
    apart = ("level_", "search_")
    below[:] = [name for name in below if not name.startswith(apart)]
    if run_directory.DECLARATION in names:
      yield pathlib.Path(folder)


def _by_hand(runs: Iterable[Run]) -> dict[pathlib.Path, Run]:
  """Returns the replicates that somebody started one by one, by their paths.

  Of several runs with one seed, such as a copy, the first one counts. The
  others stand alone.
  """
  groups: dict[Any, dict[int, Run]] = collections.defaultdict(dict)
  for run in sorted(runs, key=lambda run: run.path):
    alone = run.home == run.path and not run.experiment_declaration
    seed = run.declaration.get("seed")
    if alone and isinstance(seed, int):
      shared = {
        name: value
        for name, value in run.declaration.items()
        if name not in _OF_THE_SEED
      }
      key = run.path.parent, json.dumps(shared, sort_keys=True)
      groups[key].setdefault(seed, run)
  replicates = {}
  for by_seed in groups.values():
    members = [run for _, run in sorted(by_seed.items())]
    if len(members) > 1:
      for number, run in enumerate(members):
        replicates[run.path] = dataclasses.replace(
          run,
          experiment=_name([one.path for one in members]),
          replicate=number,
          home=members[0].path,
        )
  return replicates


def _name(paths: Sequence[pathlib.Path]) -> str:
  """Returns what the names of folders share, else the name of their parent."""
  names = [path.name for path in paths]
  letters = zip(*names, strict=False)  # as far as the shortest name goes
  same = itertools.takewhile(lambda column: len(set(column)) == 1, letters)
  common = "".join(column[0] for column in same)
  return _NUMBERED.sub("", common) or paths[0].parent.name
