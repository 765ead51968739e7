"""Examples as `(x, y, sample_weight)`: in the host's memory and in batches.

Each of the three is an array, a (nested) tuple or dict of arrays, or None. The
first axis of every array counts the examples.
"""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

# Shift, or None where it is 0, and scale; see `scaled`.
Scaling = tuple[tf.Tensor | None, tf.Tensor]


def as_triple(batch: Any) -> tuple[Any, Any, Any]:
  """Returns `(x, y, sample_weight)` of a batch that may have no weights."""
  x, y, sample_weight = (*batch, None)[:3]
  return x, y, sample_weight


def map_arrays(function: Callable[[Any], Any], parts: Any) -> Any:
  """Applies a function to each array of nested parts; None stays None."""
  return tf.nest.map_structure(
    lambda a: None if a is None else function(a), parts
  )


def as_array(value: Any) -> tf.Tensor | np.ndarray:
  """Returns a copy as an array, or a tensor; float64 becomes float32.

  Raises:
    ValueError: The value is a single number.
  """
  if isinstance(value, tf.Tensor) and value.dtype != tf.float64:
    array = value
  else:
    array = np.asarray(value)
    # As Keras does: Python floats are not meant as double precision.
    is_double = array.dtype == np.float64
    array = array.astype(np.float32 if is_double else array.dtype)
  if not array.ndim:
    raise ValueError(
      f"Data must be arrays, got the number {value!r}. Make lists into arrays"
      " with np.asarray."
    )
  return array


def to_host(array: tf.Tensor | np.ndarray) -> tf.Tensor | np.ndarray:
  """Copies an array into a tensor in the host's memory.

  An array that TensorFlow would convert, such as one in the other byte order,
  is returned as it is.
  """
  with tf.device("CPU:0"):
    tensor = tf.identity(array)
  if tensor.dtype.as_numpy_dtype != array.dtype:
    return array  # strings, and numbers of the other byte order
  return tensor


def check_scale(x: Any, scale: float | None, shift: float) -> None:
  """Raises ValueError unless x can be scaled so; see `ArrayData`."""
  if scale is None:
    if shift:
      raise ValueError(
        f"shift needs a scale, got shift={shift} alone. Give scale=1.0 too."
      )
    return
  if tf.nest.is_nested(x):
    raise ValueError(
      f"scale needs x to be one array, got a {type(x).__name__}. Use a layer of"
      " the model instead, such as Rescaling."
    )
  if not scale:
    raise ValueError(f"scale must not be 0, got {scale}.")


def class_factors(
  y: np.ndarray, class_weight: Mapping[int, float]
) -> np.ndarray:
  """Returns the weight of each example's class: 1 if it has none."""
  if not isinstance(y, np.ndarray):
    raise ValueError(
      "class_weight needs one array of classes as the target, got"
      f" {type(y).__name__}. Give sample weights instead."
    )
  labels = y.argmax(-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(-1)
  factors = np.ones(len(labels), np.float32)
  for label, weight in class_weight.items():
    factors[labels == label] = weight
  return factors


# Inside the training and evaluation programs.


def gather(
  parts: Any, indices: tf.Tensor, scaling: Scaling | None, *, on_host: bool
) -> tuple[Any, Any, Any]:
  """Gathers a batch, and scales its x.

  Args:
    parts: `(x, y, sample_weight)` of all examples.
    indices: The numbers of the examples; int32 of shape `(batch,)`.
    scaling: See `scaled`.
    on_host: Whether to gather on the CPU, so that only the batch travels to
      each replica's device.
  """
  with tf.device("CPU:0" if on_host else None):
    x, y, weight = map_arrays(lambda a: tf.gather(a, indices), parts)
  return scaled(x, scaling), y, weight


def scaled(x: Any, scaling: Scaling | None) -> Any:
  """Computes `(x - shift) / scale` in float32; without scaling, returns x.

  Args:
    x: A batch.
    scaling: `(shift, scale)`. Both must be arguments of the program: instead
      of dividing by a constant, compilers multiply by its inverse, which gives
      other bits.
  """
  if scaling is None:
    return x
  shift, scale = scaling
  x = tf.cast(x, tf.float32)
  return (x if shift is None else x - shift) / scale
