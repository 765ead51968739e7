"""Whether a TFLite file will be faster than its dense twin, and where."""

from collections.abc import Sequence

from tensorflow.lite.python import schema_py_generated as schema

from tf_lottery.export import reports
from tf_lottery.export import tflite_flatbuffer

# XNNPACK's sparse inference wants more than two thirds of zeros.
_XNNPACK_DENSITY = 1 / 3


def on_int8(dtype: str, calibration: object) -> tuple[str, ...]:
  """Which of the two kinds of int8 a file is."""
  if dtype != "int8":
    return ()
  if calibration is None:
    return (
      "int8: weights only, small ones stay float32. Give representative_data="
      " to quantise activations too.",
    )
  return ("int8: weights and activations.",)


def on_speed(
  model: schema.ModelT, weights: Sequence[reports.WeightReport]
) -> tuple[str, ...]:
  """What to expect of the speed, in sentences.

  Args:
    model: the file.
    weights: how its weights are stored.
  """
  notes = []
  direct = [row for row in weights if "sparse kernel" in row.encoding]
  if direct:
    notes.append(
      f"Speed: {len(direct)} fully connected layer(s) are computed from"
      " compressed rows: less memory, and faster than dense at batch 1 on a"
      " CPU where few weights are left; not so at larger batches."
    )
  convolutions = tflite_flatbuffer.convolutions(model)
  if convolutions and any(row.density < 1 for row in weights):
    missing = _missing_for_xnnpack(convolutions, weights)
    verdict = (
      f"none: {'; '.join(missing)}"
      if missing
      else "expected: all conditions are met"
    )
    notes.append(
      "Speed: on ARM, XNNPACK may run the convolutions sparsely; gain"
      f" {verdict}. On x86 it runs them densely."
    )
  if not notes:
    notes.append("Speed: that of a dense file.")
  return tuple(notes)


def _missing_for_xnnpack(
  convolutions: Sequence[tflite_flatbuffer.Convolution],
  weights: Sequence[reports.WeightReport],
) -> list[str]:
  """The conditions of XNNPACK's sparse inference that a file does not meet.

  Reference: https://github.com/google/XNNPACK, and Elsen et al., "Fast Sparse
  ConvNets", arXiv 1911.09723.
  """
  missing = []
  first, *others = convolutions
  if (first.kernel, first.stride, first.channels) != ((3, 3), (2, 2), 3):
    missing.append(
      "the first convolution must be 3x3 with stride 2 on 3 channels, got"
      f" {first}"
    )
  if any(c.kernel != (1, 1) for c in others if not c.is_depthwise):
    missing.append("all others must be 1x1 or depthwise")
  pointwise = [row for row in weights if row.shape[1:3] == (1, 1)]
  if any(row.density > _XNNPACK_DENSITY for row in pointwise):
    missing.append("1x1 convolutions must be more than two thirds zeros")
  return missing
