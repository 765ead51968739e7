"""Evaluation of a model on all of the data, and the placement of data.

Every example counts once, on any number of replicas.
"""

import weakref
from typing import Any

import tensorflow as tf

from tf_lottery.training.data import ArrayData
from tf_lottery.training.data import Data
from tf_lottery.training.examples import Scaling
from tf_lottery.training.examples import as_triple
from tf_lottery.training.examples import map_arrays
from tf_lottery.training.examples import scaled

_BATCH = 1000


class Placement:
  """Puts data where the replicas of a strategy find it.

  Args:
    strategy: A `tf.distribute.Strategy`.

  Attributes:
    strategy: The same strategy.
    replicas: The number of its replicas, over all workers.
  """

  def __init__(self, strategy: tf.distribute.Strategy):
    self.strategy = strategy
    self.replicas = strategy.num_replicas_in_sync
    self._on_device: weakref.WeakKeyDictionary[ArrayData, Any] = (
      weakref.WeakKeyDictionary()
    )

  def replica_id(self) -> tf.Tensor | int:
    """Returns the number of this replica; call it inside `strategy.run`."""
    if self.replicas == 1:
      return 0
    return tf.distribute.get_replica_context().replica_id_in_sync_group

  def put(self, data: ArrayData) -> Any:
    """Puts the parts of data on the device, once, and returns them.

    On a CPU they share the memory of `data.parts`. Several replicas read from
    the host's memory.
    """
    if data not in self._on_device:
      with tf.device("CPU:0" if self.replicas > 1 else None):
        self._on_device[data] = map_arrays(tf.identity, data.parts)
    return self._on_device[data]

  def distribute(self, dataset: tf.data.Dataset) -> Any:
    """Shares the batches of a dataset among the replicas.

    Raises:
      ValueError: There are several replicas, and batches of several sizes.
    """
    if self.replicas == 1:
      return dataset
    first = tf.nest.flatten(dataset.element_spec)[0].shape
    if not first.rank or first[0] is None:
      raise ValueError(
        f"With {self.replicas} replicas the batches of a dataset must be of"
        " one size. Use dataset.batch(size, drop_remainder=True)."
      )
    return self.strategy.experimental_distribute_dataset(dataset)


class Evaluator:
  """Evaluates one compiled Keras model by its own loss and metrics.

  Args:
    model: The model.
    placement: Where its data is put.
  """

  def __init__(self, model: Any, placement: Placement):
    self._model = model
    self._placement = placement
    self._strategy = placement.strategy
    self._metrics_built = False
    # Without XLA, which is no faster: the matrix products take nearly all of
    # the time, and XLA would compile once for each size of data.
    self._evaluate_all = tf.function(self._all_parts)
    self._evaluate_batch = tf.function(
      self._distributed_batch, reduce_retracing=True
    )

  def build_metrics(self, data: Data) -> None:
    """Has Keras make its metrics' variables before anything is traced."""
    if self._metrics_built:
      return
    batches = data.batches(self._placement.replicas)
    batch = map_arrays(tf.convert_to_tensor, as_triple(next(iter(batches))))
    with self._strategy.scope():
      self._strategy.run(self._model.test_step, args=(batch,))
    self._metrics_built = True

  def metric_names(self, data: Data) -> list[str]:
    """Returns the names that `evaluate` gives, from one batch of the data."""
    self.build_metrics(data)
    return list(self._model.get_metrics_result())

  def evaluate(self, data: Data) -> dict[str, float]:
    """Computes the loss and the compiled metrics on all of the data.

    Returns:
      Name -> value, as Keras's `evaluate(return_dict=True)` gives them.

    Raises:
      ValueError: There are fewer examples than replicas.
    """
    self.build_metrics(data)
    if isinstance(data, ArrayData):
      if data.size < self._placement.replicas:
        raise ValueError(
          "Data must have an example for each of"
          f" {self._placement.replicas} replicas, got {data.size}."
        )
      results = self._evaluate_all(self._placement.put(data), data.scaling)
    else:
      self._model.reset_metrics()
      for batch in self._placement.distribute(data.make(0)):
        self._evaluate_batch(batch)
      results = self._model.get_metrics_result()
    return {name: float(value) for name, value in results.items()}

  def _all_parts(
    self, arrays: Any, scaling: Scaling | None
  ) -> dict[str, tf.Tensor]:
    """Computes the metrics on equal parts of the data, one for each replica."""
    self._model.reset_metrics()
    replicas = self._placement.replicas
    size = next(a for a in tf.nest.flatten(arrays) if a is not None).shape[0]
    parts = -(-size // _BATCH) * replicas

    def replica_step(index: tf.Tensor) -> None:
      # In int64: with a million examples, part times size exceeds int32.
      part = index * replicas + tf.cast(self._placement.replica_id(), tf.int64)
      first, last = part * size // parts, (part + 1) * size // parts
      x, y, weight = map_arrays(lambda a: a[first:last], arrays)
      self._model.test_step((scaled(x, scaling), y, weight))

    def one(index: tf.Tensor) -> tf.Tensor:
      self._strategy.run(replica_step, args=(index,))
      return index + 1

    tf.while_loop(
      lambda index: index * replicas < parts,
      lambda index: (one(index),),
      (tf.constant(0, tf.int64),),
      parallel_iterations=1,
    )
    return self._model.get_metrics_result()

  def _distributed_batch(self, batch: Any) -> None:
    self._strategy.run(self._model.test_step, args=(as_triple(batch),))
