"""The multiply-adds of each operation that multiplies matrices."""

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# Each formula takes the inputs, the outputs and the attributes of an operation,
# and returns the multiply-adds and the two factors.
_Counted = tuple[float, list[Any]]


def _matmul(inputs: Sequence, outputs: Sequence, attrs: Mapping) -> _Counted:
  first, second = inputs[:2]
  inner = 0 if attrs.get("transpose_a") else 1
  return size(outputs[0]) * first.shape[inner], [first, second]


def _batch_matmul(
  inputs: Sequence, outputs: Sequence, attrs: Mapping
) -> _Counted:
  first, second = inputs[:2]
  inner = -2 if attrs.get("adj_x") else -1
  return size(outputs[0]) * first.shape[inner], [first, second]


def _sparse_matmul(
  inputs: Sequence, outputs: Sequence, attrs: Mapping
) -> _Counted:
  del attrs
  _, values, _, second = inputs
  return size(values) * outputs[0].shape[-1], [values, second]


def _einsum(inputs: Sequence, outputs: Sequence, attrs: Mapping) -> _Counted:
  """Counts the product of all sizes: of each label, and of the broadcast."""
  del outputs
  if len(inputs) != 2:
    return 0.0, []
  equation = attrs["equation"]
  text = equation.decode() if isinstance(equation, bytes) else equation
  sizes: dict[str, int] = {}
  for labels, tensor in zip(
    text.replace(" ", "").split("->")[0].split(","), inputs, strict=True
  ):
    shape = list(tensor.shape)
    before, dots, after = labels.partition("...")
    broadcast = len(shape) - len(before) - len(after)
    # From the last axis on, as broadcasting has it.
    middle = [f"...{i}" for i in reversed(range(broadcast if dots else 0))]
    for label, size in zip([*before, *middle, *after], shape, strict=True):
      sizes[label] = max(size, sizes.get(label, 1))
  return float(math.prod(sizes.values())), list(inputs)


def _convolution(
  inputs: Sequence, outputs: Sequence, attrs: Mapping
) -> _Counted:
  del attrs
  data, kernel = inputs[:2]
  positions = size(outputs[0]) / kernel.shape[-1]
  return positions * size(kernel), [data, kernel]


def _depthwise(inputs: Sequence, outputs: Sequence, attrs: Mapping) -> _Counted:
  del attrs
  data, kernel = inputs[:2]
  positions = size(outputs[0]) / math.prod(kernel.shape[-2:])
  return positions * size(kernel), [data, kernel]


def _transposed(
  inputs: Sequence, outputs: Sequence, attrs: Mapping
) -> _Counted:
  """Each entry of the kernel is used once at each position of the input."""
  del outputs, attrs
  _, kernel, data = inputs
  positions = size(data) / kernel.shape[-1]
  return positions * size(kernel), [data, kernel]


def _cudnn(inputs: Sequence, outputs: Sequence, attrs: Mapping) -> _Counted:
  """A recurrent layer on a GPU, with all of its weights in one tensor."""
  del outputs
  data, state, _, weights = inputs[:4]
  mode = attrs.get("rnn_mode", "lstm")
  gates = {"lstm": 4, "gru": 3}[
    mode.decode() if isinstance(mode, bytes) else mode
  ]
  features, units = data.shape[-1], state.shape[-1]
  positions = size(data) / features
  return positions * gates * units * (features + units), [data, weights]


def size(tensor: tf.Tensor) -> float:
  """Returns the number of values of a tensor."""
  return float(math.prod(tensor.shape))


FORMULAS: Mapping[str, Callable[..., _Counted]] = {
  "BatchMatMul": _batch_matmul,
  "BatchMatMulV2": _batch_matmul,
  "BatchMatMulV3": _batch_matmul,
  "Conv2D": _convolution,
  "Conv2DBackpropInput": _transposed,
  "Conv3D": _convolution,
  "Conv3DBackpropInputV2": _transposed,
  "CudnnRNN": _cudnn,
  "CudnnRNNV2": _cudnn,
  "CudnnRNNV3": _cudnn,
  "DepthwiseConv2dNative": _depthwise,
  "Einsum": _einsum,
  "MatMul": _matmul,
  "SparseTensorDenseMatMul": _sparse_matmul,
}
