"""TensorFlow variables under a `tf.distribute` strategy."""

import contextlib

import numpy as np
import tensorflow as tf


def scope_of(variable: tf.Variable) -> contextlib.AbstractContextManager:
  """Returns the strategy scope in which a variable was made."""
  strategy = getattr(variable, "distribute_strategy", None)
  return strategy.scope() if strategy else contextlib.nullcontext()


def replicas(variable: tf.Variable) -> tuple[tf.Variable, ...]:
  """Returns the variable on each replica; itself, where there is only one."""
  return getattr(variable, "values", None) or (variable,)


def read(variable: tf.Variable) -> np.ndarray:
  """Returns a copy of the value, averaged where the replicas differ."""
  first, *others = (replica.numpy() for replica in replicas(variable))
  # The mean of equal numbers is not always that number.
  if not variable.dtype.is_floating or all(
    np.array_equal(first, other, equal_nan=True) for other in others
  ):
    return first
  return np.mean([first, *others], axis=0, dtype=first.dtype)


def assign(variable: tf.Variable, value: np.ndarray) -> None:
  """Assigns a value, cast to the variable's type."""
  variable.assign(np.asarray(value, variable.dtype.as_numpy_dtype))


def fill(
  variable: tf.Variable, entries: np.ndarray, values: np.ndarray | float
) -> None:
  """Assigns values to some entries, on every replica.

  Args:
    variable: The variable.
    entries: Boolean array of the variable's shape; True for those entries.
    values: A number, or an array of the variable's shape.
  """
  # NumPy finds entries in a vector much faster than in a matrix.
  places = np.unravel_index(np.flatnonzero(entries), entries.shape)
  if not places[0].size:
    return
  dtype = variable.dtype.as_numpy_dtype
  updates = np.broadcast_to(np.asarray(values, dtype), entries.shape)[places]
  for replica in replicas(variable):
    replica.scatter_nd_update(np.stack(places, axis=-1), updates)
