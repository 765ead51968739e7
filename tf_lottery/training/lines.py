"""Lines between two networks: metrics of the networks between them."""

import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery import wrappers
from tf_lottery.masks import Mask
from tf_lottery.objective import Objective
from tf_lottery.rewinding import Snapshot
from tf_lottery.training.data import as_data
from tf_lottery.training.trainer import Trainer
from tf_lottery.weights import RANDOM_STATE
from tf_lottery.wrappers import walking

_BATCH = 256
# A network: a Round, a Snapshot, its weights by key, or a Keras model.
Network = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
  """Metrics of the networks on the line between two networks.

  Attributes:
    places: Where they are, from 0 (the first network) to 1 (the second), of
      shape `(points,)`.
    values: Metric -> its value at each place, of shape `(points,)`.
  """

  places: np.ndarray
  values: Mapping[str, np.ndarray]

  def barrier(self, objective: Objective) -> float:
    """How much worse the worst place is than the mean of the two ends.

    It is at least 0, in units of the metric. Two networks are *linearly mode
    connected* if it is about 0; Frankle et al. call them so, and the training
    *stable*, if the error rises by less than 2 points.

    Args:
      objective: The metric, and whether more or less of it is better.

    Raises:
      ValueError: There is no such metric.

    Reference: Frankle et al., arXiv 1912.05671, section 2.
    """
    if objective.name not in self.values:
      raise ValueError(
        f"The metrics on the line are {', '.join(self.values)}; got"
        f" {objective.name!r}."
      )
    values = objective.sign * self.values[objective.name]
    return float((values[0] + values[-1]) / 2 - values.min())


def interpolate(
  trainer: Trainer,
  first: Network,
  second: Network,
  data: Any,
  *,
  points: int = 30,
  statistics_data: Any = None,
) -> Line:
  """Evaluates the networks on the line between two networks.

  At place `a` the weights are `(1 - a) first + a second`, and so are moving
  statistics. The trainer's model is afterwards as it was.

  Args:
    trainer: Trainer of the networks' architecture.
    first: A `Round`, a `Snapshot`, a Keras model of the same architecture, or
      its weights by key, as `bind(model).read()` returns them.
    second: Another one.
    data: What to evaluate on, in a form that `find_ticket` takes.
    points: How many places are evaluated, both ends included, at least 2.
      Defaults to `30`, as in the paper.
    statistics_data: Data from which the moving statistics of batch
      normalisation are computed anew at each place: their means over the
      batches. Defaults to `None`: they are interpolated.

  Raises:
    ValueError: `points` is out of range; or the weights of the two networks
      differ in their keys or shapes.

  Example:
  ```python
  line = tf_lottery.analysis.interpolate(
    result.trainer, result.round(1), result.round(2), (x_test, y_test)
  )
  line.barrier(result.objective)
  ```

  Reference: Frankle et al., arXiv 1912.05671.
  """
  check_points(points)
  start, end = _weights(first), _weights(second)
  if start.keys() != end.keys():
    differing = sorted(start.keys() ^ end.keys())
    raise ValueError(
      "Both networks must have the same weights; only one has"
      f" {', '.join(differing)}."
    )
  trainer.binding.check_shapes(start)
  trainer.binding.check_shapes(end)
  places, data = np.linspace(0.0, 1.0, points), as_data(data)
  found, renew = [], None
  if statistics_data is not None:
    renew = _statistics_of(trainer, as_data(statistics_data))
  with _borrowed(trainer):
    for place in places:
      trainer.binding.write(between(start, end, place))
      if renew:
        renew()
      found.append(trainer.evaluate(data))
  values = {name: np.array([row[name] for row in found]) for name in found[0]}
  return Line(places, values)


def check_points(points: int) -> None:
  """Refuses a number of places without both ends.

  Raises:
    ValueError: It is less than 2.
  """
  if points < 2:
    raise ValueError(f"points must be at least 2, got {points}.")


def _weights(network: Network) -> dict[str, np.ndarray]:
  """Returns the weights of a network, moving statistics included."""
  final = getattr(network, "final", None)
  if isinstance(final, Snapshot):  # of a Round
    network = final
  if isinstance(network, Snapshot):
    network = network.weights
  if not isinstance(network, Mapping):
    network = wrappers.bind(network).read()
  return {
    key: np.asarray(value)
    for key, value in network.items()
    if not key.startswith(RANDOM_STATE)
  }


def between(
  first: Mapping[str, np.ndarray],
  second: Mapping[str, np.ndarray],
  place: float,
) -> dict[str, np.ndarray]:
  """Returns the weights at a place of a line; integers stay as in the first.

  Args:
    first: Key -> array.
    second: The same keys and shapes.
    place: From 0, the first, to 1, the second.

  >>> one, other = ({"kernel": np.array([x])} for x in (0.0, 2.0))
  >>> between(one, other, 0.25)["kernel"]
  array([0.5])
  """
  return {
    key: ((1 - place) * value + place * second[key]).astype(value.dtype)
    if value.dtype.kind not in "biu"
    else value
    for key, value in first.items()
  }


@contextlib.contextmanager
def _borrowed(trainer: Trainer) -> Iterator[None]:
  """Gives the trainer's model back as it was, mask included."""
  binding = trainer.binding
  mask, before = binding.mask, binding.read(random_states=True)
  binding.hold(Mask.ones(binding.shapes))
  try:
    yield
  finally:
    binding.write(before)
    binding.hold(mask)


def _statistics_of(trainer: Trainer, data: Any) -> Callable[[], None]:
  """Returns a function that sets moving statistics to means over batches.

  With a momentum of 0, a batch leaves its own statistics behind.
  """
  generation = trainer.binding.generation
  layers = [
    layer
    for layer in walking.walk(trainer.model, generation)
    if isinstance(layer, generation.library.layers.BatchNormalization)
  ]
  variables = [
    variable
    for layer in layers
    for variable in (layer.moving_mean, layer.moving_variance)
  ]
  forward = tf.function(
    lambda x: trainer.model(x, training=True), reduce_retracing=True
  )

  def compute() -> None:
    found: list[list[np.ndarray]] = []
    momenta = [layer.momentum for layer in layers]
    try:
      for layer in layers:
        layer.momentum = 0.0
      with trainer.strategy.scope():
        for x, *_ in data.batches(_BATCH):
          forward(x)
          found.append([np.array(variable) for variable in variables])
    finally:
      for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    for variable, values in zip(
      variables, zip(*found, strict=True), strict=True
    ):
      variable.assign(np.mean(values, axis=0))

  return compute
