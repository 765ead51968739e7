"""Gradual pruning as tfmot ships it, the common way to make models sparse."""

import importlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tf_keras

from tf_lottery.wrappers import walking
from tf_lottery.wrappers.binding import Binding
from tf_lottery.wrappers.keras2_lottery import TF_KERAS

# After keras2_lottery, which keeps the import from changing the process.
_tfmot = importlib.import_module("tensorflow_model_optimization").sparsity.keras
_FREQUENCY = 100
_HIGHEST_SPARSITY = 1 - 1e-7  # tfmot refuses to prune all of a layer


def end_step(steps: int) -> int:
  """Returns the step at which the final density is reached."""
  end = max(1, steps * 3 // 4)
  # tfmot prunes at multiples of the frequency only.
  return end - end % min(_FREQUENCY, end)


def fit(
  model: Any,
  batches: Callable[[int], Any],
  steps: int,
  densities: Mapping[str, float],
  *,
  every: int,
  on_evaluation: Callable[[int, float, Any], None],
) -> dict[str, np.ndarray]:
  """Trains a model under tfmot's `prune_low_magnitude`, and strips it.

  Sparsity rises from 0 by `PolynomialDecay` over the first three quarters of
  training, every 100 steps.

  Args:
    model: A compiled Sequential or functional tf_keras model.
    batches: Returns the batch of a step, as `fit` takes it.
    steps: Number of optimizer updates. At least 1.
    densities: Weight key -> the final density of the kernel, in (0, 1].
    every: Number of steps between evaluations, once the final density is
      reached.
    on_evaluation: Function of the step, the mean training loss since the
      evaluation before, and the model to evaluate.

  Returns:
    Key -> array, of all weights at the end.

  Reference: Zhu and Gupta, arXiv 1710.01878.
  """
  end = end_step(steps)
  pruned = _wrapped(model, densities, end)
  pruned.compile_from_config(model.get_compile_config())

  def evaluate(batch: int, logs: Mapping[str, float]) -> None:
    step = batch + 1
    if step == steps or (step > end and step % every == 0):
      on_evaluation(step, logs["loss"], pruned)
      pruned.reset_metrics()  # the evaluation filled them

  pruned.fit(
    map(batches, range(steps)),
    steps_per_epoch=steps,
    verbose=0,
    callbacks=[
      _tfmot.UpdatePruningStep(),
      tf_keras.callbacks.LambdaCallback(on_train_batch_end=evaluate),
    ],
  )
  stripped = _tfmot.strip_pruning(pruned)
  return Binding(stripped, TF_KERAS).read()


def _wrapped(model: Any, densities: Mapping[str, float], end: int) -> Any:
  by_layer = {
    id(bound.layer): densities[bound.weight.key]
    for bound in walking.walk_weights(model, TF_KERAS)
    if bound.weight.key in densities
  }

  def wrap(layer):
    if id(layer) not in by_layer:
      return layer
    schedule = _tfmot.PolynomialDecay(
      0.0,
      min(1 - by_layer[id(layer)], _HIGHEST_SPARSITY),
      begin_step=0,
      end_step=end,
      frequency=min(_FREQUENCY, end),
    )
    return _tfmot.prune_low_magnitude(layer, pruning_schedule=schedule)

  return tf_keras.models.clone_model(model, clone_function=wrap)
