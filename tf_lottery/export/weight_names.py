"""Which weight of the Keras model an array in a file is."""

from collections.abc import Iterable
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tf_lottery.export import reports
from tf_lottery.wrappers import binding as binding_lib

# From Keras's order of dimensions to TFLite's: dense kernels and those of
# convolutions, transposed convolutions; depthwise ones keep theirs.
_ORDERS = ((0, 1), (1, 0), (3, 0, 1, 2), (2, 0, 1, 3), (0, 1, 2, 3))


class Finder:
  """Names arrays of a file as the Keras model does.

  The converter renames weights, and folds scales into them: then the places
  of the zeros still tell which one it is.

  Args:
    binding: of the model.
  """

  def __init__(self, binding: binding_lib.Binding):
    self._binding = binding
    self._weights = binding.read()
    # Of a distributed variable a function sees one replica.
    self._names = {
      id(one): binding.report[key].name
      for key, variable in binding.variables.items()
      for one in getattr(variable, "values", (variable,))
    }

  def __call__(self, array: np.ndarray) -> str | None:
    """`layer/role` of the weight that has these values, or else its zeros."""
    wanted = array.ravel()
    candidates = [
      (key, flat)
      for key, value in self._weights.items()
      if value.size == array.size
      for flat in _orders(value)
    ]
    for key, flat in candidates:
      if np.array_equal(flat.astype(wanted.dtype), wanted):
        return self._binding.report[key].name
    # Quantisation may add zeros; most that are there were there before.
    zeros = {
      key: np.count_nonzero(flat == 0)
      for key, flat in candidates
      if not wanted[flat == 0].any()
    }
    if any(zeros.values()):
      return self._binding.report[max(zeros, key=zeros.get)].name
    return None

  def in_order(
    self, rows: Iterable[reports.WeightReport]
  ) -> tuple[reports.WeightReport, ...]:
    """Rows in the order of the model; those it has no name for come last."""
    places = {w.name: i for i, w in enumerate(self._binding.report)}
    last = len(places)
    return tuple(sorted(rows, key=lambda row: places.get(row.name, last)))

  def of_variable(self, variable: tf.Variable) -> str:
    """`layer/role` of a variable of the model, or its own name."""
    return self._names.get(id(variable), variable.name.partition(":")[0])


def _orders(value: np.ndarray) -> Iterator[np.ndarray]:
  for order in _ORDERS:
    if len(order) == value.ndim:
      yield value.transpose(order).ravel()
