"""Making tf_keras models lottery-ready: its state lives in tfmot's wrappers."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras.src.engine.functional import Functional  # has no public name

from tf_lottery.weights import Override
from tf_lottery.wrappers import binding as binding_lib
from tf_lottery.wrappers import holding
from tf_lottery.wrappers import keras2


@tf_keras.utils.register_keras_serializable("tf_lottery")
class LotteryPrune(keras2.pruning_wrapper.PruneLowMagnitude):
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
    for slot in binding_lib.walk_weights(self.layer, keras2):
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
      keras2.set_constraint(weight, holding.HeldMask(keras2.raw(mask), inner))
    for slot in binding_lib.walk_weights(self.layer, keras2):
      role = relative_role(slot, self.layer)
      self.initial[role] = self.add_weight(
        name="initial_" + role.replace("/", "_"),
        shape=slot.variable.shape,
        dtype=keras2.raw(slot.variable).dtype,
        initializer="zeros",
        trainable=False,
        experimental_autocast=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
      )
      # Around Keras's tracking: the variable is the wrapper's, not the layer's.
      below = vars(slot.layer).setdefault(keras2.INITIAL, {})
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
      keras2.raw(self.initial[role]).assign(keras2.raw(variable))

  def rewind(self) -> None:
    """Puts the initial weights back, zero where they are pruned."""
    for role, variable in self._own_weights().items():
      held = holding.held_mask(keras2.raw(variable))
      value = tf.convert_to_tensor(keras2.raw(self.initial[role]))
      keras2.raw(variable).assign(held.apply(value) if held else value)

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
        holding.held_mask(keras2.raw(variables[role]))
        if (role in variables)
        else None
      )
      if held is None:
        prunable = [
          name
          for name, variable in variables.items()
          if holding.held_mask(keras2.raw(variable))
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
      keras2.raw(variables[role]).assign(
        held.apply(tf.convert_to_tensor(keras2.raw(variables[role])))
      )

  def _own_weights(self) -> dict[str, tf.Variable]:
    return {
      relative_role(slot, self.layer): slot.variable
      for slot in binding_lib.walk_weights(self.layer, keras2)
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


def prune_layer(
  layer: tf_keras.layers.Layer,
  prunable: Override | None = None,
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
  slots = list(binding_lib.walk_weights(layer, keras2, prunable))
  chosen = {id(slot.variable) for slot in slots if slot.weight.prunable}
  return _wrap(layer, chosen, **kwargs)


def prune_model(
  model: tf_keras.Model,
  prunable: Override | None = None,
  **kwargs: Any,
) -> tf_keras.Model:
  """A lottery-ready model around the same layers."""
  if not model.built:
    raise ValueError(
      f"lottery_prune() needs a model whose weights exist, and {model.name!r}"
      " is not built. Give it an Input, or call it on data once."
    )
  slots = binding_lib.walk_weights(model, keras2, prunable)
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
  binding = binding_lib.Binding(model, keras2)
  binding.hold(binding.mask)
  binding.release()

  def unwrap(layer):
    if _is_rebuildable(layer):
      return _rebuild(layer, unwrap)
    if not isinstance(layer, LotteryPrune):
      return _with_attributes_replaced(layer, unwrap)
    for below in binding_lib.walk(layer.layer, keras2):
      vars(below).pop(keras2.INITIAL, None)
    vars(layer.layer).pop("get_prunable_weights", None)
    return layer.layer

  return unwrap(model)


def _wrap(layer, chosen: set[int], **kwargs) -> LotteryPrune:
  roles = [
    relative_role(slot, layer)
    for slot in binding_lib.walk_weights(layer, keras2)
    if id(slot.variable) in chosen
  ]
  return LotteryPrune(layer, prunable_roles=roles, **kwargs)


def _is_rebuildable(layer: tf_keras.layers.Layer) -> bool:
  return isinstance(layer, tf_keras.Sequential) or getattr(
    layer, "_is_graph_network", False
  )


def _is_prepared(layer: tf_keras.layers.Layer) -> bool:
  return any(
    isinstance(below, LotteryPrune) for below in binding_lib.walk(layer, keras2)
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
