"""Finds strategies of `tf.distribute` by name."""

import functools

import tensorflow as tf


def resolve_strategy(
  strategy: tf.distribute.Strategy | str | None,
) -> tf.distribute.Strategy:
  """Returns the strategy of a name; a strategy is returned as it is.

  Args:
    strategy: A `tf.distribute.Strategy`, or one of `"none"`, `"mirrored"`,
      `"multi_worker_mirrored"`, `"tpu"`. `None` and `"none"` are one device.

  Raises:
    ValueError: There is no strategy of that name.
  """
  if isinstance(strategy, tf.distribute.Strategy):
    return strategy
  makers = {
    "none": tf.distribute.get_strategy,
    "mirrored": _mirrored,
    "multi_worker_mirrored": tf.distribute.MultiWorkerMirroredStrategy,
    "tpu": _tpu,
  }
  if (strategy or "none") not in makers:
    raise ValueError(
      f"strategy must be a tf.distribute.Strategy or one of {sorted(makers)},"
      f" got {strategy!r}."
    )
  return makers[strategy or "none"]()


@functools.cache
def _mirrored() -> tf.distribute.Strategy:
  # There is one in a process: two strategies over the same devices would give
  # their collective operations the same numbers, and mix up their gradients.
  devices = tf.config.list_logical_devices("GPU")
  # Without a list of devices, it would use one of several logical CPUs only.
  devices = devices or tf.config.list_logical_devices("CPU")
  return tf.distribute.MirroredStrategy([device.name for device in devices])


def _tpu() -> tf.distribute.Strategy:
  resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
  tf.config.experimental_connect_to_cluster(resolver)
  tf.tpu.experimental.initialize_tpu_system(resolver)
  return tf.distribute.TPUStrategy(resolver)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
  """Whether this process is the one of its cluster that writes files."""
  resolver = strategy.cluster_resolver
  if resolver is None or resolver.task_type in (None, "", "chief"):
    return True
  return resolver.task_type == "worker" and not resolver.task_id
