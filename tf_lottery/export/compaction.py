"""Smaller dense models: units and channels that no longer matter, taken out."""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from tf_lottery import wrappers
from tf_lottery.export import channels
from tf_lottery.export import signatures
from tf_lottery.export import verification

# What slicing and folding may change, by the order in which sums are taken.
_TOLERANCE = 1e-4
_TOLERANCE_OF_HALVES = 3e-2


@dataclasses.dataclass(frozen=True)
class CompactionReport:
  """What `compact` took out. Printing it shows a table.

  Attributes:
    units: layer -> units or channels before and after.
    parameters: of the whole model, before and after.
    left_alone: layer -> why none of its units went, or why some stay that only
      give a constant.
  """

  units: dict[str, tuple[int, int]]
  parameters: tuple[int, int]
  left_alone: dict[str, str]

  def __str__(self) -> str:
    before, after = self.parameters
    width = max(map(len, self.units), default=0)
    lines = [
      f"{name.ljust(width)}  {then:6,} -> {now:6,}"
      + (
        f"  left alone: {self.left_alone[name]}"
        if name in self.left_alone
        else ""
      )
      for name, (then, now) in self.units.items()
    ]
    lines.append(
      f"{before:,} -> {after:,} parameters, {before / max(after, 1):.2f} times"
      " fewer."
    )
    return "\n".join(lines)


def compact(model: Any, *, inputs: Any = None) -> tuple[Any, CompactionReport]:
  """A smaller dense model that computes the same.

  Takes out units of Dense layers and channels of Conv2D layers whose outgoing
  weights are all zero, and those whose incoming weights are: these are constant
  and go into the biases behind them, except where zeros pad them or there is no
  bias. It looks through BatchNormalization, activations, pooling,
  DepthwiseConv2D, Flatten and Add; whatever else it meets keeps its channels,
  as Concatenate, nested models and layers that are called twice do. On tickets
  of single weights it pays, for dense runtimes, from about 98 % of zeros on; on
  those of `pattern="channel"` at any density.

  Args:
    model: a Sequential or functional Keras model of either generation,
      lottery-ready or plain. It is not changed.
    inputs: examples on which both are compared; see `export.to_tflite`.

  Returns:
    The new model, plain and not compiled, and what was done.

  Raises:
    ValueError: the model is a subclassed one.
    RuntimeError: the smaller model would compute something else. So it seems
      too of a tf_keras model that draws at random at inference.

  Example:
  ```python
  small, report = compact(model)
  print(report)
  export.to_tflite(small, "ticket.tflite")
  ```
  """
  binding = wrappers.bind(model)
  wrappers.graph(model)  # refuses models that have none
  binding.check_held()
  plain = _plain(model) if binding.is_ready else model
  nodes, outputs = _nodes(plain)
  network = channels.Network(nodes, outputs)
  network.shrink()
  small = wrappers.rebuild(plain, _new_sizes(network))
  for node in nodes:
    if node.weights:
      small.get_layer(node.name).set_weights(_sliced(node, network))
  _check_same(model, small, inputs)
  return small, _report(network, model, small)


def _plain(model: Any) -> Any:
  """A copy without what the lottery adds."""
  with tempfile.NamedTemporaryFile(suffix=".keras") as file:
    model.save(file.name)
    return wrappers.strip_lottery(wrappers.load(model, file.name))


def _nodes(model: Any) -> tuple[list[channels.Node], list[int]]:
  calls, outputs = wrappers.graph(model)
  counts = Counter(id(layer) for layer, *_ in calls)
  nodes = []
  for layer, inputs, output, shapes in calls:
    node = channels.Node(layer, inputs, output, shapes)
    if hasattr(layer, "get_weights"):  # Keras 3's operations have none
      node.weights = [np.array(weight) for weight in layer.get_weights()]
    node.kind, node.reason = channels.classify(node, counts[id(layer)])
    nodes.append(node)
  return nodes, outputs


def _new_sizes(network: channels.Network) -> dict[str, dict[str, int]]:
  """Layer -> what changes in its configuration."""
  argument = {"dense": "units", "conv": "filters"}
  return {
    node.name: {
      argument[node.kind]: int(network.groups[node.output].kept.sum())
    }
    for node in network.nodes
    if node.kind in argument
  }


def _sliced(node: channels.Node, network: channels.Network) -> list[np.ndarray]:
  """A layer's weights for the channels that are left."""
  if node.kind == "other":
    return node.weights
  kept = network.groups[node.output].kept
  if node.kind == "depthwise":
    kernel, *bias = node.weights
    return [kernel[:, :, kept], *(vector[kept] for vector in bias)]
  if node.kind == "channelwise":
    return [vector[kept] for vector in node.weights]
  kernel, *bias = node.weights
  before = network.groups[node.inputs[0]]
  places = kernel.shape[-2] // before.size
  rows = np.tile(before.kept, places)
  return [kernel[..., rows, :][..., kept], *(vector[kept] for vector in bias)]


def _check_same(model: Any, small: Any, inputs: Any) -> None:
  whole = signatures.of_model(model, inputs)[signatures.DEFAULT]
  part = signatures.of_model(small, inputs)[signatures.DEFAULT]
  expected = whole.compute(whole.examples)
  got = part.compute(whole.examples)
  dtypes = {getattr(x, "compute_dtype", "") for x in wrappers.walk(small)}
  halves = not dtypes.isdisjoint(("bfloat16", "float16"))
  tolerance = _TOLERANCE_OF_HALVES if halves else _TOLERANCE
  for name, value in expected.items():
    difference, scale = verification.difference(value, got[name])
    if not difference <= tolerance * scale:
      raise RuntimeError(
        f"compact() must not change what the model computes, and {name!r}"
        f" differs by {difference:.2e} where it is at most {scale:.2e}. Keep"
        " the model as it is, and report this one."
      )


def _report(
  network: channels.Network, model: Any, small: Any
) -> CompactionReport:
  producers = [n for n in network.nodes if n.kind in ("dense", "conv")]
  groups = {node.name: network.groups[node.output] for node in producers}
  return CompactionReport(
    units={n: (g.size, int(g.kept.sum())) for n, g in groups.items()},
    parameters=(sum(_sizes(model)), sum(_sizes(small))),
    left_alone={
      name: reason
      for name, group in groups.items()
      if (reason := group.obstacle or network.stuck(group))
    },
  )


def _sizes(model: Any) -> Iterator[int]:
  for weight in wrappers.bind(model).report:
    yield weight.size
