"""Says whether a TFLite file runs faster than its dense twin, and where."""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

from tensorflow.lite.python import schema_py_generated as schema

from tf_lottery.export import tflite_flatbuffer
from tf_lottery.export.reports import WeightReport

# XNNPACK computes 1x1 convolutions sparsely if more than two thirds of their
# weights are zeros.
_XNNPACK_DENSITY = 1 / 3


def on_int8(is_calibrated: bool) -> str:
  """Says in a sentence what an int8 file quantises."""
  if is_calibrated:
    return "int8: weights and activations."
  return (
    "int8: weights only, small ones stay float32. Give representative_data= to"
    " quantise activations too."
  )


def on_speed(
  model: schema.ModelT, weights: Sequence[WeightReport]
) -> list[str]:
  """Says in sentences which speed to expect.

  Args:
    model: The file.
    weights: How its weights are stored.
  """
  notes = []
  if count := sum(weight.sparse_kernel for weight in weights):
    notes.append(
      f"Speed: {count} fully connected layer(s) compute with compressed rows,"
      " which takes less memory. At batch size 1 on a CPU they are faster than"
      " dense layers if few weights are left; at larger batch sizes they are"
      " not."
    )
  convolutions = list(_convolutions(model))
  if convolutions and any(weight.density < 1 for weight in weights):
    missing = _missing_for_xnnpack(convolutions, weights)
    verdict = (
      f"does not run the convolutions sparsely: {'; '.join(missing)}"
      if missing
      else "may run the convolutions sparsely, and faster"
    )
    notes.append(
      f"Speed: on ARM, XNNPACK {verdict}. On x86 it runs them densely."
    )
  return notes or ["Speed: that of a dense file."]


class _Convolution(NamedTuple):
  """One convolution of a file; kernel and stride are vertical, horizontal."""

  kernel: tuple[int, int]
  stride: tuple[int, int]
  channels: int
  is_depthwise: bool

  def __str__(self) -> str:
    (height, width), (down, right) = self.kernel, self.stride
    return (
      f"{height}x{width} with stride {down}x{right} on {self.channels} channels"
    )


def _convolutions(model: schema.ModelT) -> Iterator[_Convolution]:
  """Yields the convolutions of a file, in the order in which they run."""
  for subgraph in model.subgraphs:
    for operator in subgraph.operators:
      kind = tflite_flatbuffer.kind_of(model, operator)
      if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        options = operator.builtinOptions
        _, height, width, channels = subgraph.tensors[operator.inputs[1]].shape
        yield _Convolution(
          (int(height), int(width)),
          (options.strideH, options.strideW),
          int(channels),
          kind == "DEPTHWISE_CONV_2D",
        )


def _missing_for_xnnpack(
  convolutions: Sequence[_Convolution], weights: Sequence[WeightReport]
) -> list[str]:
  """Lists the conditions of XNNPACK's sparse inference that are not met.

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
  pointwise = [weight for weight in weights if weight.shape[1:3] == (1, 1)]
  if any(weight.density > _XNNPACK_DENSITY for weight in pointwise):
    missing.append("1x1 convolutions must be more than two thirds zeros")
  return missing
