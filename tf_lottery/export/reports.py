"""What an export did, weight by weight, and how far it is from the model."""

import dataclasses
import pathlib
from collections.abc import Callable
from collections.abc import Mapping

import numpy as np

# The name of the Keras weight that an array of a file is, or None.
Names = Callable[[np.ndarray], str | None]


@dataclasses.dataclass(frozen=True)
class WeightReport:
  """One weight of an exported file.

  Attributes:
    name: `layer/role`, as in the Keras model; where it is not found there
      (folded, fused), the name in the file.
    used_by: the operators that take it.
    shape: in the file.
    density: fraction that is not zero, in [0, 1].
    encoding: the form in which it is stored.
    reason: why in this form.
    dense_bytes: what it takes as a dense array.
    stored_bytes: what it takes in the file.
    gzip_bytes: what it takes in the file after gzip.
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


@dataclasses.dataclass(frozen=True)
class Difference:
  """How far the outputs of a file are from the model's, under one runtime.

  Attributes:
    runtime: what ran the file.
    absolute: largest difference of two numbers.
    relative: largest difference over the largest magnitude that the model
      gives in that output.
  """

  runtime: str
  absolute: float
  relative: float


@dataclasses.dataclass(frozen=True)
class ExportReport:
  """What was written, and what was checked. Printing it shows a table.

  Attributes:
    path: where it lies.
    format: `"tflite"`, `"saved_model"` or `"keras"`.
    dtype: of the weights.
    file_bytes: all of it on disk.
    gzip_bytes: the same after gzip, as an app store or a web server sends it.
    dense_bytes: the same with every weight dense.
    signatures: name -> inputs and outputs, for people.
    weights: one row a weight.
    differences: one row a runtime.
    examples: how many both were asked.
    notes: on speed, and what else is to know.
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
    lines = [
      f"{self.path} ({self.format}, {self.dtype}): {self.file_bytes:,} bytes,"
      f" {self.gzip_bytes:,} after gzip; with dense weights"
      f" {self.dense_bytes:,}.",
      "",
    ]
    if self.weights:
      lines += [*_table(self.weights), ""]
    lines += [f"{name}: {text}" for name, text in self.signatures.items()]
    lines += [
      f"On {self.examples} examples it differs from the model by at most"
      f" {d.absolute:.1e}, relative {d.relative:.1e}, under {d.runtime}."
      for d in self.differences
    ]
    return "\n".join([*lines, *self.notes])


def _table(weights: tuple[WeightReport, ...]) -> list[str]:
  """Rows of text, in the order of the file."""
  rows = [("weight", "density", "dense", "stored", "gzip", "encoding")]
  rows += [
    (
      row.name,
      f"{row.density:.2%}",
      f"{row.dense_bytes:,}",
      f"{row.stored_bytes:,}",
      f"{row.gzip_bytes:,}",
      f"{row.encoding} ({row.reason})",
    )
    for row in weights
  ]
  widths = [max(len(row[i]) for row in rows) for i in range(5)]
  return [
    "  ".join(
      [
        row[0].ljust(widths[0]),
        *(cell.rjust(w) for cell, w in zip(row[1:5], widths[1:], strict=True)),
        row[5],
      ]
    )
    for row in rows
  ]
