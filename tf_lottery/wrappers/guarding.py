"""Keras methods that could lose a mask, changed so that they keep it.

They are replaced on the model object: its class is the user's.
"""

import functools
from collections.abc import Callable
from typing import Any

_GUARDS = "_lottery_guards"


def guard(
  model: Any,
  hold_again: Callable[[], None],
  prepare_training: Callable[[], None],
) -> None:
  """Replaces the methods of a model that could lose its mask.

  Args:
    model: A Keras model; a layer is left alone.
    hold_again: Function to call after `set_weights()` and `load_weights()`.
    prepare_training: Function to call first in `fit()` and `train_on_batch()`.
  """
  if not hasattr(model, "make_train_function"):
    return
  unguard(model)
  guards = {
    "make_train_function": _before(model.make_train_function, prepare_training),
    "set_weights": _after(model.set_weights, hold_again),
    "load_weights": _after(model.load_weights, hold_again),
  }
  # Into the dictionary itself: Keras would track what is set as an attribute.
  vars(model).update(guards)
  vars(model)[_GUARDS] = tuple(guards)


def unguard(model: Any) -> None:
  """Gives a model its own methods back."""
  for name in vars(model).pop(_GUARDS, ()):
    vars(model).pop(name)


def forget_compiled_steps(model: Any) -> None:
  """Has the next `fit()` trace its step anew."""
  if hasattr(model, "train_function"):
    model.train_function = None


def _before(method: Callable, first: Callable[[], None]) -> Callable:
  @functools.wraps(method)
  def guarded(*args, **kwargs):
    first()
    return method(*args, **kwargs)

  return guarded


def _after(method: Callable, then: Callable[[], None]) -> Callable:
  @functools.wraps(method)
  def guarded(*args, **kwargs):
    result = method(*args, **kwargs)
    then()
    return result

  return guarded
