"""Tells what each call of a layer does with its channels."""

import dataclasses
from typing import Any

import numpy as np

_KERAS = ("keras", "tf_keras")
# Activations that compute each number by itself.
_ELEMENTWISE = (
  *("elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "leaky_relu"),
  *("linear", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus"),
  *("softsign", "swish", "tanh"),
)
_ELEMENTWISE_LAYERS = ("ELU", "LeakyReLU", "ReLU")
# Layers that compute each channel by itself.
_CHANNELWISE = (
  *("Activation", "AveragePooling2D", "BatchNormalization", "Dropout", "ELU"),
  *("Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "LeakyReLU"),
  *("MaxPooling2D", "ReLU", "SpatialDropout2D", "ZeroPadding2D"),
)
# How tf_keras calls the operator of `x + y`.
_SUMS = ("__operators__.add", "math.add")


@dataclasses.dataclass
class LayerCall:
  """One call of a layer in a model.

  Attributes:
    layer: The Keras layer.
    inputs: The ids of the input tensors.
    output: The id of the output tensor.
    shapes: The shapes of the inputs and of the output, without the batch.
    weights: The weights of the layer, in Keras's order. They change as
      channels are removed.
    kind: `"input"`, `"dense"`, `"conv"`, `"depthwise"`, `"channelwise"`,
      `"add"` or `"other"`.
    reason: Why the output must keep its channels; empty if it need not.
  """

  layer: Any
  inputs: tuple[int, ...]
  output: int
  shapes: tuple[tuple[int | None, ...], ...]
  weights: list[np.ndarray] = dataclasses.field(default_factory=list)
  kind: str = "other"
  reason: str = ""

  @property
  def name(self) -> str:
    """The name of the layer."""
    return self.layer.name

  @property
  def has_kernel(self) -> bool:
    """Whether it is a Dense or Conv2D layer, which mixes its inputs."""
    return self.kind in ("dense", "conv")

  @property
  def width(self) -> int:
    """The size of the output's last axis, or 1 if it is unknown."""
    return (self.shapes[-1] or (1,))[-1] or 1

  @property
  def has_bias(self) -> bool:
    """Whether the layer has a bias, to which a constant can be added."""
    return getattr(self.layer, "use_bias", False)

  @property
  def pads(self) -> bool:
    """Whether the layer surrounds its input with zeros."""
    sizes = getattr(self.layer, "kernel_size", ())
    padding = getattr(self.layer, "padding", "valid")
    # A 1x1 kernel needs no padding, whatever the layer says.
    return padding != "valid" and max(sizes, default=1) > 1

  def by_channel(self, channels: int) -> np.ndarray:
    """Returns the kernel in the shape (places, input channels, outputs)."""
    kernel = self.weights[0]
    return kernel.reshape(-1, channels, kernel.shape[-1])


def classify(call: LayerCall, calls_of_layer: int) -> tuple[str, str]:
  """Finds the kind of a call, and why its output must keep its channels.

  Args:
    call: The call, with the weights of its layer.
    calls_of_layer: How often the model calls this layer.

  Returns:
    The kind, and the reason; see `LayerCall`.
  """
  layer = call.layer
  name = type(layer).__name__
  if name == "InputLayer":
    return "input", ""
  if _package(type(layer)) not in _KERAS:
    return "other", f"{name} is not a class of Keras"
  if calls_of_layer > 1:
    return "other", "it is called several times"
  if getattr(layer, "data_format", None) == "channels_first":
    return "other", "its channels come first"
  # The layer, or the operator of x + y, but not that of x + 1.
  is_sum = name == "Add" or getattr(layer, "symbol", "") in _SUMS
  if is_sum and len(call.inputs) > 1 and len(set(call.shapes)) == 1:
    return "add", ""
  if not hasattr(layer, "get_weights"):
    return "other", f"operations of class {name} are not understood"
  return _classify_layer(call, _why_mixing(getattr(layer, "activation", None)))


def _classify_layer(call: LayerCall, why_mixing: str) -> tuple[str, str]:
  layer = call.layer
  name = type(layer).__name__
  is_conv = name == "Conv2D" and layer.groups == 1
  is_depthwise = name == "DepthwiseConv2D" and layer.depth_multiplier == 1
  if name == "Dense" or is_conv or is_depthwise:
    if len(call.weights) != 1 + call.has_bias:
      return "other", "it has other weights than a kernel and a bias"
    if not is_depthwise:
      return "dense" if name == "Dense" else "conv", why_mixing
  if why_mixing:
    return "other", why_mixing
  if is_depthwise:
    return "depthwise", ""
  if name == "BatchNormalization":
    last = len(call.shapes[0])
    axes = np.ravel(layer.axis) % (1 + last)
    if axes.tolist() != [last]:
      return "other", "it normalises another axis than the last"
  if name in _CHANNELWISE:
    return "channelwise", ""
  return "other", f"layers of class {name} are not understood"


def _why_mixing(activation: Any) -> str:
  """Says why an activation may mix channels; empty if it does not."""
  if activation is None:
    return ""
  name = getattr(activation, "__name__", None)
  if name is None:  # a layer, or another object that can be called
    name = type(activation).__name__
    known = name in _ELEMENTWISE_LAYERS and _package(type(activation)) in _KERAS
  else:
    packages = (*_KERAS, "tensorflow")
    known = name in _ELEMENTWISE and _package(activation) in packages
  return "" if known else f"its activation {name} may mix channels"


def _package(thing: Any) -> str:
  return (getattr(thing, "__module__", None) or "").split(".")[0]
