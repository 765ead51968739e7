"""Names of the axes of weights: inputs, units, heads, channels, gates."""

from typing import Any

from tf_lottery.weights import Weight
from tf_lottery.wrappers import walking
from tf_lottery.wrappers.binding import Binding

# The last axis of the weights of these cells has the units of each gate.
_GATES = {"LSTMCell": 4, "GRUCell": 3, "ConvLSTMCell": 4}
# The axes of the window of a convolution, by their number.
_WINDOWS: dict[int, tuple[str, ...]] = {
  1: ("steps",),
  2: ("height", "width"),
  3: ("depth", "height", "width"),
}
_HEADS = ("heads", "head units")
# The layers of an attention layer whose outputs are heads.
_PROJECTIONS = ("query", "key", "value")


def axes(binding: Binding) -> dict[str, dict[str, int]]:
  """Returns the names and the lengths of the axes of each weight.

  The units of the gates of a recurrent cell share one axis of the array. Here
  they have an axis for the gates and one for the units. An axis whose meaning
  is not known is called by its number, such as `"axis 0"`.

  Args:
    binding: The binding of a model.

  Returns:
    Weight key -> name -> length, in order. An array of the weight can be
    reshaped to these lengths.
  """
  return {
    bound.weight.key: _axes(bound.weight, bound.layer)
    for bound in walking.walk_weights(binding.model, binding.generation)
  }


def _axes(weight: Weight, layer: Any) -> dict[str, int]:
  classes = {ancestor.__name__ for ancestor in type(layer).__mro__}
  gates = next((n for name, n in _GATES.items() if name in classes), 1)
  shape = weight.shape
  if gates > 1 and shape and shape[-1] % gates == 0:
    shape = (*shape[:-1], gates, shape[-1] // gates)
  if "EinsumDense" in classes and weight.role == "kernel":
    names = _einsum(layer)
  else:
    names = _names(weight, has_gates=gates > 1)
  if len(names) != len(shape):  # a weight that the user's subclass has added
    shape = weight.shape
    names = tuple(f"axis {number}" for number in range(len(shape)))
  return dict(zip(names, shape, strict=True))


def _names(weight: Weight, has_gates: bool) -> tuple[str, ...]:
  """Returns the names for what the rules know; see `weights.decide`."""
  window = _WINDOWS.get(len(weight.shape) - 2, ())
  if weight.role == "depthwise_kernel":
    return (*window, "input channels", "filters of each")
  if weight.kind == "conv" and weight.role.endswith("kernel"):
    inputs_and_outputs = ("input channels", "filters")
    return (*window, *inputs_and_outputs[:: -1 if weight.is_transposed else 1])
  if weight.kind == "dense" and weight.role == "kernel":
    return ("inputs", "units")
  if weight.kind == "embedding" and weight.role == "embeddings":
    return ("tokens", "features")
  if weight.kind == "recurrent" and weight.role.endswith("kernel"):
    inputs = "state" if weight.role == "recurrent_kernel" else "inputs"
    return (*window, inputs, *["gates"] * has_gates, "units")
  return ()


def _einsum(layer: Any) -> tuple[str, ...]:
  """Names the axes of a kernel by its equation, such as `abc,cde->abde`."""
  inputs, kernel, outputs = layer.equation.replace("->", ",").split(",")
  summed = [axis for axis in kernel if axis not in outputs]
  made = [axis for axis in kernel if axis not in inputs]
  shared = [axis for axis in kernel if axis in inputs and axis in outputs]
  names = {
    **_numbered("inputs", summed),
    **_numbered("units", made),
    **_numbered("groups", shared),
  }
  if layer.name in _PROJECTIONS and len(summed) == 1 and len(made) == 2:
    names = dict(zip((*summed, *made), ("features", *_HEADS), strict=True))
  if layer.name == "attention_output" and len(summed) == 2 and len(made) == 1:
    names = dict(zip((*summed, *made), (*_HEADS, "features"), strict=True))
  return tuple(names.get(axis, "") for axis in kernel)


def _numbered(name: str, axes: list[str]) -> dict[str, str]:
  """Names axes that mean the same, with numbers if there are several."""
  if len(axes) == 1:
    return {axes[0]: name}
  return {axis: f"{name} {number}" for number, axis in enumerate(axes, 1)}
