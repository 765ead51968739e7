"""Finds the name that a weight of an exported file has in the Keras model."""

import functools
from collections.abc import Iterable
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tf_lottery.export import reports
from tf_lottery.wrappers.binding import Binding

# TFLite stores the dimensions of a Keras weight in one of these orders. Dense
# kernels have two dimensions. Kernels of convolutions, transposed convolutions
# and depthwise convolutions have four.
_ORDERS = ((0, 1), (1, 0), (3, 0, 1, 2), (2, 0, 1, 3), (0, 1, 2, 3))


class WeightNames:
  """The names of a model's weights, found by variable or by values.

  Args:
    binding: The binding of the model.
  """

  def __init__(self, binding: Binding):
    self._binding = binding

  def of_array(self, array: np.ndarray) -> str | None:
    """Finds the weight that has these values, or else the same zeros.

    The converter renames weights, and multiplies them by the scales of batch
    normalisation. The places of the zeros remain.

    Args:
      array: A weight of a TFLite file.

    Returns:
      `layer/role`, or None if no weight fits.
    """
    wanted = array.ravel()
    candidates = [
      (key, value.transpose(order).ravel())
      for key, value in self._values.items()
      if value.size == array.size
      for order in _ORDERS
      if len(order) == value.ndim
    ]
    for key, flat in candidates:
      if np.array_equal(flat.astype(wanted.dtype), wanted):
        return self._binding.report[key].name
    # Quantisation may add zeros: of the weights whose zeros are all there, the
    # one with the most zeros fits best.
    zeros = {
      key: np.count_nonzero(flat == 0)
      for key, flat in candidates
      if not wanted[flat == 0].any()
    }
    if any(zeros.values()):
      return self._binding.report[max(zeros, key=lambda key: zeros[key])].name
    return None

  def of_variable(self, variable: tf.Variable) -> str:
    """Returns `layer/role` of a variable of the model, or its own name."""
    return self._by_variable.get(id(variable), variable.name.partition(":")[0])

  def in_order(
    self, weights: Iterable[reports.WeightReport]
  ) -> tuple[reports.WeightReport, ...]:
    """Sorts weights in the order of the model, unknown names last."""
    places = {w.name: i for i, w in enumerate(self._binding.report)}
    last = len(places)
    return tuple(sorted(weights, key=lambda w: places.get(w.name, last)))

  @functools.cached_property
  def _values(self) -> Mapping[str, np.ndarray]:
    return self._binding.read()

  @functools.cached_property
  def _by_variable(self) -> Mapping[int, str]:
    return {
      id(replica): self._binding.report[key].name
      for key, variable in self._binding.variables.items()
      # A traced function sees one replica of a distributed variable.
      for replica in getattr(variable, "values", (variable,))
    }
