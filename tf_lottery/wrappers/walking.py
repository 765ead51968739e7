"""The walk over a model's layers, and over the weights that they own."""

import dataclasses
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from tf_lottery.weights import Override
from tf_lottery.weights import Weight
from tf_lottery.weights import decide
from tf_lottery.wrappers import holding
from tf_lottery.wrappers.generation import Generation


@dataclasses.dataclass
class BoundWeight:
  """One weight of a model.

  Attributes:
    weight: The description of the weight.
    variable: The variable of Keras 3 or TensorFlow that stores the weight.
    layer: The layer that owns the weight.
  """

  weight: Weight
  variable: Any
  layer: Any

  @property
  def held(self) -> holding.HeldMask | None:
    """The mask to hold on the weight, None if there is none."""
    return holding.held_on(self.layer).get(self.weight.role)

  def hold_by(self, mask: Any, generation: Generation) -> holding.HeldMask:
    """Puts a constraint with this mask on the weight.

    A constraint that is there already is applied first.

    Args:
      mask: A variable of the weight's shape.
      generation: The Keras generation of the layer.
    """
    before = self.held
    inner = generation.constraint(self.variable)
    if before is not None and inner is before:
      inner = before.inner
    # A new object, as somebody's own constraint may have `before` inside.
    held = holding.HeldMask(mask, inner)
    holding.note(self.layer, self.weight.role, held)
    generation.set_constraint(self.variable, held)
    return held


def walk(layer: Any, generation: Generation) -> Iterator[Any]:
  """Yields a layer and all layers below it once, depth first."""
  seen = set()
  stack = [layer]
  while stack:
    layer = stack.pop()
    if id(layer) not in seen:
      seen.add(id(layer))
      yield layer
      stack.extend(reversed(generation.children(layer)))


def walk_weights(
  model: Any,
  generation: Generation,
  prunable: Override | None = None,
) -> Iterator[BoundWeight]:
  """Yields the model's weights, in an order that a rebuild repeats."""
  layers = list(walk(model, generation))
  _check_override(prunable, layers)
  decided = any(
    generation.initial(layer) or holding.held_on(layer) for layer in layers
  )
  index = 0
  for layer in layers:
    names = [ancestor.__name__ for ancestor in type(layer).__mro__]
    variables = generation.own_variables(layer)
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
        weight = _as_decided(weight, role in holding.held_on(layer))
      yield BoundWeight(weight, variable, layer)
    index += bool(variables)


def _check_override(prunable: Override | None, layers: list[Any]) -> None:
  """Refuses names of layers that the model does not have."""
  if isinstance(prunable, Mapping):
    names = [layer.name for layer in layers]
    if unknown := sorted(set(prunable) - set(names)):
      raise ValueError(
        f"prunable must name layers of the model, {', '.join(names)}; got"
        f" {', '.join(unknown)}."
      )


def unique_role(role: str, taken: set[str]) -> str:
  """Returns a role, with a number if the layer has used the name before."""
  number = 1
  unique = role
  while unique in taken:
    number += 1
    unique = f"{role}_{number}"
  taken.add(unique)
  return unique


def _as_decided(weight: Weight, held: bool) -> Weight:
  """Corrects a rule's answer to what lottery_prune decided."""
  if weight.prunable == held:
    return weight
  reason = (
    "chosen at lottery_prune()" if held else "excluded at lottery_prune()"
  )
  return dataclasses.replace(weight, prunable=held, reason=reason)
