"""Keras optimizers under a mask: which are refused, and how one is reset."""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_lottery.wrappers import variables
from tf_lottery.wrappers.generation import Generation

# Adafactor divides by the product of the mean squares of a row and a column of
# the gradient. Where both are zero, that is about the square of `epsilon_1`,
# which must not vanish in float32. Keras's default is 1e-30.
_LEAST_EPSILON = 1e-15
# Class of an optimizer -> why it is refused, and the way out.
_REFUSED = {
  "MultiOptimizer": (
    "each of its optimizers counts its own updates, and a rewind sets one"
    " count. Use one optimizer for the whole model"
  ),
  "ScheduleFreeAdamW": (
    "its variables hold a copy of the weights from before the rewind. Use AdamW"
  ),
}


def innermost(optimizer: Any) -> Any:
  """Returns the optimizer inside those that only scale the loss."""
  while hasattr(optimizer, "inner_optimizer"):
    optimizer = optimizer.inner_optimizer
  return optimizer


def check(optimizer: Any) -> None:
  """Refuses optimizers that break a mask, or that a mask breaks.

  Args:
    optimizer: A Keras optimizer, or None.

  Raises:
    ValueError: The optimizer averages the weights before the mask is applied,
      and writes the averages back; it is an Adafactor that turns a weight into
      NaN where a whole row and column are pruned; or a rewind cannot reset it.
  """
  inner = innermost(optimizer)
  if getattr(inner, "use_ema", False):
    raise ValueError(
      "Masks do not hold under an optimizer with use_ema=True, which writes"
      " averages of unmasked weights back. Use use_ema=False."
    )
  names = [ancestor.__name__ for ancestor in type(inner).__mro__]
  for name, reason in _REFUSED.items():
    if name in names:
      raise ValueError(f"{name} cannot be rewound: {reason}.")
  epsilon = getattr(inner, "epsilon_1", _LEAST_EPSILON)
  if "Adafactor" in names and epsilon < _LEAST_EPSILON:
    raise ValueError(
      "Adafactor divides 0 by 0 where a row and a column of a gradient are"
      " zero, as they are where a mask prunes them, and the whole weight"
      f" becomes NaN. epsilon_1 must be at least {_LEAST_EPSILON:g}, got"
      f" {epsilon:g}: give Adafactor(epsilon_1=1e-12), or use Adam."
    )


def slots(
  optimizer: Any, model: Any, generation: Generation
) -> Iterator[tuple[Any, tf.Variable]]:
  """Yields each variable that an optimizer updates, with each of its slots.

  A slot has an entry for each entry of its variable, such as a momentum. Both
  generations keep the slots of one kind in a list, in the order of the
  variables. What has another shape, such as Adafactor's means of rows, is no
  slot.

  Args:
    optimizer: An optimizer of the model's generation, already built.
    model: The model whose weights it updates.
    generation: The Keras generation of the model.
  """
  inner = innermost(optimizer)
  updated = generation.updated_variables(inner, model) or []
  lists = [
    value
    for value in vars(inner).values()
    if isinstance(value, list) and len(value) == len(updated)
  ]
  known = {id(raw) for raw in generation.optimizer_variables(optimizer)}
  for found in lists:
    for variable, slot in zip(updated, found, strict=True):
      if not hasattr(slot, "assign"):
        continue  # None, or a list of something else
      raw = generation.raw(slot)
      if id(raw) in known and raw.shape == variable.shape:
        yield variable, raw


def reset(optimizer: Any, model: Any, generation: Generation) -> None:
  """Resets the slots of an optimizer and its count of updates.

  The learning rate stays: it may have been set by hand or by a callback. An
  optimizer that was not built yet has nothing to reset.

  Args:
    optimizer: An optimizer of the model's generation.
    model: The model, some of whose weights the optimizer updates.
    generation: The Keras generation of the model.

  Raises:
    ValueError: The optimizer is of a kind that is not supported.
  """
  updated = generation.updated_variables(optimizer, model)
  if not updated:
    return
  with variables.scope_of(generation.raw(updated[0])):
    fresh = _unbuilt_copy(optimizer)
    fresh.build(updated)
  for old, new in zip(_state(optimizer), _state(fresh), strict=True):
    generation.raw(old).assign(generation.raw(new))


def _unbuilt_copy(optimizer: Any) -> Any:
  """Returns an optimizer of the same kind and settings, without variables."""
  with _without_schedule(innermost(optimizer)):
    config = optimizer.get_config()
  return type(optimizer).from_config(config)


@contextlib.contextmanager
def _without_schedule(optimizer: Any) -> Iterator[None]:
  """Replaces the learning rate by a number while the context is open.

  The user's own schedule may have no configuration, and is not needed.
  """
  rate = optimizer._learning_rate
  # Not by setattr: Keras would track it.
  vars(optimizer)["_learning_rate"] = 0.001
  try:
    yield
  finally:
    vars(optimizer)["_learning_rate"] = rate


def _state(optimizer: Any) -> list[Any]:
  """Returns an optimizer's variables except its learning rate."""
  rate = getattr(innermost(optimizer), "_learning_rate", None)
  return [variable for variable in optimizer.variables if variable is not rate]
