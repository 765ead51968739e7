"""Tensor files: arrays and JSON metadata in a safetensors file that is checked.

The metadata of a tensor file say what the file is (`kind`), which version of
the format wrote it, and the SHA-256 of its whole content. Masks, snapshots and
tickets are tensor files; nothing here is pickled.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any
from typing import TypedDict

import numpy as np
import safetensors
import safetensors.numpy

from tf_lottery.storage import files
from tf_lottery.storage import schemas
from tf_lottery.storage.files import FileFormatError

FORMAT_VERSION = 2
_HEADER = "tf_lottery"

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


def write(
  path: str | os.PathLike,
  kind: str,
  tensors: Mapping[str, np.ndarray],
  metadata: Mapping[str, Any] | None = None,
  *,
  durable: bool = True,
) -> None:
  """Writes arrays and JSON metadata as one tensor file, atomically.

  Args:
    path: Where the file goes. Its directory is made if it is missing.
    kind: The kind of file, such as `"ticket"`; `read` checks it.
    tensors: Name -> array.
    metadata: Values that JSON can hold.
    durable: See `files.write_bytes`.

  Raises:
    TypeError: JSON cannot hold the metadata, or an array has a type that
      NumPy does not read from a safetensors file.
    ValueError: `read` would refuse the metadata; the message says why.
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
  # The header as `read` will see it: keys are text, and it is not refused.
  header = schemas.parse(json.dumps(header))
  header["sha256"] = digest(tensors, header)
  # All in one entry: safetensors orders several entries at random, and the
  # same content must give the same bytes.
  content = safetensors.numpy.save(
    tensors, metadata={_HEADER: json.dumps(header)}
  )
  files.write_bytes(path, content, durable=durable)


def read(
  path: str | os.PathLike, kind: str, schema: Any = dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Reads a tensor file, and checks all of it.

  The arrays take no more memory than the file does.

  Args:
    path: The path of the file.
    kind: The kind of file that the caller expects.
    schema: The type of the metadata; see `schemas.parse`.

  Returns:
    The arrays by name, and the metadata.

  Raises:
    FileNotFoundError: There is no such file.
    FileFormatError: The file is truncated, altered, of another kind or in a
      newer format, or its metadata have another type.
  """
  files.check_regular(path, f"{kind} file")
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
  """Returns the header of a tensor file of this kind and a known version."""
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
  """Returns the SHA-256 of arrays, with names and shapes, and of a header."""
  hashed = hashlib.sha256(json.dumps(header or {}, sort_keys=True).encode())
  for name in sorted(tensors):
    array = np.asarray(tensors[name])
    hashed.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
    hashed.update(array.tobytes())
  return hashed.hexdigest()
