"""Makes a smaller dense model that computes the same as a sparse one."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_lottery import text_table
from tf_lottery import wrappers
from tf_lottery.export import signatures
from tf_lottery.export import verification
from tf_lottery.export.channels import ChannelGraph
from tf_lottery.export.layer_calls import LayerCall
from tf_lottery.export.layer_calls import classify
from tf_lottery.wrappers.binding import Binding

# The largest relative difference that is accepted. The smaller model takes
# sums in another order, which matters more in half precision.
_TOLERANCE = 1e-4
_TOLERANCE_OF_HALVES = 3e-2


@dataclasses.dataclass(frozen=True)
class CompactionReport:
  """A report on the parts that `compact` removed. Printing it shows a table.

  Attributes:
    units: Layer -> its number of units or channels, before and after.
    parameters: The number of parameters of the whole model, before and after.
    left_alone: Layer -> why it keeps all units, or some that are constant.
  """

  units: Mapping[str, tuple[int, int]]
  parameters: tuple[int, int]
  left_alone: Mapping[str, str]

  def __str__(self) -> str:
    rows = [
      (name, f"{before:,}", f"{after:,}", self.left_alone.get(name, ""))
      for name, (before, after) in self.units.items()
    ]
    header = ("layer", "before", "after", "why units stay")
    before, after = self.parameters
    return (
      f"{text_table.render(header, rows, '<>><')}\n"
      f"{before:,} -> {after:,} parameters, {before / max(after, 1):.2f} times"
      " fewer."
    )


def compact(model: Any, *, inputs: Any = None) -> tuple[Any, CompactionReport]:
  """Makes a smaller dense model that computes the same.

  It removes units of Dense layers and channels of Conv2D layers if all their
  outgoing weights are zero, or all their incoming weights. In the latter case
  they are constant, and the constant is added to the biases of the next
  layers. If a next layer has no bias, or pads with zeros, constants other than
  zero stay.

  Channels are followed through BatchNormalization, activations, pooling,
  DepthwiseConv2D, Flatten and Add. Other layers keep the channels of their
  inputs, as do Concatenate, nested models and layers that are called twice.

  All dense runtimes gain from this: with a ticket of single weights from about
  98 % of zeros on, and with one of `pattern="channel"` at any density.

  Args:
    model: A Sequential or functional Keras model of either generation,
      lottery-ready or plain. It is not changed.
    inputs: Examples on which both models are compared; see
      `export.to_tflite`.

  Returns:
    The new model, which is plain and not compiled, and a report.

  Raises:
    ValueError: The model is a subclassed one.
    TypeError: Layers of a lottery-ready tf_keras model have classes or
      activations of your own that are not registered with Keras.
    RuntimeError: A mask is held, and pruned weights are not zero. Or the
      smaller model computes something else, as it seems to do for a tf_keras
      model that draws random numbers at inference.

  Example:
  ```python
  small, report = compact(model)
  print(report)
  export.to_tflite(small, "ticket.tflite")
  ```
  """
  binding = wrappers.bind(model)
  wrappers.graph(model)  # refuses subclassed models
  binding.check_held()
  plain = model
  if binding.is_ready:
    plain = _plain_copy(model, binding.read())
  calls, outputs = _calls(plain)
  graph = ChannelGraph(calls, outputs)
  graph.shrink()
  small = wrappers.rebuild(plain, _new_sizes(graph))
  for call in calls:
    if call.weights:
      small.get_layer(call.name).set_weights(_sliced(call, graph))
  _check_same(model, small, inputs)
  parameters = (_count(binding), _count(wrappers.bind(small)))
  return small, _report(graph, parameters)


def _plain_copy(model: Any, values: Mapping[str, np.ndarray]) -> Any:
  """Copies a lottery-ready model without masks and initial weights."""
  copy = wrappers.rebuild(model, {})
  wrappers.bind(copy).write(values)
  return wrappers.strip_lottery(copy)


def _calls(model: Any) -> tuple[list[LayerCall], list[int]]:
  """Returns the calls of a model's layers, and the ids of its outputs."""
  graph, outputs = wrappers.graph(model)
  counts = Counter(id(layer) for layer, *_ in graph)
  calls = []
  for layer, inputs, output, shapes in graph:
    call = LayerCall(layer, inputs, output, shapes)
    if hasattr(layer, "get_weights"):  # Keras 3's operations have none
      call.weights = [np.array(weight) for weight in layer.get_weights()]
    call.kind, call.reason = classify(call, counts[id(layer)])
    calls.append(call)
  return calls, outputs


def _new_sizes(graph: ChannelGraph) -> dict[str, dict[str, int]]:
  """Returns layer -> the change of its configuration."""
  sizes = {}
  for call in graph.calls:
    if call.has_kernel:
      argument = "units" if call.kind == "dense" else "filters"
      kept = graph.groups[call.output].kept
      sizes[call.name] = {argument: int(kept.sum())}
  return sizes


def _sliced(call: LayerCall, graph: ChannelGraph) -> Sequence[np.ndarray]:
  """Returns the weights of a layer for the channels that are left."""
  if call.kind == "other":
    return call.weights
  kept = graph.groups[call.output].kept
  if call.kind == "channelwise":
    return [vector[kept] for vector in call.weights]
  kernel, *bias = call.weights
  if call.kind == "depthwise":
    return [kernel[:, :, kept], *(vector[kept] for vector in bias)]
  before = graph.groups[call.inputs[0]]
  places = kernel.shape[-2] // before.size
  rows = np.tile(before.kept, places)
  return [kernel[..., rows, :][..., kept], *(vector[kept] for vector in bias)]


def _check_same(model: Any, small: Any, inputs: Any) -> None:
  """Raises RuntimeError if the smaller model computes something else."""
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
        f"compact() must not change what the model computes, and output"
        f" {name!r} differs by {difference:.2e}, where its largest magnitude is"
        f" {scale:.2e}. Keep using the original model, and report this error."
      )


def _report(
  graph: ChannelGraph, parameters: tuple[int, int]
) -> CompactionReport:
  groups = {
    call.name: graph.groups[call.output]
    for call in graph.calls
    if call.has_kernel
  }
  return CompactionReport(
    units={n: (g.size, int(g.kept.sum())) for n, g in groups.items()},
    parameters=parameters,
    left_alone={
      name: reason
      for name, group in groups.items()
      if (reason := group.obstacle or graph.why_kept(group))
    },
  )


def _count(binding: Binding) -> int:
  """Counts the parameters of a model."""
  return sum(weight.size for weight in binding.report)
