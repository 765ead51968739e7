"""An index of trials in one SQLite file, so that thousands stay quick to read.

It is a cache: what it holds was read from run directories, and it can be
deleted at any time.
"""

import contextlib
import dataclasses
import os
import pathlib
import sqlite3
from collections.abc import Iterable
from collections.abc import Iterator

from tf_lottery import trials as trials_lib

_FIELDS = tuple(field.name for field in dataclasses.fields(trials_lib.Trial))
_FORMAT_VERSION = 2
_TABLES = f"""
CREATE TABLE IF NOT EXISTS runs (path TEXT PRIMARY KEY, state TEXT) STRICT;
CREATE TABLE IF NOT EXISTS trials ({", ".join(_FIELDS)});
CREATE INDEX IF NOT EXISTS by_run ON trials (run);
CREATE INDEX IF NOT EXISTS by_experiment ON trials (experiment);
PRAGMA user_version = {_FORMAT_VERSION};
"""


class Index:
  """The trials of many runs; several processes may use one at a time.

  Args:
    path: the SQLite file; made when it is missing.

  Example:
  ```python
  index = Index("runs/index.sqlite")
  index.update(trials.find_runs(["runs"]))
  index.trials("lenet_300_100-mnist-init-1f0c9a52")
  ```
  """

  def __init__(self, path: str | os.PathLike):
    self.path = pathlib.Path(path)
    self.path.parent.mkdir(parents=True, exist_ok=True)
    with self._connected() as connection:
      connection.execute("PRAGMA journal_mode = WAL")
      connection.execute("BEGIN IMMEDIATE")
      (version,) = connection.execute("PRAGMA user_version").fetchone()
      if version != _FORMAT_VERSION:
        connection.execute("DROP TABLE IF EXISTS trials")
        connection.execute("DROP TABLE IF EXISTS runs")
        for statement in _TABLES.strip().rstrip(";").split(";"):
          connection.execute(statement)

  def update(self, runs: Iterable[trials_lib.Run | str | os.PathLike]) -> int:
    """Reads the runs that changed since; forgets those that are gone.

    Args:
      runs: what `trials.find_runs` found, or run directories.

    Returns:
      How many runs were read.
    """
    with self._connected() as connection:
      known = dict(connection.execute("SELECT path, state FROM runs"))
    count = 0
    for run in runs:
      run = run if isinstance(run, trials_lib.Run) else trials_lib.Run.at(run)
      # Before reading: what changes meanwhile is then read the next time.
      state = _state(run)
      if known.get(str(run.path)) != state:
        self._replace(run, state, trials_lib.read_trials(run))
        count += 1
    gone = [path for path in known if not os.path.isdir(path)]
    with self._connected() as connection:
      for path in gone:
        _forget(connection, path)
    return count

  def trials(self, experiment: str | None = None) -> list[trials_lib.Trial]:
    """The trials of an experiment, by its id, or of all."""
    query = f"SELECT {', '.join(_FIELDS)} FROM trials"
    if experiment is not None:
      query += " WHERE experiment = :experiment"
    query += (
      " ORDER BY experiment, run, level, method != 'ticket', method, draw"
    )
    with self._connected() as connection:
      rows = connection.execute(query, {"experiment": experiment}).fetchall()
    read = [dict(zip(_FIELDS, row, strict=True)) for row in rows]
    return [
      trials_lib.Trial(**{**row, "done": bool(row["done"])}) for row in read
    ]

  def _replace(
    self, run: trials_lib.Run, state: str, found: Iterable[trials_lib.Trial]
  ) -> None:
    with self._connected() as connection:
      connection.execute("BEGIN IMMEDIATE")
      _forget(connection, str(run.path))
      connection.execute(
        "INSERT INTO runs VALUES (?, ?)", (str(run.path), state)
      )
      connection.executemany(
        f"INSERT INTO trials VALUES ({', '.join('?' * len(_FIELDS))})",
        [dataclasses.astuple(trial) for trial in found],
      )

  @contextlib.contextmanager
  def _connected(self) -> Iterator[sqlite3.Connection]:
    """A connection of its own to each use, so that forks share none."""
    connection = sqlite3.connect(self.path, timeout=60)
    with contextlib.closing(connection), connection:
      yield connection


def _forget(connection: sqlite3.Connection, path: str) -> None:
  connection.execute("DELETE FROM trials WHERE run = ?", (path,))
  connection.execute("DELETE FROM runs WHERE path = ?", (path,))


def _state(run: trials_lib.Run) -> str:
  """Changes when a file that trials are read from does."""
  watched = [run.path, run.home]
  watched += [leg.path for *_, leg in run.directory.legs()]
  stats = []
  for folder in watched:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
      stats += [
        entry.stat()
        for entry in entries
        if entry.name.endswith((".json", ".jsonl"))
      ]
  newest = max((stat.st_mtime_ns for stat in stats), default=0)
  size = sum(stat.st_size for stat in stats)
  return f"{run.experiment} {run.replicate} {len(stats)} {newest} {size}"
