"""A Keras model of either generation, seen as named weights.

A `Binding` reads, writes, holds a mask and releases it. What differs between
the generations is asked of `keras2` or `keras3`, which offer the same
functions.
"""

import contextlib
import dataclasses
import types
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery import masks
from tf_lottery.weights import Override
from tf_lottery.weights import PrunableReport
from tf_lottery.weights import Weight
from tf_lottery.weights import decide
from tf_lottery.wrappers import holding

RANDOM = "random/"


@dataclasses.dataclass
class Slot:
  """One weight of the model: its description and its variable."""

  weight: Weight
  variable: Any
  layer: Any


class Binding:
  """One Keras model as named weights: read, write, hold a mask, release.

  Made by `bind`. Keys are the same in every rebuild of the architecture.

  Attributes:
    model: the Keras model.
    report: the `PrunableReport` of its weights.
  """

  def __init__(
    self,
    model: Any,
    generation: types.ModuleType,
    prunable: Override | None = None,
  ):
    self.model = model
    self.generation = generation
    self._given_initial: dict[str, np.ndarray] | None = None
    slots = list(walk_weights(model, generation, prunable))
    self.report = PrunableReport([slot.weight for slot in slots])
    self._slots = {slot.weight.key: slot for slot in slots}

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the prunable weights."""
    return {weight.key: weight.shape for weight in self.report.prunable}

  @property
  def variables(self) -> dict[str, tf.Variable]:
    """Key -> the TensorFlow variable that holds the weight."""
    return {
      key: self.generation.raw(slot.variable)
      for key, slot in self._slots.items()
    }

  @property
  def mask(self) -> masks.Mask:
    """What is held now; everything is kept where nothing is held."""
    arrays = {}
    for key, shape in self.shapes.items():
      held = self._held(key)
      arrays[key] = (
        np.ones(shape, bool) if held is None else held.mask.numpy().astype(bool)
      )
    return masks.Mask(arrays)

  def read(self, *, random_states: bool = False) -> dict[str, np.ndarray]:
    """Copies of all weights by key, moving statistics included.

    Args:
      random_states: whether to add the states of dropout and its like, under
        keys that begin with `random/`.

    Statistics that differ between replicas (batch normalisation that is not
    synchronised) are averaged.
    """
    values = {
      key: _read(self.generation.raw(slot.variable))
      for key, slot in self._slots.items()
    }
    if random_states:
      values |= {
        f"{RANDOM}{index}": state.numpy()
        for index, state in enumerate(self.generation.random_states(self.model))
      }
    return values

  def write(self, values: Mapping[str, np.ndarray]) -> None:
    """Assigns weights and random states by key.

    Args:
      values: some or all of what `read` returned.

    Raises:
      ValueError: a key is not the model's, or a shape differs.
    """
    states = self.generation.random_states(self.model)
    for key, value in values.items():
      if key.startswith(RANDOM):
        states[int(key.removeprefix(RANDOM))].assign(value)
      else:
        self._check(key, np.shape(value))
        self._assign(key, value)

  def hold(self, mask: masks.Mask) -> None:
    """Zeroes the pruned weights, and keeps them zero after every update.

    Holding again replaces the mask; it never rebuilds or retraces anything.

    Args:
      mask: its keys must be the prunable weights'.

    Raises:
      ValueError: the mask is of another architecture.
    """
    for key, array in mask.items():
      self._check(key, array.shape)
    if mask.keys() != self.shapes.keys():
      raise ValueError(
        "A mask must cover the model's prunable weights, got"
        f" {sorted(mask.keys())}, and the model has {sorted(self.shapes)}."
      )
    for key, array in mask.items():
      held = self._held(key) or self._start_holding(key, array)
      held.mask.assign(tf.cast(array, held.mask.dtype))
      value = _read(self.generation.raw(self._slots[key].variable))
      self._assign(key, np.where(array, value, np.zeros_like(value)))

  def release(self) -> None:
    """Stops holding: the weights stay as they are, and may grow again."""
    for key in self.shapes:
      held = self._held(key)
      if held is not None:
        variable = self._slots[key].variable
        self.generation.set_constraint(variable, held.inner)
    forget_compiled_steps(self.model)

  def mask_gradient(self, variable: Any, gradient: Any) -> Any:
    """The gradient of the sparse network: zero where the weight is pruned.

    Args:
      variable: one of the model's trainable variables.
      gradient: a tensor, `tf.IndexedSlices` or None.
    """
    held = _held_by(variable, self.generation)
    if held is None or gradient is None:
      return gradient
    return held.apply(gradient)

  def check_held(self) -> None:
    """Raises RuntimeError unless every pruned weight is 0.0 everywhere."""
    for key, array in self.mask.items():
      for value in _replicas(self.generation.raw(self._slots[key].variable)):
        wrong = np.count_nonzero(value.numpy()[~array])
        if wrong:
          raise RuntimeError(
            f"{wrong} pruned entries of {self.report[key].name} are not zero."
            " Something wrote to the weight outside of an optimizer; hold the"
            " mask again after such writes."
          )

  def initial(self) -> dict[str, np.ndarray]:
    """The initial weights that `lottery_prune` stored, by key.

    Raises:
      ValueError: the model is not lottery-ready.
    """
    if self._given_initial is not None:
      return dict(self._given_initial)
    return {
      key: _read(self.generation.raw(variable))
      for key, variable in self._initial_variables().items()
    }

  def give_initial(self, values: Mapping[str, np.ndarray]) -> None:
    """Has `initial` answer with these, for a model that stores none."""
    self._given_initial = {
      key: value for key, value in values.items() if key in self._slots
    }

  def _initial_variables(self) -> dict[str, Any]:
    variables = {
      key: self.generation.initial(slot.layer).get(slot.weight.role)
      for key, slot in self._slots.items()
    }
    missing = [key for key, variable in variables.items() if variable is None]
    if len(missing) == len(variables):
      raise ValueError(
        "The model has no initial weights stored. Call lottery_prune(model)"
        " before training it."
      )
    if missing:
      names = ", ".join(self.report[key].name for key in missing)
      raise ValueError(
        f"The model has no initial weights stored of {names}. Call"
        " lottery_prune(layer) on every layer that owns weights, or all of it"
        " could not be rewound."
      )
    return variables

  def check_shapes(self, values: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError when a key or a shape is not the model's."""
    for key, value in values.items():
      self._check(key, np.shape(value))

  def reset_optimizer(self) -> None:
    """Has the model's optimizer forget its slots and its iterations."""
    optimizer = self.model.optimizer
    some_weight = next(iter(self._slots.values())).variable
    with scope_of(self.generation.raw(some_weight)):
      self.generation.build_optimizer(self.model)
      fresh = _fresh_optimizer(self.model)
    pairs = zip(_slots_of(optimizer), _slots_of(fresh), strict=True)
    for old, new in pairs:
      self.generation.raw(old).assign(self.generation.raw(new))

  def store_initial(self) -> None:
    """Makes the weights of now the initial ones, to which `rewind` returns."""
    for key, variable in self._initial_variables().items():
      value = _read(self.generation.raw(self._slots[key].variable))
      self.generation.raw(variable).assign(value)

  @property
  def is_ready(self) -> bool:
    """Whether the model is lottery-ready: it stores initial weights."""
    return any(self.generation.initial(s.layer) for s in self._slots.values())

  def _held(self, key: str) -> holding.HeldMask | None:
    return _held_by(self._slots[key].variable, self.generation)

  def _start_holding(self, key: str, array: np.ndarray) -> holding.HeldMask:
    variable = self._slots[key].variable
    with scope_of(self.generation.raw(variable)):
      mask = tf.Variable(array, trainable=False, name="mask")
    held = holding.HeldMask(mask, getattr(variable, "constraint", None))
    self.generation.set_constraint(variable, held)
    # A train_function traced before would go on without the constraint.
    forget_compiled_steps(self.model)
    return held

  def _assign(self, key: str, value: np.ndarray) -> None:
    raw = self.generation.raw(self._slots[key].variable)
    raw.assign(np.asarray(value, raw.dtype.as_numpy_dtype))

  def _check(self, key: str, shape: tuple[int, ...]) -> None:
    if key not in self._slots:
      raise ValueError(
        f"The model has no weight {key!r}; it has"
        f" {', '.join(self._slots)}. It is of another architecture."
      )
    weight = self.report[key]
    if tuple(shape) != weight.shape:
      raise ValueError(
        f"Weight {key!r} ({weight.name}) has shape {weight.shape} in the"
        f" model, got shape {tuple(shape)}. It is of another architecture."
      )


def scope_of(variable: tf.Variable) -> contextlib.AbstractContextManager:
  """The strategy scope in which a variable was made."""
  strategy = getattr(variable, "distribute_strategy", None)
  return strategy.scope() if strategy else contextlib.nullcontext()


def forget_compiled_steps(model: Any) -> None:
  """Has the next `fit()` trace its step anew."""
  model.train_function = None


def _fresh_optimizer(model: Any) -> Any:
  """An optimizer of the model's kind and settings, with nothing remembered."""
  config = model.optimizer.get_config()
  if isinstance(config.get("learning_rate"), dict):
    # A schedule, perhaps of the user's own class: it is not needed here.
    config["learning_rate"] = 0.001
  fresh = type(model.optimizer).from_config(config)
  fresh.build(model.trainable_variables)
  return fresh


def _slots_of(optimizer: Any) -> list[Any]:
  """An optimizer's variables but its learning rate, which is set by hand."""
  rate = getattr(optimizer, "_learning_rate", None)
  return [variable for variable in optimizer.variables if variable is not rate]


def _held_by(
  variable: Any, generation: types.ModuleType
) -> holding.HeldMask | None:
  return holding.held_mask(generation.raw(variable)) or holding.held_mask(
    variable
  )


def walk_weights(
  model: Any,
  generation: types.ModuleType,
  prunable: Override | None = None,
) -> Iterator[Slot]:
  """Yields the model's weights, in an order that a rebuild repeats."""
  layers = list(walk(model, generation))
  owned = [generation.own_variables(layer) for layer in layers]
  decided = any(generation.initial(layer) for layer in layers) or any(
    _held_by(variable, generation)
    for variables in owned
    for _, variable, _ in variables
  )
  index = 0
  for layer, variables in zip(layers, owned, strict=True):
    names = [ancestor.__name__ for ancestor in type(layer).__mro__]
    for role, variable, trainable in variables:
      weight = decide(
        f"{index}/{role}",
        layer.name,
        names,
        role,
        tuple(variable.shape),
        trainable,
        prunable,
      )
      if decided:
        held = _held_by(variable, generation)
        weight = _as_prepared(weight, held is not None)
      yield Slot(weight, variable, layer)
    index += bool(variables)


def walk(layer: Any, generation: types.ModuleType) -> Iterator[Any]:
  """Yields a layer and all layers below it once, depth first."""
  seen = set()
  stack = [layer]
  while stack:
    layer = stack.pop()
    if id(layer) not in seen:
      seen.add(id(layer))
      yield layer
      stack.extend(reversed(generation.children(layer)))


def unique_role(role: str, taken: set[str]) -> str:
  """`role`, numbered when the layer has another weight of that name."""
  number = 1
  unique = role
  while unique in taken:
    number += 1
    unique = f"{role}_{number}"
  taken.add(unique)
  return unique


def _as_prepared(weight: Weight, held: bool) -> Weight:
  """What lottery_prune decided stands, whatever the rules say now."""
  if weight.prunable == held:
    return weight
  reason = (
    "chosen at lottery_prune()" if held else "excluded at lottery_prune()"
  )
  return dataclasses.replace(weight, prunable=held, reason=reason)


def _replicas(variable: tf.Variable) -> tuple[tf.Variable, ...]:
  return getattr(variable, "values", None) or (variable,)


def _read(variable: tf.Variable) -> np.ndarray:
  first, *others = (replica.numpy() for replica in _replicas(variable))
  # The mean of equal numbers is not always that number.
  if not variable.dtype.is_floating or all(
    np.array_equal(first, other, equal_nan=True) for other in others
  ):
    return first.copy()
  return np.mean([first, *others], axis=0, dtype=first.dtype)
