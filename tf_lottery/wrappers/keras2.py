"""The part of tf_keras's `Generation` that needs no lottery state.

Importing tfmot changes the process: it sets `TF_USE_LEGACY_KERAS`, which would
turn `tf.keras` into tf_keras. So this module is imported only when a tf_keras
object is met, and it resets the variable.
"""

import contextlib
import functools
import os
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from itertools import filterfalse
from typing import Any
from typing import Literal

import numpy as np
import tensorflow as tf
import tf_keras

from tf_lottery import objective
from tf_lottery import patterns
from tf_lottery.wrappers import optimizers
from tf_lottery.wrappers import replacing
from tf_lottery.wrappers import walking
from tf_lottery.wrappers.generation import Generation


@contextlib.contextmanager
def _environment_kept(name: str) -> Iterator[None]:
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

INITIAL = "_lottery_initial"


class TfKerasBase(Generation):
  """The base class of `keras2_lottery.TfKeras`."""

  library = tf_keras

  def children(
    self, layer: tf_keras.layers.Layer
  ) -> list[tf_keras.layers.Layer]:
    if isinstance(layer, pruning_wrapper.PruneLowMagnitude):
      return [layer.layer]
    if isinstance(layer, tf_keras.Model):
      return list(layer.layers)
    return list(layer._flatten_layers(recursive=False, include_self=False))

  def own_variables(
    self, layer: tf_keras.layers.Layer
  ) -> list[tuple[str, tf.Variable, bool]]:
    if isinstance(layer, pruning_wrapper.PruneLowMagnitude):
      return []
    rows = []
    roles: set[str] = set()
    for trainable, own in (
      (True, layer._trainable_weights),
      (False, layer._non_trainable_weights),
    ):
      for variable in own:
        role = variable.name.split("/")[-1].split(":")[0]
        role = walking.unique_role(role, roles)
        rows.append((role, variable, trainable and layer.trainable))
    return rows

  def raw(self, variable: tf.Variable) -> tf.Variable:
    # Mixed precision wraps a variable, to cast it.
    return getattr(variable, "_variable", variable)

  def constraint(self, variable: tf.Variable) -> Any:
    return self.raw(variable).constraint

  def set_constraint(self, variable: tf.Variable, constraint: Any) -> None:
    variable = self.raw(variable)
    for replica in (variable, *getattr(variable, "values", ())):
      replica._constraint = constraint

  def initial(self, layer: tf_keras.layers.Layer) -> Mapping[str, tf.Variable]:
    return vars(layer).get(INITIAL, {})

  def pattern(self, layer: tf_keras.layers.Layer) -> patterns.Pattern | None:
    """Returns the pattern that the arguments of tfmot's wrapper ask for.

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

  def nodes(self, model: tf_keras.Model) -> list[tuple[Any, list, list]] | None:
    by_depth = getattr(model, "_nodes_by_depth", None)
    return by_depth and [
      (
        node.layer,
        # The node of an input has that input as its own input.
        [] if node.is_input else tf.nest.flatten(node.keras_inputs),
        tf.nest.flatten(node.outputs),
      )
      for depth in sorted(by_depth, reverse=True)
      for node in by_depth[depth]
    ]

  def clone(
    self, model: tf_keras.Model, make: Callable[[Any], Any]
  ) -> tf_keras.Model:
    return tf_keras.models.clone_model(model, clone_function=make)

  def random_states(self, model: tf_keras.Model) -> list[tf.Variable]:
    return [
      layer._random_generator._generator.state
      for layer in walking.walk(model, self)
      if getattr(getattr(layer, "_random_generator", None), "_generator", None)
    ]

  def make_randomness_resumable(self, model: tf_keras.Model) -> None:
    for layer in walking.walk(model, self):
      generator = getattr(layer, "_random_generator", None)
      if generator is not None and generator._rng_type == "legacy_stateful":
        seed = generator._seed
        if seed is None:
          seed = np.random.randint(1, 2**31)
        generator._rng_type = "stateful"
        generator._generator = tf.random.Generator.from_seed(seed)
        generator._built = True

  def is_random(self, layer: tf_keras.layers.Layer) -> bool:
    return getattr(layer, "_random_generator", None) is not None

  def forward(
    self, model: tf_keras.Model, x: Any, *, training: bool = True
  ) -> Any:
    return model(x, training=training)

  def without_weight_decay(
    self, model: tf_keras.Model
  ) -> list[replacing.Change]:
    return [
      (layer, "_callable_losses", list(filterfalse(_is_weight_decay, losses)))
      for layer in walking.walk(model, self)
      if (losses := layer._callable_losses)
    ]

  def in_double(self, layer: tf_keras.layers.Layer) -> list[replacing.Change]:
    changes = [
      (layer, "_dtype_policy", tf_keras.mixed_precision.Policy("float64")),
      (layer, "_compute_dtype_object", tf.float64),
    ]
    if hasattr(layer, "_conform_to_reference_input"):
      # A model within a model would cast to the type of its input.
      same = lambda tensor, ref_input: tensor  # noqa: E731
      changes.append((layer, "_conform_to_reference_input", same))
    return changes

  def build_optimizer(self, model: tf_keras.Model) -> None:
    _refuse_legacy(model.optimizer)
    model.optimizer.build(model.trainable_variables)

  def optimizer_variables(self, optimizer: Any) -> list[tf.Variable]:
    return list(optimizer.variables)

  def step_variable(self, optimizer: Any) -> tf.Variable:
    return optimizer.iterations

  def updated_variables(
    self, optimizer: Any, model: tf_keras.Model
  ) -> list[tf.Variable] | None:
    _refuse_legacy(optimizer)
    inner = optimizers.innermost(optimizer)
    # tf_keras's optimizers know their variables by name only.
    keys = list(getattr(inner, "_index_dict", ()))
    known = {inner._var_key(variable): variable for variable in model.weights}
    if not known.keys() >= set(keys):
      raise ValueError(
        f"This {type(inner).__name__} of tf_keras updates weights that"
        f" {model.name!r} does not own, and it does not say which. Make it"
        " anew instead of giving it as optimizer=."
      )
    return [known[key] for key in keys]

  def scale_loss(self, optimizer: Any, loss: tf.Tensor) -> tf.Tensor:
    if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
      return optimizer.get_scaled_loss(loss)
    return loss

  def unscale_gradients(self, optimizer: Any, gradients: list) -> list:
    if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
      return optimizer.get_unscaled_gradients(gradients)
    return gradients

  def metrics(self, model: tf_keras.Model) -> list[objective.Metric]:
    losses = getattr(model.compiled_loss, "metrics", ())
    own_names = _names_before_compile(model.compiled_metrics)
    return [
      objective.Metric(metric.name, ("loss",), "min")
      if any(metric is loss for loss in losses)
      else _metric(metric, own_names.get(id(metric), metric.name))
      for metric in model.metrics
    ]


def _is_weight_decay(loss: Any) -> bool:
  """Tells the regulariser of a weight from what `add_loss` was given."""
  # add_loss() puts the function for the variable into one of its own.
  while isinstance(loss, functools.partial):
    if loss.func.__name__ == "_loss_for_variable":
      return True
    loss = next(iter(loss.args), None)
  return False


def _refuse_legacy(optimizer: Any) -> None:
  if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
    raise ValueError(
      "Legacy tf_keras optimizers are not supported, got"
      f" {type(optimizer).__name__}. Use the class of that name in"
      " tf_keras.optimizers."
    )


def _names_before_compile(compiled: Any) -> dict[int, str]:
  """Returns id of a metric -> its name without the prefixes of tf_keras."""
  names: dict[int, str] = {}
  if compiled is not None and compiled.built:
    several = len(compiled._output_names) > 1
    for output, plain, weighted in zip(
      compiled._output_names,
      compiled._metrics,
      compiled._weighted_metrics,
      strict=True,
    ):
      prefix = f"{output}_" if several else ""
      for metrics, mark in ((plain, ""), (weighted, "weighted_")):
        names |= {
          id(metric): metric.name.removeprefix(prefix).removeprefix(mark)
          for metric in metrics
          if metric is not None
        }
  return names


def _metric(metric: Any, own_name: str) -> objective.Metric:
  function = getattr(metric, "_fn", None)
  is_loss = function is not None and (
    isinstance(function, tf_keras.losses.Loss)
    or any(function is loss for loss in vars(tf_keras.losses).values())
  )
  direction: Literal["min"] | None = "min" if is_loss else None
  return objective.Metric.of(metric, metric.name, own_name, direction)
