"""Which units and channels of a network matter to what it computes.

A network is seen as *groups* of tensors that have their channels in common: a
convolution's output, the same after normalisation, activation and pooling, and
all branches that meet in an addition. A channel goes from a whole group or
stays in all of it. Arrays are NumPy's, channels last.
"""

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

# Activations that look at one number at a time.
_ELEMENTWISE = (
  *("elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "leaky_relu"),
  *("linear", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus"),
  *("softsign", "swish", "tanh"),
)
_CHANNELWISE = (
  *("Activation", "AveragePooling2D", "BatchNormalization", "Dropout", "ELU"),
  *("Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "LeakyReLU"),
  *("MaxPooling2D", "ReLU", "SpatialDropout2D", "ZeroPadding2D"),
)


@dataclasses.dataclass
class Node:
  """One call of a layer.

  Attributes:
    layer: the Keras layer.
    inputs: ids of the tensors that it takes.
    output: id of the tensor that it gives.
    shapes: of both, without the batch: inputs, then output.
    weights: the layer's, in Keras's order; changed as channels go.
    kind: `"input"`, `"dense"`, `"conv"`, `"depthwise"`, `"channelwise"`,
      `"add"` or `"other"`.
    reason: why its output keeps its channels; empty when it need not.
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
    """The layer's."""
    return self.layer.name

  @property
  def has_bias(self) -> bool:
    """Whether a constant can be folded into it."""
    return getattr(self.layer, "use_bias", False)

  @property
  def pads(self) -> bool:
    """Whether zeros surround its input."""
    return getattr(self.layer, "padding", "valid") != "valid"


def classify(node: Node, calls: int) -> tuple[str, str]:
  """The kind of a node, and why its output keeps its channels.

  Args:
    node: the node.
    calls: how often its layer is called in the model.
  """
  layer = node.layer
  name = type(layer).__name__
  if name == "InputLayer":
    return "input", ""
  if type(layer).__module__.split(".")[0] not in ("keras", "tf_keras"):
    return "other", f"{name} is a class of its own"
  if calls > 1:
    return "other", "it is called several times"
  if getattr(layer, "data_format", None) == "channels_first":
    return "other", "its channels come first"
  axes = np.atleast_1d(getattr(layer, "axis", -1))
  if not set(axes) <= {-1, len(node.shapes[0])}:
    return "other", "it normalises another axis than the last"
  activation = getattr(layer, "activation", None)
  function = getattr(activation, "__name__", type(activation).__name__)
  mixing = ""
  if activation is not None and function not in _ELEMENTWISE:
    mixing = f"{function} may mix channels"
  if name == "Dense":
    return "dense", mixing
  if name == "Conv2D" and layer.groups == 1:
    return "conv", mixing
  if mixing:
    return "other", mixing
  if name == "DepthwiseConv2D" and layer.depth_multiplier == 1:
    return "depthwise", ""
  if name == "Add" and len(set(node.shapes)) == 1:
    return "add", ""
  if name in _CHANNELWISE:
    return "channelwise", ""
  return "other", f"layers of class {name} are not understood"


class Group:
  """Tensors that have their channels in common.

  Attributes:
    size: how many channels.
    kept: which of them are left.
    obstacle: why none may go; empty when some may.
  """

  def __init__(self, size: int):
    self.size = size
    self.kept = np.ones(size, bool)
    self.obstacle = ""


class Network:
  """The nodes of a model, and the channels that are left in its groups.

  Args:
    nodes: in the order in which they run; their weights are changed.
    outputs: ids of the model's outputs.
  """

  def __init__(self, nodes: Sequence[Node], outputs: Sequence[int]):
    self.nodes = nodes
    self.groups: dict[int, Group] = {}
    for node in nodes:
      self._place(node)
    for output in outputs:
      self.groups[output].obstacle = "the model gives it out"
    self._constants: dict[int, np.ndarray] = {}

  def _place(self, node: Node) -> None:
    """Finds the group of a node's output."""
    if node.kind in ("channelwise", "depthwise") or (
      node.kind == "add" and self._merges(node)
    ):
      self.groups[node.output] = self.groups[node.inputs[0]]
    else:
      self.groups[node.output] = Group(node.shapes[-1][-1] or 1)
    if node.kind == "input":
      self.groups[node.output].obstacle = "it is an input of the model"
    kept = (*node.inputs, node.output) if node.kind == "other" else ()
    for tensor in kept or (node.output,) * bool(node.reason):
      self.groups[tensor].obstacle = f"{node.name}: {node.reason}"

  def _merges(self, node: Node) -> bool:
    """Makes one group of all that meet in an addition, where that is one."""
    first, *others = (self.groups[tensor] for tensor in node.inputs)
    if any(other.size != first.size for other in others):
      node.kind, node.reason = "other", "it adds what has other channels"
      return False
    for other in others:
      first.obstacle = first.obstacle or other.obstacle
      for tensor, group in self.groups.items():
        if group is other:
          self.groups[tensor] = first
    return True

  def shrink(self) -> None:
    """Takes out channels until all that are left matter."""
    while True:
      self._find_constants()
      gone = [
        (group, channels)
        for group in {id(g): g for g in self.groups.values()}.values()
        if (channels := self._removable(group)).any()
      ]
      if not gone:
        return
      # One group at a time: what it folds changes the others' constants.
      self._remove(*gone[0])

  def _removable(self, group: Group) -> np.ndarray:
    if group.obstacle:
      return np.zeros(group.size, bool)
    removable = group.kept.copy()
    for node in self._consumers(group):
      kernel = _by_channel(node, group.size)
      unused = ~kernel.any((0, 2))
      value = self._constants[node.inputs[0]]
      folds = value == 0
      if node.has_bias and not node.pads:
        folds = ~np.isnan(value)
      removable &= unused | folds
    if removable.sum() == group.kept.sum():
      # A layer of no units is none.
      removable[np.flatnonzero(removable)[0]] = False
    return removable

  def _remove(self, group: Group, channels: np.ndarray) -> None:
    for node in self._consumers(group):
      kernel = _by_channel(node, group.size)
      value = np.nan_to_num(self._constants[node.inputs[0]])
      if node.has_bias:
        share = kernel.sum(0)[channels] * value[channels, None]
        node.weights[1] = node.weights[1] + share.sum(0)
      kernel[:, channels] = 0
    for node in self.nodes:
      if node.kind in ("dense", "conv") and self.groups[node.output] is group:
        node.weights[0][..., channels] = 0
    group.kept &= ~channels

  def _consumers(self, group: Group) -> list[Node]:
    return [
      node
      for node in self.nodes
      if node.kind in ("dense", "conv") and self.groups[node.inputs[0]] is group
    ]

  def _find_constants(self) -> None:
    """For each tensor the value of each channel; NaN where it varies."""
    for node in self.nodes:
      values = [self._constants[tensor] for tensor in node.inputs]
      rule = _CONSTANTS.get(node.kind, _varies)
      self._constants[node.output] = rule(node, values)


def _by_channel(node: Node, channels: int) -> np.ndarray:
  """A view of a kernel: places, input channels, outputs."""
  kernel = node.weights[0]
  return kernel.reshape(-1, channels, kernel.shape[-1])


def _varies(node: Node, values: Sequence[np.ndarray]) -> np.ndarray:
  del values
  return np.full(node.shapes[-1][-1] or 1, np.nan)


def _of_kernel(node: Node, values: Sequence[np.ndarray]) -> np.ndarray:
  """An output is constant when all that reaches it is."""
  (value,) = values
  kernel = _by_channel(node, len(value))
  fits = (value == 0) if node.pads else ~np.isnan(value)
  reached = kernel[:, ~fits].any((0, 1))
  sums = (kernel * np.nan_to_num(value)[None, :, None]).sum((0, 1))
  return _activated(node, np.where(reached, np.nan, sums))


def _of_depthwise(node: Node, values: Sequence[np.ndarray]) -> np.ndarray:
  """Each channel is its own input."""
  (value,) = values
  kernel = node.weights[0].reshape(-1, len(value))
  fits = (value == 0) if node.pads else ~np.isnan(value)
  sums = kernel.sum(0) * np.nan_to_num(value)
  return _activated(node, np.where(fits | ~kernel.any(0), sums, np.nan))


def _activated(node: Node, sums: np.ndarray) -> np.ndarray:
  if node.has_bias:
    sums = sums + node.weights[1]
  if node.reason:  # softmax
    return np.full_like(sums, np.nan)
  return _where_constant(sums, node.layer.activation)


def _of_channelwise(node: Node, values: Sequence[np.ndarray]) -> np.ndarray:
  """Constant channels stay so: the layer says at which value."""
  (value,) = values
  name = type(node.layer).__name__
  if name == "ZeroPadding2D":
    return np.where(value == 0, value, np.nan)
  if "Pooling" in name or "Dropout" in name or name == "Flatten":
    return value
  arguments = {"training": False} if name == "BatchNormalization" else {}
  shape = (1,) * len(node.shapes[0]) + value.shape
  return _where_constant(
    value, lambda x: np.reshape(node.layer(x.reshape(shape), **arguments), -1)
  )


def _where_constant(
  value: np.ndarray, function: Callable[[np.ndarray], Any]
) -> np.ndarray:
  result = np.asarray(function(np.nan_to_num(value).astype(np.float32)))
  return np.where(np.isnan(value), np.nan, result)


def _of_sum(node: Node, values: Sequence[np.ndarray]) -> np.ndarray:
  del node
  return np.sum(values, axis=0)


_CONSTANTS: Mapping[str, Callable[[Node, Sequence[np.ndarray]], np.ndarray]] = {
  "dense": _of_kernel,
  "conv": _of_kernel,
  "depthwise": _of_depthwise,
  "channelwise": _of_channelwise,
  "add": _of_sum,
}
