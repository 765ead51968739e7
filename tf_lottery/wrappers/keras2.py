"""What binding.py and training.py ask of tf_keras; the same as keras3.py.

Importing tfmot changes the process: it sets `TF_USE_LEGACY_KERAS`, by which
`tf.keras` would turn into tf_keras. So this module is imported only when a
tf_keras object is met, and it puts the variable back.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tf_lottery import objective
from tf_lottery import patterns
from tf_lottery.wrappers import binding as binding_lib


@contextlib.contextmanager
def _environment_kept(name: str):
  before = os.environ.get(name)
  try:
    yield
  finally:
    if before is None:
      os.environ.pop(name, None)
    else:
      os.environ[name] = before


with (
  _environment_kept("TF_USE_LEGACY_KERAS"),
  warnings.catch_warnings(),
):
  # tfmot 0.8 compares versions by distutils.
  warnings.simplefilter("ignore", DeprecationWarning)
  tf.keras.layers  # noqa: B018  Resolved now, tf.keras stays what it was.
  from tensorflow_model_optimization.python.core.sparsity.keras import (
    pruning_wrapper,
  )

LIBRARY = tf_keras
_GENERATION = sys.modules[__name__]
INITIAL = "_lottery_initial"


def children(layer: tf_keras.layers.Layer) -> list[tf_keras.layers.Layer]:
  """The layers directly below, in an order that a rebuild repeats."""
  if isinstance(layer, pruning_wrapper.PruneLowMagnitude):
    return [layer.layer]
  if isinstance(layer, tf_keras.Model):
    return list(layer.layers)
  return list(layer._flatten_layers(recursive=False, include_self=False))


def own_variables(
  layer: tf_keras.layers.Layer,
) -> list[tuple[str, tf.Variable, bool]]:
  """`(role, variable, trainable)` of the layer's own weights."""
  if isinstance(layer, pruning_wrapper.PruneLowMagnitude):
    return []
  rows = []
  roles: set[str] = set()
  for trainable, variables in (
    (True, layer._trainable_weights),
    (False, layer._non_trainable_weights),
  ):
    for variable in variables:
      role = variable.name.split("/")[-1].split(":")[0]
      role = binding_lib.unique_role(role, roles)
      rows.append((role, variable, trainable and layer.trainable))
  return rows


def raw(variable: tf.Variable) -> tf.Variable:
  """The variable itself, without mixed precision's casting wrapper."""
  return getattr(variable, "_variable", variable)


def random_states(model: tf_keras.Model) -> list[tf.Variable]:
  """The states of the random generators, of dropout and its like."""
  return [
    layer._random_generator._generator.state
    for layer in binding_lib.walk(model, _GENERATION)
    if getattr(getattr(layer, "_random_generator", None), "_generator", None)
  ]


def initial(layer: tf_keras.layers.Layer) -> dict[str, tf.Variable]:
  """Role -> stored initial weight; empty when not lottery-ready."""
  return vars(layer).get(INITIAL, {})


def pattern(layer: tf_keras.layers.Layer) -> patterns.Pattern | None:
  """What the arguments of tfmot's wrapper ask to prune together.

  tfmot's block is `(inputs, outputs)`, and its m by n leaves m of n *out*.
  """
  if not isinstance(layer, pruning_wrapper.PruneLowMagnitude):
    return None
  if layer.sparsity_m_by_n:
    zeros, size = layer.sparsity_m_by_n
    return patterns.n_of_m(size - zeros, size)
  inputs, outputs = layer.block_size
  if (inputs, outputs) == (1, 1):
    return patterns.unstructured()
  score = {"AVG": "mean", "MAX": "max"}[layer.block_pooling_type]
  return patterns.block(outputs, inputs, score=score)


def nodes(model: tf_keras.Model) -> list[tuple[Any, list, list]] | None:
  """Layer, input and output tensors of each call; None without a graph."""
  by_depth = getattr(model, "_nodes_by_depth", None)
  return by_depth and [
    (
      node.layer,
      # An input's node has itself as its input.
      [] if node.is_input else tf.nest.flatten(node.keras_inputs),
      tf.nest.flatten(node.outputs),
    )
    for depth in sorted(by_depth, reverse=True)
    for node in by_depth[depth]
  ]


def remake(layer: tf_keras.layers.Layer, config: dict[str, Any]) -> Any:
  """A layer like this one, made from a configuration."""
  return type(layer).from_config(config)


def clone(model: tf_keras.Model, make: Callable[[Any], Any]) -> tf_keras.Model:
  """The model with layers that `make` makes of its own, not compiled."""
  return tf_keras.models.clone_model(model, clone_function=make)


def set_constraint(variable: tf.Variable, constraint: Any) -> None:
  """Has optimizers apply `constraint` after each update of the variable."""
  variable = raw(variable)
  for replica in (variable, *getattr(variable, "values", ())):
    replica._constraint = constraint


def make_randomness_resumable(model: tf_keras.Model) -> None:
  """Gives dropout and its like a state that can be read and written."""
  for layer in binding_lib.walk(model, _GENERATION):
    generator = getattr(layer, "_random_generator", None)
    if generator is not None and generator._rng_type == "legacy_stateful":
      seed = generator._seed
      if seed is None:
        seed = np.random.randint(1, 2**31)
      generator._rng_type = "stateful"
      generator._generator = tf.random.Generator.from_seed(seed)
      generator._built = True


def forward(model: tf_keras.Model, x: Any) -> Any:
  """The model's output in training."""
  return model(x, training=True)


def build_optimizer(model: tf_keras.Model) -> None:
  """Makes the optimizer's variables."""
  if isinstance(model.optimizer, tf_keras.optimizers.legacy.Optimizer):
    raise ValueError(
      "Legacy tf_keras optimizers are not supported, got"
      f" {type(model.optimizer).__name__}. Use the class of that name in"
      " tf_keras.optimizers."
    )
  model.optimizer.build(model.trainable_variables)


def optimizer_variables(optimizer: Any) -> list[tf.Variable]:
  """All that an optimizer remembers: slots and iterations."""
  return list(optimizer.variables)


def step_variable(optimizer: Any) -> tf.Variable:
  """The count of updates, by which learning-rate schedules go."""
  return optimizer.iterations


def scale_loss(optimizer: Any, loss: tf.Tensor) -> tf.Tensor:
  """The loss to differentiate, scaled up under mixed precision."""
  if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
    return optimizer.get_scaled_loss(loss)
  return loss


def unscale_gradients(optimizer: Any, gradients: list) -> list:
  """Undoes `scale_loss`."""
  if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
    return optimizer.get_unscaled_gradients(gradients)
  return gradients


def clip_together(optimizer: Any, gradients: list) -> list:
  """Nothing to do: tf_keras's optimizers add up first, and clip the sum."""
  del optimizer
  return gradients


def metrics(model: tf_keras.Model) -> list[objective.Metric]:
  """Returns what the model reports, once tf_keras has built its metrics."""
  losses = getattr(model.compiled_loss, "metrics", ())
  own_names = _names_before_compile(model.compiled_metrics)
  return [
    objective.Metric(metric.name, ("loss",), "min")
    if any(metric is loss for loss in losses)
    else _metric(metric, own_names.get(id(metric), metric.name))
    for metric in model.metrics
  ]


def _names_before_compile(compiled: Any) -> dict[int, str]:
  """The own names of metrics by id, without what tf_keras put before them."""
  names = {}
  if compiled is not None and compiled.built:
    several = len(compiled._output_names) > 1
    for output, plain, weighted in zip(
      compiled._output_names,
      compiled._metrics,
      compiled._weighted_metrics,
      strict=True,
    ):
      prefix = f"{output}_" if several else ""
      for metric in (*plain, *weighted):
        if metric is not None:
          names[id(metric)] = metric.name.removeprefix(prefix)
      for metric in weighted:
        if metric is not None:
          names[id(metric)] = names[id(metric)].removeprefix("weighted_")
  return names


def _metric(metric: Any, own_name: str) -> objective.Metric:
  function = getattr(metric, "_fn", None)
  is_loss = isinstance(function, tf_keras.losses.Loss) or any(
    function is loss for loss in vars(tf_keras.losses).values()
  )
  known = "min" if function is not None and is_loss else None
  return objective.Metric.of(metric, metric.name, own_name, known)
