"""The reports that exporters return: stored weights, sizes, differences."""

import dataclasses
import gzip
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from tf_lottery import text_table


@dataclasses.dataclass(frozen=True)
class WeightReport:
  """A report on how an exported file stores one weight.

  Attributes:
    name: `layer/role` of the weight in the Keras model. If it is not found
      there, because layers were fused, its name in the file.
    used_by: The operators of a TFLite file that use the weight.
    shape: The shape in the file.
    density: The fraction of entries that are not zero, in [0, 1].
    encoding: The form in which it is stored, e.g. `"dense"` or `"CSR"`.
    reason: Why it has this form.
    dense_bytes: Its size as a dense array.
    stored_bytes: Its size in the file.
    gzip_bytes: Its size in the file after gzip.
    sparse_kernel: Whether TFLite computes with the stored form itself, so that
      the weight is never dense in memory.
  """

  name: str
  used_by: str
  shape: tuple[int, ...]
  density: float
  encoding: str
  reason: str
  dense_bytes: int
  stored_bytes: int
  gzip_bytes: int
  sparse_kernel: bool = False

  @classmethod
  def of(
    cls,
    name: str,
    weight: np.ndarray,
    stored: Sequence[np.ndarray],
    encoding: str,
    reason: str,
    *,
    used_by: str = "",
    sparse_kernel: bool = False,
  ) -> "WeightReport":
    """Measures a weight, and the arrays that a file stores for it.

    `weight` is the dense array and `stored` the arrays in the file. The other
    arguments become attributes.
    """
    content = b"".join(array.tobytes() for array in stored)
    return cls(
      name=name,
      used_by=used_by,
      shape=weight.shape,
      density=float(np.count_nonzero(weight) / weight.size),
      encoding=encoding,
      reason=reason,
      dense_bytes=weight.nbytes,
      stored_bytes=len(content),
      gzip_bytes=gzip_bytes(content),
      sparse_kernel=sparse_kernel,
    )


@dataclasses.dataclass(frozen=True)
class Difference:
  """The difference between a file and the model under one runtime.

  Attributes:
    runtime: The program that ran the file.
    absolute: The largest difference of two numbers.
    relative: The largest ratio of a difference to the largest magnitude in
      the same output of the model.
  """

  runtime: str
  absolute: float
  relative: float


@dataclasses.dataclass(frozen=True)
class ExportReport:
  """A report on an exported file and its checks. Printing it shows tables.

  Attributes:
    path: The file or directory.
    format: `"tflite"`, `"saved_model"` or `"keras"`.
    dtype: The dtype of the weights.
    file_bytes: The size on disk, of all files together.
    gzip_bytes: The size after gzip, as app stores and web servers send it.
    dense_bytes: The size that it would have with all weights dense.
    signatures: Name -> inputs and outputs, as text.
    weights: How each weight is stored. Empty for `"keras"`.
    differences: The differences from the model, one for each runtime.
    examples: The number of examples on which they were measured.
    notes: Sentences about speed and other things to know.
  """

  path: pathlib.Path
  format: str
  dtype: str
  file_bytes: int
  gzip_bytes: int
  dense_bytes: int
  signatures: Mapping[str, str]
  weights: tuple[WeightReport, ...]
  differences: tuple[Difference, ...]
  examples: int
  notes: tuple[str, ...]

  def __str__(self) -> str:
    parts = [
      f"{self.path} ({self.format}, {self.dtype}): {self.file_bytes:,} bytes,"
      f" {self.gzip_bytes:,} after gzip; with dense weights"
      f" {self.dense_bytes:,}."
    ]
    if self.weights:
      parts.append(_table_of_weights(self.weights))
    parts.append(
      "\n".join(f"{name}: {text}" for name, text in self.signatures.items())
    )
    parts.append(
      f"Largest differences from the model on {self.examples} examples:\n"
      + _table_of_differences(self.differences)
    )
    return "\n\n".join([*parts, "\n".join(self.notes)])


def gzip_bytes(content: bytes) -> int:
  """Returns the size of some content after gzip."""
  return len(gzip.compress(content, 9, mtime=0))


def _table_of_weights(weights: Sequence[WeightReport]) -> str:
  rows = [
    (
      weight.name,
      f"{weight.density:.2%}",
      f"{weight.dense_bytes:,}",
      f"{weight.stored_bytes:,}",
      f"{weight.gzip_bytes:,}",
      f"{weight.encoding} ({weight.reason})",
    )
    for weight in weights
  ]
  header = ("weight", "density", "dense", "stored", "gzip", "encoding")
  return text_table.render(header, rows, "<>>>><")


def _table_of_differences(differences: Sequence[Difference]) -> str:
  rows = [
    (each.runtime, f"{each.absolute:.1e}", f"{each.relative:.1e}")
    for each in differences
  ]
  return text_table.render(("runtime", "absolute", "relative"), rows, "<>>")
