"""Stores sparse weights in a SavedModel, and makes them dense at loading.

A group of weights is stored as one vector of kept values and one code of the
places where they lie. Stock TensorFlow operations make the dense weights when
the SavedModel is loaded, so a server needs no Python code of this library.
"""

import uuid
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_lottery.storage import coding


class SparseWeights:
  """Sparse weights of one dtype that are made dense together.

  Args:
    weights: The dense weights.

  Attributes:
    variables: The kept values and the code of their places. A SavedModel must
      track them.
    resources: One resource for each weight. A SavedModel must track them.
    handles: For each weight, the tensor that stands for the handle of a
      variable in a graph.
  """

  def __init__(self, weights: Sequence[np.ndarray]):
    flat = np.concatenate([weight.ravel() for weight in weights])
    self._encoding, code = coding.smallest(flat != 0)
    self._code = tf.Variable(code, trainable=False, name="code")
    self._kept = tf.Variable(flat[flat != 0], trainable=False, name="kept")
    self.variables = [self._code, self._kept]
    # TensorFlow initialises each resource, but the first does it for all.
    first, *others = weights
    self.resources = [
      _DenseWeight(first, self._densify),
      *(_DenseWeight(weight, lambda: None) for weight in others),
    ]
    self.handles = [each.resource_handle for each in self.resources]

  def _densify(self) -> None:
    decode = {"gaps": _places_of_gaps, "bits": _places_of_bits}[self._encoding]
    sizes = [resource.weight.size for resource in self.resources]
    flat = tf.scatter_nd(
      decode(self._code), self._kept, tf.constant([sum(sizes)], tf.int64)
    )
    parts = tf.split(flat, sizes)
    for resource, part in zip(self.resources, parts, strict=True):
      tf.raw_ops.AssignVariableOp(
        resource=resource.resource_handle,
        value=tf.reshape(part, resource.weight.shape),
      )


class _DenseWeight(tf.saved_model.experimental.TrackableResource):
  """A variable that is not stored in the SavedModel, but made at loading.

  Args:
    weight: The dense weight.
    initialize: Assigns its value when the SavedModel is loaded.
  """

  def __init__(self, weight: np.ndarray, initialize: Callable[[], None]):
    super().__init__()
    self.weight = weight
    self._assign = initialize

  def _create_resource(self):
    return tf.raw_ops.VarHandleOp(
      dtype=self.weight.dtype,
      shape=self.weight.shape,
      # Two SavedModels in one process must not share a weight.
      shared_name=uuid.uuid4().hex[:16],
    )

  def _initialize(self):
    self._assign()


# These use few operations, which are a large part of a small SavedModel.


def _places_of_gaps(code: tf.Variable) -> tf.Tensor:
  """Decodes `coding.to_gaps` to the indices of the kept entries."""
  gaps = tf.cast(code, tf.int64)
  is_kept = gaps < coding.SKIP
  begins = tf.cumsum(gaps + tf.cast(is_kept, tf.int64), exclusive=True)
  return tf.gather(begins + gaps, tf.where(is_kept))


def _places_of_bits(code: tf.Variable) -> tf.Tensor:
  """Decodes `np.packbits` to the indices of the ones."""
  shifts = tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8)
  bits = tf.bitwise.right_shift(tf.expand_dims(code, 1), shifts) & 1
  return tf.where(tf.reshape(tf.cast(bits, tf.bool), [-1]))
