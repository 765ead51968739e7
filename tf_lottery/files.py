"""Files that are whole or absent: atomic writes and checked tensor files.

A tensor file is a safetensors file whose metadata says what it is (`kind`),
which version of the format wrote it, and the SHA-256 of all that it holds.
Masks, snapshots and tickets are tensor files; nothing here is pickled.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

FORMAT_VERSION = 2
_HEADER = "tf_lottery"


class FileFormatError(ValueError):
  """A file is damaged, of another kind, or newer than this library."""


def write_bytes(
  path: str | os.PathLike, content: bytes, *, durable: bool = True
) -> None:
  """Writes a file under a temporary name, then moves it into place.

  Args:
    path: where the file goes; its directory is made when it is missing.
    content: the whole file.
    durable: whether to wait for the disk, so that the file survives a power
      cut. Without it the file still survives the end of the process.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with open(temporary, "wb") as file:
      file.write(content)
      if durable:
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if durable:
      _sync_directory(path.parent)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """A temporary name beside `path`: what is put there replaces `path` at last.

  For a file or a directory that others write. If the block raises, what was
  put there is removed, and `path` is what it was.

  Args:
    path: where the result goes; its directory is made when it is missing. A
      link is followed.

  Yields:
    A path beside it, with the same suffix, at which nothing is.

  Raises:
    ValueError: a directory would replace a file, or a file a directory.
  """
  path = pathlib.Path(path).resolve()
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
  old = temporary.with_suffix(".old")
  _remove(temporary)
  try:
    yield temporary
    if path.exists() and path.is_dir() != temporary.is_dir():
      raise ValueError(
        f"A {_kind(temporary)} must not replace a {_kind(path)}, and there is"
        f" one at {path}. Give another path."
      )
    if path.is_dir():
      # A directory cannot be replaced in one step: it steps aside first.
      os.replace(path, old)
    try:
      os.replace(temporary, path)
    except BaseException:
      if old.exists():
        os.replace(old, path)
      raise
  finally:
    _remove(temporary)
    _remove(old)


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
  """Has the disk remember a rename."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value` as indented JSON, atomically."""
  text = json.dumps(value, indent=2, sort_keys=True)
  write_bytes(path, (text + "\n").encode())


def read_json(path: str | os.PathLike) -> Any:
  """Reads a JSON file; a damaged one is a `FileFormatError` that names it."""
  try:
    return json.loads(pathlib.Path(path).read_bytes())
  except ValueError as error:
    raise FileFormatError(f"{path} is damaged: {error}.") from error


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
  """
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
  header["sha256"] = digest(tensors, header)
  # One entry: safetensors would write several in an order of its own, and
  # the same content must give the same bytes.
  content = safetensors.numpy.save(
    tensors, metadata={_HEADER: json.dumps(header)}
  )
  write_bytes(path, content, durable=durable)


def read_tensors(
  path: str | os.PathLike, kind: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Reads what `write_tensors` wrote, after checking all of it.

  Args:
    path: the file.
    kind: the kind that the caller expects.

  Returns:
    The arrays by name, and the metadata.

  Raises:
    FileNotFoundError: there is no such file.
    FileFormatError: the file is truncated, altered, of another kind, or
      written by a newer version of the format.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"There is no {kind} file at {path}.")
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
      _check_version(path, header.get("format_version", 0))
      tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  except FileFormatError:
    raise
  # The parsers raise many types for malformed input, KeyError among them.
  except Exception as error:
    raise FileFormatError(
      f"{path} is not a readable {kind} file: it is truncated or altered"
      f" ({error}). Restore it from a copy, or make it anew."
    ) from error
  if header.get("kind") != kind:
    raise FileFormatError(
      f"{path} must be a {kind} file, got kind {header.get('kind')!r}."
    )
  if header.pop("sha256", None) != digest(tensors, header):
    raise FileFormatError(
      f"{path} does not match its own checksum: its content was altered."
      " Restore it from a copy, or make it anew."
    )
  return tensors, header["metadata"]


def _check_version(path: pathlib.Path, version: int) -> None:
  if version > FORMAT_VERSION:
    raise FileFormatError(
      f"{path} has format version {version}, and this tf_lottery reads up to"
      f" {FORMAT_VERSION}. Upgrade tf_lottery to read it."
    )


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
