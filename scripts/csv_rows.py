"""The rows of a study's CSV, to which several processes may add."""

import csv
import io
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import filelock


def read(path: pathlib.Path) -> list[dict[str, str]]:
  """Returns the rows that are there; none without the file."""
  if not path.is_file():
    return []
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


def cell(value: Any) -> Any:
  """Writes a number with as many digits as tell anything; None as nothing."""
  if value is None:
    return ""
  return f"{value:.6g}" if isinstance(value, float) else value


def append(
  path: pathlib.Path, fields: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
  """Adds rows, below a header in a new file, while others wait.

  Raises:
    ValueError: The file has other columns.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with filelock.FileLock(path.with_suffix(".lock")):
    is_new = not path.is_file()
    if not is_new:
      with path.open(newline="") as file:
        found = next(csv.reader(file), [])
      if found != list(fields):
        raise ValueError(
          f"{path} has other columns: {found}, expected {list(fields)}. Move it"
          " away; the trainings of the run directories are not lost."
        )
    with path.open("a", newline="") as file:
      writer = csv.DictWriter(file, fields, lineterminator="\n")
      if is_new:
        writer.writeheader()
      writer.writerows(rows)


def write(
  path: pathlib.Path, fields: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
  """Replaces the file by a header and rows."""
  from tf_lottery.storage import files

  text = io.StringIO(newline="")
  writer = csv.DictWriter(text, fields, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  files.write_bytes(path, text.getvalue().encode())
