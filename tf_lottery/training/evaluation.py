"""Evaluation of a model on all of the data, and where data is put for it.

Every example counts once, on whatever number of replicas.
"""

import weakref
from typing import Any

import tensorflow as tf

from tf_lottery.training import data as data_lib

_BATCH = 1000


class Placement:
  """Puts data where the replicas of a strategy find it.

  Args:
    strategy: a `tf.distribute.Strategy`.

  Attributes:
    strategy: as given.
    replicas: how many there are, over all workers.
  """

  def __init__(self, strategy: tf.distribute.Strategy):
    self.strategy = strategy
    self.replicas = strategy.num_replicas_in_sync
    self._on_device = weakref.WeakKeyDictionary()

  def replica_id(self) -> tf.Tensor | int:
    """Which replica this is; to be asked inside `strategy.run`."""
    if self.replicas == 1:
      return 0
    return tf.distribute.get_replica_context().replica_id_in_sync_group

  def put(self, data: data_lib.ArrayData) -> Any:
    """The arrays as tensors, put on the device once."""
    if data not in self._on_device:
      device = "CPU:0" if self.replicas > 1 else None
      with tf.device(device):
        self._on_device[data] = tf.nest.map_structure(
          lambda a: None if a is None else tf.convert_to_tensor(a), data.arrays
        )
    return self._on_device[data]

  def distribute(self, dataset: tf.data.Dataset) -> Any:
    """An iterable whose batches are shared among the replicas.

    Raises:
      ValueError: the batches are not of one size, for several replicas.
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
    model: the model.
    placement: of its strategy.
  """

  def __init__(self, model: Any, placement: Placement):
    self._model = model
    self._placement = placement
    self._strategy = placement.strategy
    self._metrics_built = False
    # Not by XLA: its matrix products of large batches are slower on a CPU.
    self._evaluate_all = tf.function(self._all_parts)
    self._evaluate_batch = tf.function(
      self._distributed_batch, reduce_retracing=True
    )

  def build_metrics(self, data: data_lib.Data) -> None:
    """Has Keras make its metrics' variables before anything is traced."""
    if self._metrics_built:
      return
    batches = data.batches(self._placement.replicas)
    batch = tf.nest.map_structure(
      lambda a: None if a is None else tf.convert_to_tensor(a),
      data_lib.as_triple(next(iter(batches))),
    )
    with self._strategy.scope():
      self._strategy.run(self._model.test_step, args=(batch,))
    self._metrics_built = True

  def evaluate(self, data: data_lib.Data) -> dict[str, float]:
    """The loss and the compiled metrics on all of the data.

    Raises:
      ValueError: there are fewer examples than replicas.
    """
    self.build_metrics(data)
    self._model.reset_metrics()
    if isinstance(data, data_lib.ArrayData):
      if data.size < self._placement.replicas:
        raise ValueError(
          "Data must have an example for each of"
          f" {self._placement.replicas} replicas, got {data.size}."
        )
      self._evaluate_all(self._placement.put(data))
    else:
      for batch in self._placement.distribute(data.make(0)):
        self._evaluate_batch(batch)
    results = self._model.get_metrics_result()
    return {name: float(value) for name, value in results.items()}

  def _all_parts(self, arrays):
    """Updates the metrics by equal parts of the data, one a replica."""
    replicas = self._placement.replicas
    size = next(a for a in tf.nest.flatten(arrays) if a is not None).shape[0]
    parts = -(-size // _BATCH) * replicas

    def replica_step(index):
      # int64: part times size is more than int32 holds, of a million examples.
      part = index * replicas + tf.cast(self._placement.replica_id(), tf.int64)
      first, last = part * size // parts, (part + 1) * size // parts
      self._model.test_step(
        tf.nest.map_structure(
          lambda a: None if a is None else a[first:last], arrays
        )
      )

    def one(index):
      self._strategy.run(replica_step, args=(index,))
      return index + 1

    tf.while_loop(
      lambda index: index * replicas < parts,
      lambda index: (one(index),),
      (tf.constant(0, tf.int64),),
      parallel_iterations=1,
    )

  def _distributed_batch(self, batch):
    self._strategy.run(self._model.test_step, args=(data_lib.as_triple(batch),))
