"""How a mask is held: by a constraint on the variable, noted on its layer.

The mask is read from the note. If it were read from the constraint, it would be
forgotten as soon as somebody set another constraint.
"""

from typing import Any

import tensorflow as tf

_HELD = "_lottery_held"


class HeldMask:
  """A variable's constraint that keeps its pruned entries at zero.

  Optimizers of both generations apply a variable's constraint right after
  each update, on every replica, inside and outside of `fit()`.

  Attributes:
    mask: The variable, of TensorFlow or Keras, that says which entries are
      kept: boolean, or float as in tfmot.
    inner: The constraint that the variable had before. It is applied first.
  """

  def __init__(self, mask: Any, inner: Any = None):
    self.mask = mask
    self.inner = inner

  def __call__(self, weight: Any) -> tf.Tensor:
    """Returns the value that the optimizer assigns after an update."""
    if self.inner is not None:
      weight = self.inner(weight)
    return self.apply(tf.convert_to_tensor(weight))

  def apply(self, value: tf.Tensor | tf.IndexedSlices) -> tf.Tensor:
    """Returns a weight or a gradient with zeros for its pruned entries."""
    # Not value * mask: that gives NaN for a pruned infinity, and -0.0.
    kept = tf.cast(self.mask, tf.bool)
    if isinstance(value, tf.IndexedSlices):
      rows = tf.gather(kept, value.indices)
      values = tf.where(rows, value.values, tf.zeros([], value.dtype))
      return tf.IndexedSlices(values, value.indices, value.dense_shape)
    return tf.where(kept, value, tf.zeros([], value.dtype))


def held_on(layer: Any) -> dict[str, HeldMask]:
  """Returns role -> held mask, for the weights that a layer owns."""
  return vars(layer).get(_HELD, {})


def note(layer: Any, role: str, held: HeldMask) -> None:
  """Notes on a layer that a mask is held on one of its weights."""
  # Into the dictionary itself: Keras would track what is set as an attribute.
  vars(layer).setdefault(_HELD, {})[role] = held


def forget(layer: Any) -> None:
  """Removes all notes from a layer."""
  vars(layer).pop(_HELD, None)
