"""A Keras model of either generation, seen as named weights."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery import masks
from tf_lottery.weights import RANDOM_STATE
from tf_lottery.weights import Override
from tf_lottery.weights import PrunableReport
from tf_lottery.wrappers import guarding
from tf_lottery.wrappers import holding
from tf_lottery.wrappers import optimizers
from tf_lottery.wrappers import variables
from tf_lottery.wrappers import walking
from tf_lottery.wrappers.generation import Generation

_WAY_OUT = (
  " binding.hold(binding.mask) zeroes the pruned entries, and holds the mask"
  " around the present constraint; binding.release() gives the mask up."
)


class Binding:
  """One Keras model as named weights: read, write, hold a mask, release.

  `bind` makes it. Each rebuild of the architecture has the same keys.

  Attributes:
    model: The Keras model.
    generation: The object for the Keras generation of the model.
    report: The `PrunableReport` of its weights.
  """

  def __init__(
    self,
    model: Any,
    generation: Generation,
    prunable: Override | None = None,
  ):
    self.model = model
    self.generation = generation
    self._given_initial: dict[str, np.ndarray] | None = None
    self._kept: int | None = None  # the count of the mask that was held last
    found = list(walking.walk_weights(model, generation, prunable))
    self.report = PrunableReport([b.weight for b in found])
    self._weights = {bound.weight.key: bound for bound in found}
    self._by_variable = {id(bound.variable): bound for bound in found}
    self._prunable = [bound for bound in found if bound.weight.prunable]

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the prunable weights."""
    return {weight.key: weight.shape for weight in self.report.prunable}

  @property
  def variables(self) -> dict[str, tf.Variable]:
    """Key -> the TensorFlow variable that stores the weight."""
    return {key: self._raw(key) for key in self._weights}

  @property
  def is_ready(self) -> bool:
    """Whether the model is lottery-ready: it stores initial weights."""
    layers = (bound.layer for bound in self._weights.values())
    return any(self.generation.initial(layer) for layer in layers)

  @property
  def optimizers(self) -> list[Any]:
    """The optimizers that are attributes of the model.

    These are the compiled one, and others that the model's own `train_step`
    uses.
    """
    kind = self.generation.library.optimizers.Optimizer
    compiled = getattr(self.model, "optimizer", None)
    return [
      value
      for value in vars(self.model).values()
      if isinstance(value, kind) or (value is compiled is not None)
    ]

  # Weights.

  def read(self, *, random_states: bool = False) -> dict[str, np.ndarray]:
    """Copies all weights, moving statistics included.

    Statistics that differ between replicas (of batch normalisation that is not
    synchronised) are averaged.

    Args:
      random_states: Whether to add the states of random generators, such as
        those of dropout, under keys that begin with `random/`.

    Returns:
      Key -> array.
    """
    values = {
      key: variables.read(variable) for key, variable in self.variables.items()
    }
    if random_states:
      values |= {
        f"{RANDOM_STATE}{index}": state.numpy()
        for index, state in enumerate(self.generation.random_states(self.model))
      }
    return values

  def write(self, values: Mapping[str, np.ndarray]) -> None:
    """Assigns weights and random states by key.

    Values are written as they are, even where a mask prunes. Hold the mask
    again afterwards.

    Args:
      values: Key -> array, for some or all keys that `read` returns.

    Raises:
      ValueError: The model has no such key, or a shape differs.
    """
    states = self.generation.random_states(self.model)
    for key, value in values.items():
      if key.startswith(RANDOM_STATE):
        states[int(key.removeprefix(RANDOM_STATE))].assign(value)
      else:
        self._check(key, np.shape(value))
        variables.assign(self._raw(key), value)

  def check_shapes(self, values: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError if the model has no such key, or a shape differs."""
    for key, value in values.items():
      self._check(key, np.shape(value))

  # The mask.

  @property
  def mask(self) -> masks.Mask:
    """The mask that was held last; ones for weights without a mask.

    `check_held` tells whether the weights still obey it.
    """
    arrays = {}
    for key, shape in self.shapes.items():
      held = self._weights[key].held
      arrays[key] = (
        np.ones(shape, bool) if held is None else held.mask.numpy().astype(bool)
      )
    return masks.Mask(arrays)

  def hold(self, mask: masks.Mask) -> None:
    """Zeroes the pruned weights, and keeps them zero after every update.

    A second call replaces the mask, and nothing is rebuilt or traced again. If
    somebody has set another constraint on a weight in the meantime, that one
    is applied before the mask.

    Args:
      mask: Its keys must be those of the prunable weights.

    Raises:
      ValueError: The mask is of another architecture.
    """
    for key, array in mask.items():
      self._check(key, array.shape)
    if mask.keys() != self.shapes.keys():
      raise ValueError(
        "A mask must cover the model's prunable weights, got"
        f" {sorted(mask.keys())}, and the model has {sorted(self.shapes)}."
      )
    for key, array in mask.items():
      held = self._install(self._weights[key])
      held.mask.assign(tf.cast(array, held.mask.dtype))
      # Mostly few weights are pruned anew: to write them all takes longer.
      value = variables.read(self._raw(key))
      variables.fill(self._raw(key), (value != 0) & ~array, 0)
    self._kept = mask.kept
    self.guard()

  def guard(self) -> None:
    """Has the model's own methods hold the mask again if they lose it."""
    guarding.guard(self.model, self._hold_again, self._prepare_training)

  def _hold_again(self) -> None:
    """Holds the mask anew, after weights were written.

    A file that was saved before pruning brings its denser mask back.
    """
    mask = self.mask
    if self._kept is not None and mask.kept > self._kept:
      warnings.warn(
        f"The file's mask replaced the model's: it keeps {mask.kept:,} weights,"
        f" {self._kept:,} were kept before. prune_and_rewind() rewinds.",
        stacklevel=3,
      )
      self._kept = mask.kept
    if self._pruned():
      self.hold(mask)

  def _prepare_training(self) -> None:
    """Makes sure that the mask will hold in `fit()`.

    It runs before each batch of `train_on_batch()`, so it reads no weights
    unless a constraint was replaced.

    Raises:
      ValueError: The optimizer averages the weights.
    """
    optimizers.check(getattr(self.model, "optimizer", None))
    if any(map(self._is_replaced, self._prunable)):
      lost = [self._why(*one) for one in self._violations() if one[1]]
      self.hold(self.mask)
      if lost:
        warnings.warn(
          f"{' '.join(lost)} The pruned entries are zero again, and the mask"
          " is held.",
          stacklevel=4,
        )

  def release(self) -> None:
    """Stops holding the mask: weights stay as they are, and may grow again.

    A lottery-ready model stays lottery-ready, with a mask of ones.
    """
    if self.is_ready:
      self.hold(masks.Mask.ones(self.shapes))
    else:
      self.remove_constraints()

  def remove_constraints(self) -> None:
    """Takes the mask off the model, and forgets it."""
    for bound in self._weights.values():
      found = self.generation.constraint(bound.variable)
      if bound.held is not None and found is bound.held:
        self.generation.set_constraint(bound.variable, bound.held.inner)
    for bound in self._weights.values():
      holding.forget(bound.layer)
    guarding.unguard(self.model)
    guarding.forget_compiled_steps(self.model)

  def mask_gradient(self, variable: Any, gradient: Any) -> Any:
    """Returns the sparse network's gradient: zero for pruned entries.

    Args:
      variable: One of the model's trainable variables.
      gradient: A tensor, `tf.IndexedSlices` or None.
    """
    bound = self._by_variable.get(id(variable))
    if bound is None or bound.held is None or gradient is None:
      return gradient
    return bound.held.apply(gradient)

  def check_held(self) -> None:
    """Checks that the mask is held, and that the weights obey it.

    Raises:
      RuntimeError: A pruned weight is not 0.0 on some replica, or somebody has
        replaced the constraint that holds the mask.
      ValueError: Weights are pruned, and the model is compiled with an
        optimizer that averages weights.
    """
    if not self._pruned():
      return
    optimizers.check(getattr(self.model, "optimizer", None))
    violations = self._violations()
    if violations:
      why = " ".join(self._why(*violation) for violation in violations)
      raise RuntimeError(why + _WAY_OUT)

  # Initial weights.

  def initial(self) -> dict[str, np.ndarray]:
    """Copies the initial weights that `lottery_prune` stored, by key.

    Raises:
      ValueError: The model is not lottery-ready.
    """
    if self._given_initial is not None:
      return dict(self._given_initial)
    return {
      key: variables.read(variable)
      for key, variable in self._initial_variables().items()
    }

  def give_initial(self, values: Mapping[str, np.ndarray]) -> None:
    """Has `initial` return these weights, for a model that stores none."""
    self._given_initial = {
      key: value for key, value in values.items() if key in self._weights
    }

  def store_initial(self) -> None:
    """Stores the current weights as the initial ones."""
    for key, variable in self._initial_variables().items():
      variable.assign(variables.read(self._raw(key)))

  def copy_lottery(self, source: "Binding") -> None:
    """Copies mask and initial weights from a model of this architecture."""
    initial = source.initial()
    for key, variable in self._initial_variables().items():
      variable.assign(initial[key])
    self.hold(source.mask)

  def _initial_variables(self) -> dict[str, tf.Variable]:
    stored = {
      key: self.generation.initial(bound.layer).get(bound.weight.role)
      for key, bound in self._weights.items()
    }
    missing = [key for key, variable in stored.items() if variable is None]
    if len(missing) == len(stored):
      raise ValueError(
        "The model has no initial weights stored. Call lottery_prune(model)"
        " before training it."
      )
    if missing:
      names = ", ".join(self.report[key].name for key in missing)
      raise ValueError(
        f"The model has no initial weights stored of {names}. Call"
        " lottery_prune(layer) on every layer that owns weights: all weights"
        " are rewound, or none."
      )
    return {key: self.generation.raw(v) for key, v in stored.items()}

  # Helpers.

  def _raw(self, key: str) -> tf.Variable:
    return self.generation.raw(self._weights[key].variable)

  def _install(self, bound: walking.BoundWeight) -> holding.HeldMask:
    """Puts our constraint on a weight, with a new mask if it has none."""
    if bound.held is not None and not self._is_replaced(bound):
      return bound.held
    if bound.held is not None:
      mask = bound.held.mask
    else:
      with variables.scope_of(self.generation.raw(bound.variable)):
        mask = tf.Variable(
          np.ones(bound.weight.shape, bool), trainable=False, name="mask"
        )
    # A train_function that was traced before has other constraints in it.
    guarding.forget_compiled_steps(self.model)
    return bound.hold_by(mask, self.generation)

  def _is_replaced(self, bound: walking.BoundWeight) -> bool:
    """Tells whether another constraint is in the place of a held mask."""
    held = bound.held
    return held is not None and (
      self.generation.constraint(bound.variable) is not held
    )

  def _pruned(self) -> list[tuple[walking.BoundWeight, np.ndarray]]:
    """Lists the weights whose mask prunes entries, with that mask."""
    found = []
    for bound in self._prunable:
      if bound.held is not None:
        kept = bound.held.mask.numpy().astype(bool)
        if not kept.all():
          found.append((bound, kept))
    return found

  def _violations(self) -> list[tuple[walking.BoundWeight, int]]:
    """Lists the weights whose mask does not hold, with their wrong entries."""
    violations = []
    for bound, kept in self._pruned():
      raw = self.generation.raw(bound.variable)
      wrong = max(
        int(np.count_nonzero(value.numpy()[~kept]))
        for value in variables.replicas(raw)
      )
      if wrong or self._is_replaced(bound):
        violations.append((bound, wrong))
    return violations

  def _why(self, bound: walking.BoundWeight, wrong: int) -> str:
    name = bound.weight.name
    what = f"{wrong} pruned entries of {name} are not zero"
    if wrong == 1:
      what = f"1 pruned entry of {name} is not zero"
    elif not wrong:
      what = f"The mask of {name} is not held"
    if not self._is_replaced(bound):
      return (
        f"{what}: something wrote to the weight past the optimizer, such as"
        " set_weights() of a layer, assign() or a checkpoint."
      )
    found = self.generation.constraint(bound.variable)
    other = getattr(found, "__name__", type(found).__name__)
    return f"{what}: its constraint was replaced by {other}."

  def _check(self, key: str, shape: tuple[int, ...]) -> None:
    if key not in self._weights:
      raise ValueError(
        f"The model has no weight {key!r}; it has"
        f" {', '.join(self._weights)}. It is of another architecture."
      )
    weight = self.report[key]
    if tuple(shape) != weight.shape:
      raise ValueError(
        f"Weight {key!r} ({weight.name}) has shape {weight.shape} in the"
        f" model, got shape {tuple(shape)}. It is of another architecture."
      )
