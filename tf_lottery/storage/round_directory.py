"""The directory of one Round in a run directory; see `run_directory.py`."""

import json
import pathlib
import typing
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery.storage import files
from tf_lottery.storage import schemas

if typing.TYPE_CHECKING:
  from tf_lottery.storage.run_directory import RunDirectory


class RoundDirectory:
  """The files of one Round.

  Args:
    path: The path of the directory, which is made at the first write.
    run: The run directory. It is kept alive, because a temporary one is deleted
      together with its object.
    writes: Whether this process writes. In a cluster only the chief does.
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

  def snapshot(self, step: int) -> pathlib.Path:
    """Returns the path of the snapshot of a step within the training."""
    return self.path / f"step_{step}.safetensors"

  @property
  def is_done(self) -> bool:
    """Whether the training has ended."""
    return self._record.exists()

  @property
  def has_begun(self) -> bool:
    """Whether there is more than a ticket: a training began, or has ended."""
    return self.is_done or self._metrics.is_file() or self.checkpoint.is_file()

  @property
  def ended(self) -> float | None:
    """When the training ended, in seconds since 1970; None if it has not."""
    try:
      return self._record.stat().st_mtime
    except OSError:
      return None

  def read_record(self) -> dict[str, Any]:
    """Reads the record that `finish` wrote.

    Raises:
      FileNotFoundError: The Round is not done.
      FileFormatError: The record is damaged.
    """
    return files.read_json(self._record, schemas.Record)

  def save(self, value: Any, path: pathlib.Path, **options: Any) -> None:
    """Saves a ticket or a snapshot, if this process writes."""
    if self.writes:
      value.save(path, **options)

  def finish(self, record: Mapping[str, Any]) -> None:
    """Marks the Round as done, once all its other files are written.

    A Round that was stopped keeps its checkpoint, so that it can go on.
    """
    if self.writes:
      files.write_json(self._record, dict(record))
      if not record.get("stopped"):
        self.checkpoint.unlink(missing_ok=True)

  def move(self, to: "RoundDirectory") -> None:
    """Renames the directory, if this process writes."""
    if self.writes:
      self.path.rename(to.path)
      if self.tensorboard.is_dir():
        self.tensorboard.rename(to.tensorboard)

  def append_metrics(self, row: Mapping[str, float]) -> None:
    """Adds one line to the metrics."""
    if self.writes:
      self.path.mkdir(parents=True, exist_ok=True)
      with open(self._metrics, "a", encoding="utf-8") as file:
        file.write(json.dumps(dict(row)) + "\n")

  def read_metrics(
    self, on_damage: Callable[[files.FileFormatError], None] | None = None
  ) -> list[dict[str, float]]:
    """Reads all lines, except a last one that a killed process cut off.

    Args:
      on_damage: A function that is called with the error of each damaged line,
        which is then left out. Defaults to `None`: the error is raised.

    Raises:
      FileFormatError: A line is damaged; the message names file and line.
    """
    try:
      content = files.read_bytes(self._metrics)
    except FileNotFoundError:
      return []
    usual = schemas.parse_rows(content)
    if usual is not None:
      return usual
    *lines, last = content.split(b"\n")
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
      FileFormatError: A line is damaged; see `read_metrics`.
    """
    rows = [row for row in self.read_metrics() if row["step"] <= step]
    if self._metrics.is_file():
      self.write_metrics(rows)

  def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
    """Replaces all lines of the metrics."""
    if self.writes:
      lines = "".join(json.dumps(dict(row)) + "\n" for row in rows)
      files.write_bytes(self._metrics, lines.encode(), durable=False)
