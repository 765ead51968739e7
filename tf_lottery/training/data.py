"""Training data: arrays in memory, or a stream, with an order from the seed."""

import functools
import hashlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery.training import augmentation

Augment = Callable[[Any, tf.Tensor], Any]


class ArrayData:
  """Examples in memory: `(x, y)` or `(x, y, sample_weight)`.

  Each part is an array or a (nested) tuple or dict of arrays, whose first
  axis counts the examples.

  Args:
    parts: the arrays.
    augment: changes x in training, never in evaluation: a pure function
      `(x, uniforms)` of a batch and of noise, float32 in [0, 1) of shape
      `(batch, 3)`, in TensorFlow operations that XLA can compile. Defaults to
      `None`.

  Attributes:
    arrays: `(x, y, sample_weight)`; the last may be `None`.
    augment: as given.
    size: how many examples there are.

  Raises:
    TypeError: `augment` has no name.
    ValueError: the arrays are not two or three of one size, at least 1.
  """

  def __init__(self, parts: tuple[Any, ...], augment: Augment | None = None):
    if not 1 < len(parts) < 4:
      raise ValueError(
        "Data must be (x, y) or (x, y, sample_weight), got a tuple of"
        f" {len(parts)}."
      )
    x, y, weight = (*parts, None)[:3]
    if augment is not None and not hasattr(augment, "__name__"):
      raise TypeError(
        "augment must be a function with a name, for the records of runs, got"
        f" {augment!r}. Define one with def."
      )
    self.arrays = tf.nest.map_structure(_as_array, (x, y, weight))
    self.augment = augment
    sizes = {len(array) for array in self._flat()}
    if len(sizes) != 1:
      raise ValueError(
        f"All arrays must have the same number of examples, got {sizes}."
      )
    self.size = sizes.pop()
    if not self.size:
      raise ValueError("Data must have at least one example, got none.")

  def _flat(self) -> list[np.ndarray]:
    return [a for a in tf.nest.flatten(self.arrays) if a is not None]

  def steps_per_epoch(self, batch_size: int) -> int:
    """Whole batches an epoch; what is left over waits for the next shuffle."""
    if not 0 < batch_size <= self.size:
      raise ValueError(
        "batch_size must be at least 1 and at most the number of examples, got"
        f" {batch_size} for {self.size} examples."
      )
    return self.size // batch_size

  def order(self, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch's examples; int32 of shape `(size,)`."""
    # In the key, not the counter: streams of near counters overlap.
    rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return rng.permutation(self.size).astype(np.int32)

  def with_class_weight(self, class_weight: Mapping[int, float]) -> "ArrayData":
    """The same examples, weighted by the class in y (integers or one-hot)."""
    x, y, weight = self.arrays
    factors = _class_factors(y, class_weight)
    weight = factors if weight is None else weight.reshape(-1) * factors
    return ArrayData((x, y, weight), self.augment)

  def batches(self, batch_size: int):
    """Yields `(x, y, sample_weight)` in the order of the arrays."""
    for first in range(0, self.size, batch_size):
      part = slice(first, first + batch_size)
      yield tf.nest.map_structure(
        lambda a, part=part: None if a is None else a[part], self.arrays
      )

  def batch(self, step: int, batch_size: int, seed: int) -> tuple[Any, ...]:
    """Returns the batch of a step, in the order of a seed, augmented.

    It is the batch on which a `Trainer` trains at that step.

    Returns:
      `(x, y)`, or `(x, y, sample_weight)`.
    """
    epoch, index = divmod(step, self.steps_per_epoch(batch_size))
    order = _order(self, seed, epoch)
    indices = order[index * batch_size : (index + 1) * batch_size]
    x, y, weight = tf.nest.map_structure(
      lambda a: None if a is None else a[indices], self.arrays
    )
    if self.augment is not None:
      first = tf.constant([seed, step - index], tf.int64)
      x = self.augment(x, augmentation.uniforms(batch_size, first, index))
    return (x, y) if weight is None else (x, y, weight)

  def fingerprint(self) -> str:
    """A hash of every example and the augmentation, for run declarations."""
    digest = hashlib.blake2b(digest_size=16)
    shape = tf.nest.map_structure(
      lambda a: None if a is None else a.shape, self.arrays
    )
    digest.update(str(shape).encode())
    for array in self._flat():
      digest.update(f"{array.dtype.str}{array.shape}".encode())
      digest.update(np.ascontiguousarray(array).data)
    augmented = f" {self.augment.__name__}" if self.augment else ""
    return f"{self.size} examples {digest.hexdigest()}{augmented}"


@functools.lru_cache(maxsize=1)
def _order(data: ArrayData, seed: int, epoch: int) -> np.ndarray:
  return data.order(seed, epoch)


class StreamData:
  """Batches from tf.data, for data that does not fit in memory.

  Attributes:
    make: epoch -> batched `tf.data.Dataset`.
  """

  def __init__(self, make: Callable[[int], tf.data.Dataset]):
    self.make = make
    self._first = make(0)
    if not isinstance(self._first, tf.data.Dataset):
      raise TypeError(
        "A function given as data must return a tf.data.Dataset, got"
        f" {type(self._first).__name__}."
      )
    self._steps = int(self._first.cardinality())

  def steps_per_epoch(self, batch_size: int | None = None) -> int:
    """Batches an epoch."""
    del batch_size
    if self._steps < 1:
      raise ValueError(
        "The number of batches of a tf.data.Dataset must be known and finite,"
        f" got cardinality {self._steps}. Use dataset.take(n) or"
        " dataset.apply(tf.data.experimental.assert_cardinality(n))."
      )
    return self._steps

  def with_class_weight(
    self, class_weight: Mapping[int, float]
  ) -> "StreamData":
    """The same batches, weighted by the class in y (integers)."""
    table = tf.lookup.StaticHashTable(
      tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(class_weight), tf.int64),
        tf.constant(list(class_weight.values()), tf.float32),
      ),
      default_value=1.0,
    )

    def weigh(x, y, weight=None):
      factors = table.lookup(tf.reshape(tf.cast(y, tf.int64), [-1]))
      if weight is not None:
        factors *= tf.cast(tf.reshape(weight, [-1]), tf.float32)
      return x, y, factors

    return StreamData(lambda epoch: self.make(epoch).map(weigh))

  def batches(self, batch_size: int | None = None):
    """Yields the batches of the first epoch."""
    del batch_size
    yield from self._first

  def fingerprint(self) -> str:
    """What a stream's elements look like; their content is not read."""
    return f"{self._steps} batches of {self._first.element_spec}"


Data = ArrayData | StreamData


def as_data(value: Any) -> Data:
  """Reads what a caller gave as data.

  Args:
    value: `(x, y)` or `(x, y, sample_weight)` of arrays; a batched
      `tf.data.Dataset`; or a function of the epoch that returns one. A
      dataset is read from its beginning in each epoch: if its order is drawn
      anew each time (`reshuffle_each_iteration`), a resumed run cannot
      repeat it; a function of the epoch can.

  Raises:
    TypeError: it is none of these.
  """
  if isinstance(value, ArrayData | StreamData):
    return value
  if isinstance(value, tf.data.Dataset):
    return StreamData(lambda epoch: value)
  if isinstance(value, tuple | list):
    return ArrayData(tuple(value))
  if callable(value):
    return StreamData(value)
  raise TypeError(
    "Data must be a tuple of arrays, a tf.data.Dataset, or a function of the"
    f" epoch that returns one, got {type(value).__name__}."
  )


def as_triple(batch: Any) -> tuple[Any, Any, Any]:
  """`(x, y, sample_weight)` of a batch that may have no weights."""
  x, y, sample_weight = (*batch, None)[:3]
  return x, y, sample_weight


def gather(arrays: Any, indices: tf.Tensor, *, on_host: bool) -> Any:
  """The examples at `indices`, of nested arrays."""
  # On the host, only the batch travels to each replica's device.
  with tf.device("CPU:0" if on_host else None):
    return tf.nest.map_structure(
      lambda a: None if a is None else tf.gather(a, indices), arrays
    )


def _as_array(value: Any) -> np.ndarray | None:
  if value is None:
    return None
  array = np.asarray(value)
  if not array.ndim:
    raise ValueError(
      f"Data must be arrays, got the number {value!r}. Make lists into arrays"
      " with np.asarray."
    )
  # As Keras does: Python floats are not meant as double precision.
  return array.astype(np.float32) if array.dtype == np.float64 else array


def _class_factors(
  y: np.ndarray, class_weight: Mapping[int, float]
) -> np.ndarray:
  """The weight of each example's class, 1 for classes that are not named."""
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
