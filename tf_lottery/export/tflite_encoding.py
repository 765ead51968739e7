"""Chooses a form for each weight of a TFLite file, and stores it thus."""

import dataclasses

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from tf_lottery.export import tflite_csr
from tf_lottery.export import tflite_flatbuffer
from tf_lottery.export.exportable import saves_enough
from tf_lottery.export.reports import WeightReport
from tf_lottery.export.weight_names import WeightNames

LAYOUTS = ("auto", "dense", "sparse")
# One more sparse weight adds about this many bytes to a file, for its sparsity
# parameters, a tensor and an operator.
_OVERHEAD = 256
# Block size -> the highest density at which TFLite's sparse kernel is used.
# Above, the kernel is slower than a dense one: by `scripts/benchmark.py
# --suite=export`, at batch size 1, single entries are faster at 5 % and slower
# at 10 %, and blocks are faster at 10 %.
_KERNEL_DENSITY = {1: 0.07, tflite_csr.BLOCK: 0.2}


@dataclasses.dataclass(frozen=True)
class Choice:
  """The form of one weight.

  Attributes:
    encoding: The name of the form, for reports.
    reason: Why the weight has this form.
    rows: The compressed weight, or None if the weight stays dense.
    sparse_kernel: Whether operators compute with the compressed rows. If not,
      a DENSIFY operator makes the weight dense first.
  """

  encoding: str
  reason: str
  rows: tflite_csr.CompressedRows | None = None
  sparse_kernel: bool = False


def choose(weight: tflite_flatbuffer.FileWeight, layout: str) -> Choice:
  """Chooses the form of one weight.

  Args:
    weight: A weight of the file.
    layout: `"auto"`, `"dense"` or `"sparse"`; see `to_tflite`.
  """
  obstacle = _obstacle(weight)
  if layout == "dense" or obstacle:
    return Choice("dense", obstacle or "the file is dense")
  rows = _compress(weight.array)
  if layout == "auto" and not saves_enough(
    rows.nbytes + _OVERHEAD, weight.array.nbytes
  ):
    return Choice("dense", "sparse would save less than 5 %")
  name = "CSR" if rows.block == 1 else f"CSR of 1x{rows.block} blocks"
  if not all(use.has_sparse_kernel for use in weight.uses):
    return Choice(f"{name} + DENSIFY", "smaller", rows)
  limit = _KERNEL_DENSITY[rows.block]
  if layout == "auto" and rows.values.size > limit * weight.array.size:
    reason = f"smaller; the sparse kernel is slow above {limit:.0%} stored"
    return Choice(f"{name} + DENSIFY", reason, rows)
  return Choice(f"{name}, sparse kernel", "smaller, in memory too", rows, True)


def _obstacle(weight: tflite_flatbuffer.FileWeight) -> str:
  """Says why a weight must stay dense; empty if it need not."""
  if weight.array.dtype == np.int8:
    return "LiteRT refuses sparse int8; gzip the file"
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
  """Compresses single entries or blocks, whichever takes fewer bytes."""
  rows = tflite_csr.compress(array)
  # The kernels for blocks compute other widths, and float16, wrongly.
  if array.shape[-1] % tflite_csr.BLOCK or array.dtype != np.float32:
    return rows
  blocks = tflite_csr.compress(array, tflite_csr.BLOCK)
  return blocks if blocks.nbytes < rows.nbytes else rows


def encode(
  model: schema.ModelT, layout: str, names: WeightNames
) -> list[WeightReport]:
  """Stores each weight of a file in the form that suits it.

  Args:
    model: The file. It is changed in place.
    layout: `"auto"`, `"dense"` or `"sparse"`; see `to_tflite`.
    names: The names of the Keras model's weights.

  Returns:
    How each weight is stored.
  """
  reports = []
  for weight in list(tflite_flatbuffer.weights(model)):
    choice = choose(weight, layout)
    stored = [weight.array]
    if choice.rows is not None:
      stored = choice.rows.arrays
      tflite_flatbuffer.make_sparse(
        model, weight, choice.rows, choice.sparse_kernel
      )
    reports.append(
      WeightReport.of(
        names.of_array(weight.array) or weight.name,
        weight.array,
        stored,
        choice.encoding,
        choice.reason,
        used_by=", ".join(sorted({use.name for use in weight.uses})),
        sparse_kernel=choice.sparse_kernel,
      )
    )
  return reports
