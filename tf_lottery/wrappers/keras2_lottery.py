"""Makes tf_keras models lottery-ready: tfmot's wrappers hold the state."""

import inspect
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras.src.engine.functional import Functional  # has no public name

from tf_lottery.weights import Override
from tf_lottery.wrappers import copying
from tf_lottery.wrappers import keras2
from tf_lottery.wrappers import walking
from tf_lottery.wrappers.binding import Binding
from tf_lottery.wrappers.generation import Generation

_SOURCE = "_lottery_source"


@tf_keras.utils.register_keras_serializable("tf_lottery")
class LotteryPrune(keras2.pruning_wrapper.PruneLowMagnitude):
  """tfmot's pruning wrapper, with stored initial weights.

  A constraint on each prunable weight holds its mask after every optimizer
  update. In the forward pass, the wrapped layer runs alone. Any layer can be
  wrapped. For a layer that cannot be pruned, the wrapper stores the initial
  weights only.

  Args:
    layer: The layer to wrap.
    prunable_roles: Which weights to prune, e.g. `["kernel"]`; `None` asks the
      rules, or the layer's own `get_prunable_weights`. Defaults to `None`.
    **kwargs: The arguments of tfmot's `PruneLowMagnitude`.

  Attributes:
    initial: Role -> variable, of every weight of the wrapped layer.

  Example:
  ```python
  layer = LotteryPrune(tf_keras.layers.Dense(10), prunable_roles=["kernel"])
  model = tf_keras.Sequential([tf_keras.Input((784,)), layer])
  prune_and_rewind(model, 0.2)
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
    return [
      bound.variable
      for role, bound in self._own_weights().items()
      if (
        bound.weight.prunable
        if self.prunable_roles is None
        else role in self.prunable_roles
      )
    ]

  def build(self, input_shape=None):
    # tf_keras's Wrapper builds the wrapped layer alone; tfmot's comes later.
    tf_keras.layers.Wrapper.build(self, input_shape)
    if self.layer.weights:
      self._prepare(input_shape)

  def _prepare(self, input_shape=None):
    """Makes the variables beside the wrapped layer's."""
    weights = self._own_weights()
    super().build(input_shape)
    raw = TF_KERAS.raw
    masks = {id(raw(w)): raw(mask) for w, mask, _ in self.pruning_vars}
    for role, bound in weights.items():
      mask = masks.get(id(raw(bound.variable)))
      if mask is not None:
        if bound.held is not None:  # by a Binding, before it was wrapped
          mask.assign(tf.cast(bound.held.mask, mask.dtype))
        bound.hold_by(mask, TF_KERAS)
      self.initial[role] = self._add_initial(role, bound.variable)
      # Not tracked by Keras: the variable is the wrapper's, not the layer's.
      below = vars(bound.layer).setdefault(keras2.INITIAL, {})
      below[bound.weight.role] = self.initial[role]
    source = vars(self).pop(_SOURCE, None)
    with tf.init_scope():
      binding = Binding(self, TF_KERAS)
      binding.store_initial()
      if source is not None and source.initial:
        binding.copy_lottery(Binding(source, TF_KERAS))

  def _add_initial(self, role: str, variable: tf.Variable) -> tf.Variable:
    return self.add_weight(
      name="initial_" + role.replace("/", "_"),
      shape=variable.shape,
      dtype=TF_KERAS.raw(variable).dtype,
      initializer="zeros",
      trainable=False,
      experimental_autocast=False,
      aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )

  def __call__(self, inputs, *args, **kwargs):
    # By name: tf_keras does not save arguments that are given by position.
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

  def _own_weights(self) -> dict[str, walking.BoundWeight]:
    return {
      _relative_role(bound, self.layer): bound
      for bound in walking.walk_weights(self.layer, TF_KERAS)
    }

  def get_config(self):
    config = {
      **super().get_config(),
      # tfmot leaves it out.
      "sparsity_m_by_n": self.sparsity_m_by_n,
      "prunable_roles": self.prunable_roles,
    }
    return copying.LiveConfig(config, self)

  @classmethod
  def from_config(cls, config):
    layer = super().from_config(config)
    # Not tracked by Keras: the source is no part of the copy.
    vars(layer)[_SOURCE] = copying.source_of(config)
    return layer


class _CopiesLottery:
  """A model class whose clones have its masks and initial weights."""

  def get_config(self):
    return copying.LiveConfig(super().get_config(), self)

  @classmethod
  def from_config(cls, config, custom_objects=None):
    model = super().from_config(dict(config), custom_objects)
    source = copying.source_of(config)
    if source is not None and model.built:
      Binding(model, TF_KERAS).copy_lottery(Binding(source, TF_KERAS))
    return model


@tf_keras.utils.register_keras_serializable("tf_lottery")
class LotterySequential(_CopiesLottery, tf_keras.Sequential):
  """A lottery-ready `tf_keras.Sequential`.

  It has a class of its own, because tf_keras imports the module of a file's
  outermost class only, and must find `LotteryPrune` registered.
  """


@tf_keras.utils.register_keras_serializable("tf_lottery")
class LotteryFunctional(_CopiesLottery, Functional):
  """A lottery-ready functional model; see `LotterySequential`."""


_READY_CLASSES = {
  tf_keras.Sequential: LotterySequential,
  Functional: LotteryFunctional,
}


class TfKeras(keras2.TfKerasBase):
  """The Keras generation tf_keras."""

  def prune_layer(
    self,
    layer: tf_keras.layers.Layer,
    prunable: Override | None = None,
    **tfmot_arguments: Any,
  ) -> LotteryPrune:
    """Wraps one layer."""
    if _is_prepared(layer):
      return layer
    if prunable is None:
      return LotteryPrune(layer, **tfmot_arguments)
    if not layer.built:
      raise ValueError(
        f"prunable= needs a layer whose weights exist, and {layer.name!r} is"
        " not built. Use LotteryPrune(layer, prunable_roles=[...]) instead."
      )
    return _wrap(layer, _chosen(layer, prunable), **tfmot_arguments)

  def prune_model(
    self,
    model: tf_keras.Model,
    prunable: Override | None = None,
    **tfmot_arguments: Any,
  ) -> tf_keras.Model:
    """Makes a lottery-ready model around the same layers."""
    chosen = _chosen(model, prunable)

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
      return _wrap(layer, chosen, **tfmot_arguments)

    ready = wrap(model)
    ready.__class__ = _READY_CLASSES.get(type(ready), type(ready))
    Binding(ready, self).guard()
    return ready

  def strip(self, model: tf_keras.Model) -> tf_keras.Model:
    """Makes a plain model around the same layers."""
    Binding(model, self).remove_constraints()

    def unwrap(layer):
      if _is_rebuildable(layer):
        return _rebuild(layer, unwrap)
      if not isinstance(layer, LotteryPrune):
        return _with_attributes_replaced(layer, unwrap)
      for below in walking.walk(layer.layer, self):
        vars(below).pop(keras2.INITIAL, None)
      vars(layer.layer).pop("get_prunable_weights", None)
      return layer.layer

    return unwrap(model)


TF_KERAS: Generation = TfKeras()


def _chosen(
  layer: tf_keras.layers.Layer, prunable: Override | None
) -> set[int]:
  """Returns the ids of the variables to prune, in the layer and below."""
  return {
    id(bound.variable)
    for bound in walking.walk_weights(layer, TF_KERAS, prunable)
    if bound.weight.prunable
  }


def _wrap(layer, chosen: set[int], **tfmot_arguments) -> LotteryPrune:
  roles = [
    _relative_role(bound, layer)
    for bound in walking.walk_weights(layer, TF_KERAS)
    if id(bound.variable) in chosen
  ]
  return LotteryPrune(layer, prunable_roles=roles, **tfmot_arguments)


def _relative_role(
  bound: walking.BoundWeight, layer: tf_keras.layers.Layer
) -> str:
  """Returns the role of a weight in a wrapped layer.

  The role of a sublayer's weight has the number of the sublayer before it.
  """
  return bound.weight.role if bound.layer is layer else bound.weight.key


def _is_rebuildable(layer: tf_keras.layers.Layer) -> bool:
  return isinstance(layer, tf_keras.Sequential) or getattr(
    layer, "_is_graph_network", False
  )


def _is_prepared(layer: tf_keras.layers.Layer) -> bool:
  return any(
    isinstance(below, LotteryPrune) for below in walking.walk(layer, TF_KERAS)
  )


def _with_attributes_replaced(layer, replace):
  """Applies `replace` to the layers below a subclassed one, in place."""
  if not _is_prepared(layer):
    return layer
  for name, value in list(vars(layer).items()):
    # Setting an attribute puts its layer last. To keep the order of the
    # layers, those that do not change are set again too.
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
  # A model trains under the strategy in whose scope it was made.
  with model.distribute_strategy.scope():
    rebuilt = tf_keras.models.clone_model(model, clone_function=replace)
    if type(rebuilt) is LotteryFunctional:
      rebuilt.__class__ = Functional
    compiled = getattr(model, "_compile_config", None)
    if model.optimizer is not None and compiled is not None:
      # The same optimizer object: one from a configuration would begin afresh.
      config = {**compiled.config, "optimizer": model.optimizer}
      rebuilt.compile(**config)
  return rebuilt
