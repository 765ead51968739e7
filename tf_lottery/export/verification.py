"""Compares the outputs of an exported file with the Keras model's."""

from collections.abc import Mapping

import numpy as np

from tf_lottery.export import reports
from tf_lottery.export.signatures import Tensors

# The largest relative difference that is accepted by default, by the dtype of
# the weights. It is ten times the usual difference, because a softmax of large
# logits magnifies rounding. int8 loses precision on purpose: there, only files
# that are plainly broken are refused.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "int8": 0.5}


class ExportError(RuntimeError):
  """Says why nothing was written: the file differs from the model."""


def compare(
  runtime: str,
  expected: Mapping[str, Tensors],
  got: Mapping[str, Tensors],
  tolerance: float,
) -> reports.Difference:
  """Finds the largest difference over all outputs of all signatures.

  Args:
    runtime: The name of the program that ran the file.
    expected: Signature -> output -> array from the Keras model.
    got: Signature -> output -> array from the file.
    tolerance: The largest relative difference that is accepted.

  Raises:
    ExportError: An output is missing, has another shape, is not finite where
      the model's is, or differs by more than the tolerance. The message names
      the output and the difference.
  """
  absolute = relative = 0.0
  for signature, outputs in expected.items():
    if outputs.keys() != got[signature].keys():
      raise ExportError(
        f"Signature {signature!r} must have the outputs {sorted(outputs)}, got"
        f" {sorted(got[signature])} under {runtime}."
      )
    for name, value in outputs.items():
      if _is_number(value) and np.isnan(np.float64(value)).any():
        raise ExportError(
          f"Output {name!r} of {signature!r} must be numbers, and the Keras"
          " model itself gives NaN. Look for NaN in its weights, and in the"
          " examples."
        )
      distance, scale = difference(value, got[signature][name])
      if not distance <= tolerance * scale:  # NaN too
        raise ExportError(
          f"Output {name!r} of {signature!r} must be within a relative"
          f" difference of {tolerance:g} of the Keras model's, got"
          f" {distance / scale if scale else np.inf:.2e} ({distance:.2e}"
          f" absolute) under {runtime}. Nothing was written. If that is good"
          " enough, raise tolerance=."
        )
      absolute = max(absolute, distance)
      relative = max(relative, distance / scale if scale else 0.0)
  return reports.Difference(runtime, absolute, relative)


def difference(expected: np.ndarray, got: np.ndarray) -> tuple[float, float]:
  """Finds the largest difference of two arrays, and the scale to judge it by.

  Infinities and NaN that both arrays have in the same places are equal.

  Args:
    expected: The array from the Keras model.
    got: The array from the file.

  Returns:
    The largest absolute difference, and the largest finite magnitude in
    `expected`. Arrays of different shapes, and other things than numbers that
    are not equal, are infinitely far apart.
  """
  if np.shape(expected) != np.shape(got):
    return np.inf, 1.0
  if not _is_number(expected):
    return (0.0 if np.array_equal(expected, got) else np.inf), 1.0
  expected, got = expected.astype(np.float64), got.astype(np.float64)
  finite = np.isfinite(expected)
  if not np.array_equal(expected[~finite], got[~finite], equal_nan=True):
    return np.inf, 1.0
  distance = np.abs(expected[finite] - got[finite]).max(initial=0.0)
  return float(distance), float(np.abs(expected[finite]).max(initial=0.0))


def _is_number(array: np.ndarray) -> bool:
  # Not by `dtype.kind`, which is "V" for bfloat16.
  return np.can_cast(array.dtype, np.float64)
