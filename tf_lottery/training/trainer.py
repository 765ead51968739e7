"""The trainer: one compiled Keras model that trains in every Round.

The trainer never rebuilds the model: masks, weights and optimizer slots are
variables that are assigned.
"""

import functools
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery import wrappers
from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.rewinding import Snapshot
from tf_lottery.training import checks
from tf_lottery.training import distribution
from tf_lottery.training import making
from tf_lottery.training.data import ArrayData
from tf_lottery.training.data import Data
from tf_lottery.training.data import as_data
from tf_lottery.training.evaluation import _BATCH as _EVALUATED
from tf_lottery.training.evaluation import Evaluator
from tf_lottery.training.evaluation import Placement
from tf_lottery.training.examples import map_arrays
from tf_lottery.training.meter import Meter
from tf_lottery.training.programs import Programs
from tf_lottery.weights import Override
from tf_lottery.weights import Weight
from tf_lottery.wrappers.flops import Flops

_SLOW_IN_XLA_ON_CPU = ("conv", "depthwise", "recurrent")
# Examples that the model is tried on where no batch size is known.
_TRIED = 32


class Trainer:
  """A compiled Keras model that trains again and again from given weights.

  Randomness repeats if it comes from the seed generators of layers, as in
  Keras's own layers. A layer that calls `keras.random` without a seed draws
  other numbers each time.

  Args:
    make_model: A function that returns a compiled model. It is called inside
      the strategy's scope, after the seed is set.
    strategy: A `tf.distribute.Strategy`, or `"none"`, `"mirrored"`,
      `"multi_worker_mirrored"` or `"tpu"`. Defaults to `"none"`.
    seed: Seed of the initial weights and of dropout. Defaults to `0`.
    prunable: See `lottery_prune`.
    jit: Whether to compile with XLA. Defaults to `None`: yes, except for
      convolutional and recurrent networks on a CPU, which XLA slows down.

  Attributes:
    strategy: The strategy.
    prunable: The argument `prunable`.
    model: The model.
    binding: The model's `Binding`.
    initial: The `Snapshot` of the model's initial weights.
    jit: Whether the trainer compiles with XLA.
    spent: The `Cost` of training, scoring and gradients since the last
      `restore` or `collect`.

  Raises:
    TypeError: `make_model` is no function that can be called without
      arguments, or it returns no model.
    ValueError: The model is not compiled, has a `train_step` of its own, was
      returned before, or has an optimizer that is refused.
  """

  def __init__(
    self,
    make_model: Callable[[], Any],
    *,
    strategy: tf.distribute.Strategy | str | None = None,
    seed: int = 0,
    prunable: Override | None = None,
    jit: bool | None = None,
  ):
    self.prunable = prunable
    self.strategy = distribution.resolve_strategy(strategy)
    self._maker = making.Maker(make_model, self.strategy)
    self.model = self._made(seed)
    making.check_trainable(self.model)
    wrappers.optimizers.check(self.model.optimizer)
    self.binding = wrappers.bind(self.model, prunable=prunable)
    self._keras = self.binding.generation
    with self.strategy.scope():
      self._keras.make_randomness_resumable(self.model)
      self._keras.build_optimizer(self.model)
      self.binding.hold(Mask.ones(self.binding.shapes))
      self._fresh_optimizer = self._read_optimizer()
    self.jit = self._is_faster_in_xla() if jit is None else jit
    placement = Placement(self.strategy)
    self._replicas = placement.replicas
    self._evaluator = Evaluator(self.model, placement)
    self._programs = Programs(self.binding, placement, self.jit)
    self.initial = self.capture(0)
    self.spent = Cost()
    self._meter = Meter(self.binding, self.strategy)
    self.binding.give_initial(self.initial.weights)

  def make_model(self) -> Any:
    """Returns another compiled model, made in the strategy's scope.

    Raises:
      TypeError: The function of the user returns no model.
      ValueError: It returns a model that it returned before.
    """
    return self._maker()

  # Weights and state.

  def draw(self, seed: int) -> dict[str, np.ndarray]:
    """Returns initial weights from another seed, by key.

    The trainer's own model stays as it is. The weights are those of a
    replicate, or of a random reinitialisation.
    """
    drawn = self.draw_snapshot(seed).weights
    return {key: drawn[key] for key in self.binding.variables}

  def draw_snapshot(self, seed: int) -> Snapshot:
    """Returns the initial snapshot of another seed.

    Several searches may share a trainer. Each keeps the snapshot that it
    starts from, and `initial` stays the snapshot of the trainer's own seed.
    """
    model = self._made(seed)
    with self.strategy.scope():
      self._keras.make_randomness_resumable(model)
    drawn = wrappers.bind(model, prunable=self._is_prunable)
    return Snapshot(0, drawn.read(random_states=True))

  def capture(
    self, step: int, *, optimizer: bool = False, mask: bool = False
  ) -> Snapshot:
    """Returns a snapshot of the model as it is now.

    Args:
      step: The number of optimizer updates so far, for the record.
      optimizer: Whether to include the optimizer's variables.
      mask: Whether to include the mask.
    """
    weights = self.binding.read(random_states=True)
    if self._replicas > 1:
      weights |= self._statistics_of_all_workers(weights)
      # So that this run continues from the averages, as a resumed one does.
      self.binding.write(weights)
    slots = self._read_optimizer() if optimizer else None
    held = self.binding.mask if mask else None
    return Snapshot(step, weights, slots, held)

  def restore(self, snapshot: Snapshot, mask: Mask, step: int) -> None:
    """Puts a snapshot back, and holds a mask on it.

    Args:
      snapshot: Weights and random states. Without optimizer variables, the
        optimizer begins afresh.
      mask: The mask to hold.
      step: The step at which the learning-rate schedule stands.
    """
    self.binding.write(snapshot.weights)
    self.binding.hold(mask)
    slots = snapshot.optimizer or self._fresh_optimizer
    variables = self._keras.optimizer_variables(self.model.optimizer)
    for variable, value in zip(variables, slots, strict=True):
      variable.assign(value)
    self._keras.step_variable(self.model.optimizer).assign(step)
    self.spent = Cost()

  def reset_slots(self, entries: Mapping[str, np.ndarray]) -> None:
    """Resets the optimizer's slots of some weights, such as their momenta.

    They get the values of a new optimizer, which for momenta are zeros. So a
    weight that is pruned, and is kept again later, trains as a new one.

    Args:
      entries: Key of a prunable weight -> boolean array; True for the entries
        whose slots are reset.
    """
    for key, slot, fresh in self._slots:
      wrappers.variables.fill(slot, entries[key], fresh)

  @functools.cached_property
  def _slots(self) -> list[tuple[str, tf.Variable, np.ndarray]]:
    """The key, a slot and its first value, for each slot of a prunable weight.

    If all entries of a slot begin alike, the value is a single number.
    """
    variables = self._keras.optimizer_variables(self.model.optimizer)
    fresh = {
      id(variable): value
      for variable, value in zip(variables, self._fresh_optimizer, strict=True)
    }
    keys = {id(self.binding.variables[key]): key for key in self.binding.shapes}
    found = []
    for updated, slot in wrappers.optimizers.slots(
      self.model.optimizer, self.model, self._keras
    ):
      if key := keys.get(id(self._keras.raw(updated))):
        value = fresh[id(slot)]
        alike = bool((value == value.flat[0]).all())
        found.append((key, slot, value.flat[0] if alike else value))
    return found

  # Training and evaluating.

  def check(
    self, data: Data, name: str = "data", *, batch_size: int | None = None
  ) -> None:
    """Refuses data on which this model cannot be trained or evaluated.

    Arrays are looked at once from their beginning to their end; of a stream,
    the first batch is.

    Args:
      data: The examples; see `as_data`.
      name: What messages call it, such as `"train_data"`.
      batch_size: Examples of arrays in a training step over all replicas; the
        model must take a batch of them. Defaults to `None`: the model must
        take 32 examples, or as many as it is evaluated on at once.

    Raises:
      ValueError: A value is not finite, a label is out of the range that the
        loss takes, a shape or a type does not fit the model, or a dataset is
        not batched or has no end.
    """
    data = as_data(data)
    if batch_size is not None:
      sizes = [max(1, batch_size // self._replicas)]
    elif isinstance(data, ArrayData):
      parts = -(-data.size // _EVALUATED) * self._replicas
      sizes = [_TRIED, max(1, data.size // parts)]
    else:
      sizes = [_TRIED]
    checks.check_data(data, name, self.model, self._outputs, sizes)

  def train(
    self,
    data: Data,
    start: int,
    stop: int,
    *,
    batch_size: int,
    seed: int,
  ) -> float:
    """Trains from step `start` to step `stop`.

    Args:
      data: The examples; see `as_data`.
      start: The number of steps made before. It decides which batches come
        next.
      stop: The number of steps at the end.
      batch_size: Examples in a step over all replicas. Streams have a batch
        size of their own.
      seed: Seed of the order of the data.

    Returns:
      The mean loss over these steps, regularisation included.

    Raises:
      ValueError: The replicas cannot share a batch equally.
    """
    data = as_data(data)
    self._evaluator.build_metrics(data)
    if batch_size % self._replicas:
      raise ValueError(
        f"batch_size must be a multiple of the {self._replicas} replicas, got"
        f" {batch_size}."
      )
    total, examples = 0.0, 0
    per_epoch = data.steps_per_epoch(batch_size)
    step = start
    while step < stop:
      epoch, first = divmod(step, per_epoch)
      count = min(stop - step, per_epoch - first)
      loss, seen = self._programs.train(
        data, epoch, first, count, batch_size=batch_size, seed=seed
      )
      total += loss
      examples += seen
      step += count
    self.spent += self._meter.cost(data, max(0, stop - start), examples)
    return total / max(1, stop - start)

  def collect(self) -> Cost:
    """Returns what was spent since the last time, and begins to count anew."""
    spent, self.spent = self.spent, Cost()
    return spent

  def flops(self, data: Data) -> Flops | None:
    """Counts the operations of a forward pass, once for all data.

    Where examples vary in shape, those of the first one are counted; see
    `tf_lottery.wrappers.flops`.

    Args:
      data: The examples; see `as_data`. The model computes the outputs of one.

    Returns:
      The operations of one example; `None` if they cannot be counted. A
      warning says why, once.
    """
    return self._meter.flops(as_data(data))

  def gradients(
    self, data: Data, step: int, *, batch_size: int, seed: int
  ) -> dict[str, np.ndarray]:
    """Computes the gradients that a step will have, also of pruned weights.

    Weights, moving statistics and random states stay as they are.

    Args:
      data: The examples; see `as_data`.
      step: The number of steps made before.
      batch_size: See `train`.
      seed: See `train`.

    Returns:
      Key of a prunable weight -> the gradient of the loss of the step's batch.
      Under mixed precision it may be scaled by a factor, the same for all.
    """
    data = as_data(data)
    epoch, index = divmod(step, data.steps_per_epoch(batch_size))
    found, examples = self._programs.gradients(
      data, epoch, index, batch_size=batch_size, seed=seed
    )
    self.spent += self._meter.cost_of_gradients(data, examples)
    return found

  def evaluate(self, data: Data) -> dict[str, float]:
    """Returns the loss and the compiled metrics on all of the data."""
    return self._evaluator.evaluate(as_data(data))

  def metric_names(self, data: Data) -> list[str]:
    """Returns the names of the metrics that `evaluate` gives, in its order."""
    return self._evaluator.metric_names(as_data(data))

  @property
  def traces(self) -> int:
    """How often training programs were traced: once is enough."""
    return self._programs.traces

  # Helpers.

  def _outputs(self, x: Any) -> Any:
    """Returns the model's outputs on a batch, as in an evaluation."""
    with self.strategy.scope():
      outputs = self.strategy.run(self.model, args=(map_arrays(_tensor, x),))
    return map_arrays(
      lambda output: self.strategy.experimental_local_results(output)[0],
      outputs,
    )

  def _made(self, seed: int) -> Any:
    """Makes a model whose random numbers come from a seed."""
    wrappers.set_seed(seed)
    return self.make_model()

  def _statistics_of_all_workers(
    self, weights: Mapping[str, np.ndarray]
  ) -> dict[str, np.ndarray]:
    """Averages the moving statistics, which each worker gathers by itself."""
    own = {
      weight.key: weights[weight.key]
      for weight in self.binding.report
      if not weight.trainable
      and np.issubdtype(weights[weight.key].dtype, np.floating)
    }
    values = self.strategy.run(
      lambda: tf.nest.map_structure(tf.convert_to_tensor, own)
    )
    mean = tf.distribute.ReduceOp.MEAN
    return {
      key: self.strategy.reduce(mean, value, axis=None).numpy()
      for key, value in values.items()
    }

  def _is_prunable(self, weight: Weight) -> bool:
    return weight.key in self.binding.shapes

  def _read_optimizer(self) -> tuple[np.ndarray, ...]:
    variables = self._keras.optimizer_variables(self.model.optimizer)
    return tuple(variable.numpy() for variable in variables)

  def _is_faster_in_xla(self) -> bool:
    if tf.config.list_logical_devices("GPU"):
      return True
    kinds = {weight.kind for weight in self.binding.report}
    return kinds.isdisjoint(_SLOW_IN_XLA_ON_CPU)


def _tensor(value: Any) -> Any:
  is_array = isinstance(value, np.ndarray)
  return tf.convert_to_tensor(value) if is_array else value
