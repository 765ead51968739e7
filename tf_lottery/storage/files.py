"""Files that are whole or absent: atomic writes, and readers that check.

A reader checks the type of what it reads. It raises `FileNotFoundError` where
there is no file, `FileFormatError` where the file is damaged or foreign, and
another `OSError` where the system cannot read it.

While a file is written, its directory holds two more files:

```
.tf_lottery-TOKEN.lock   the lock that the writing process holds
.tf_lottery-TOKEN.tmp    the new content, until it is moved into place
```

The token is random. If the process is killed, its lock becomes free, and
`recover` finishes or undoes the write. `recover` leaves the files of running
processes alone, and all other files.
"""

import contextlib
import fnmatch
import json
import os
import pathlib
import shutil
import stat
import uuid
from collections.abc import Iterator
from typing import Any

import filelock

from tf_lottery.storage import schemas

_LOCKS = f".tf_lottery-{'[0-9a-f]' * 32}.lock"


class FileFormatError(ValueError):
  """A file is damaged, of another kind, or newer than this library."""


def write_bytes(
  path: str | os.PathLike, content: bytes, *, durable: bool = True
) -> None:
  """Writes a file under a temporary name, then moves it into place.

  A symbolic link at `path` is replaced by the file.

  Args:
    path: Where the file goes. Its directory is made if it is missing.
    content: The whole file.
    durable: Whether to wait for the disk, so that the file survives a power
      cut. Without it, the file still survives the end of the process.
  """
  path = pathlib.Path(path)
  with _temporary_beside(path) as temporary:
    with open(temporary, "wb") as file:
      file.write(content)
      if durable:
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if durable:
      _sync_directory(path.parent)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a temporary path; the file or directory made there replaces `path`.

  Use it for files and directories that other libraries write. If the block
  raises, `path` stays as it was. If the process is killed, `path` holds the old
  or the new content, at the latest after `recover`.

  Args:
    path: Where the result goes. Its directory is made if it is missing. If it
      is a symbolic link, the target of the link is replaced.

  Yields:
    A path on the same disk, with the same suffix, where nothing exists.

  Raises:
    ValueError: A directory would replace a file, or a file a directory.
  """
  path = pathlib.Path(path).resolve()
  with _temporary_beside(path) as temporary:
    temporary.mkdir()
    new = temporary / f"new{path.suffix}"
    yield new
    if not os.path.lexists(new):
      raise FileNotFoundError(f"Nothing was written for {path}.")
    if path.exists() and path.is_dir() != new.is_dir():
      raise ValueError(
        f"A {_kind(new)} must not replace a {_kind(path)}, and there is"
        f" one at {path}. Give another path."
      )
    if path.is_dir():
      # A directory cannot be replaced in one step: it steps aside first.
      (temporary / "old").mkdir()
      os.replace(path, temporary / "old" / path.name)
    os.replace(new, path)


def recover(directory: str | os.PathLike, *, below: bool = False) -> None:
  """Cleans up after processes that were killed while they wrote.

  A directory that `replacing` had moved aside is put back if nothing has taken
  its place. The temporary files are removed. Each write does this first in its
  own directory; readers call it where a directory may be missing. Files that
  cannot be recovered now, for example because another user owns them, stay for
  the next call.

  Args:
    directory: Where to look.
    below: Whether to look in the directories below it as well.
  """
  for folder, _, names in os.walk(pathlib.Path(directory)):
    for name in fnmatch.filter(names, _LOCKS):
      path = pathlib.Path(folder, name)
      # A lock that a process holds raises Timeout, which is an OSError.
      with (
        contextlib.suppress(OSError),
        filelock.FileLock(path, timeout=0),
      ):
        _settle(path)
    if not below:
      return


@contextlib.contextmanager
def _temporary_beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a free path beside `path`, which no other block can get."""
  path.parent.mkdir(parents=True, exist_ok=True)
  recover(path.parent)
  lock = path.with_name(f".tf_lottery-{uuid.uuid4().hex}.lock")
  # Only the `recover` of another process can hold it, for a moment.
  with filelock.FileLock(lock, timeout=10):
    try:
      yield lock.with_suffix(".tmp")
    finally:
      _settle(lock)


def _settle(lock: pathlib.Path) -> None:
  """Puts back a directory that was moved aside, removes the rest, unlocks."""
  temporary = lock.with_suffix(".tmp")
  old = temporary / "old"
  for copy in old.iterdir() if old.is_dir() else ():
    path = lock.with_name(copy.name)
    # A copy that is no longer needed leaves "old" before it is deleted:
    # otherwise the next `recover` could put back half of it.
    os.replace(copy, temporary / "done" if os.path.lexists(path) else path)
  _remove(temporary)
  # Windows cannot delete an open file: there, the lock does at its release.
  with contextlib.suppress(PermissionError):
    lock.unlink(missing_ok=True)


def refuse_directory(path: str | os.PathLike) -> None:
  """Raises ValueError if `path`, where a file should go, is a directory."""
  if pathlib.Path(path).is_dir():
    raise ValueError(
      f"path must lead to a file, and {path} is a directory. Give the name of a"
      " file in it."
    )


def _kind(path: pathlib.Path) -> str:
  return "directory" if path.is_dir() else "file"


def _remove(path: pathlib.Path) -> None:
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _sync_directory(path: pathlib.Path) -> None:
  """Waits until a rename is on disk, where the system can do that."""
  if not hasattr(os, "O_DIRECTORY"):
    return  # Windows
  descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value` as indented JSON, atomically.

  Raises:
    TypeError: JSON cannot hold the value.
    ValueError: `read_json` would refuse the value; the message says why.
  """
  text = json.dumps(value, indent=2, sort_keys=True)
  schemas.parse(text)
  write_bytes(path, (text + "\n").encode())


def read_json(path: str | os.PathLike, schema: Any = Any) -> Any:
  """Reads a JSON file.

  Args:
    path: The path of the file.
    schema: The type of the value; see `schemas.parse`.

  Raises:
    FileNotFoundError: There is no such file.
    FileFormatError: The file is damaged, or its value has another type. The
      message names the file.
  """
  try:
    return schemas.parse(read_bytes(path), schema)
  except FileFormatError:
    raise
  except ValueError as error:
    raise FileFormatError(f"{path} is damaged: {error}.") from error


def read_bytes(path: str | os.PathLike) -> bytes:
  """Reads a whole file, and never waits for a pipe.

  Raises:
    FileNotFoundError: There is no such file.
    FileFormatError: `path` leads to a directory, a pipe or a device.
  """
  check_regular(path, "file")
  return pathlib.Path(path).read_bytes()


def check_regular(path: str | os.PathLike, what: str) -> None:
  """Raises an error unless `path` leads to a regular file.

  Args:
    path: The path of the file.
    what: The kind of file for the message, such as `"ticket file"`.

  Raises:
    FileNotFoundError: There is no such file.
    FileFormatError: `path` leads to a directory, a pipe or a device.
  """
  try:
    mode = os.stat(path).st_mode
  except (FileNotFoundError, NotADirectoryError):
    raise FileNotFoundError(f"There is no {what} at {path}.") from None
  if not stat.S_ISREG(mode):
    found = "directory" if stat.S_ISDIR(mode) else "pipe, socket or device"
    raise FileFormatError(f"{path} must be a {what}, and it is a {found}.")
