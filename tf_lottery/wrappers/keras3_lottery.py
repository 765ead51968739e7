"""Makes Keras 3 models lottery-ready: each layer holds its lottery state.

Each layer that owns weights gets a `LotteryState`. It adds no weights to the
layer, but Keras's saving and `tf.train.Checkpoint` find it.
"""

import functools
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import AutocastScope  # these have no public names
from keras.src.models.functional import Functional

from tf_lottery.weights import Override
from tf_lottery.wrappers import copying
from tf_lottery.wrappers import guarding
from tf_lottery.wrappers import keras3
from tf_lottery.wrappers import variables
from tf_lottery.wrappers import walking
from tf_lottery.wrappers.binding import Binding
from tf_lottery.wrappers.generation import Generation

_PLAIN_BUILD = "_lottery_plain_build"


class LotteryState(keras.layers.Layer):
  """The masks and the initial weights of one layer.

  Args:
    weights: Role -> weight of the layer.

  Attributes:
    masks: Role -> boolean variable, of prunable weights.
    initial: Role -> variable, of all weights.
  """

  def __init__(self, weights: Mapping[str, walking.BoundWeight]):
    super().__init__(name="lottery_state", dtype="float32")
    self.masks = {
      role: self._add(f"mask_{role}", bound.variable.shape, "bool", "ones")
      for role, bound in weights.items()
      if bound.weight.prunable
    }
    self.initial = {
      role: self._add(
        f"initial_{role}",
        bound.variable.shape,
        bound.variable.dtype,
        _copy(bound.variable),
      )
      for role, bound in weights.items()
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
    """Reads masks and initial weights; the file of a plain model has none."""
    if not store.keys():
      raise ValueError(
        "The file is of a plain model: it holds no masks and initial weights."
        " Load it before lottery_prune()."
      )
    super().load_own_variables(store)


def _copy(variable):
  # A function, as the value may not exist yet: before the first call of a
  # subclassed model, Keras traces shapes, and makes all variables afterwards.
  return lambda shape, dtype=None: tf.identity(variable.value)


class _RestoresLottery:
  """A model class that is lottery-ready again when it is loaded."""

  plain_class: type[keras.Model]

  def __new__(cls, *args, **kwargs):
    # Only `prune_model` makes a model ready. Keras also calls this class when
    # it makes a model of other layers, as in clone_model(): that one is plain.
    return cls.plain_class(*args, **kwargs)

  def get_config(self):
    with copying.without_warning():
      config = super().get_config()
    keys = list(Binding(self, KERAS_3).shapes)
    return copying.LiveConfig({**config, "lottery_prunable": keys}, self)

  @classmethod
  def from_config(cls, config, custom_objects=None):
    source = copying.source_of(config)
    config = dict(config)
    keys = frozenset(config.pop("lottery_prunable"))
    plain = cls.plain_class.from_config(config, custom_objects=custom_objects)
    model = KERAS_3.prune_model(plain, lambda weight: weight.key in keys)
    if source is not None:
      Binding(model, KERAS_3).copy_lottery(Binding(source, KERAS_3))
    return model


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


class Keras3(keras3.Keras3Base):
  """The Keras generation Keras 3."""

  def prune_model(
    self,
    model: keras.Model,
    prunable: Override | None = None,
    **tfmot_arguments: Any,
  ) -> keras.Model:
    """Makes a built model lottery-ready, in place."""
    _refuse(tfmot_arguments)
    _attach_states(model, prunable)
    if type(model) in _READY_CLASSES:
      model.__class__ = _READY_CLASSES[type(model)]
      for layer in walking.walk(model, self):
        vars(layer).pop("get_build_config", None)
    elif not isinstance(model, _RestoresLottery):
      vars(model)["get_build_config"] = _refuse_to_save
    _warn_of_copies_below(model)
    Binding(model, self).guard()
    guarding.forget_compiled_steps(model)
    return model

  def prune_layer(
    self,
    layer: keras.layers.Layer,
    prunable: Override | None = None,
    **tfmot_arguments: Any,
  ) -> keras.layers.Layer:
    """Makes a layer lottery-ready, now or as soon as it is built."""
    _refuse(tfmot_arguments)
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

      vars(layer)[_PLAIN_BUILD] = plain_build
      vars(layer)["build"] = build
    # Keras calls it to write the layer into a file. It does not call it for
    # the layers of a subclassed model, which makes them ready itself.
    vars(layer)["get_build_config"] = _refuse_to_save_layer
    copying.warn_of_copies(layer)
    return layer

  def strip(self, model: keras.Model) -> keras.Model:
    """Removes masks and initial weights from a model, in place."""
    Binding(model, self).remove_constraints()
    for layer in walking.walk(model, self):
      if keras3.STATE in vars(layer):
        # Not delattr: Keras's would look the state up among its own.
        vars(layer).pop(keras3.STATE)
        layer._delete_tracking("lottery_state")
      if _PLAIN_BUILD in vars(layer):
        vars(layer)["build"] = vars(layer).pop(_PLAIN_BUILD)
      vars(layer).pop("get_build_config", None)
      copying.stop_warning(layer)
      if isinstance(layer, _RestoresLottery):
        layer.__class__ = layer.plain_class
    return model


KERAS_3: Generation = Keras3()


def _refuse(tfmot_arguments: Mapping[str, Any]) -> None:
  if tfmot_arguments:
    raise TypeError(
      "Arguments of tfmot's wrapper are for tf_keras alone, got"
      f" {sorted(tfmot_arguments)} for Keras 3. Give pattern= to"
      " prune_and_rewind() or find_ticket() instead."
    )


def _attach_states(
  layer: keras.layers.Layer, prunable: Override | None
) -> None:
  by_layer: dict[int, list[walking.BoundWeight]] = {}
  for bound in walking.walk_weights(layer, KERAS_3, prunable):
    by_layer.setdefault(id(bound.layer), []).append(bound)
  for weights in by_layer.values():
    if not KERAS_3.initial(weights[0].layer):
      _attach_state({bound.weight.role: bound for bound in weights})


def _attach_state(weights: Mapping[str, walking.BoundWeight]) -> None:
  first = next(iter(weights.values()))
  # A layer that is built in a model's call would get its variables cast.
  scope = variables.scope_of(KERAS_3.raw(first.variable))
  with scope, AutocastScope(None):
    state = LotteryState(weights)
  for role, mask in state.masks.items():
    held = weights[role].held
    if held is not None:  # by a Binding, before the model was made ready
      mask.assign(tf.cast(held.mask, tf.bool))
    weights[role].hold_by(mask, KERAS_3)
  # Not tracked by Keras, so that layer.weights stays what it was. Keras's
  # saving finds the attribute, and tf.train.Checkpoint the dependency.
  vars(first.layer)[keras3.STATE] = state
  dependency = tf.Module()
  # Plain copies: TensorFlow does not look into Keras's tracked dictionaries.
  dependency.masks = dict(state.masks)
  dependency.initial = dict(state.initial)
  first.layer._track_trackable(dependency, "lottery_state", overwrite=True)


def _warn_of_copies_below(model: keras.Model) -> None:
  """Has each layer warn that has lottery state, or a layer below with it."""
  for layer in walking.walk(model, KERAS_3):
    ready = any(map(KERAS_3.initial, walking.walk(layer, KERAS_3)))
    # The configuration of a ready model brings its lottery along.
    if ready and layer is not model and not isinstance(layer, _RestoresLottery):
      copying.warn_of_copies(layer)


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
