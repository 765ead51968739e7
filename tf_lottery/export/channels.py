"""Removes the units and channels that do not matter to a network's outputs.

The tensors of a network form *channel groups*: a convolution's output, the
same after normalisation, activation and pooling, and all branches that meet in
an addition. A channel is removed from a whole group, or stays in all of it.

Channels are removed for two reasons. Either no weight uses them, or they are
constant, and the constant is added to the biases of the layers that use them.
All arrays are NumPy arrays, with the channels in the last axis.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_lottery.export.layer_calls import LayerCall

_MISALIGNED = {
  "add": "it adds tensors with different channels",
  "channelwise": "it normalises the output of Flatten",
}


class ChannelGroup:
  """Tensors that have the same channels.

  Attributes:
    size: The number of channels at first.
    kept: Boolean array of shape `(size,)`: which channels are left.
    obstacle: Why no channel may be removed; empty if some may.
  """

  def __init__(self, size: int):
    self.size = size
    self.kept = np.ones(size, bool)
    self.obstacle = ""


class ChannelGraph:
  """The calls of a network, and the channels that are left in each group.

  Args:
    calls: The calls in the order in which they run. Their weights change.
    outputs: The ids of the network's output tensors.

  Attributes:
    calls: The calls.
    groups: The id of each tensor -> its group.
  """

  def __init__(self, calls: Sequence[LayerCall], outputs: Sequence[int]):
    self.calls = calls
    self.groups: dict[int, ChannelGroup] = {}
    for call in calls:
      self._place(call)
    for output in outputs:
      self.groups[output].obstacle = "it is an output of the model"
    # Tensor -> the constant value of each channel, NaN for one that varies.
    self._constants: dict[int, np.ndarray] = {}

  def _place(self, call: LayerCall) -> None:
    """Puts the output of a call into a group."""
    if not self._is_aligned(call):
      call.reason = _MISALIGNED[call.kind]
      call.kind = "other"
    if call.kind in ("channelwise", "depthwise"):
      self.groups[call.output] = self.groups[call.inputs[0]]
    elif call.kind == "add":
      first, *others = (self.groups[tensor] for tensor in call.inputs)
      for other in others:
        self._merge(first, other)
      self.groups[call.output] = first
    else:
      self.groups[call.output] = ChannelGroup(call.width)
    if call.kind == "input":
      self.groups[call.output].obstacle = "it is an input of the model"
    if call.kind == "other":
      for tensor in (*call.inputs, call.output):
        self.groups[tensor].obstacle = f"{call.name}: {call.reason}"
    elif call.reason:
      self.groups[call.output].obstacle = f"{call.name}: {call.reason}"

  def _is_aligned(self, call: LayerCall) -> bool:
    """Whether the inputs and weights of a call have the same channels.

    After Flatten, a group has fewer channels than the last axis has entries.
    """
    if call.kind not in ("add", "channelwise"):
      return True
    sizes = {self.groups[tensor].size for tensor in call.inputs}
    return len(sizes.union(map(len, call.weights))) == 1

  def _merge(self, group: ChannelGroup, other: ChannelGroup) -> None:
    group.obstacle = group.obstacle or other.obstacle
    for tensor, placed in self.groups.items():
      if placed is other:
        self.groups[tensor] = group

  def shrink(self) -> None:
    """Removes channels until all that are left matter."""
    while True:
      self._find_constants()
      removable = [
        (group, channels)
        for group in {id(g): g for g in self.groups.values()}.values()
        if (channels := self._removable(group)).any()
      ]
      if not removable:
        return
      # Adding constants to biases changes no other constant, so all groups
      # are done before the constants are computed again.
      for group, channels in removable:
        self._remove(group, channels)

  def _removable(self, group: ChannelGroup) -> np.ndarray:
    """Returns which channels may be removed now, as a boolean array."""
    if group.obstacle:
      return np.zeros(group.size, bool)
    removable = group.kept.copy()
    for call in self._consumers(group):
      unused, foldable = self._of_no_use(call, group)
      removable &= unused | foldable
    if removable.sum() == group.kept.sum():
      # A layer must have at least one unit.
      removable[np.flatnonzero(removable)[0]] = False
    return removable

  def _of_no_use(
    self, call: LayerCall, group: ChannelGroup
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the channels that a call does not use, and the foldable ones.

    A foldable channel is a constant that the call's bias can take over.
    """
    value = self._constants[call.inputs[0]]
    foldable = value == 0
    if call.has_bias and not call.pads:
      foldable = ~np.isnan(value)
    used = np.any(call.by_channel(group.size), axis=(0, 2))
    return np.logical_not(used), foldable

  def why_kept(self, group: ChannelGroup) -> str:
    """Says why all channels stayed, or constant ones; empty if neither."""
    reasons = []
    for call in self._consumers(group):
      unused, foldable = self._of_no_use(call, group)
      varies = np.isnan(self._constants[call.inputs[0]])
      count = (group.kept & ~unused & ~foldable & ~varies).sum()
      if count:
        why = "pads with zeros" if call.pads else "has no bias"
        reasons.append(f"{count} constant, but {call.name} {why}")
    if not reasons and group.kept.all():
      return "each of them matters"
    return "; ".join(reasons)

  def _remove(self, group: ChannelGroup, channels: np.ndarray) -> None:
    for call in self._consumers(group):
      kernel = call.by_channel(group.size)
      value = np.nan_to_num(self._constants[call.inputs[0]])
      if call.has_bias:
        share = kernel.sum(0)[channels] * value[channels, None]
        call.weights[1] = call.weights[1] + share.sum(0)
      kernel[:, channels] = 0
    for call in self.calls:
      if call.has_kernel and self.groups[call.output] is group:
        call.weights[0][..., channels] = 0
    group.kept &= ~channels

  def _consumers(self, group: ChannelGroup) -> list[LayerCall]:
    """Returns the calls that multiply the group's channels by a kernel."""
    return [
      call
      for call in self.calls
      if call.has_kernel and self.groups[call.inputs[0]] is group
    ]

  def _find_constants(self) -> None:
    for call in self.calls:
      values = [self._constants[tensor] for tensor in call.inputs]
      rule = _RULES.get(call.kind)
      self._constants[call.output] = (
        rule(call, values) if rule else np.full(call.width, np.nan)
      )


# Rules that find the constants of a call's output by those of its inputs. NaN
# stands for a channel that varies.


def _of_kernel(call: LayerCall, values: Sequence[np.ndarray]) -> np.ndarray:
  """Finds outputs to which only constant inputs have a weight."""
  (value,) = values
  kernel = call.by_channel(len(value))
  is_constant = (value == 0) if call.pads else ~np.isnan(value)
  varies = kernel[:, ~is_constant].any((0, 1))
  sums = (kernel * np.nan_to_num(value)[None, :, None]).sum((0, 1))
  return _after_bias(call, np.where(varies, np.nan, sums))


def _of_depthwise(call: LayerCall, values: Sequence[np.ndarray]) -> np.ndarray:
  """Finds outputs whose own channel is constant, or whose kernel is zero."""
  (value,) = values
  kernel = call.weights[0].reshape(-1, len(value))
  is_constant = (value == 0) if call.pads else ~np.isnan(value)
  sums = kernel.sum(0) * np.nan_to_num(value)
  return _after_bias(call, np.where(is_constant | ~kernel.any(0), sums, np.nan))


def _after_bias(call: LayerCall, sums: np.ndarray) -> np.ndarray:
  """Adds the bias and applies the activation."""
  if call.has_bias:
    sums = sums + call.weights[1]
  if call.reason:  # the activation mixes channels
    return np.full_like(sums, np.nan)
  return _where_constant(sums, call.layer.activation)


def _of_channelwise(
  call: LayerCall, values: Sequence[np.ndarray]
) -> np.ndarray:
  """Has the layer compute the new values of constant channels."""
  (value,) = values
  name = type(call.layer).__name__
  if name == "ZeroPadding2D":
    return np.where(value == 0, value, np.nan)
  if "Pooling" in name or "Dropout" in name or name == "Flatten":
    return value
  arguments = {"training": False} if name == "BatchNormalization" else {}
  shape = (1,) * len(call.shapes[0]) + value.shape
  return _where_constant(
    value, lambda x: np.reshape(call.layer(x.reshape(shape), **arguments), -1)
  )


def _where_constant(
  value: np.ndarray, function: Callable[[np.ndarray], Any]
) -> np.ndarray:
  result = np.asarray(function(np.nan_to_num(value).astype(np.float32)))
  return np.where(np.isnan(value), np.nan, result)


_RULES: Mapping[
  str, Callable[[LayerCall, Sequence[np.ndarray]], np.ndarray]
] = {
  "dense": _of_kernel,
  "conv": _of_kernel,
  "depthwise": _of_depthwise,
  "channelwise": _of_channelwise,
  "add": lambda _, values: np.sum(values, axis=0),
}
