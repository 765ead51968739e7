"""Making Keras 3 models lottery-ready: lottery state lives on the layers.

Each layer that owns weights gets a `LotteryState` beside its attributes: not
among its weights, but found by Keras's saving and by `tf.train.Checkpoint`.
"""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import AutocastScope  # these have no public names
from keras.src.models.functional import Functional

from tf_lottery.weights import Override
from tf_lottery.wrappers import binding as binding_lib
from tf_lottery.wrappers import holding
from tf_lottery.wrappers import keras3

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


def prune_model(
  model: keras.Model, prunable: Override | None = None
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
    for layer in binding_lib.walk(model, keras3):
      vars(layer).pop("get_build_config", None)
  elif not isinstance(model, _RestoresLottery):
    object.__setattr__(model, "get_build_config", _refuse_to_save)
  binding_lib.forget_compiled_steps(model)
  return model


def prune_layer(
  layer: keras.layers.Layer, prunable: Override | None = None
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
  binding = binding_lib.Binding(model, keras3)
  binding.hold(binding.mask)
  binding.release()
  for layer in binding_lib.walk(model, keras3):
    if keras3.STATE in vars(layer):
      # Not delattr: Keras's would look the state up among its own.
      vars(layer).pop(keras3.STATE)
      layer._delete_tracking("lottery_state")
    if _PLAIN_BUILD in vars(layer):
      object.__setattr__(layer, "build", vars(layer).pop(_PLAIN_BUILD))
    vars(layer).pop("get_build_config", None)
    if isinstance(layer, _RestoresLottery):
      layer.__class__ = layer.plain_class
  return model


def _attach_states(layer, prunable):
  by_layer: dict[int, list[binding_lib.Slot]] = {}
  for slot in binding_lib.walk_weights(layer, keras3, prunable):
    by_layer.setdefault(id(slot.layer), []).append(slot)
  for slots in by_layer.values():
    if not keras3.initial(slots[0].layer):
      _attach_state(slots)


def _attach_state(slots: list[binding_lib.Slot]) -> None:
  layer = slots[0].layer
  variables = {slot.weight.role: slot.variable for slot in slots}
  chosen = [slot.weight.role for slot in slots if slot.weight.prunable]
  # Where a model's call builds its layers, variables would come cast.
  scope = binding_lib.scope_of(keras3.raw(slots[0].variable))
  with scope, AutocastScope(None):
    state = LotteryState(variables, chosen)
  for role, mask in state.masks.items():
    variable = variables[role]
    held = holding.HeldMask(mask, variable.constraint)
    keras3.set_constraint(variable, held)
  # Around Keras's tracking, so that layer.weights stays what it was; Keras's
  # saving finds the attribute, and tf.train.Checkpoint the dependency.
  object.__setattr__(layer, keras3.STATE, state)
  dependency = tf.Module()
  # Its dictionaries, plain: TensorFlow does not look into Keras's tracked ones.
  dependency.masks = dict(state.masks)
  dependency.initial = dict(state.initial)
  layer._track_trackable(dependency, "lottery_state", overwrite=True)


def _prunable_keys(model) -> list[str]:
  binding = binding_lib.Binding(model, keras3)
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
