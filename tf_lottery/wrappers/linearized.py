"""The linear network of SynFlow: absolute weights, and an input of ones.

With non-negative weights and inputs, a network of ReLUs is linear. Other
layers are replaced while the program is traced, so that the network of any
model is linear wherever that has a meaning:

- activations pass their input on, a softmax at the end of a model included;
- normalisation only scales by its gamma and adds its beta, as batch
  normalisation does (but for its epsilon) before training in inference; layers
  that scale the inputs of the model pass them on;
- an embedding is what it is in the formula, a matrix that one-hot vectors are
  multiplied by: an input of ones is every token at once, the sum of all rows;
- recurrent cells and the softmax within attention stay as they are.

All is computed in float64. The variables themselves stay untouched: layers get
tensors in their place.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery.wrappers import gradients
from tf_lottery.wrappers import replacing
from tf_lottery.wrappers import walking
from tf_lottery.wrappers.binding import Binding

_NORMALISES = {
  "BatchNormalization",
  "GroupNormalization",
  "LayerNormalization",
  "Normalization",
  "RMSNormalization",
  "Rescaling",
  "UnitNormalization",
}
_SCALES = {"gamma", "scale"}
# A weight whose share of the flow is smaller has no part in it. In a network of
# layers in a row, each has all of it.
_LEAST_SHARE = 1e-9


def synaptic_flow(
  binding: Binding,
  weights: Mapping[str, np.ndarray],
  examples: Callable[[], Any],
) -> dict[str, np.ndarray]:
  """Computes `|w dR/dw| / R`, R being the sum of the linear network's outputs.

  Args:
    binding: The binding of a model.
    weights: Key -> value for weights that differ from the present ones.
    examples: A function that returns inputs of the model, or None. It is called
      where the model does not know their shape, and only that is used.

  Returns:
    Key -> float64 array, for each prunable weight.

  Raises:
    ValueError: The shape of the input is not known; a weight is no attribute of
      its layer; R is zero or not finite; or it does not depend on the prunable
      weights.
  """

  def trace() -> Any:
    ones = _ones(binding, examples)
    return tf.function(lambda values: _flow(binding, values, ones))

  program = gradients.once(binding, synaptic_flow, None, trace)
  values = {
    key: tf.constant(np.abs(value).astype(np.float64))
    for key, value in {**binding.read(), **weights}.items()
    if binding.variables[key].dtype.is_floating
  }
  with gradients.at(binding, {}):  # dropout in a recurrent layer counts draws
    total, found = program(values)
  if not np.isfinite(total) or total <= 0:
    raise ValueError(
      f"The sum of the outputs for an input of ones must be positive and finite"
      f" for synflow, got {float(total):g}. If it is zero, the mask leaves no"
      " path from the inputs to the outputs; if it is not finite, the network"
      " is too deep. Use another criterion, such as 'snip'."
    )
  scores = {
    key: np.abs(part.numpy() * values[key].numpy())
    for key, part in found.items()
  }
  if max(np.sum(part) for part in scores.values()) < _LEAST_SHARE:
    raise ValueError(
      f"The sum of the outputs of {binding.model.name!r} does not depend on its"
      " prunable weights, so synflow cannot score them. A softmax or another"
      " normalisation in a layer of your own may be the reason. Return logits,"
      " or use another criterion, such as 'snip'."
    )
  return scores


def _flow(binding: Binding, values: Mapping[str, tf.Tensor], ones: Any):
  """Returns R, and the gradient of its logarithm by each prunable weight.

  The logarithm divides all scores by R. It needs no number larger than R.
  """
  prunable = {key: values[key] for key in binding.shapes}
  with (
    replacing.replaced(_changes(binding, values)),
    tf.GradientTape() as tape,
  ):
    tape.watch(prunable)
    outputs = binding.generation.forward(binding.model, ones, training=False)
    total = tf.add_n(
      [
        tf.reduce_sum(tf.cast(output, tf.float64))
        for output in tf.nest.flatten(outputs)
      ]
    )
    logarithm = tf.math.log(total)
  found = tape.gradient(logarithm, prunable, unconnected_gradients="zero")
  return total, {key: tf.convert_to_tensor(part) for key, part in found.items()}


def _ones(binding: Binding, examples: Callable[[], Any]) -> Any:
  """Returns an input of ones, one example."""

  def ones(spec: Any) -> tf.Tensor:
    return tf.ones([spec.shape[0] or 1, *spec.shape[1:]], spec.dtype)

  model = getattr(binding.model, "_functional", None) or binding.model
  try:
    declared = model.input
  except (AttributeError, ValueError):  # of a subclassed model
    declared = None
  known = declared is not None and all(
    None not in tuple(spec.shape)[1:] for spec in tf.nest.flatten(declared)
  )
  if known:
    return tf.nest.map_structure(ones, declared)
  given = examples()
  if given is None:
    raise ValueError(
      f"synflow needs the shape of the inputs, and {binding.model.name!r} does"
      " not declare it. Give batches=[(x, y)], of which only the shape is used."
    )
  return tf.nest.map_structure(
    lambda x: tf.ones([1, *np.shape(x)[1:]], tf.convert_to_tensor(x[:1]).dtype),
    given,
  )


def _changes(
  binding: Binding, values: Mapping[str, tf.Tensor]
) -> Iterator[replacing.Change]:
  """Makes the network linear, and puts tensors in the place of its weights."""
  model, generation = binding.model, binding.generation
  own: dict[int, dict[str, tf.Tensor]] = {}
  for bound in walking.walk_weights(model, generation):
    if bound.weight.key in values:
      value = values[bound.weight.key]
      own.setdefault(id(bound.layer), {})[bound.weight.role] = value
      attributes = _as_tensor(bound, value)
      if not attributes and bound.weight.key in binding.shapes:
        raise ValueError(
          "synflow replaces each weight by its absolute value, and cannot"
          f" replace {bound.weight.name}: it is no attribute of its layer, a"
          f" {type(bound.layer).__name__}. It may be in a list: give it a name"
          " of its own, or use another criterion, such as 'snip'."
        )
      yield from attributes
  for layer in walking.walk(model, generation):
    yield from generation.in_double(layer)
    names = {ancestor.__name__ for ancestor in type(layer).__mro__}
    roles = own.get(id(layer), {})
    if names & _NORMALISES:
      yield layer, "call", _scaling(layer, roles)
    elif "Embedding" in names:
      yield layer, "call", _all_rows(roles["embeddings"])
    elif "activation" in vars(layer) and "recurrent_kernel" not in roles:
      yield layer, "activation", _same
    if hasattr(layer, "compile"):
      for below in generation.children(layer):
        if type(below).__name__ == "Softmax":
          yield below, "call", _same


def _same(inputs, *args, **kwargs):
  del args, kwargs
  return inputs


def _as_tensor(
  bound: walking.BoundWeight, value: tf.Tensor
) -> list[replacing.Change]:
  return [
    (bound.layer, name, value)
    for name, attribute in vars(bound.layer).items()
    if attribute is bound.variable
  ]


def _scaling(layer: Any, roles: Mapping[str, tf.Tensor]) -> Callable[..., Any]:
  """Returns the `call` of a normalisation that leaves its input's size."""
  axis = getattr(layer, "axis", -1)

  def call(inputs, *args, **kwargs):
    del args, kwargs
    shape = [1] * len(inputs.shape)
    for index in [axis] if isinstance(axis, int) else axis or ():
      shape[index] = inputs.shape[index]
    for role, value in roles.items():
      if role in _SCALES:
        inputs = inputs * tf.reshape(value, shape)
      elif role == "beta":
        inputs = inputs + tf.reshape(value, shape)
    return inputs

  return call


def _all_rows(embeddings: tf.Tensor) -> Callable[..., Any]:
  """Returns the `call` of an embedding that adds up all its rows."""

  def call(inputs, *args, **kwargs):
    del args, kwargs
    rows = tf.reduce_sum(embeddings, 0)
    return tf.ones_like(inputs, rows.dtype)[..., None] * rows

  return call
