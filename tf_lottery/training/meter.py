"""The meter: what a trainer's steps cost."""

import logging
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery import cost
from tf_lottery.cost import Cost
from tf_lottery.training.data import Data
from tf_lottery.training.examples import map_arrays
from tf_lottery.wrappers import flops
from tf_lottery.wrappers.binding import Binding
from tf_lottery.wrappers.flops import Flops

_log = logging.getLogger("tf_lottery")


class Meter:
  """Tells what training steps of a model cost, under the mask that it holds.

  Args:
    binding: The binding of the model.
    strategy: The strategy in which the model was made.
  """

  def __init__(self, binding: Binding, strategy: tf.distribute.Strategy):
    self._binding = binding
    self._strategy = strategy
    self._flops: Flops | None = None
    self._is_counted = False

  def flops(self, data: Data) -> Flops | None:
    """Counts the operations of a forward pass, once for all data.

    Args:
      data: The examples. The model computes the outputs of the first one.

    Returns:
      The operations of one example; `None` if they cannot be counted. A
      warning says why, once.
    """
    if not self._is_counted:
      self._is_counted = True
      try:
        with self._strategy.scope():
          self._flops = flops.count(self._binding, _first(data))
      except Exception as error:  # whatever the layers of a user's model raise
        _log.warning(
          "The FLOPs of %s cannot be counted, so costs are told in steps: %s",
          self._binding.model.name,
          error,
        )
    return self._flops

  def cost(self, data: Data, steps: int, examples: int) -> Cost:
    """Returns the cost of steps under the mask that is held now.

    Args:
      data: The examples.
      steps: Number of optimizer updates.
      examples: Number of examples in all of these steps.
    """
    counted = self.flops(data)
    if counted is None:
      return Cost(steps, examples)
    sparse = counted.forward(self._binding.mask)
    return cost.of_training(steps, examples, counted.forward(), sparse)

  def cost_of_gradients(self, data: Data, examples: int) -> Cost:
    """Returns the cost of the gradients by all weights, pruned ones included.

    Of the three passes of a step, only that by the weights is dense then.

    Args:
      data: The examples.
      examples: Number of examples.
    """
    counted = self.flops(data)
    if counted is None:
      return Cost(examples=examples)
    dense, sparse = counted.forward(), counted.forward(self._binding.mask)
    passes = cost.PASSES * dense, (cost.PASSES - 1) * sparse + dense
    return Cost(0, examples, examples * passes[0], examples * passes[1])


def _first(data: Data) -> Any:
  """Returns the inputs of one example; of a batch if they cannot be sliced."""
  x = data.first(1)[0]
  sliced = (np.ndarray, tf.Tensor, tf.RaggedTensor)
  if all(isinstance(array, sliced) for array in tf.nest.flatten(x)):
    return map_arrays(lambda array: array[:1], x)
  return x
