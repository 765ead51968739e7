"""Files that are whole or absent: atomic writes, and readers that check.

A tensor file is a safetensors file whose metadata says what it is (`kind`),
which version of the format wrote it, and the SHA-256 of its whole content.
Masks, snapshots and tickets are tensor files; nothing here is pickled.

A reader returns a value of the type that it was asked for. It raises
`FileNotFoundError` where there is no file, `FileFormatError` where the file is
damaged or foreign, and another `OSError` where the system cannot read it.
While something is written, its directory holds two more names:

```
.tf_lottery-TOKEN.lock   the process that writes holds this lock
.tf_lottery-TOKEN.tmp    what it writes, until that is moved into place
```

The token is random. `recover` ends what a killed process began: its lock is
free. It touches no other file, and nothing of a process that still runs.
"""

import contextlib
import fnmatch
import hashlib
import json
import os
import pathlib
import shutil
import stat
import uuid
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TypedDict

import filelock
import numpy as np
import safetensors
import safetensors.numpy

from tf_lottery.storage import schemas

FORMAT_VERSION = 2
_HEADER = "tf_lottery"
_LOCKS = f".tf_lottery-{'[0-9a-f]' * 32}.lock"

# The types that arrays may have, and their names in a safetensors file.
_DTYPES = {
  "bool": "BOOL",
  "bfloat16": "BF16",
  "complex64": "C64",
  **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
  **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
  **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}


class _Header(TypedDict):
  """The description of a tensor file in its own metadata."""

  kind: str
  format_version: schemas.Count
  metadata: dict[str, Any]
  sha256: str


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
  """Yields a temporary path; what the block puts there then replaces `path`.

  It serves files and directories that other libraries write. If the block
  raises, `path` stays as it was. If the process is killed, `path` holds the old
  or the new content, at the latest after `recover`.

  Args:
    path: Where the result goes. Its directory is made if it is missing. A
      symbolic link is followed: what it points to is replaced.

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
  """Ends each write that a killed process began in a directory.

  A directory that `replacing` had moved aside is put back if nothing has taken
  its place. The temporary files are removed. Each write does this first in its
  own directory; readers call it where a directory may be missing. What cannot
  be recovered now, for example because another user owns it, stays for the next
  call.

  Args:
    directory: Where to look.
    below: Whether to look in the directories below it as well.
  """
  for folder, _, names in os.walk(directory):
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
  """Puts back what still stands aside, and removes the rest and the lock."""
  temporary = lock.with_suffix(".tmp")
  old = temporary / "old"
  for copy in old.iterdir() if old.is_dir() else ():
    path = lock.with_name(copy.name)
    # A copy that is no longer needed leaves "old" before it is deleted, so that
    # half of it is never put back.
    os.replace(copy, temporary / "done" if os.path.lexists(path) else path)
  _remove(temporary)
  # Windows cannot delete an open file: there, the lock does at its release.
  with contextlib.suppress(PermissionError):
    lock.unlink(missing_ok=True)


def refuse_directory(path: str | os.PathLike) -> None:
  """Raises ValueError when there is a directory where a file is to go."""
  if pathlib.Path(path).is_dir():
    raise ValueError(
      f"path must be that of a file, and {path} is a directory. Give the name"
      " of a file in it."
    )


def _kind(path: pathlib.Path) -> str:
  return "directory" if path.is_dir() else "file"


def _remove(path: pathlib.Path) -> None:
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _sync_directory(path: pathlib.Path) -> None:
  """Has the disk remember a rename, where directories can be opened."""
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
    path: the file.
    schema: the type of its value; see `schemas.parse`.

  Raises:
    FileNotFoundError: there is no such file.
    FileFormatError: the file is damaged, or its value has another type; the
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
    FileNotFoundError: there is no such file.
    FileFormatError: the path is that of a directory, a pipe or a device.
  """
  _check_regular(path, "file")
  return pathlib.Path(path).read_bytes()


def _check_regular(path: str | os.PathLike, what: str) -> None:
  try:
    mode = os.stat(path).st_mode
  except (FileNotFoundError, NotADirectoryError):
    raise FileNotFoundError(f"There is no {what} at {path}.") from None
  if not stat.S_ISREG(mode):
    found = "directory" if stat.S_ISDIR(mode) else "pipe, socket or device"
    raise FileFormatError(f"{path} must be a {what}, and it is a {found}.")


def write_tensors(
  path: str | os.PathLike,
  kind: str,
  tensors: Mapping[str, np.ndarray],
  metadata: Mapping[str, Any] | None = None,
  *,
  durable: bool = True,
) -> None:
  """Writes arrays and JSON metadata as one checked safetensors file.

  Args:
    path: where the file goes.
    kind: what the file is, e.g. `"ticket"`; `read_tensors` asks for it.
    tensors: name -> array.
    metadata: anything that JSON can hold.
    durable: see `write_bytes`.

  Raises:
    TypeError: JSON cannot hold the metadata, or an array has a type that
      NumPy does not read from a safetensors file.
    ValueError: `read_tensors` would refuse the metadata; the message says why.
  """
  if unknown := {v.dtype.name for v in tensors.values()} - _DTYPES.keys():
    raise TypeError(
      f"Arrays must have one of the types {', '.join(_DTYPES)}; got"
      f" {', '.join(sorted(unknown))}."
    )
  tensors = {
    # In the byte order of the file; ascontiguousarray alone would turn a
    # scalar into a vector.
    name: np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(
      value.shape
    )
    for name, value in tensors.items()
  }
  header = {
    "kind": kind,
    "format_version": FORMAT_VERSION,
    "metadata": dict(metadata or {}),
  }
  # As it will be read: keys are text, and nothing in it will be refused.
  header = schemas.parse(json.dumps(header))
  header["sha256"] = digest(tensors, header)
  # One entry: safetensors would write several in an order of its own, and
  # the same content must give the same bytes.
  content = safetensors.numpy.save(
    tensors, metadata={_HEADER: json.dumps(header)}
  )
  write_bytes(path, content, durable=durable)


def read_tensors(
  path: str | os.PathLike, kind: str, schema: Any = dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Reads what `write_tensors` wrote, after checking all of it.

  The arrays take no more memory than the file does.

  Args:
    path: the file.
    kind: the kind that the caller expects.
    schema: the type of the metadata; see `schemas.parse`.

  Returns:
    The arrays by name, and the metadata.

  Raises:
    FileNotFoundError: there is no such file.
    FileFormatError: the file is truncated, altered, of another kind, or
      written by a newer version of the format; or its metadata have another
      type.
  """
  _check_regular(path, f"{kind} file")
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      header = _read_header(path, kind, (file.metadata() or {}).get(_HEADER))
      tensors = {name: _tensor(file, name) for name in file.keys()}  # noqa: SIM118
      if header.pop("sha256") != digest(tensors, header):
        raise FileFormatError(
          f"{path} does not match its own checksum: its content was altered."
          " Restore it from a copy, or make it anew."
        )
      schemas.check(header["metadata"], schema)
  except FileFormatError:
    raise
  # NumPy raises a ValueError for shapes that it cannot have.
  except (safetensors.SafetensorError, ValueError) as error:
    raise FileFormatError(
      f"{path} is not a readable {kind} file: it is truncated or altered"
      f" ({error}). Restore it from a copy, or make it anew."
    ) from error
  return tensors, header["metadata"]


def _read_header(
  path: str | os.PathLike, kind: str, text: str | None
) -> dict[str, Any]:
  """The header of a tensor file; refuses another kind and newer versions."""
  if text is None:
    raise FileFormatError(
      f"{path} must be a {kind} file of tf_lottery, and it is a safetensors"
      " file of another program."
    )
  header = schemas.parse(text, dict[str, Any])
  # A newer version may have other fields, so this one is checked before them.
  version = header.get("format_version")
  schemas.check(version, schemas.Count)
  if version > FORMAT_VERSION:
    raise FileFormatError(
      f"{path} has format version {version}, and this tf_lottery reads up to"
      f" {FORMAT_VERSION}. Upgrade tf_lottery to read it."
    )
  schemas.check(header, _Header)
  if header["kind"] != kind:
    raise FileFormatError(
      f"{path} must be a {kind} file, got kind {header['kind']!r}."
    )
  return header


def _tensor(file: Any, name: str) -> np.ndarray:
  dtype = file.get_slice(name).get_dtype()
  if dtype not in _DTYPES.values():
    raise ValueError(f"the array {name!r} has the unknown type {dtype}")
  return file.get_tensor(name)


def digest(
  tensors: Mapping[str, np.ndarray], header: Mapping[str, Any] | None = None
) -> str:
  """SHA-256 of arrays, with their names and shapes, and of a header."""
  hashed = hashlib.sha256(json.dumps(header or {}, sort_keys=True).encode())
  for name in sorted(tensors):
    array = np.asarray(tensors[name])
    hashed.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
    hashed.update(array.tobytes())
  return hashed.hexdigest()
