"""What is particular to Keras 3: lottery state lives on the layers, in place.

Each layer that owns weights gets a `LotteryState` beside its attributes: not
among its weights, but found by Keras's saving and by `tf.train.Checkpoint`.
"""

import functools
import sys
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import AutocastScope  # these have no public names
from keras.src.models.functional import Functional

from tf_lottery import prunable as prunable_lib
from tf_lottery.wrappers import binding as binding_lib

_GENERATION = sys.modules[__name__]
_STATE = "_lottery_state"
_PLAIN_BUILD = "_lottery_plain_build"


class LotteryState(keras.layers.Layer):
  """The masks and the initial weights of one layer.

  Attributes:
    masks: role -> boolean variable, for prunable weights.
    initial: role -> variable, for all weights.
  """

  def __init__(self, roles: dict[str, Any], prunable_roles: Sequence[str]):
    super().__init__(name="lottery_state", dtype="float32")
    self.masks = {
      role: self._add(f"mask_{role}", roles[role].shape, "bool", "ones")
      for role in prunable_roles
    }
    self.initial = {
      role: self._add(f"initial_{role}", value.shape, value.dtype, _copy(value))
      for role, value in roles.items()
    }
    self.built = True

  def _add(self, name, shape, dtype, initializer):
    return self.add_weight(
      name=name,
      shape=shape,
      dtype=dtype,
      initializer=initializer,
      trainable=False,
      autocast=False,
    )

  def load_own_variables(self, store):
    """Reads masks and initial weights; a plain model's file has none."""
    if not store.keys():
      raise ValueError(
        "The file holds no masks and initial weights: it is of a plain model."
        " Load it before lottery_prune()."
      )
    super().load_own_variables(store)


def _copy(variable):
  # Not the value itself: where Keras traces shapes, as before a subclassed
  # model's first call, it makes all variables later, in their order.
  return lambda shape, dtype=None: tf.identity(variable.value)


class _RestoresLottery:
  """A model class that is lottery-ready again when it is loaded."""

  def get_config(self):
    return {**super().get_config(), "lottery_prunable": _prunable_keys(self)}

  @classmethod
  def from_config(cls, config, custom_objects=None):
    config = dict(config)
    keys = frozenset(config.pop("lottery_prunable"))
    plain = cls.plain_class.from_config(config, custom_objects=custom_objects)
    return prune_model(plain, lambda weight: weight.key in keys)


@keras.saving.register_keras_serializable("tf_lottery")
class LotterySequential(_RestoresLottery, keras.Sequential):
  """A lottery-ready `keras.Sequential`."""

  plain_class = keras.Sequential


@keras.saving.register_keras_serializable("tf_lottery")
class LotteryFunctional(_RestoresLottery, Functional):
  """A lottery-ready functional model."""

  plain_class = Functional


_READY_CLASSES = {
  keras.Sequential: LotterySequential,
  Functional: LotteryFunctional,
}


# The generation's interface: what binding.py and training.py ask of it.


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
  state = vars(layer).get(_STATE)
  return state.initial if state is not None else {}


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


# Preparing and stripping.


def prune_model(
  model: keras.Model, prunable: prunable_lib.Override | None = None
) -> keras.Model:
  """Makes a built Keras 3 model lottery-ready, in place."""
  if not model.built:
    raise ValueError(
      f"lottery_prune() needs a model whose weights exist, and {model.name!r}"
      " is not built. Give it an Input, or call it on data once."
    )
  _attach_states(model, prunable)
  if type(model) in _READY_CLASSES:
    model.__class__ = _READY_CLASSES[type(model)]
    for layer in binding_lib.walk(model, _GENERATION):
      vars(layer).pop("get_build_config", None)
  elif not isinstance(model, _RestoresLottery):
    object.__setattr__(model, "get_build_config", _refuse_to_save)
  binding_lib.forget_compiled_steps(model)
  return model


def prune_layer(
  layer: keras.layers.Layer, prunable: prunable_lib.Override | None = None
) -> keras.layers.Layer:
  """Makes a layer lottery-ready, now or as soon as it is built."""
  if layer.built:
    _attach_states(layer, prunable)
  elif _PLAIN_BUILD not in vars(layer):
    plain_build = layer.build

    # Keras itself wraps `build` on the instance; this goes around that.
    @functools.wraps(plain_build)
    def build(*args, **kwargs):
      plain_build(*args, **kwargs)
      with tf.init_scope():
        _attach_states(layer, prunable)

    object.__setattr__(layer, _PLAIN_BUILD, plain_build)
    object.__setattr__(layer, "build", build)
  # Asked only of what is written into a file: not below a subclassed model.
  object.__setattr__(layer, "get_build_config", _refuse_to_save_layer)
  return layer


def strip(model: keras.Model) -> keras.Model:
  """Applies the masks and takes everything of the lottery off, in place."""
  binding = binding_lib.Binding(model, _GENERATION)
  binding.hold(binding.mask)
  binding.release()
  for layer in binding_lib.walk(model, _GENERATION):
    if _STATE in vars(layer):
      # Not delattr: Keras's would look the state up among its own.
      vars(layer).pop(_STATE)
      layer._delete_tracking("lottery_state")
    if _PLAIN_BUILD in vars(layer):
      object.__setattr__(layer, "build", vars(layer).pop(_PLAIN_BUILD))
    vars(layer).pop("get_build_config", None)
    if isinstance(layer, _RestoresLottery):
      layer.__class__ = layer.plain_class
  return model


def _attach_states(layer, prunable):
  by_layer: dict[int, list[binding_lib.Slot]] = {}
  for slot in binding_lib.walk_weights(layer, _GENERATION, prunable):
    by_layer.setdefault(id(slot.layer), []).append(slot)
  for slots in by_layer.values():
    if not initial(slots[0].layer):
      _attach_state(slots)


def _attach_state(slots: list[binding_lib.Slot]) -> None:
  layer = slots[0].layer
  variables = {slot.weight.role: slot.variable for slot in slots}
  chosen = [slot.weight.role for slot in slots if slot.weight.prunable]
  # Where a model's call builds its layers, variables would come cast.
  scope = binding_lib.scope_of(raw(slots[0].variable))
  with scope, AutocastScope(None):
    state = LotteryState(variables, chosen)
  for role, mask in state.masks.items():
    variable = variables[role]
    held = binding_lib.HeldMask(mask, variable.constraint)
    set_constraint(variable, held)
  # Around Keras's tracking, so that layer.weights stays what it was; Keras's
  # saving finds the attribute, and tf.train.Checkpoint the dependency.
  object.__setattr__(layer, _STATE, state)
  dependency = tf.Module()
  # Its dictionaries, plain: TensorFlow does not look into Keras's tracked ones.
  dependency.masks = dict(state.masks)
  dependency.initial = dict(state.initial)
  layer._track_trackable(dependency, "lottery_state", overwrite=True)


def _prunable_keys(model) -> list[str]:
  binding = binding_lib.Binding(model, _GENERATION)
  return list(binding.shapes)


def _refuse_to_save():
  raise ValueError(
    "A .keras file of this subclassed model would lose its masks and initial"
    " weights. Save a ticket, Ticket.from_model(model).save(path); or wrap the"
    " layers with lottery_prune(layer) in the model's __init__ instead; or"
    " save strip_lottery(model)."
  )


def _refuse_to_save_layer():
  raise ValueError(
    "A .keras file of a model built from layers on which lottery_prune(layer)"
    " was called would lose their masks and initial weights. Call"
    " lottery_prune(model) on the built model too, which keeps them, or save a"
    " ticket, Ticket.from_model(model).save(path)."
  )
