"""Streams of batches from Keras's own datasets."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

# Batches that are looked at to find which dimensions vary between batches.
_LOOKED_AT = 4


def is_sequence(value: Any) -> bool:
  """Whether this is a `PyDataset` of Keras 3 or a `Sequence` of tf_keras."""
  return any(
    ancestor.__name__ in ("PyDataset", "Sequence")
    and ancestor.__module__.split(".")[0] in ("keras", "tf_keras")
    for ancestor in type(value).__mro__
  )


class SequenceEpochs:
  """The epochs of a `PyDataset`, each as a `tf.data.Dataset`.

  Args:
    sequence: A `keras.utils.PyDataset` or a `tf_keras.utils.Sequence`, which
      gives `(x, y)` or `(x, y, sample_weight)` of NumPy arrays.

  Raises:
    ValueError: It has no batch.
  """

  def __init__(self, sequence: Any):
    self._sequence = sequence
    self._size = len(sequence)
    if not self._size:
      raise ValueError(
        f"{type(sequence).__name__} must have at least one batch, got none."
      )
    self._epoch = 0
    self._signature = self._find_signature()

  def __call__(self, epoch: int) -> tf.data.Dataset:
    """Returns the batches of an epoch.

    Keras calls `on_epoch_end` after each epoch of a training. Here it is called
    before each epoch that follows another one.
    """
    if epoch and epoch != self._epoch:
      self._sequence.on_epoch_end()
    self._epoch = epoch
    dataset = tf.data.Dataset.from_generator(
      self._batches, output_signature=self._signature
    )
    return dataset.apply(tf.data.experimental.assert_cardinality(self._size))

  def _batches(self) -> Iterator[Any]:
    for index in range(self._size):
      yield self._batch(index)

  def _batch(self, index: int) -> Any:
    batch = tuple(self._sequence[index])
    if len(batch) == 3 and batch[2] is None:
      batch = batch[:2]
    return tf.nest.map_structure(np.asarray, _without_lists(batch))

  def _find_signature(self) -> Any:
    """The types and shapes of batches; None for dimensions that vary."""
    indices = {*range(min(_LOOKED_AT, self._size)), self._size - 1}
    batches = [self._batch(index) for index in sorted(indices)]

    def spec(*arrays: np.ndarray) -> tf.TensorSpec:
      if not arrays[0].ndim:  # one sample weight for the whole batch
        return tf.TensorSpec([], tf.as_dtype(arrays[0].dtype))
      shapes = (a.shape[1:] for a in arrays)
      sizes = [set(dims) for dims in zip(*shapes, strict=True)]
      shape = [dims.pop() if len(dims) == 1 else None for dims in sizes]
      return tf.TensorSpec([None, *shape], tf.as_dtype(arrays[0].dtype))

    return tf.nest.map_structure(spec, *batches)


def _without_lists(value: Any) -> Any:
  """Lists as tuples: tf.data would make one tensor of a list."""
  if isinstance(value, list | tuple):
    return tuple(map(_without_lists, value))
  if isinstance(value, dict):
    return {key: _without_lists(item) for key, item in value.items()}
  return value
