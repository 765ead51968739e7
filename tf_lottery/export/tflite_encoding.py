"""Which form each weight of a TFLite file takes, and why."""

import dataclasses
import gzip

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from tf_lottery.export import reports
from tf_lottery.export import tflite_csr
from tf_lottery.export import tflite_flatbuffer

LAYOUTS = ("auto", "dense", "sparse")
# What is kept may be so much of the dense bytes, or it does not pay.
WORTH = 0.95
# Sparsity parameters, a tensor and an operator, in a file.
_OVERHEAD = 256
# Up to these densities TFLite's kernels for compressed rows, of single entries
# and of blocks, are used; above, a weight is densified. By
# `scripts/benchmark.py --suite=export`, at batch 1, single entries are faster
# than dense at 5 %, and slower at 10 %; blocks are faster at 10 %.
_DIRECT_DENSITY = {1: 0.07, tflite_csr.BLOCK: 0.2}


@dataclasses.dataclass(frozen=True)
class Choice:
  """The form of one weight.

  Attributes:
    encoding: for people, e.g. `"CSR"`.
    reason: why this one.
    rows: the weight compressed; None: it stays dense.
    direct: whether operators read the rows, without DENSIFY.
  """

  encoding: str
  reason: str
  rows: tflite_csr.CompressedRows | None = None
  direct: bool = False


def choose(weight: tflite_flatbuffer.Weight, layout: str) -> Choice:
  """The form of a weight under a layout; see `to_tflite`."""
  obstacle = _obstacle(weight)
  if layout == "dense" or obstacle:
    return Choice("dense", obstacle or "the file is dense")
  rows = _compress(weight.array)
  dense_bytes = weight.array.nbytes
  if layout == "auto" and rows.nbytes + _OVERHEAD > WORTH * dense_bytes:
    return Choice("dense", "sparse would save less than 5 %")
  name = "CSR" if rows.block == 1 else f"CSR of 1x{rows.block} blocks"
  stored = rows.values.size / weight.array.size
  if not all(use.has_sparse_kernel for use in weight.uses):
    return Choice(f"{name} + DENSIFY", "smaller", rows)
  limit = _DIRECT_DENSITY[rows.block]
  if layout == "auto" and stored > limit:
    reason = f"smaller; the sparse kernel is slow above {limit:.0%} stored"
    return Choice(f"{name} + DENSIFY", reason, rows)
  return Choice(f"{name}, sparse kernel", "smaller, in memory too", rows, True)


def _obstacle(weight: tflite_flatbuffer.Weight) -> str:
  """Why a weight must stay dense; empty when it need not."""
  if weight.array.dtype == np.int8:
    return "int8: LiteRT refuses it sparse; gzip the file"
  others = sorted({use.name for use in weight.uses if not use.is_weight})
  if others:
    return f"used by {', '.join(others)}"
  if not weight.uses:
    return "not used"
  if weight.array.all():
    return "nothing is pruned"
  if any(u.name == "TRANSPOSE_CONV" and not u.is_direct for u in weight.uses):
    # Shown by test_a_transposed_convolution_in_float16_stays_dense.
    return "float16: XNNPACK computes a densified TRANSPOSE_CONV wrongly"
  return ""


def _compress(array: np.ndarray) -> tflite_csr.CompressedRows:
  """Entries or blocks, whichever takes fewer bytes."""
  rows = tflite_csr.compress(array)
  # The kernels for blocks go wrong on other widths, and on halves.
  if array.shape[-1] % tflite_csr.BLOCK or array.dtype != np.float32:
    return rows
  blocks = tflite_csr.compress(array, tflite_csr.BLOCK)
  return blocks if blocks.nbytes < rows.nbytes else rows


def encode(
  model: schema.ModelT, layout: str, names: reports.Names
) -> list[reports.WeightReport]:
  """Stores each weight of a file in the form that suits it.

  Args:
    model: the file, changed in place.
    layout: `"auto"`, `"dense"` or `"sparse"`.
    names: gives a weight the name that the Keras model has for it.

  Returns:
    What was done with each weight.
  """
  rows = []
  for weight in list(tflite_flatbuffer.weights(model)):
    choice = choose(weight, layout)
    if choice.rows is not None:
      tflite_flatbuffer.make_sparse(model, weight, choice.rows, choice.direct)
    rows.append(_report(weight, choice, names))
  return rows


def _report(
  weight: tflite_flatbuffer.Weight, choice: Choice, names: reports.Names
) -> reports.WeightReport:
  stored = choice.rows
  parts = (
    [weight.array]
    if stored is None
    else [stored.segments, stored.indices, stored.values]
  )
  content = b"".join(part.tobytes() for part in parts)
  return reports.WeightReport(
    name=names(weight.array) or weight.name,
    used_by=", ".join(sorted({use.name for use in weight.uses})),
    shape=weight.array.shape,
    density=float(np.count_nonzero(weight.array) / weight.array.size),
    encoding=choice.encoding,
    reason=choice.reason,
    dense_bytes=weight.array.nbytes,
    stored_bytes=len(content),
    gzip_bytes=len(gzip.compress(content, 9, mtime=0)),
  )
