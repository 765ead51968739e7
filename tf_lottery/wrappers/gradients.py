"""Gradients of a compiled model's loss by its prunable weights, for criteria.

The loss is that of the examples, with their weights and with losses that layers
add: `compute_loss` of the model without the regularisers of its weights. The
papers score by the loss of the data, and weight decay would favour large
weights whatever the data say.

The network is that of a training step, with two settled questions. Batch
normalisation takes the statistics of the batch: the moving statistics of an
untrained network know nothing of its activations. Layers that draw random
numbers (dropout, noise, augmentation) act as in inference: the scores belong to
the network, not to a draw, and the papers' networks have no such layers.

The model stays as it was, bit for bit: weights, moving statistics, random
states and metrics are put back. The optimizer is not asked.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery.wrappers import replacing
from tf_lottery.wrappers import variables
from tf_lottery.wrappers import walking
from tf_lottery.wrappers.binding import Binding

# By what the loss is multiplied until all gradients are finite. In float16
# small gradients would vanish without it; in other types it changes no bit, as
# these are powers of two.
_LOSS_SCALES = (2.0**15, 2.0**10, 2.0**5, 1.0)

Arrays = dict[str, np.ndarray]


def mean_gradient(
  binding: Binding,
  weights: Mapping[str, np.ndarray],
  batches: Sequence[Any],
  *,
  absolute: bool = False,
) -> Arrays:
  """Computes the gradient of the loss, the mean over batches.

  Args:
    binding: The binding of a compiled model.
    weights: Key -> value at which the gradient is taken; weights that are not
      named have their present values.
    batches: `(x, y)` or `(x, y, sample_weight)` tuples, at least one.
    absolute: Whether to take the absolute value of each batch's gradient before
      the mean. Defaults to `False`.

  Returns:
    Key -> float64 array, for each prunable weight.

  Raises:
    ValueError: The model is not compiled, or a gradient is not finite.
  """
  program = _program(binding, _gradient)
  with at(binding, weights):
    return _mean(
      (_finite(program, batch) for batch in batches), len(batches), absolute
    )


def hessian_gradient(
  binding: Binding,
  weights: Mapping[str, np.ndarray],
  batches: Sequence[Any],
) -> Arrays:
  """Computes the Hessian of the mean loss times its gradient, `H g`.

  That is half the gradient of `g . g`, the gradient flow of the prunable
  weights, by differentiating twice. See `mean_gradient` for arguments, return
  value and exceptions.
  """
  mean = mean_gradient(binding, weights, batches)
  # Of length 1, so that no gradient leaves the range of float32.
  length = np.sqrt(sum(np.sum(np.square(part)) for part in mean.values()))
  unit = {
    key: tf.constant(part / (length or 1.0), tf.float32)
    for key, part in mean.items()
  }
  program = _program(binding, _hessian_times)
  with at(binding, weights):
    product = _mean(
      (_finite(program, batch, unit) for batch in batches), len(batches)
    )
  return {key: part * length for key, part in product.items()}


# Programs: traced once for each binding, as criteria are asked in many rounds.


def once(
  binding: Binding, name: Any, version: Any, make: Callable[[], Any]
) -> Any:
  """Returns a program of a binding, made anew only for another version.

  It is kept on the binding, and goes when that goes.
  """
  programs = vars(binding).setdefault("_programs", {})
  if name not in programs or programs[name][0] is not version:
    programs[name] = (version, make())
  return programs[name][1]


def _program(binding: Binding, function: Callable[..., Any]) -> Any:
  """Returns a traced function of the model, summed over its replicas.

  Each replica computes the whole batch. Keras divides the loss of a replica by
  their number, so the sum is the gradient of one.
  """
  compiled = vars(binding.model).get("_compile_config")
  if compiled is None:
    raise ValueError(
      f"The gradients of {binding.model.name!r} need its loss, and it is not"
      " compiled. Call model.compile(optimizer, loss) first, or use a criterion"
      " that reads no data, such as 'magnitude' or 'synflow'."
    )
  return once(binding, function, compiled, lambda: _traced(binding, function))


def _traced(binding: Binding, function: Callable[..., Any]) -> Any:
  first = next(iter(binding.variables.values()))
  strategy = getattr(first, "distribute_strategy", None)
  strategy = strategy or tf.distribute.get_strategy()

  @functools.partial(tf.function, reduce_retracing=True)
  def program(*arguments):
    # Out here: replicas are traced in threads that take turns.
    with replacing.replaced(_changes(binding)):
      parts = strategy.run(functools.partial(function, binding), arguments)
    total = tf.distribute.ReduceOp.SUM
    return {
      key: strategy.reduce(total, part, axis=None)
      for key, part in parts.items()
    }

  return program


def _changes(binding: Binding) -> Iterator[replacing.Change]:
  """Leaves out the regularisers of weights, and all that is random."""
  model, generation = binding.model, binding.generation
  yield from generation.without_weight_decay(model)
  for layer in walking.walk(model, generation):
    if generation.is_random(layer):
      yield layer, "call", _in_inference(layer.call)


def _in_inference(call: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a layer's `call` that takes `training` for False."""
  signature = inspect.signature(call)

  @functools.wraps(call)
  def calm(*args, **kwargs):
    bound = signature.bind(*args, **kwargs)
    if "training" in signature.parameters:
      bound.arguments["training"] = False
    return call(*bound.args, **bound.kwargs)

  return calm


def _loss(binding: Binding, batch: Any, scale: tf.Tensor) -> tf.Tensor:
  x, y, sample_weight = (*batch, None)[:3]
  model = binding.model
  predicted = binding.generation.forward(model, x)
  loss = model.compute_loss(
    x=x, y=y, y_pred=predicted, sample_weight=sample_weight
  )
  return tf.cast(loss, tf.float32) * scale


def _prunable(binding: Binding) -> dict[str, tf.Variable]:
  return {key: binding.variables[key] for key in binding.shapes}


def _derivative(
  tape: tf.GradientTape, target: tf.Tensor, weights: Mapping[str, tf.Variable]
) -> dict[str, tf.Tensor]:
  found = tape.gradient(
    target, list(weights.values()), unconnected_gradients="zero"
  )
  return {
    key: tf.convert_to_tensor(part)
    for key, part in zip(weights, found, strict=True)
  }


def _gradient(binding: Binding, scale: tf.Tensor, batch: Any):
  with tf.GradientTape() as tape:
    loss = _loss(binding, batch, scale)
  return _derivative(tape, loss, _prunable(binding))


def _hessian_times(
  binding: Binding,
  scale: tf.Tensor,
  batch: Any,
  direction: Mapping[str, tf.Tensor],
):
  weights = _prunable(binding)
  with tf.GradientTape() as outer:
    with tf.GradientTape() as inner:
      loss = _loss(binding, batch, scale)
    gradient = _derivative(inner, loss, weights)
    along = tf.add_n(
      [
        tf.reduce_sum(tf.cast(part, tf.float32) * direction[key])
        for key, part in gradient.items()
      ]
    )
  return _derivative(outer, along, weights)


# Around the programs.


def _finite(program: Any, batch: Any, *arguments: Any) -> Arrays:
  """Runs a program with the largest scale of the loss that does not overflow.

  Raises:
    ValueError: A gradient is not finite without any scale.
  """
  for scale in _LOSS_SCALES:
    found = program(tf.constant(scale), tuple(batch), *arguments)
    arrays = {
      key: part.numpy().astype(np.float64) / scale
      for key, part in found.items()
    }
    bad = [key for key, part in arrays.items() if not np.isfinite(part).all()]
    if not bad:
      return arrays
  raise ValueError(
    f"The gradient of {', '.join(bad)} is not finite. The weights or the data"
    " have values that are not, or the loss overflows: lower the learning rate"
    " of the training before, or scale the data."
  )


def _mean(
  parts: Iterator[Arrays], count: int, absolute: bool = False
) -> Arrays:
  total: Arrays = {}
  for arrays in parts:
    for key, part in arrays.items():
      total[key] = total.get(key, 0.0) + (np.abs(part) if absolute else part)
  return {key: part / count for key, part in total.items()}


@contextlib.contextmanager
def at(binding: Binding, weights: Mapping[str, np.ndarray]) -> Iterator[None]:
  """Gives a model other weights while the context is open.

  Afterwards all its variables have the values that they had, on each replica:
  its weights, moving statistics, random states and metrics.
  """
  model, generation = binding.model, binding.generation
  state = [
    *binding.variables.values(),
    *generation.random_states(model),
    *(generation.raw(v) for m in model.metrics for v in m.variables),
  ]
  before = [
    (replica, replica.numpy())
    for variable in state
    for replica in variables.replicas(variable)
  ]
  try:
    binding.write(weights)
    yield
  finally:
    for replica, value in before:
      replica.assign(value)
