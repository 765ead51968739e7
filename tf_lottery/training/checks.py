"""Looks at data and at one real batch before anything is trained.

Trainings that cannot succeed are refused with the rule, the value with its
place, and the way out. What only one model can judge is left to that model: x
may hold strings or NaN where its outputs on them are finite.
"""

import numbers
import re
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery.training import losses
from tf_lottery.training.data import ArrayData
from tf_lottery.training.data import Data
from tf_lottery.training.data import StreamData

# x -> the model's outputs on it, as it computes them for an evaluation.
Predict = Callable[[Any], Any]

# Entries of an array that are looked at together.
_CHUNK = 2**20
# How far binary labels may be out of range: they may have been computed.
_ROUNDING = 1e-6


def check_data(
  data: Data, name: str, model: Any, predict: Predict, sizes: Sequence[int]
) -> None:
  """Refuses data on which a model cannot be trained or evaluated.

  Arrays are looked at from their beginning to their end, of a stream the first
  batch is.

  Args:
    data: The data.
    name: What messages call it, such as `"train_data"`.
    model: A compiled model of either Keras generation.
    predict: Computes the model's outputs.
    sizes: How many examples of arrays the model is tried on at once. It must
      take one of these numbers.

  Raises:
    ValueError: A value is not finite, a label is out of the range that the loss
      takes, labels are strings, a shape does not fit, a dataset is not batched,
      or has no end.
  """
  if isinstance(data, StreamData):
    _check_stream(data, name)
    name = f"{name}, first batch"
  x, y, weight = data.arrays if isinstance(data, ArrayData) else data.first()
  for part in ("x", "y", "sample_weight"):
    for place, array in leaves({"x": x, "y": y, "sample_weight": weight}[part]):
      _check_type(array, f"{name}: {part}{place}", strings=part == "x")
  outputs, size = _outputs(data, sizes, name, model, predict)
  for place, array in leaves(x):
    _check_inputs(array, data, size, f"{name}: x{place}", predict)
  for place, array in leaves(weight):
    _check_finite(np.atleast_1d(array), f"{name}: sample_weight{place}")
  for target in losses.targets(model, outputs, y, weight):
    _check_target(target, name)


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, np.ndarray]]:
  """Yields the arrays of nested data, each with its place, such as `['a']`.

  Tensors that are ragged or sparse are left out.
  """
  if isinstance(value, Mapping):
    for key, item in value.items():
      yield from leaves(item, f"{place}[{key!r}]")
  elif isinstance(value, list | tuple):
    for index, item in enumerate(value):
      yield from leaves(item, f"{place}[{index}]")
  elif isinstance(value, np.ndarray):
    yield place, value
  elif isinstance(value, tf.Tensor):
    yield place, value.numpy()


def _check_stream(data: StreamData, name: str) -> None:
  spec, count = data.element_spec, data.cardinality
  if not isinstance(spec, tuple) or not 1 < len(spec) < 4:
    raise ValueError(
      f"{name} must give (x, y) or (x, y, sample_weight), got elements of"
      f" {_short(spec)}. Use dataset.map()."
    )
  # One sample weight for a whole batch is legal.
  if any(s.shape.rank == 0 for s in _specs(spec[:2])):
    raise ValueError(
      f"{name} must be batched, got single examples: {_short(spec)}. Use"
      " dataset.batch(size)."
    )
  if count == tf.data.INFINITE_CARDINALITY:
    raise ValueError(
      f"{name} must have an end, got a dataset that repeats for ever. Use"
      " dataset.take(n)."
    )
  if count == 0:
    raise ValueError(f"{name} must have at least one batch, got none.")


def _specs(spec: Any) -> list[tf.TensorSpec]:
  return [s for s in tf.nest.flatten(spec) if isinstance(s, tf.TensorSpec)]


def _check_type(array: np.ndarray, place: str, *, strings: bool) -> None:
  """Refuses Python objects, and strings unless layers can take them."""
  if array.dtype.kind not in "OSU":
    return
  value = next(iter(array.flat), "")
  if not isinstance(value, str | bytes):
    is_number = numbers.Number | np.bool_ | None
    value = next((v for v in array.flat if not isinstance(v, is_number)), None)
    if value is None:
      raise ValueError(
        f"{place} must be an array of numbers, got one of dtype object that"
        ' holds numbers. Use .astype("float32").'
      )
    raise ValueError(
      f"{place} must be an array of numbers, got one of Python objects such as"
      f" {_short(value)}. Bring all examples to one shape, for instance with"
      " keras.utils.pad_sequences."
    )
  if not strings:
    raise ValueError(
      f"{place} must be numbers, got strings such as {_short(value)}. Number"
      " the classes: classes, y = np.unique(labels, return_inverse=True)."
    )


def _outputs(
  data: Data, sizes: Sequence[int], name: str, model: Any, predict: Predict
) -> tuple[Any, int]:
  """Returns the outputs on a batch of the first size that the model takes.

  Returns:
    The outputs, and that size.
  """
  refusals = []
  for size in sizes:
    x = data.first(size)[0]
    try:
      return predict(x), size
    except Exception as error:  # whatever the layers of a user's model raise
      refusals.append((x, error))
  x, first = refusals[0]
  raise ValueError(_does_not_fit(x, name, model, first)) from first


def _does_not_fit(x: Any, name: str, model: Any, error: Exception) -> str:
  """Explains why a model has no outputs on a batch."""
  given = ", ".join(str((None, *a.shape[1:])) for _, a in leaves(x))
  count = next((len(a) for _, a in leaves(x) if a.ndim), None)
  tried = f" in a batch of {count}" if count else ""
  inputs = [tuple(i.shape) for i in getattr(model, "inputs", None) or ()]
  unbatched = any(
    array.shape == shape[1:]
    for (_, array), shape in zip(leaves(x), inputs, strict=False)
  )
  way_out = (
    "The dataset is not batched: use dataset.batch(size)."
    if unbatched
    else "Change the shape or type of x, or the Input of the model."
  )
  takes = f", which takes {', '.join(map(str, inputs))}" if inputs else ""
  return (
    f"{name}: x of shape {given}{tried} does not fit the model{takes}."
    f" {way_out} The model says: {_said_by(error)}"
  )


def _said_by(error: Exception) -> str:
  """An error of Keras's without colours and without the values it was given."""
  text = re.sub(r"\x1b\[\d*m", "", str(error)).split("Arguments received")[0]
  return _short(" ".join(text.split()))


def _check_inputs(
  array: np.ndarray, data: Data, size: int, place: str, predict: Predict
) -> None:
  """Refuses x that is not finite, unless the outputs on it are finite."""
  index = _first_bad(array, np.isfinite)
  if index is None:
    return
  if isinstance(data, ArrayData):
    # A batch with the value: not all models take any number of examples.
    first = max(0, min(index[0], data.size - size))
    x = data.take(slice(first, first + size))[0]
  else:
    x = data.first()[0]
  outputs = [np.asarray(array) for array in tf.nest.flatten(predict(x))]
  if not all(np.isfinite(a.astype(np.float32)).all() for a in outputs):
    raise ValueError(_not_finite(array, index, place))


def _check_finite(array: np.ndarray, place: str) -> None:
  if (index := _first_bad(array, np.isfinite)) is not None:
    raise ValueError(_not_finite(array, index, place))


def _not_finite(array: np.ndarray, index: tuple[int, ...], place: str) -> str:
  return (
    f"{place}{list(index)} must be finite, got {array[index]}: every loss that"
    " it enters would be NaN. Remove or fill in such values, for instance with"
    " np.nan_to_num."
  )


def _first_bad(
  array: np.ndarray,
  is_good: Callable[[np.ndarray], np.ndarray],
  counts: np.ndarray | None = None,
) -> tuple[int, ...] | None:
  """Returns the index of the first entry that is not good, None if all are.

  Entries may be bad where `counts`, which is broadcast to them, is False.
  """
  if array.dtype.kind in "biuOSU" and is_good is np.isfinite:
    return None
  rows = max(1, _CHUNK // max(1, array[:1].size))
  for first in range(0, len(array), rows):
    chunk = array[first : first + rows]
    good = is_good(chunk)
    if counts is not None:
      good = good | ~counts[first : first + rows]
    if not good.all():
      row, *others = np.argwhere(~good)[0]
      return (first + int(row), *map(int, others))
  return None


def _check_target(target: losses.Target, name: str) -> None:
  """Checks the labels of one output, and their weights, by its loss."""
  place = f"{name}: y{target.place}"
  y = target.y
  if y is None or target.loss is None:
    return  # a loss that is not Keras's may take anything
  _check_finite(y, place)
  _check_shape(target, y.shape[1:], place)
  if target.weight is not None:
    _check_weight(target.weight.shape[1:], target, name)
  if target.loss == "binary":
    _check_binary(target, y, place)
  elif target.loss == "sparse":
    _check_classes(target, y, place)


def _check_binary(target: losses.Target, y: np.ndarray, place: str) -> None:
  """Refuses labels that count and are not between 0 and 1."""
  if target.masked:
    return  # which labels count is only known where the loss is computed
  index = _first_bad(
    y, lambda a: (a >= -_ROUNDING) & (a <= 1 + _ROUNDING), _counts(target, y)
  )
  if index is not None:
    raise ValueError(
      f"{place}{list(index)} is {y[index]}, and binary crossentropy takes"
      " labels from 0 to 1. Number the two classes 0 and 1. Where a label does"
      " not count, give the sample_weight 0."
    )


def _counts(target: losses.Target, y: np.ndarray) -> np.ndarray | None:
  """Whether labels have a weight, in a shape that is broadcast to theirs."""
  if target.weight is None:
    return None
  weight = target.weight
  if not weight.ndim:
    weight = np.broadcast_to(weight, len(y))
  shape = (len(weight), *_plain(weight.shape[1:]))
  return weight.reshape(shape + (1,) * (y.ndim - len(shape))) != 0


def _check_classes(target: losses.Target, y: np.ndarray, place: str) -> None:
  """Refuses numbers of classes that the output does not have.

  Labels that have no weight are checked too: on them the loss is an error, or
  NaN, which times 0 is NaN.
  """
  if y.dtype.kind == "f":
    _check_whole(y, place, target.ignored)
  classes = target.output[-1]
  index = _first_bad(
    y, lambda a: ((a >= 0) & (a < classes)) | (a == target.ignored)
  )
  if index is not None:
    way_out = (
      "Number the classes from 0, or give the output one value for each class."
    )
    if target.masked or target.weight is not None:
      way_out += (
        " Masks and weights of 0 do not leave such a label out, ignore_class of"
        " SparseCategoricalCrossentropy does."
      )
    raise ValueError(
      f"{place}{list(index)} is {y[index]}, and the output{target.said} has"
      f" {classes} values, and so takes labels from 0 to {classes - 1}."
      f" {way_out}"
    )


def _check_whole(y: np.ndarray, place: str, ignored: Any) -> None:
  index = _first_bad(y, lambda a: (np.floor(a) == a) | (a == ignored))
  if index is not None:
    raise ValueError(
      f"{place}{list(index)} is {y[index]}, and sparse categorical crossentropy"
      " takes the numbers of classes: it would cut the fraction off. Give whole"
      " numbers, or use a loss for regression such as 'mse'."
    )


def _check_shape(target: losses.Target, y: tuple[int, ...], place: str) -> None:
  """Refuses labels whose shape would be broadcast, or be an error."""
  output = target.output[1:]
  if target.loss == "sparse":
    fits = _plain(y) == _plain(output[:-1])
    expected = f"{output[:-1]}" if output[:-1] else "(): one class"
    advice = "Use categorical_crossentropy for one-hot labels."
  else:
    fits = _plain(y) == _plain(output)
    expected = f"{output}, as the output{target.said} has"
    advice = "Change the shape of y, or the last layer of the model."
    if target.loss == "categorical":
      advice = (
        "For the numbers of classes use sparse_categorical_crossentropy, or"
        " keras.utils.to_categorical(y)."
      )
  if not fits:
    raise ValueError(
      f"{place} must have the shape {expected}, for each example, got {y}."
      f" {advice}"
    )


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
  """A shape without ones at its end, which losses add and drop."""
  while shape and shape[-1] == 1:
    shape = shape[:-1]
  return shape


def _check_weight(
  shape: tuple[int, ...], target: losses.Target, name: str
) -> None:
  """Refuses weights that do not fit the loss of each example."""
  weight = _plain(shape)
  output = target.output[1:-1]
  if weight != output[: len(weight)]:
    raise ValueError(
      f"{name}: sample_weight must have one weight for each example"
      + (f", or the shape {output} for each" if output else "")
      + f", got the shape {shape} for each."
    )


def _short(value: Any) -> str:
  text = value if isinstance(value, str) else repr(value)
  return text if len(text) <= 300 else text[:300] + "..."
