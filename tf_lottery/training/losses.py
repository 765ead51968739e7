"""The loss of each output of a compiled model, and the labels that it gets."""

import dataclasses
import inspect
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Name of a Keras loss, without case and underscores -> what it asks of labels.
_KINDS = {
  "sparse": ("sparsecategoricalcrossentropy",),
  "binary": ("binarycrossentropy", "binaryfocalcrossentropy", "bce"),
  "categorical": (
    "categoricalcrossentropy",
    "categoricalfocalcrossentropy",
    "kldivergence",
    "kld",
    "kullbackleiblerdivergence",
  ),
  "regression": (
    "hinge",
    "huber",
    "logcosh",
    "mae",
    "mape",
    "meanabsoluteerror",
    "meanabsolutepercentageerror",
    "meansquarederror",
    "meansquaredlogarithmicerror",
    "mse",
    "msle",
    "poisson",
    "squaredhinge",
  ),
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}


@dataclasses.dataclass(frozen=True)
class Target:
  """One output of a model, with its loss and its labels.

  Attributes:
    loss: `"sparse"`, `"binary"`, `"categorical"` or `"regression"`; None if the
      loss is not Keras's, or not one of these.
    y: The labels; None if there are none.
    place: Where the labels lie in y, such as `['head']`.
    output: The shape of the output on some examples.
    said: The name of the output for messages, with a space before; empty if the
      model has only one.
    weight: The sample weights, or None.
    ignored: The label that the loss leaves out, or None.
    masked: Whether the output has a mask of Keras's, which takes some of its
      positions out of the loss.
  """

  loss: str | None
  y: np.ndarray | None
  place: str
  output: tuple[int, ...]
  said: str
  weight: np.ndarray | None
  ignored: Any
  masked: bool


def targets(model: Any, outputs: Any, y: Any, weight: Any) -> Iterator[Target]:
  """Yields the targets of a model; none where labels and outputs do not match.

  Args:
    model: A compiled model.
    outputs: Its outputs, nested as it returns them.
    y: The labels, nested as the model takes them.
    weight: The sample weights, nested alike, or one array for all outputs.
  """
  if isinstance(outputs, Mapping):
    names, flat = list(outputs), list(outputs.values())
  else:
    flat = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    names = list(getattr(model, "output_names", None) or [])
  if any(tf.nest.is_nested(output) for output in flat):
    return
  if len(names) != len(flat):
    names = [str(index) for index in range(len(flat))]
  for index, (name, output) in enumerate(zip(names, flat, strict=True)):
    own_loss, _ = _part(model.loss, name, index)
    own_y, place = _part(y, name, index)
    own_weight, _ = _part(weight, name, index)
    kind, ignored = _kind(own_loss)
    yield Target(
      kind,
      _as_array(own_y),
      place,
      tuple(output.shape),
      f" {name!r}" if len(flat) > 1 else "",
      _as_array(own_weight),
      ignored,
      getattr(output, "_keras_mask", None) is not None,
    )


def _part(value: Any, name: str, index: int) -> tuple[Any, str]:
  """Returns what belongs to one output, and its place; None if unknown."""
  if isinstance(value, Mapping):
    return value.get(name), f"[{name!r}]"
  if isinstance(value, Sequence) and not isinstance(value, str):
    return (value[index], f"[{index}]") if index < len(value) else (None, "")
  return value, ""


def _as_array(value: Any) -> np.ndarray | None:
  if isinstance(value, tf.Tensor):
    return value.numpy()
  return value if isinstance(value, np.ndarray) else None


def _kind(loss: Any) -> tuple[str | None, Any]:
  """Returns the kind of a loss, and the label that it ignores.

  Args:
    loss: A name, a function, a class or an object, as Keras's `compile` takes
      them.
  """
  settings = getattr(loss, "_fn_kwargs", {})
  if settings.get("axis", -1) != -1:
    return None, None
  if not isinstance(loss, str):
    named = loss if inspect.isclass(loss) or inspect.isfunction(loss) else None
    named = named or type(loss)
    if named.__module__.split(".")[0] not in ("keras", "tf_keras"):
      return None, None
    loss = named.__name__
  kind = _KIND_OF.get(loss.replace("_", "").lower())
  return kind, settings.get("ignore_class")
