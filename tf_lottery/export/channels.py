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

_KERAS = ("keras", "tf_keras")
# Activations that look at one number at a time.
_ELEMENTWISE = (
  *("elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "leaky_relu"),
  *("linear", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus"),
  *("softsign", "swish", "tanh"),
)
_OUT_OF_LINE = {
  "add": "it adds what has other channels",
  "channelwise": "it normalises what Flatten made",
}
_SUMS = ("__operators__.add", "math.add")
_ELEMENTWISE_LAYERS = ("ELU", "LeakyReLU", "ReLU")
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
  def width(self) -> int:
    """How long the last axis of its output is; 1 where that is not known."""
    return (self.shapes[-1] or (1,))[-1] or 1

  @property
  def has_bias(self) -> bool:
    """Whether a constant can be folded into it."""
    return getattr(self.layer, "use_bias", False)

  @property
  def pads(self) -> bool:
    """Whether zeros surround its input; they never do for 1x1."""
    sizes = getattr(self.layer, "kernel_size", ())
    padding = getattr(self.layer, "padding", "valid")
    return padding != "valid" and max(sizes, default=1) > 1


def classify(node: Node, calls: int) -> tuple[str, str]:
  """The kind of a node, and why its output keeps its channels.

  Args:
    node: the node, with its weights.
    calls: how often its layer is called in the model.
  """
  layer = node.layer
  name = type(layer).__name__
  if name == "InputLayer":
    return "input", ""
  if _package(type(layer)) not in _KERAS:
    return "other", f"{name} is a class of its own"
  if calls > 1:
    return "other", "it is called several times"
  if getattr(layer, "data_format", None) == "channels_first":
    return "other", "its channels come first"
  # The layer, or x + y, which tf_keras gives a symbol; but not x + 1.
  is_sum = name == "Add" or getattr(layer, "symbol", "") in _SUMS
  if is_sum and len(node.inputs) > 1 and len(set(node.shapes)) == 1:
    return "add", ""
  if not hasattr(layer, "get_weights"):
    return "other", f"operations of class {name} are not understood"
  return _classify_layer(node, _mixing(getattr(layer, "activation", None)))


def _classify_layer(node: Node, mixing: str) -> tuple[str, str]:
  layer = node.layer
  name = type(layer).__name__
  is_conv = name == "Conv2D" and layer.groups == 1
  is_depthwise = name == "DepthwiseConv2D" and layer.depth_multiplier == 1
  if name == "Dense" or is_conv or is_depthwise:
    if len(node.weights) != 1 + node.has_bias:
      return "other", "it has other weights than a kernel and a bias"
    if not is_depthwise:
      return "dense" if name == "Dense" else "conv", mixing
  if mixing:
    return "other", mixing
  if is_depthwise:
    return "depthwise", ""
  if name == "BatchNormalization":
    axes = np.ravel(layer.axis) % (1 + len(node.shapes[0]))
    if axes.tolist() != [len(node.shapes[0])]:
      return "other", "it normalises another axis than the last"
  if name in _CHANNELWISE:
    return "channelwise", ""
  return "other", f"layers of class {name} are not understood"


def _mixing(activation: Any) -> str:
  """Why an activation may mix channels; empty when it does not."""
  if activation is None:
    return ""
  name = getattr(activation, "__name__", None)
  if name is None:  # a layer, or an object of the user's
    name = type(activation).__name__
    known = name in _ELEMENTWISE_LAYERS and _package(type(activation)) in _KERAS
  else:
    packages = (*_KERAS, "tensorflow")
    known = name in _ELEMENTWISE and _package(activation) in packages
  return "" if known else f"its activation {name} may mix channels"


def _package(thing: Any) -> str:
  return (getattr(thing, "__module__", None) or "").split(".")[0]


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
    if not self._lines_up(node):
      node.reason = _OUT_OF_LINE[node.kind]
      node.kind = "other"
    if node.kind in ("channelwise", "depthwise"):
      self.groups[node.output] = self.groups[node.inputs[0]]
    elif node.kind == "add":
      first, *others = (self.groups[tensor] for tensor in node.inputs)
      for other in others:
        self._merge(first, other)
      self.groups[node.output] = first
    else:
      self.groups[node.output] = Group(node.width)
    if node.kind == "input":
      self.groups[node.output].obstacle = "it is an input of the model"
    kept = (*node.inputs, node.output) if node.kind == "other" else ()
    for tensor in kept or (node.output,) * bool(node.reason):
      self.groups[tensor].obstacle = f"{node.name}: {node.reason}"

  def _lines_up(self, node: Node) -> bool:
    """Whether all that a node brings together has the same channels.

    After Flatten a group's channels are fewer than the last axis is long.
    """
    if node.kind not in ("add", "channelwise"):
      return True
    sizes = {self.groups[tensor].size for tensor in node.inputs}
    return len(sizes.union(map(len, node.weights))) == 1

  def _merge(self, group: Group, other: Group) -> None:
    group.obstacle = group.obstacle or other.obstacle
    for tensor, placed in self.groups.items():
      if placed is other:
        self.groups[tensor] = group

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
      # Constants keep their values as some are folded, so all groups may go
      # before they are sought anew.
      for group, channels in gone:
        self._remove(group, channels)

  def _removable(self, group: Group) -> np.ndarray:
    if group.obstacle:
      return np.zeros(group.size, bool)
    removable = group.kept.copy()
    for node in self._consumers(group):
      unused, folds = self._of_use(node, group)
      removable &= unused | folds
    if removable.sum() == group.kept.sum():
      # A layer of no units is none.
      removable[np.flatnonzero(removable)[0]] = False
    return removable

  def _of_use(self, node: Node, group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Which channels a consumer does not use, and which go into its bias."""
    value = self._constants[node.inputs[0]]
    folds = value == 0
    if node.has_bias and not node.pads:
      folds = ~np.isnan(value)
    return ~_by_channel(node, group.size).any((0, 2)), folds

  def stuck(self, group: Group) -> str:
    """Why all channels, or constant ones, stay; empty where others went."""
    reasons = []
    for node in self._consumers(group):
      unused, folds = self._of_use(node, group)
      varies = np.isnan(self._constants[node.inputs[0]])
      count = (group.kept & ~unused & ~folds & ~varies).sum()
      if count:
        why = "pads with zeros" if node.pads else "has no bias"
        reasons.append(f"{count} constant, but {node.name} {why}")
    if not reasons and group.kept.all():
      return "each of them matters"
    return "; ".join(reasons)

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
  return np.full(node.width, np.nan)


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
