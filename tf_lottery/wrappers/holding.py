"""How a mask is held: by a constraint on the variable."""

from typing import Any

import tensorflow as tf


class HeldMask:
  """A variable's constraint that keeps its pruned entries at zero.

  Optimizers of both generations apply a variable's constraint right after
  each update, on every replica, inside and outside of `fit()`.

  Attributes:
    mask: the variable, of TensorFlow or Keras, that says what is kept:
      boolean, or float as tfmot has it.
    inner: the constraint that the variable had before, applied first.
  """

  def __init__(self, mask: Any, inner: Any = None):
    self.mask = mask
    self.inner = inner

  def __call__(self, weight: Any) -> tf.Tensor:
    """What the optimizer assigns after an update."""
    if self.inner is not None:
      weight = self.inner(weight)
    return self.apply(tf.convert_to_tensor(weight))

  def apply(self, value: tf.Tensor | tf.IndexedSlices) -> tf.Tensor:
    """`value` where kept, zero elsewhere; also for sparse gradients."""
    # Not value * mask: that gives NaN for a pruned infinity, and -0.0.
    kept = tf.cast(self.mask, tf.bool)
    if isinstance(value, tf.IndexedSlices):
      rows = tf.gather(kept, value.indices)
      values = tf.where(rows, value.values, tf.zeros([], value.dtype))
      return tf.IndexedSlices(values, value.indices, value.dense_shape)
    return tf.where(kept, value, tf.zeros([], value.dtype))


def held_mask(variable: Any) -> HeldMask | None:
  """The `HeldMask` of a variable, None when nothing is held."""
  constraint = getattr(variable, "constraint", None)
  return constraint if isinstance(constraint, HeldMask) else None
