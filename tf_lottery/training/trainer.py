"""The Trainer: one compiled model, trained for every Round.

Nothing is rebuilt between Rounds: masks, weights and optimizer slots are
variables that are assigned. With data in memory, all steps up to the next
evaluation are one program that gathers its own batches, compiled by XLA where
that is faster.
"""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery import wrappers
from tf_lottery.masks import Mask
from tf_lottery.rewinding import Snapshot
from tf_lottery.training import augmentation
from tf_lottery.training import distribution
from tf_lottery.training.data import ArrayData
from tf_lottery.training.data import Augment
from tf_lottery.training.data import Data
from tf_lottery.training.data import Scaling
from tf_lottery.training.data import StreamData
from tf_lottery.training.data import as_data
from tf_lottery.training.data import as_triple
from tf_lottery.training.data import gather
from tf_lottery.training.evaluation import Evaluator
from tf_lottery.training.evaluation import Placement
from tf_lottery.weights import Override
from tf_lottery.weights import Weight

_SLOW_IN_XLA_ON_CPU = ("conv", "depthwise", "recurrent")


class Trainer:
  """A compiled Keras model that trains again and again from given weights.

  Randomness repeats if it comes from the seed generators of layers, as in
  Keras's own layers. A layer that calls `keras.random` without a seed draws
  other numbers each time.

  Random numbers are the same in a resumed training where layers draw them from
  their seed generators, as Keras's own layers do. A layer that calls
  `keras.random` without a seed draws others.

  Args:
    make_model: Returns a compiled model. It is called inside the strategy's
      scope, after the seed is set.
    strategy: A `tf.distribute.Strategy`, or one of `"none"`, `"mirrored"`,
      `"multi_worker_mirrored"`, `"tpu"`. Defaults to `"none"`.
    seed: Seed of the initial weights and of dropout. Defaults to `0`.
    prunable: Which weights are prunable, see `lottery_prune`.
    jit: Whether to compile with XLA. Defaults to `None`: yes, except for
      convolutional and recurrent networks on a CPU, which XLA slows down.

  Attributes:
    model: The model.
    binding: Its `Binding`.
    initial: The `Snapshot` of its initial weights.
    jit: Whether XLA compiles it.

  Raises:
    ValueError: The model is not compiled, or has a `train_step` of its own.
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
    self._make_model = make_model
    self.strategy = distribution.resolve_strategy(strategy)
    self.model = self._made(seed)
    _check_trainable_here(self.model)
    wrappers.optimizers.check(self.model.optimizer)
    self.binding = wrappers.bind(self.model, prunable=prunable)
    self._keras = self.binding.generation
    with self.strategy.scope():
      self._keras.make_randomness_resumable(self.model)
      self._keras.build_optimizer(self.model)
      self.binding.hold(Mask.ones(self.binding.shapes))
      self._fresh_optimizer = self._read_optimizer()
    self.jit = self._is_faster_in_xla() if jit is None else jit
    self._placement = Placement(self.strategy)
    self._replicas = self._placement.replicas
    self._evaluator = Evaluator(self.model, self._placement)
    self._open_stream: tuple[Any, Any] = (None, None)
    self._compile()
    self.initial = self.capture(0)
    self.binding.give_initial(self.initial.weights)

  # Weights and state.

  def draw(self, seed: int) -> dict[str, np.ndarray]:
    """Draws the initial weights of another seed; the model stays as it is.

    A replicate starts from them, and so does a random reinitialisation.

    Returns:
      Key -> array.
    """
    drawn = self.draw_snapshot(seed).weights
    return {key: drawn[key] for key in self.binding.variables}

  def draw_snapshot(self, seed: int) -> Snapshot:
    """Draws the initial snapshot of another seed; the trainer stays as it is.

    Several searches may share a trainer. Each keeps the snapshot that it
    starts from, and `initial` stays the snapshot of the trainer's own seed.
    """
    model = self._made(seed)
    with self.strategy.scope():
      self._keras.make_randomness_resumable(model)
    drawn = wrappers.bind(model, prunable=self._is_prunable)
    return Snapshot(0, drawn.read(random_states=True))

  def capture(self, step: int, *, optimizer: bool = False) -> Snapshot:
    """Takes a snapshot of the model as it is now.

    Args:
      step: The number of steps trained so far.
      optimizer: Whether the snapshot holds the optimizer's variables too.
    """
    weights = self.binding.read(random_states=True)
    if self._replicas > 1:
      weights |= self._statistics_of_all_workers(weights)
      # Training goes on from the averages, as it would after a resumption.
      self.binding.write(weights)
    slots = self._read_optimizer() if optimizer else None
    return Snapshot(step, weights, slots)

  def restore(self, snapshot: Snapshot, mask: Mask, step: int) -> None:
    """Puts a snapshot back, and holds a mask on it.

    Args:
      snapshot: The weights and the random states. Without the optimizer's
        variables in it, the optimizer begins afresh.
      mask: Which weights are kept.
      step: The position in the learning-rate schedule.
    """
    self.binding.write(snapshot.weights)
    self.binding.hold(mask)
    slots = snapshot.optimizer or self._fresh_optimizer
    variables = self._keras.optimizer_variables(self.model.optimizer)
    for variable, value in zip(variables, slots, strict=True):
      variable.assign(value)
    self._keras.step_variable(self.model.optimizer).assign(step)

  # Training and evaluating.

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
      data: The examples to train on.
      start: The number of steps trained so far. It decides which batch of
        which epoch comes next.
      stop: The step at which to stop.
      batch_size: Examples in a step, over all replicas. Streams have their
        own.
      seed: Seed of the order of the examples.

    Returns:
      The mean loss over these steps, regularisation included.

    Raises:
      ValueError: `batch_size` does not divide among the replicas.
    """
    data = as_data(data)
    self._evaluator.build_metrics(data)
    if batch_size % self._replicas:
      raise ValueError(
        f"batch_size must be a multiple of the {self._replicas} replicas, got"
        f" {batch_size}."
      )
    total = 0.0
    per_epoch = data.steps_per_epoch(batch_size)
    step = start
    while step < stop:
      epoch, first = divmod(step, per_epoch)
      count = min(stop - step, per_epoch - first)
      if isinstance(data, ArrayData):
        order = data.order(seed, epoch)[: per_epoch * batch_size]
        order = tf.constant(order.reshape(per_epoch, batch_size))
        noise = None
        if data.augment is not None:
          noise = tf.constant([seed, epoch * per_epoch], tf.int64)
        total += self._stretch(data, order, first, count, noise)
      else:
        total += self._stream(data, epoch, first, count)
      step += count
    return total / max(1, stop - start)

  def evaluate(self, data: Data) -> dict[str, float]:
    """Computes the loss and the compiled metrics on all of the data."""
    return self._evaluator.evaluate(as_data(data))

  @property
  def traces(self) -> int:
    """How often the training program was traced; one trace serves a search."""
    programs = (self._stretch_program, self._stream_step)
    return sum(p.experimental_get_tracing_count() for p in programs)

  # The programs.

  def _compile(self) -> None:
    alone = self._replicas == 1
    # With several replicas, XLA compiles the gradients alone, and they may not
    # assign variables: no moving statistics, no states of dropout.
    stateless = not self._keras.random_states(self.model) and all(
      weight.trainable for weight in self.binding.report
    )
    self._gradients = (
      tf.function(self._loss_and_gradients, jit_compile=True)
      if self.jit and not alone and stateless
      else self._loss_and_gradients
    )
    function = functools.partial(
      tf.function, jit_compile=True if self.jit and alone else None
    )
    self._stretch_program = function(self._many_steps)
    self._stream_step = function(self._distributed_step, reduce_retracing=True)

  def _stretch(
    self,
    data: ArrayData,
    order: tf.Tensor,
    first: int,
    count: int,
    noise: tf.Tensor | None,
  ) -> float:
    """Trains on some batches of an epoch; returns the sum of their losses."""
    parts = self._placement.put(data)
    first = tf.constant(first, tf.int32)
    # The program is traced once for each augmentation among its arguments.
    loss = self._stretch_program(
      parts, data.scaling, order, first, first + count, data.augment, noise
    )
    return float(loss)

  def _many_steps(
    self,
    parts: Any,
    scaling: Scaling | None,
    order: tf.Tensor,
    first: tf.Tensor,
    last: tf.Tensor,
    augment: Augment | None,
    noise: tf.Tensor | None,
  ) -> tf.Tensor:
    def one(step, total):
      uniforms = None
      if augment is not None:
        uniforms = augmentation.uniforms(order.shape[1], noise, step)
      loss = self._distributed_step_on(
        parts, scaling, order[step], augment, uniforms
      )
      return step + 1, total + loss

    _, total = tf.while_loop(
      lambda step, _: step < last, one, (first, 0.0), parallel_iterations=1
    )
    return total

  def _distributed_step_on(self, parts, scaling, indices, augment, uniforms):
    def replica_step():
      share = indices.shape[0] // self._replicas
      first = self._placement.replica_id() * share
      x, y, weight = gather(
        parts,
        indices[first:][:share],
        scaling,
        on_host=self._replicas > 1,
      )
      if augment is not None:
        x = augment(x, uniforms[first:][:share])
      return self._update((x, y, weight))

    return self._sum(self.strategy.run(replica_step))

  def _distributed_step(self, batch):
    return self._sum(self.strategy.run(self._update, args=(batch,)))

  def _sum(self, losses):
    # The loss of a replica is its share of the mean over the whole batch.
    return self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

  def _update(self, batch):
    loss, gradients = self._gradients(batch)
    optimizer = self.model.optimizer
    if self._replicas > 1:
      gradients = self._keras.clip_together(optimizer, gradients)
    pairs = zip(gradients, self.model.trainable_variables, strict=True)
    optimizer.apply_gradients([p for p in pairs if p[0] is not None])
    return tf.cast(loss, tf.float32)

  def _loss_and_gradients(self, batch):
    x, y, sample_weight = as_triple(batch)
    variables = [self._keras.raw(v) for v in self.model.trainable_variables]
    with tf.GradientTape() as tape:
      predicted = self._keras.forward(self.model, x)
      loss = self.model.compute_loss(
        x=x, y=y, y_pred=predicted, sample_weight=sample_weight
      )
      scaled = self._keras.scale_loss(self.model.optimizer, loss)
    gradients = tape.gradient(scaled, variables)
    gradients = self._keras.unscale_gradients(self.model.optimizer, gradients)
    return loss, [
      self.binding.mask_gradient(variable, gradient)
      for variable, gradient in zip(
        self.model.trainable_variables, gradients, strict=True
      )
    ]

  def _stream(
    self, data: StreamData, epoch: int, first: int, count: int
  ) -> float:
    """Trains on some batches of an epoch; returns the sum of their losses.

    It goes on with the open iterator where that stands at the batch `first`;
    otherwise it opens the epoch and skips to that batch.
    """
    key = (data, epoch, first)
    position, iterator = self._open_stream
    if position != key:
      iterator = iter(self._placement.distribute(data.make(epoch).skip(first)))
    losses = [self._stream_step(next(iterator)) for _ in range(count)]
    self._open_stream = ((data, epoch, first + count), iterator)
    return float(np.sum([loss.numpy() for loss in losses], dtype=np.float64))

  # Helpers.

  def _made(self, seed: int) -> Any:
    """Makes a model whose random numbers come from a seed."""
    wrappers.set_seed(seed)
    with self.strategy.scope():
      return self._make_model()

  def _statistics_of_all_workers(
    self, weights: dict[str, np.ndarray]
  ) -> dict[str, np.ndarray]:
    """Averages moving statistics, of which each worker gathers its own."""
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


def _check_trainable_here(model: Any) -> None:
  if getattr(model, "optimizer", None) is None:
    raise ValueError(
      "make_model must return a compiled model. Call model.compile(optimizer,"
      " loss, metrics) in it."
    )
  home = type(model).train_step.__module__.split(".")[0]
  if home not in ("keras", "tf_keras"):
    raise ValueError(
      f"{type(model).__name__} has a train_step of its own, which"
      " cannot be compiled into one program here. Use lottery_prune(model),"
      " model.fit() and prune_and_rewind(model) instead."
    )
