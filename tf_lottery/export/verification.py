"""Whether an exported file computes what the Keras model computes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery.export import reports

Tensors = Mapping[str, np.ndarray]


class ExportError(RuntimeError):
  """Nothing was written: the file would not compute what the model does."""


def compare(
  runtime: str,
  expected: Mapping[str, Tensors],
  got: Mapping[str, Tensors],
  tolerance: float,
) -> reports.Difference:
  """The largest difference over all outputs of all signatures.

  Args:
    runtime: what ran the file, for the record.
    expected: signature -> output -> what the Keras model gives.
    got: the same from the file.
    tolerance: the largest relative difference that is accepted.

  Raises:
    ExportError: an output is missing, of another shape, not finite where the
      model's is, or differs by more than the tolerance; it says which one, and
      by how much.
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
          f"Output {name!r} of {signature!r} must be the Keras model's within"
          f" a relative difference of {tolerance:g}, got"
          f" {distance / scale if scale else np.inf:.2e} ({distance:.2e}"
          f" absolute) under {runtime}. Nothing was written. If that is good"
          " enough, raise tolerance=."
        )
      absolute = max(absolute, distance)
      relative = max(relative, distance / scale if scale else 0.0)
  return reports.Difference(runtime, absolute, relative)


def difference(expected: np.ndarray, got: np.ndarray) -> tuple[float, float]:
  """Largest absolute difference, and the magnitude that it is relative to.

  Both may be infinite or NaN in the same places: that is what the model does.
  """
  if np.shape(expected) != np.shape(got):
    return np.inf, 1.0
  if not _is_number(expected):
    return (0.0 if np.array_equal(expected, got) else np.inf), 1.0
  expected, got = np.float64(expected), np.float64(got)
  finite = np.isfinite(expected)
  if not np.array_equal(expected[~finite], got[~finite], equal_nan=True):
    return np.inf, 1.0
  distance = np.abs(expected[finite] - got[finite]).max(initial=0.0)
  return float(distance), float(np.abs(expected[finite]).max(initial=0.0))


def _is_number(array: np.ndarray) -> bool:
  # Not by `dtype.kind`, which is "V" for bfloat16.
  return np.can_cast(array.dtype, np.float64)


def only_input(inputs: Mapping[str, Any]) -> tuple[str, Any]:
  """The name and the description of the one input of a signature.

  Raises:
    ValueError: there are several.
  """
  if len(inputs) > 1:
    raise ValueError(
      f"predict() needs a file with one input, got {sorted(inputs)}. Load the"
      " file and call its signature."
    )
  return next(iter(inputs.items()))
