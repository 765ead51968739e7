"""Training data: arrays in memory, or a stream, with an order from the seed."""

import copy
import functools
import hashlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery.training import augmentation
from tf_lottery.training import examples
from tf_lottery.training import streams
from tf_lottery.training.examples import map_arrays

Augment = Callable[[Any, tf.Tensor], Any]

# Examples that are scaled at a time where all of them are read.
_CHUNK = 1000


class ArrayData:
  """Examples in memory: `(x, y)` or `(x, y, sample_weight)`.

  Each part is an array or a (nested) tuple or dict of arrays. The first axis
  counts the examples. Arrays keep their dtype, except that float64 becomes
  float32.

  With `scale`, x keeps its small dtype in memory. In training, in evaluation
  and for criteria, each batch of it becomes `(x - shift) / scale` in float32.
  The bits are those that NumPy computes, with XLA and without.

  Args:
    parts: The arrays. Their values are copied, unless they are tensors.
    augment: Changes a batch in training, not in evaluation. A pure function
      `(x, uniforms) -> x` of TensorFlow operations that XLA can compile. It
      receives x after scaling, and noise: float32 in [0, 1) of shape
      `(batch, 3)`. Defaults to `None`.
    scale: The number that x is divided by. Defaults to `None`: the model
      receives x as it is given, token ids as integers.
    shift: The number that is subtracted from x before the division. Defaults
      to `0.0`.

  Attributes:
    parts: `(x, y, sample_weight)` as tensors in the host's memory, x not
      scaled; `sample_weight` may be `None`. Arrays that TensorFlow would
      convert, such as those in the other byte order, stay arrays.
    augment: The augmentation, or `None`.
    scaling: `(shift, scale)` as float32 tensors, or `None`; see `Scaling`.
    size: The number of examples.

  Raises:
    TypeError: `augment` has no name.
    ValueError: There are not two or three parts, the arrays have different
      numbers of examples, or none; or `scale` is 0 or comes with several x.

  Example:
  ```python
  (x, y), _ = keras.datasets.fashion_mnist.load_data()
  data = ArrayData((x, y), scale=255.0)  # uint8 in memory, floats in [0, 1]
  ```
  """

  def __init__(
    self,
    parts: tuple[Any, ...],
    augment: Augment | None = None,
    *,
    scale: float | None = None,
    shift: float = 0.0,
  ):
    if not 1 < len(parts) < 4:
      raise ValueError(
        "Data must be (x, y) or (x, y, sample_weight), got a tuple of"
        f" {len(parts)}."
      )
    if augment is not None and not hasattr(augment, "__name__"):
      raise TypeError(
        "augment must be a function with a name, for the records of runs, got"
        f" {augment!r}. Define one with def."
      )
    self._held = map_arrays(examples.as_array, (*parts, None)[:3])
    self.augment = augment
    flat = tf.nest.flatten(self.arrays)
    sizes = {len(array) for array in flat if array is not None}
    if len(sizes) != 1:
      raise ValueError(
        f"All arrays must have the same number of examples, got {sizes}."
      )
    self.size = sizes.pop()
    if not self.size:
      raise ValueError("Data must have at least one example, got none.")
    examples.check_scale(self._held[0], scale, shift)
    self._scale, self._shift = scale, shift
    self._order: tuple[Any, ...] = ()

  # A cluster must be configured before TensorFlow makes its first tensor, so
  # tensors are made when they are first asked for.

  @functools.cached_property
  def parts(self) -> tuple[Any, Any, Any]:
    """`(x, y, sample_weight)` as tensors in the host's memory, x not scaled."""
    # Only the tensors are kept: NumPy can use their memory, but TensorFlow
    # copies NumPy's.
    self._held = map_arrays(examples.to_host, self._held)
    return self._held

  @functools.cached_property
  def scaling(self) -> examples.Scaling | None:
    """`(shift, scale)` as float32 tensors, or `None`."""
    if self._scale is None:
      return None
    with tf.device("CPU:0"):
      return (
        tf.constant(self._shift, tf.float32) if self._shift else None,
        tf.constant(self._scale, tf.float32),
      )

  @property
  def arrays(self) -> tuple[Any, Any, Any]:
    """The parts as NumPy arrays that share their memory; x is not scaled."""
    return map_arrays(np.asarray, self._held)

  def take(self, indices: slice | np.ndarray) -> tuple[Any, Any, Any]:
    """Returns some examples as NumPy arrays, x scaled.

    Args:
      indices: A slice, or the numbers of the examples.

    Returns:
      `(x, y, sample_weight)`; `sample_weight` may be `None`.
    """
    x, y, weight = map_arrays(lambda a: a[indices], self.arrays)
    return self._scaled(x), y, weight

  def _scaled(self, x: Any) -> Any:
    if self._scale is None:
      return x
    x = x.astype(np.float32)
    x = x - np.float32(self._shift) if self._shift else x
    return x / np.float32(self._scale)

  def steps_per_epoch(self, batch_size: int) -> int:
    """Counts the whole batches of an epoch; other examples are left out."""
    if not 0 < batch_size <= self.size:
      raise ValueError(
        "batch_size must be at least 1 and at most the number of examples, got"
        f" {batch_size} for {self.size} examples."
      )
    return self.size // batch_size

  def order(self, seed: int, epoch: int) -> np.ndarray:
    """Draws the order of an epoch's examples: int32 of shape `(size,)`."""
    # Drawn once, although an epoch is trained in parts between evaluations.
    if self._order[:2] != (seed, epoch):
      # The epoch is part of the key, not of the counter: streams of near
      # counters overlap.
      rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
      order = rng.permutation(self.size).astype(np.int32)
      self._order = (seed, epoch, order)
    return self._order[2]

  def with_augment(self, augment: Augment | None) -> "ArrayData":
    """Returns the same examples with another augmentation."""
    return self._with(self._held, augment)

  def with_class_weight(self, class_weight: Mapping[int, float]) -> "ArrayData":
    """Returns the same examples, weighted by class.

    Args:
      class_weight: Class -> weight. Other classes weigh 1. y must hold
        classes as integers or one-hot. Sample weights that exist already are
        multiplied.
    """
    _, labels, weight = self.arrays
    factors = examples.class_factors(labels, class_weight)
    weight = factors if weight is None else weight.reshape(-1) * factors
    return self._with((*self._held[:2], weight), self.augment)

  def with_labels_of(self, indices: np.ndarray) -> "ArrayData":
    """Returns the same x with the labels of other examples.

    Args:
      indices: For each example, the number of the one whose y and sample weight
        it gets.
    """
    others = map_arrays(lambda a: a[indices], self.arrays[1:])
    return self._with((self._held[0], *others), self.augment)

  def select(self, indices: np.ndarray) -> "ArrayData":
    """Returns some of the examples.

    Args:
      indices: Their numbers, in the new order. The same one may come twice.
    """
    other = self._with(
      map_arrays(lambda a: a[indices], self.arrays), self.augment
    )
    other.size, other._order = len(indices), ()
    return other

  def _with(
    self, parts: tuple[Any, ...], augment: Augment | None
  ) -> "ArrayData":
    other = copy.copy(self)
    vars(other).pop("parts", None)
    other._held, other.augment = parts, augment
    return other

  def first(self, count: int) -> tuple[Any, Any, Any]:
    """Returns the first examples, x scaled; to try a model on."""
    return self.take(slice(count))

  def batches(
    self, batch_size: int, seed: int | None = None
  ) -> Iterator[tuple[Any, Any, Any]]:
    """Yields `(x, y, sample_weight)`, x scaled and not augmented.

    Args:
      batch_size: Examples in a batch; the last one may have fewer.
      seed: Draws the order. Defaults to `None`: the order of the arrays.
    """
    order = None if seed is None else self.order(seed, 0)
    for first in range(0, self.size, batch_size):
      part = slice(first, first + batch_size)
      yield self.take(part if order is None else order[part])

  def batch(self, step: int, batch_size: int, seed: int) -> tuple[Any, ...]:
    """Returns the batch on which a `Trainer` trains at a step.

    Returns:
      `(x, y)` or `(x, y, sample_weight)`, x scaled and augmented.
    """
    epoch, index = divmod(step, self.steps_per_epoch(batch_size))
    order = self.order(seed, epoch)
    indices = order[index * batch_size : (index + 1) * batch_size]
    x, y, weight = self.take(indices)
    if self.augment is not None:
      first = tf.constant([seed, step - index], tf.int64)
      x = self.augment(x, augmentation.uniforms(batch_size, first, index))
    return (x, y) if weight is None else (x, y, weight)

  def fingerprint(self) -> str:
    """Hashes every example and the augmentation, for run declarations.

    If x is scaled, its scaled values are hashed, so the same values have the
    same fingerprint in whatever dtype they are stored.
    """
    x, *others = self.arrays
    shape = map_arrays(lambda a: a.shape, (x, *others))
    digest = hashlib.blake2b(digest_size=16)
    digest.update(str(shape).encode())
    if self._scale is not None:
      digest.update(f"{np.dtype(np.float32).str}{x.shape}".encode())
      for first in range(0, self.size, _CHUNK):
        digest.update(self._scaled(x[first : first + _CHUNK]).data)
      x = None
    for array in tf.nest.flatten((x, *others)):
      if array is not None:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    augmented = f" {self.augment.__name__}" if self.augment else ""
    return f"{self.size} examples {digest.hexdigest()}{augmented}"


class StreamData:
  """Batches from tf.data, for data that does not fit in memory.

  Args:
    make: Returns the batched `tf.data.Dataset` of an epoch, by its number.

  Attributes:
    make: The same function.

  Raises:
    TypeError: `make` does not return a `tf.data.Dataset`.
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

  @property
  def element_spec(self) -> Any:
    """The types and shapes of a batch."""
    return self._first.element_spec

  @property
  def cardinality(self) -> int:
    """The number of batches, or a negative constant of tf.data."""
    return self._steps

  @functools.cached_property
  def _first_batch(self) -> Any:
    return next(iter(self._first))

  def first(self, count: int | None = None) -> tuple[Any, Any, Any]:
    """Returns the first batch, whatever its size; it is read once."""
    del count
    return examples.as_triple(self._first_batch)

  def steps_per_epoch(self, batch_size: int | None = None) -> int:
    """Counts the batches of an epoch, whatever their size."""
    del batch_size
    if self._steps < 1:
      raise ValueError(
        "The number of batches of a tf.data.Dataset must be known and finite,"
        f" got cardinality {self._steps}. Use dataset.take(n) or"
        " dataset.apply(tf.data.experimental.assert_cardinality(n))."
      )
    return self._steps

  def with_augment(self, augment: Augment | None) -> "StreamData":
    """Refuses an augmentation: a stream is augmented where it is made.

    Raises:
      ValueError: Always, unless `augment` is `None`.
    """
    if augment is not None:
      raise ValueError(
        "augment changes batches of arrays, and the training data are a"
        " stream. Augment there: dataset.map(...), or by layers of the model."
      )
    return self

  def with_class_weight(
    self, class_weight: Mapping[int, float]
  ) -> "StreamData":
    """Returns the same batches, weighted by the class in y (integers)."""
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

  def batches(
    self, batch_size: int | None = None, seed: int | None = None
  ) -> Iterator[Any]:
    """Yields the batches of the first epoch, in whatever size and order."""
    del batch_size, seed
    yield from self._first

  def fingerprint(self) -> str:
    """Describes the batches, which are not read, for run declarations."""
    return f"{self._steps} batches of {self._first.element_spec}"


Data = ArrayData | StreamData


def as_data(value: Any) -> Data:
  """Makes `ArrayData` or `StreamData` of what a caller gave.

  Args:
    value: `(x, y)` or `(x, y, sample_weight)` of arrays; a batched
      `tf.data.Dataset`; a `keras.utils.PyDataset` (in tf_keras a `Sequence`);
      a function that takes the number of an epoch and returns a dataset; or
      data, which is returned. A dataset is read
      from its beginning in each epoch. If it draws a new order each time
      (`reshuffle_each_iteration`), a resumed run cannot repeat that order;
      give a function of the epoch instead. A `PyDataset` is read in its own
      order, and its `on_epoch_end` is called between two epochs of a training:
      if it shuffles there, a resumed run cannot repeat that order either.

  Raises:
    TypeError: The value is none of these.
  """
  if isinstance(value, ArrayData | StreamData):
    return value
  if isinstance(value, tf.data.Dataset):
    return StreamData(lambda epoch: value)
  if streams.is_sequence(value):
    return StreamData(streams.SequenceEpochs(value))
  if isinstance(value, tuple | list):
    return ArrayData(tuple(value))
  if callable(value):
    return StreamData(value)
  raise TypeError(
    "Data must be a tuple (x, y) of arrays, a tf.data.Dataset, a"
    " keras.utils.PyDataset or a function of the epoch that returns a"
    f" tf.data.Dataset, got {type(value).__name__}."
  )
