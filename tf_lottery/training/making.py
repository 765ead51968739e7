"""Makes models by a function of the user, and refuses what cannot train."""

import inspect
import os
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_lottery import wrappers


class Maker:
  """Makes another model at each call, in a strategy's scope.

  Args:
    make_model: The function of the user.
    strategy: The strategy.

  Raises:
    TypeError: `make_model` is no function that can be called without
      arguments.
  """

  def __init__(
    self, make_model: Callable[[], Any], strategy: tf.distribute.Strategy
  ):
    _check_maker(make_model)
    self._make_model = make_model
    self._strategy = strategy
    self._returned: weakref.WeakSet[Any] = weakref.WeakSet()

  def __call__(self) -> Any:
    """Returns another compiled model.

    Raises:
      TypeError: The function of the user returns no model.
      ValueError: It returns a model that it returned before.
    """
    with self._strategy.scope():
      model = self._make_model()
    if model is None:
      raise TypeError(
        "make_model must return a compiled model, got None. It may lack a"
        " return."
      )
    wrappers.generation_of(model)
    if model in self._returned:
      raise ValueError(
        "make_model must build a new model at each call, got the same model"
        f" {model.name!r} again. Build and compile the model inside of it, so"
        " that each seed has initial weights of its own."
      )
    self._returned.add(model)
    return model


def _check_maker(make_model: Any) -> None:
  """Refuses what is not a function that makes a model."""
  way_out = (
    "a function that builds and compiles a new model each time, as every"
    " replicate and control needs one: def make_model(): ... return model"
  )
  if isinstance(make_model, str | os.PathLike):
    raise TypeError(
      f"make_model must be a function, got {str(make_model)!r}. Give {way_out}."
      " keras.models.load_model may load the file in it."
    )
  if hasattr(make_model, "train_step") and not inspect.isclass(make_model):
    raise TypeError(
      "make_model must be a function, got the model"
      f" {make_model.name!r} itself. Give {way_out}."
    )
  if not callable(make_model):
    raise TypeError(
      f"make_model must be a function, got {type(make_model).__name__}. Give"
      f" {way_out}."
    )
  try:
    inspect.signature(make_model).bind()
  except TypeError as error:
    raise TypeError(
      f"make_model is called without arguments, and this function is {error}."
      " Give functools.partial(make_model, ...) with its arguments."
    ) from None
  except ValueError:
    pass  # a function without a signature, such as one written in C


def check_trainable(model: Any) -> None:
  """Refuses a model that is not compiled, or trains by steps of its own."""
  if getattr(model, "optimizer", None) is None:
    raise ValueError(
      "make_model must return a compiled model. Call model.compile(optimizer,"
      " loss, metrics) in it."
    )
  home = type(model).train_step.__module__.split(".")[0]
  if home not in ("keras", "tf_keras"):
    raise ValueError(
      f"{type(model).__name__} has a train_step of its own, which"
      " cannot be compiled into one program here. Use lottery_prune(model),"
      " model.fit() and prune_and_rewind(model) instead."
    )
