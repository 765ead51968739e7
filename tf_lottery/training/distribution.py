"""Finds strategies of `tf.distribute` by name."""

import functools

import tensorflow as tf


def resolve_strategy(
  strategy: tf.distribute.Strategy | str | None,
) -> tf.distribute.Strategy:
  """Returns a strategy by its name; `None` and `"none"` are one device.

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
  # One in a process: two over the same devices would number their collective
  # operations alike, and take each other's gradients.
  devices = tf.config.list_logical_devices("GPU")
  # Left to itself, it would take one of several logical CPUs only.
  devices = devices or tf.config.list_logical_devices("CPU")
  return tf.distribute.MirroredStrategy([device.name for device in devices])


def _tpu() -> tf.distribute.Strategy:
  resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
  tf.config.experimental_connect_to_cluster(resolver)
  tf.tpu.experimental.initialize_tpu_system(resolver)
  return tf.distribute.TPUStrategy(resolver)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
  """Returns whether this process is the one of its cluster that writes."""
  resolver = strategy.cluster_resolver
  if resolver is None or resolver.task_type in (None, "", "chief"):
    return True
  return resolver.task_type == "worker" and not resolver.task_id
