"""Replaces the variables of a traced function."""

from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf


def is_only_read(function: Any, handle: int) -> bool:
  """Returns whether a function only reads the value of a variable.

  Such a variable can be replaced by a constant.

  Args:
    function: The traced function.
    handle: The `id` of the variable's handle.
  """
  return all(
    operation.type == "ReadVariableOp"
    for external, internal in function.graph.captures
    if id(external) == handle
    for operation in internal.consumers()
  )


def with_variables_replaced(
  function: Any, replacements: Mapping[int, np.ndarray | tf.Tensor]
) -> Any:
  """Traces the same function with other variables.

  Args:
    function: The traced function.
    replacements: `id` of the handle of a variable -> the handle of another
      variable, or an array. An array becomes a constant; the function must only
      read the variable (see `is_only_read`).

  Returns:
    The new traced function.
  """
  graph = function.graph
  specs = function.structured_input_signature[1]
  placeholders = {
    tensor.op.get_attr("_user_specified_name").decode(): tensor.name
    for tensor in function.inputs[: len(specs)]
  }
  output_names = sorted(function.structured_outputs)
  constants: dict[str, np.ndarray] = {}
  captures: dict[str, tf.Tensor] = {}
  superseded: set[str] = set()
  for external, internal in graph.captures:
    replacement = replacements.get(id(external), external)
    if isinstance(replacement, np.ndarray):
      reads = internal.consumers()
      values = [read.outputs[0] for read in reads]
      # A read that nothing uses, as for a shape that is known, has no place.
      constants |= {v.name: replacement for v in values if v.consumers()}
      superseded |= {internal.op.name, *(read.name for read in reads)}
    else:
      captures[internal.name] = replacement
  definition = _without_nodes(graph.as_graph_def(), superseded)

  def call(**tensors):
    capture = tf.compat.v1.get_default_graph().capture
    inputs = {placeholders[name]: tensors[name] for name in specs}
    inputs |= {name: tf.constant(value) for name, value in constants.items()}
    inputs |= {name: capture(handle) for name, handle in captures.items()}
    results = tf.graph_util.import_graph_def(
      definition,
      input_map=inputs,
      return_elements=[output.name for output in function.outputs],
      name="",
    )
    for result, output in zip(results, function.outputs, strict=True):
      result.set_shape(output.shape)
    return dict(zip(output_names, results, strict=True))

  return tf.function(call, autograph=False).get_concrete_function(**specs)


def _without_nodes(definition: Any, names: Collection[str]) -> Any:
  """Copies a GraphDef without some nodes, whose outputs are replaced."""
  result = tf.compat.v1.GraphDef(
    library=definition.library, versions=definition.versions
  )
  for node in definition.node:
    if node.name not in names:
      kept = result.node.add()
      kept.CopyFrom(node)
      kept.input[:] = [
        name
        for name in node.input
        if not (name.startswith("^") and name[1:] in names)
      ]
  return result
