"""The part of Keras 3's `Generation` that needs no lottery state."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_lottery import objective
from tf_lottery.wrappers import optimizers
from tf_lottery.wrappers import replacing
from tf_lottery.wrappers import walking
from tf_lottery.wrappers.generation import Generation

STATE = "_lottery_state"


class Keras3Base(Generation):
  """The base class of `keras3_lottery.Keras3`."""

  library = keras

  def children(self, layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    if isinstance(layer, keras.Model):
      return list(layer.layers)
    return list(layer._layers)

  def own_variables(
    self, layer: keras.layers.Layer
  ) -> list[tuple[str, keras.Variable, bool]]:
    is_depthwise = any(
      ancestor.__name__ == "BaseDepthwiseConv"
      for ancestor in type(layer).__mro__
    )
    rows = []
    roles: set[str] = set()
    for trainable, own in (
      (True, layer._trainable_variables),
      (False, layer._non_trainable_variables),
    ):
      for variable in own:
        role = variable.name
        if is_depthwise and role == "kernel":
          role = "depthwise_kernel"  # tf_keras's name for it
        role = walking.unique_role(role, roles)
        rows.append((role, variable, trainable and variable.trainable))
    return rows

  def raw(self, variable: keras.Variable) -> tf.Variable:
    return variable.value

  def constraint(self, variable: keras.Variable) -> Any:
    return variable.constraint

  def set_constraint(self, variable: keras.Variable, constraint: Any) -> None:
    variable.constraint = constraint

  def initial(self, layer: keras.layers.Layer) -> Mapping[str, keras.Variable]:
    state = vars(layer).get(STATE)
    return state.initial if state is not None else {}

  def nodes(self, model: keras.Model) -> list[tuple[Any, list, list]] | None:
    functional = getattr(model, "_functional", None) or model
    by_depth = getattr(functional, "_nodes_by_depth", None)
    return by_depth and [
      (node.operation, list(node.input_tensors), list(node.output_tensors))
      for depth in sorted(by_depth, reverse=True)
      for node in by_depth[depth]
    ]

  def remake(self, layer: Any, config: dict[str, Any]) -> Any:
    if isinstance(layer, keras.layers.Lambda):
      # Keras would load the functions from the configuration, and refuses to.
      config = {key: config[key] for key in ("name", "trainable", "dtype")}
      functions = (layer.function, layer._output_shape, layer.mask)
      return type(layer)(*functions, layer.arguments, **config)
    return super().remake(layer, config)

  def clone(
    self, model: keras.Model, make: Callable[[Any], Any]
  ) -> keras.Model:
    compiled = model.compiled
    # Keras 3 would compile the clone, and fail at losses of the user's.
    model.compiled = False
    try:
      return keras.models.clone_model(model, clone_function=make)
    finally:
      model.compiled = compiled

  def random_states(self, model: keras.Model) -> list[tf.Variable]:
    return [
      seed_generator.state.value
      for layer in walking.walk(model, self)
      for seed_generator in layer._seed_generators
    ]

  def is_random(self, layer: keras.layers.Layer) -> bool:
    return bool(layer._seed_generators)

  def forward(
    self, model: keras.Model, x: Any, *, training: bool = True
  ) -> Any:
    if model._call_has_training_arg:
      return model(x, training=training)
    return model(x)

  def without_weight_decay(self, model: keras.Model) -> list[replacing.Change]:
    return [(v, "_regularizer", None) for v in model.variables if v.regularizer]

  def in_double(self, layer: keras.layers.Layer) -> list[replacing.Change]:
    changes = [(layer, "_dtype_policy", keras.DTypePolicy("float64"))]
    if hasattr(layer, "_convert_inputs_to_tensors"):
      # A model within a model would cast to the type of its input.
      changes.append((layer, "_convert_inputs_to_tensors", lambda flat: flat))
    return changes

  def build_optimizer(self, model: keras.Model) -> None:
    # A LossScaleOptimizer would make its variables a second time.
    if not model.optimizer.built:
      model.optimizer.build(model.trainable_variables)

  def optimizer_variables(self, optimizer: Any) -> list[tf.Variable]:
    return [variable.value for variable in optimizer.variables]

  def step_variable(self, optimizer: Any) -> tf.Variable:
    # `iterations` is computed where gradients are accumulated.
    return optimizers.innermost(optimizer)._iterations.value

  def updated_variables(
    self, optimizer: Any, model: keras.Model
  ) -> list[keras.Variable] | None:
    del model
    return optimizer._trainable_variables if optimizer.built else None

  def scale_loss(self, optimizer: Any, loss: tf.Tensor) -> tf.Tensor:
    return optimizer.scale_loss(loss)

  def clip_together(self, optimizer: Any, gradients: list) -> list:
    """Clips the sum of the replicas' gradients if the optimizer clips.

    Optimizers of Keras 3 clip the gradients of each replica before they add
    them up, so training would depend on the number of replicas. This clips the
    sum, and returns an equal share of it for each replica. The optimizer's own
    clipping does not change such shares.
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

  def metrics(self, model: keras.Model) -> list[objective.Metric]:
    compiled = model._compile_metrics
    losses = [model._loss_tracker, *getattr(model._compile_loss, "metrics", ())]
    found = []
    for metric in model.metrics:
      if metric is compiled:
        # Keras reports them in this order, under the names of their outputs.
        for name, one in zip(compiled.result(), compiled.metrics, strict=True):
          found.append(objective.Metric.of(one, name, one.name))
      elif any(metric is loss for loss in losses):
        found.append(objective.Metric(metric.name, ("loss",), "min"))
      else:
        found.append(objective.Metric.of(metric, metric.name, metric.name))
    return found
