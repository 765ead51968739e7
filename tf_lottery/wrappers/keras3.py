"""What binding.py and training.py ask of Keras 3; the same as keras2.py."""

import sys
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_lottery import objective
from tf_lottery.wrappers import binding as binding_lib

LIBRARY = keras
_GENERATION = sys.modules[__name__]
STATE = "_lottery_state"


def children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
  """The layers directly below, in an order that a rebuild repeats."""
  if isinstance(layer, keras.Model):
    return list(layer.layers)
  return list(layer._layers)


def own_variables(
  layer: keras.layers.Layer,
) -> list[tuple[str, keras.Variable, bool]]:
  """`(role, variable, trainable)` of the layer's own weights."""
  is_depthwise = any(
    ancestor.__name__ == "BaseDepthwiseConv" for ancestor in type(layer).__mro__
  )
  rows = []
  roles: set[str] = set()
  for trainable, variables in (
    (True, layer._trainable_variables),
    (False, layer._non_trainable_variables),
  ):
    for variable in variables:
      role = variable.name
      if is_depthwise and role == "kernel":
        role = "depthwise_kernel"  # tf_keras's name for it
      role = binding_lib.unique_role(role, roles)
      rows.append((role, variable, trainable and variable.trainable))
  return rows


def raw(variable: keras.Variable) -> tf.Variable:
  """The TensorFlow variable behind a Keras one."""
  return variable.value


def random_states(model: keras.Model) -> list[tf.Variable]:
  """The states of the seed generators, of dropout and its like."""
  return [
    seed_generator.state.value
    for layer in binding_lib.walk(model, _GENERATION)
    for seed_generator in layer._seed_generators
  ]


def initial(layer: keras.layers.Layer) -> dict[str, keras.Variable]:
  """Role -> stored initial weight; empty when not lottery-ready."""
  state = vars(layer).get(STATE)
  return state.initial if state is not None else {}


def pattern(layer: keras.layers.Layer) -> None:
  """There is no tfmot wrapper to ask for one."""
  del layer


def nodes(model: keras.Model) -> list[tuple[Any, list, list]] | None:
  """Layer, input and output tensors of each call; None without a graph."""
  functional = getattr(model, "_functional", None) or model
  by_depth = getattr(functional, "_nodes_by_depth", None)
  return by_depth and [
    (node.operation, list(node.input_tensors), list(node.output_tensors))
    for depth in sorted(by_depth, reverse=True)
    for node in by_depth[depth]
  ]


def remake(layer: keras.layers.Layer, config: dict[str, Any]) -> Any:
  """A layer or operation like this one, made from a configuration."""
  if isinstance(layer, keras.layers.Lambda):
    # Keras would load the functions from the configuration, and refuses to.
    config = {key: config[key] for key in ("name", "trainable", "dtype")}
    functions = (layer.function, layer._output_shape, layer.mask)
    return type(layer)(*functions, layer.arguments, **config)
  return type(layer).from_config(config)


def clone(model: keras.Model, make: Callable[[Any], Any]) -> keras.Model:
  """The model with layers that `make` makes of its own, not compiled."""
  compiled = model.compiled
  # Keras 3 would compile the clone, and fail at losses of the user's.
  model.compiled = False
  try:
    return keras.models.clone_model(model, clone_function=make)
  finally:
    model.compiled = compiled


def set_constraint(variable: keras.Variable, constraint: Any) -> None:
  """Has optimizers apply `constraint` after each update of the variable."""
  variable.constraint = constraint


def make_randomness_resumable(model: keras.Model) -> None:
  """Nothing to do: Keras 3's seed generators have a state already."""
  del model


def forward(model: keras.Model, x: Any) -> Any:
  """The model's output in training."""
  return model(x, training=True) if model._call_has_training_arg else model(x)


def build_optimizer(model: keras.Model) -> None:
  """Makes the optimizer's variables, once."""
  # A LossScaleOptimizer would make its own again.
  if not model.optimizer.built:
    model.optimizer.build(model.trainable_variables)


def optimizer_variables(optimizer: Any) -> list[tf.Variable]:
  """All that an optimizer remembers: slots, iterations, learning rate."""
  return [variable.value for variable in optimizer.variables]


def step_variable(optimizer: Any) -> tf.Variable:
  """The count of updates, by which learning-rate schedules go."""
  while hasattr(optimizer, "inner_optimizer"):
    optimizer = optimizer.inner_optimizer
  # `iterations` is computed where gradients are accumulated.
  return optimizer._iterations.value


def scale_loss(optimizer: Any, loss: tf.Tensor) -> tf.Tensor:
  """The loss to differentiate, scaled up under mixed precision."""
  return optimizer.scale_loss(loss)


def unscale_gradients(optimizer: Any, gradients: list) -> list:
  """Keras 3's optimizers unscale by themselves."""
  del optimizer
  return gradients


def clip_together(optimizer: Any, gradients: list) -> list:
  """Clips the sum over all replicas, where the optimizer is to clip.

  Keras 3's optimizers clip each replica's share before they add up, so that
  training would depend on the number of replicas. The sum, once clipped, is
  handed to them in equal shares, which their own clipping leaves alone.
  """
  inner = getattr(optimizer, "inner_optimizer", optimizer)
  limits = ("clipnorm", "global_clipnorm", "clipvalue")
  if all(getattr(inner, limit, None) is None for limit in limits):
    return gradients
  context = tf.distribute.get_replica_context()
  scale = 1.0 if inner is optimizer else optimizer.dynamic_scale.value
  present = [
    tf.convert_to_tensor(g) / scale for g in gradients if g is not None
  ]
  summed = context.all_reduce(tf.distribute.ReduceOp.SUM, present)
  factor = scale / context.num_replicas_in_sync
  clipped = (g * factor for g in inner._clip_gradients(summed))
  return [None if g is None else next(clipped) for g in gradients]


def metrics(model: keras.Model) -> list[objective.Metric]:
  """Returns what the model reports, once Keras has built its metrics."""
  compiled = model._compile_metrics
  losses = [model._loss_tracker, *getattr(model._compile_loss, "metrics", ())]
  found = []
  for metric in model.metrics:
    if metric is compiled:
      # Keras reports them in this order, under the names of their outputs.
      pairs = zip(compiled.result(), compiled.metrics, strict=True)
      found += [objective.Metric.of(one, name, one.name) for name, one in pairs]
    elif any(metric is loss for loss in losses):
      found.append(objective.Metric(metric.name, ("loss",), "min"))
    else:
      found.append(objective.Metric.of(metric, metric.name, metric.name))
  return found
