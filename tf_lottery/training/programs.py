"""The compiled programs that train a model for some steps.

With data in memory, all steps up to the next evaluation are one program, which
gathers its own batches, under XLA where that is faster.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery.training import augmentation
from tf_lottery.training.data import ArrayData
from tf_lottery.training.data import Augment
from tf_lottery.training.data import Data
from tf_lottery.training.data import StreamData
from tf_lottery.training.evaluation import Placement
from tf_lottery.training.examples import Scaling
from tf_lottery.training.examples import as_triple
from tf_lottery.training.examples import gather
from tf_lottery.wrappers.binding import Binding


class Programs:
  """The programs that train one compiled Keras model, each traced once.

  Args:
    binding: The binding of the model. A mask must be held already.
    placement: Where the data are put.
    jit: Whether to compile with XLA.
  """

  def __init__(self, binding: Binding, placement: Placement, jit: bool):
    self._binding = binding
    self._model = binding.model
    self._keras = binding.generation
    self._placement = placement
    self._strategy = placement.strategy
    self._open_stream: tuple[Any, Any] = (None, None)
    alone = placement.replicas == 1
    # With several replicas, XLA compiles the gradients alone, and they may not
    # assign variables: no moving statistics, no states of dropout.
    stateless = not self._keras.random_states(self._model) and all(
      weight.trainable for weight in binding.report
    )
    self._gradients = (
      tf.function(self._loss_and_gradients, jit_compile=True)
      if jit and not alone and stateless
      else self._loss_and_gradients
    )
    function = functools.partial(
      tf.function, jit_compile=True if jit and alone else None
    )
    self._array_steps = function(self._many_steps)
    self._stream_step = function(self._distributed_step, reduce_retracing=True)
    self._array_gradients = function(self._gathered_gradients)
    self._stream_gradients = function(
      self._distributed_gradients, reduce_retracing=True
    )

  @property
  def traces(self) -> int:
    """How often the programs were traced."""
    programs = (self._array_steps, self._stream_step)
    return sum(p.experimental_get_tracing_count() for p in programs)

  def train(
    self,
    data: Data,
    epoch: int,
    first: int,
    count: int,
    *,
    batch_size: int,
    seed: int,
  ) -> tuple[float, int]:
    """Trains for some steps of one epoch.

    Args:
      data: The examples.
      epoch: The number of the epoch.
      first: The number of the first step in the epoch.
      count: The number of steps.
      batch_size: See `Trainer.train`.
      seed: See `Trainer.train`.

    Returns:
      The sum of the losses; and the number of examples.
    """
    if isinstance(data, StreamData):
      return self._train_on_stream(data, epoch, first, count)
    begin = tf.constant(first, tf.int32)
    total = self._array_steps(
      *self._arrays(data, epoch, batch_size, seed), begin, begin + count
    )
    return float(total), count * batch_size

  def _arrays(
    self, data: ArrayData, epoch: int, batch_size: int, seed: int
  ) -> tuple[Any, ...]:
    """Returns the arguments of a program that gathers an epoch's batches."""
    per_epoch = data.steps_per_epoch(batch_size)
    order = data.order(seed, epoch)[: per_epoch * batch_size]
    noise = None
    if data.augment is not None:
      noise = tf.constant([seed, epoch * per_epoch], tf.int64)
    return (
      self._placement.put(data),
      data.scaling,
      tf.constant(order.reshape(per_epoch, batch_size)),
      data.augment,  # a function among the arguments is traced by itself
      noise,
    )

  def _train_on_stream(
    self, data: StreamData, epoch: int, first: int, count: int
  ) -> tuple[float, int]:
    """Trains on batches; continues an open iterator if it stands at `first`."""
    iterator = self._stream_at(data, epoch, first)
    losses, examples = [], 0
    for _ in range(count):
      batch = next(iterator)
      examples += self._size(data, batch)
      losses.append(self._stream_step(batch))
    self._open_stream = ((data, epoch, first + count), iterator)
    total = np.sum([loss.numpy() for loss in losses], dtype=np.float64)
    return float(total), examples

  def _size(self, data: StreamData, batch: Any) -> int:
    """Returns the number of examples of a batch; 0 if it is not known."""
    # Under a strategy, batches are in parts, and of one size.
    sized = batch if self._placement.replicas == 1 else data.element_spec
    return tf.nest.flatten(sized)[0].shape[0] or 0

  def _stream_at(self, data: StreamData, epoch: int, first: int) -> Any:
    position, iterator = self._open_stream
    if position == (data, epoch, first):
      return iterator
    return iter(self._placement.distribute(data.make(epoch).skip(first)))

  def gradients(
    self,
    data: Data,
    epoch: int,
    index: int,
    *,
    batch_size: int,
    seed: int,
  ) -> tuple[dict[str, np.ndarray], int]:
    """Computes the gradients that a step will have, also of pruned weights.

    Args:
      data: The examples.
      epoch: The number of the epoch.
      index: The number of the step in the epoch.
      batch_size: See `Trainer.train`.
      seed: See `Trainer.train`.

    Returns:
      Key of a prunable weight -> its gradient, scaled as the optimizer scales
      the loss; and the number of examples.
    """
    if isinstance(data, StreamData):
      iterator = self._stream_at(data, epoch, index)
      batch = next(iterator)
      # The step itself gets the same batch.
      again = itertools.chain([batch], iterator)
      self._open_stream = ((data, epoch, index), again)
      found, examples = self._stream_gradients(batch), self._size(data, batch)
    else:
      arrays = self._arrays(data, epoch, batch_size, seed)
      found = self._array_gradients(*arrays, tf.constant(index, tf.int32))
      examples = batch_size
    return {key: gradient.numpy() for key, gradient in found.items()}, examples

  # Inside the programs.

  def _many_steps(
    self,
    parts: Any,
    scaling: Scaling | None,
    order: tf.Tensor,
    augment: Augment | None,
    noise: tf.Tensor | None,
    begin: tf.Tensor,
    end: tf.Tensor,
  ) -> tf.Tensor:
    def one(step, total):
      loss = self._gathered(
        self._update, parts, scaling, order, augment, noise, step
      )
      return step + 1, total + self._sum(loss)

    _, total = tf.while_loop(
      lambda step, _: step < end, one, (begin, 0.0), parallel_iterations=1
    )
    return total

  def _gathered(
    self,
    use: Callable[..., Any],
    parts: Any,
    scaling: Scaling | None,
    order: tf.Tensor,
    augment: Augment | None,
    noise: tf.Tensor | None,
    step: tf.Tensor,
  ) -> Any:
    """Returns what `use` returns on each replica's share of a batch."""
    replicas = self._placement.replicas
    indices, uniforms = order[step], None
    if augment is not None:
      uniforms = augmentation.uniforms(order.shape[1], noise, step)

    def replica_step():
      share = indices.shape[0] // replicas
      first = self._placement.replica_id() * share
      x, y, weight = gather(
        parts, indices[first:][:share], scaling, on_host=replicas > 1
      )
      if augment is not None:
        x = augment(x, uniforms[first:][:share])
      return use((x, y, weight))

    return self._strategy.run(replica_step)

  def _distributed_step(self, batch):
    return self._sum(self._strategy.run(self._update, args=(batch,)))

  def _sum(self, losses):
    # Each replica's loss is its share of the mean over the whole batch.
    return self._strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

  def _gathered_gradients(self, *arrays_and_step):
    found = self._gathered(self._dense_gradients, *arrays_and_step)
    return {key: self._sum(gradient) for key, gradient in found.items()}

  def _distributed_gradients(self, batch):
    found = self._strategy.run(self._dense_gradients, args=(batch,))
    return {key: self._sum(gradient) for key, gradient in found.items()}

  def _dense_gradients(self, batch):
    """Returns the gradients by key, and leaves the states as they are."""
    raw = self._binding.variables
    states = [raw[w.key] for w in self._binding.report if not w.trainable]
    states += self._keras.random_states(self._model)
    before = [tf.identity(state) for state in states]
    _, gradients = self._loss_and_gradients(batch, masked=False)
    for state, value in zip(states, before, strict=True):
      state.assign(value)
    keys = {id(raw[key]): key for key in self._binding.shapes}
    found = {}
    for variable, gradient in zip(
      self._model.trainable_variables, gradients, strict=True
    ):
      if key := keys.get(id(self._keras.raw(variable))):
        found[key] = (
          tf.zeros_like(raw[key])
          if gradient is None
          else tf.convert_to_tensor(gradient)
        )
    return found

  def _update(self, batch):
    loss, gradients = self._gradients(batch)
    optimizer = self._model.optimizer
    if self._placement.replicas > 1:
      gradients = self._keras.clip_together(optimizer, gradients)
    pairs = zip(gradients, self._model.trainable_variables, strict=True)
    optimizer.apply_gradients([p for p in pairs if p[0] is not None])
    return tf.cast(loss, tf.float32)

  def _loss_and_gradients(self, batch, masked=True):
    x, y, sample_weight = as_triple(batch)
    trainable = self._model.trainable_variables
    with tf.GradientTape() as tape:
      predicted = self._keras.forward(self._model, x)
      loss = self._model.compute_loss(
        x=x, y=y, y_pred=predicted, sample_weight=sample_weight
      )
      scaled = self._keras.scale_loss(self._model.optimizer, loss)
    gradients = tape.gradient(scaled, [self._keras.raw(v) for v in trainable])
    gradients = self._keras.unscale_gradients(self._model.optimizer, gradients)
    if not masked:
      return loss, gradients
    pairs = zip(trainable, gradients, strict=True)
    return loss, [self._binding.mask_gradient(*pair) for pair in pairs]
