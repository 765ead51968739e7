"""What is particular to tf_keras: lottery state lives in tfmot's wrappers.

Importing tfmot changes the process: it sets `TF_USE_LEGACY_KERAS`, by which
`tf.keras` would turn into tf_keras. So this module is imported only when a
tf_keras object is met, and it puts the variable back.
"""

import contextlib
import inspect
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras.src.engine.functional import Functional  # has no public name

from tf_lottery import prunable as prunable_lib
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

_GENERATION = sys.modules[__name__]
_INITIAL = "_lottery_initial"


@tf_keras.utils.register_keras_serializable("tf_lottery")
class LotteryPrune(pruning_wrapper.PruneLowMagnitude):
  """tfmot's pruning wrapper, with initial weights and rewinding.

  The mask of each prunable weight holds by a constraint on the weight, after
  every optimizer update; the forward pass is the wrapped layer's alone. Any
  layer can be wrapped: what cannot be pruned only has its initial weights
  stored.

  Args:
    layer: the layer to wrap.
    prunable_roles: which weights to prune, e.g. `["kernel"]`; `None` asks the
      rules, or the layer's own `get_prunable_weights`. Defaults to `None`.
    **kwargs: those of tfmot's `PruneLowMagnitude`.

  Attributes:
    initial: role -> variable, of every weight of the wrapped layer.

  Example:
  ```python
  layer = LotteryPrune(tf_keras.layers.Dense(10))
  layer.build((None, 784))                 # stores the initial weights
  layer.set_mask({"kernel": magnitudes > threshold})
  layer.rewind()                           # initial weights, masked
  ```
  """

  def __init__(self, layer, prunable_roles=None, **kwargs):
    self.prunable_roles = (
      None if prunable_roles is None else list(prunable_roles)
    )
    if prunable_roles is not None or not hasattr(layer, "get_prunable_weights"):
      # tfmot accepts any layer that can name its prunable weights.
      layer.get_prunable_weights = self._choose_weights
    # The wrapper must not cast what the layer would not.
    kwargs.setdefault("dtype", layer.dtype_policy)
    super().__init__(layer, **kwargs)
    self.supports_masking = layer.supports_masking
    self.initial = {}

  def _choose_weights(self) -> list[tf.Variable]:
    chosen = []
    for slot in binding_lib.walk_weights(self.layer, _GENERATION):
      role = relative_role(slot, self.layer)
      if self.prunable_roles is None:
        wanted = slot.weight.prunable
      else:
        wanted = role in self.prunable_roles
      if wanted:
        chosen.append(slot.variable)
    return chosen

  def build(self, input_shape=None):
    # tf_keras's Wrapper, before tfmot's: the wrapped layer alone.
    tf_keras.layers.Wrapper.build(self, input_shape)
    if self.layer.weights:
      self._prepare(input_shape)

  def _prepare(self, input_shape=None):
    """Makes the variables beside the wrapped layer's."""
    super().build(input_shape)
    for weight, mask, _ in self.pruning_vars:
      inner = getattr(weight, "constraint", None)
      set_constraint(weight, binding_lib.HeldMask(raw(mask), inner))
    for slot in binding_lib.walk_weights(self.layer, _GENERATION):
      role = relative_role(slot, self.layer)
      self.initial[role] = self.add_weight(
        name="initial_" + role.replace("/", "_"),
        shape=slot.variable.shape,
        dtype=raw(slot.variable).dtype,
        initializer="zeros",
        trainable=False,
        experimental_autocast=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
      )
      # Around Keras's tracking: the variable is the wrapper's, not the layer's.
      below = vars(slot.layer).setdefault(_INITIAL, {})
      below[slot.weight.role] = self.initial[role]
    with tf.init_scope():
      self.store_initial()

  def __call__(self, inputs, *args, **kwargs):
    # By name: tf_keras would not save those that come by position.
    parameters = list(inspect.signature(self.layer.call).parameters.values())
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = dict(zip(names[1:], args, strict=False))
    return super().__call__(inputs, *args[len(named) :], **named, **kwargs)

  def call(self, inputs, *args, **kwargs):
    accepted = inspect.signature(self.layer.call).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
      kwargs = {name: v for name, v in kwargs.items() if name in accepted}
    outputs = self.layer(inputs, *args, **kwargs)
    if len(self.initial) != len(self._own_weights()):
      self._prepare_late()
    return outputs

  def _prepare_late(self):
    if self.initial:
      raise ValueError(
        f"{self.layer.name!r} made some of its weights in build() and others"
        " when it was called. Make them all in build(), or call lottery_prune"
        " on the model, once that is built."
      )
    # Attention, for one, makes its weights when it is called.
    with tf.init_scope():
      self._prepare()

  def compute_mask(self, inputs, mask=None):
    return self.layer.compute_mask(inputs, mask)

  def store_initial(self) -> None:
    """Makes the weights of now the initial ones."""
    for role, variable in self._own_weights().items():
      raw(self.initial[role]).assign(raw(variable))

  def rewind(self) -> None:
    """Puts the initial weights back, zero where they are pruned."""
    for role, variable in self._own_weights().items():
      held = binding_lib.held_mask(raw(variable))
      value = tf.convert_to_tensor(raw(self.initial[role]))
      raw(variable).assign(held.apply(value) if held else value)

  def set_mask(self, mask: Mapping[str, np.ndarray]) -> None:
    """Replaces the masks of this layer, and zeroes what they prune.

    Args:
      mask: role -> boolean array of the weight's shape; True = kept.

    Raises:
      ValueError: a role is not prunable, or a shape differs.
    """
    variables = self._own_weights()
    for role, array in mask.items():
      held = (
        binding_lib.held_mask(raw(variables[role]))
        if (role in variables)
        else None
      )
      if held is None:
        prunable = [
          name
          for name, variable in variables.items()
          if binding_lib.held_mask(raw(variable))
        ]
        raise ValueError(
          f"{self.layer.name!r} has no prunable weight {role!r}; it has"
          f" {prunable}."
        )
      if np.shape(array) != tuple(held.mask.shape):
        raise ValueError(
          f"The mask of {role!r} must have shape {tuple(held.mask.shape)}, got"
          f" {np.shape(array)}."
        )
      held.mask.assign(np.asarray(array, held.mask.dtype.as_numpy_dtype))
      raw(variables[role]).assign(
        held.apply(tf.convert_to_tensor(raw(variables[role])))
      )

  def _own_weights(self) -> dict[str, tf.Variable]:
    return {
      relative_role(slot, self.layer): slot.variable
      for slot in binding_lib.walk_weights(self.layer, _GENERATION)
    }

  def get_config(self):
    return {
      **super().get_config(),
      # tfmot leaves this one out.
      "sparsity_m_by_n": self.sparsity_m_by_n,
      "prunable_roles": self.prunable_roles,
    }


@tf_keras.utils.register_keras_serializable("tf_lottery")
class LotterySequential(tf_keras.Sequential):
  """A lottery-ready `tf_keras.Sequential`.

  Its own class, because tf_keras imports the module of a file's outermost
  class only, and must find `LotteryPrune` registered.
  """


@tf_keras.utils.register_keras_serializable("tf_lottery")
class LotteryFunctional(Functional):
  """A lottery-ready functional model; see `LotterySequential`."""


_READY_CLASSES = {
  tf_keras.Sequential: LotterySequential,
  Functional: LotteryFunctional,
}


def relative_role(slot: binding_lib.Slot, layer: tf_keras.layers.Layer) -> str:
  """A weight's name in a wrapped layer; a sublayer's comes with its number."""
  return slot.weight.role if slot.layer is layer else slot.weight.key


# The generation's interface: what binding.py and training.py ask of it.


def children(layer: tf_keras.layers.Layer) -> list[tf_keras.layers.Layer]:
  """The layers directly below, in an order that a rebuild repeats."""
  if isinstance(layer, LotteryPrune):
    return [layer.layer]
  if isinstance(layer, tf_keras.Model):
    return list(layer.layers)
  return list(layer._flatten_layers(recursive=False, include_self=False))


def own_variables(
  layer: tf_keras.layers.Layer,
) -> list[tuple[str, tf.Variable, bool]]:
  """`(role, variable, trainable)` of the layer's own weights."""
  if isinstance(layer, LotteryPrune):
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
  return vars(layer).get(_INITIAL, {})


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


# Preparing and stripping.


def prune_layer(
  layer: tf_keras.layers.Layer,
  prunable: prunable_lib.Override | None = None,
  **kwargs: Any,
) -> LotteryPrune:
  """Wraps one layer."""
  if _is_prepared(layer):
    return layer
  if prunable is not None and not layer.built:
    raise ValueError(
      f"prunable= needs a layer whose weights exist, and {layer.name!r} is not"
      " built. Use LotteryPrune(layer, prunable_roles=[...]) instead."
    )
  if prunable is None:
    return LotteryPrune(layer, **kwargs)
  slots = list(binding_lib.walk_weights(layer, _GENERATION, prunable))
  chosen = {id(slot.variable) for slot in slots if slot.weight.prunable}
  return _wrap(layer, chosen, **kwargs)


def prune_model(
  model: tf_keras.Model,
  prunable: prunable_lib.Override | None = None,
  **kwargs: Any,
) -> tf_keras.Model:
  """A lottery-ready model around the same layers."""
  if not model.built:
    raise ValueError(
      f"lottery_prune() needs a model whose weights exist, and {model.name!r}"
      " is not built. Give it an Input, or call it on data once."
    )
  slots = binding_lib.walk_weights(model, _GENERATION, prunable)
  chosen = {id(slot.variable) for slot in slots if slot.weight.prunable}

  def wrap(layer):
    if _is_rebuildable(layer):
      return _rebuild(layer, wrap)
    if not layer.weights or _is_prepared(layer):
      return layer
    if isinstance(layer, tf_keras.Model):
      raise ValueError(
        f"{type(layer).__name__} is a subclassed tf_keras model, which cannot"
        " be rebuilt around wrapped layers. Wrap its layers with"
        " lottery_prune(layer) in its __init__, or use a Keras 3 model, which"
        " is made ready in place."
      )
    return _wrap(layer, chosen, **kwargs)

  ready = wrap(model)
  ready.__class__ = _READY_CLASSES.get(type(ready), type(ready))
  return ready


def strip(model: tf_keras.Model) -> tf_keras.Model:
  """A plain model around the same layers, with the masks applied."""
  binding = binding_lib.Binding(model, _GENERATION)
  binding.hold(binding.mask)
  binding.release()

  def unwrap(layer):
    if _is_rebuildable(layer):
      return _rebuild(layer, unwrap)
    if not isinstance(layer, LotteryPrune):
      return _with_attributes_replaced(layer, unwrap)
    for below in binding_lib.walk(layer.layer, _GENERATION):
      vars(below).pop(_INITIAL, None)
    vars(layer.layer).pop("get_prunable_weights", None)
    return layer.layer

  return unwrap(model)


def _wrap(layer, chosen: set[int], **kwargs) -> LotteryPrune:
  roles = [
    relative_role(slot, layer)
    for slot in binding_lib.walk_weights(layer, _GENERATION)
    if id(slot.variable) in chosen
  ]
  return LotteryPrune(layer, prunable_roles=roles, **kwargs)


def _is_rebuildable(layer: tf_keras.layers.Layer) -> bool:
  return isinstance(layer, tf_keras.Sequential) or getattr(
    layer, "_is_graph_network", False
  )


def _is_prepared(layer: tf_keras.layers.Layer) -> bool:
  return any(
    isinstance(below, LotteryPrune)
    for below in binding_lib.walk(layer, _GENERATION)
  )


def _with_attributes_replaced(layer, replace):
  """A subclassed model or layer, with `replace` applied below it, in place."""
  if not _is_prepared(layer):
    return layer
  for name, value in list(vars(layer).items()):
    # Also those that stay are set anew: setting puts a layer last, and the
    # order of the layers must remain.
    if not name.startswith("_self_") and _holds_layers(value):
      delattr(layer, name)
      setattr(layer, name, _map_layers(replace, value))
  return layer


def _holds_layers(value: Any) -> bool:
  if isinstance(value, Mapping):
    value = list(value.values())
  if isinstance(value, list | tuple):
    return any(_holds_layers(element) for element in value)
  return isinstance(value, tf_keras.layers.Layer) and not isinstance(
    value, tf_keras.metrics.Metric
  )


def _map_layers(replace: Any, value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _map_layers(replace, below) for key, below in value.items()}
  if isinstance(value, list | tuple):
    mapped = [_map_layers(replace, below) for below in value]
    return tuple(mapped) if isinstance(value, tuple) else mapped
  return replace(value) if isinstance(value, tf_keras.layers.Layer) else value


def _rebuild(model: tf_keras.Model, replace: Any) -> tf_keras.Model:
  # A model remembers the scope it was made in, and trains under it.
  with model.distribute_strategy.scope():
    rebuilt = tf_keras.models.clone_model(model, clone_function=replace)
    if type(rebuilt) is LotteryFunctional:
      rebuilt.__class__ = Functional
    compiled = getattr(model, "_compile_config", None)
    if model.optimizer is not None and compiled is not None:
      # The optimizer itself: a name or a wrapped one would begin afresh.
      config = {**compiled.config, "optimizer": model.optimizer}
      rebuilt.compile(**config)
  return rebuilt
