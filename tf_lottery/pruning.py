"""Prunes a lottery-ready model after each training of the caller's own loop."""

import warnings
from collections.abc import Sequence
from typing import Any

from tf_lottery import criteria
from tf_lottery import masks
from tf_lottery import patterns
from tf_lottery import scopes
from tf_lottery import wrappers
from tf_lottery.wrappers.binding import Binding


def prune_and_rewind(
  model: Any,
  density: float,
  *,
  criterion: str | criteria.Criterion = "magnitude",
  scope: scopes.Scope | None = None,
  pattern: str | patterns.Pattern | None = None,
  batches: Any = (),
  seed: int = 0,
  optimizer: Any | Sequence[Any] | None = None,
  reset_optimizer: bool = True,
) -> masks.Mask:
  """Prunes a lottery-ready model after training, and rewinds it.

  Scores the weights, selects which to keep, holds the new mask and puts the
  initial weights back. Then train again.

  Args:
    model: A model on which `lottery_prune` was called.
    density: Fraction of the prunable weights to keep, in (0, 1].
    criterion: A name in `criteria.BY_NAME`, such as `"movement"`, or a
      function. Defaults to `"magnitude"`.
    scope: Which weights compete with each other. Defaults to
      `scopes.default()`, which is `lamp()`.
    pattern: What is pruned together, such as `"block_1x4"` or `channel()`; see
      `patterns.get`. Defaults to the pattern that `lottery_prune` was given as
      tfmot's `block_size` or `sparsity_m_by_n`, else to single weights.
    batches: `(x, y)` or `(x, y, sample_weight)` tuples for criteria that need
      data; see `criteria.READ_DATA`.
    seed: Seed of criteria that draw random numbers.
    optimizer: The optimizer, or a sequence of them, of your own training loop.
      Optimizers that are attributes of the model, such as the compiled one, are
      found without it. Defaults to `None`.
    reset_optimizer: Whether to reset all these optimizers: their slots, and
      their position in a learning-rate schedule. A rate that was set by hand or
      by a callback stays. Defaults to `True`, as in the paper.

  Returns:
    The new mask, a subset of the mask that was held before.

  Raises:
    ValueError: The model is not lottery-ready, the density rose, an optimizer
      averages weights, or `optimizer` is given with `reset_optimizer=False`.
    TypeError: An optimizer belongs to the other Keras generation.
    RuntimeError: The training did not hold the previous mask.

  Warns:
    UserWarning: There is no optimizer to reset, or the new mask leaves a weight
      nearly empty.

  Example:
  ```python
  model = lottery_prune(model)
  for density in geometric(levels=5):
    model.fit(x, y)
    prune_and_rewind(model, density)
  model.fit(x, y)
  model = strip_lottery(model)
  ```
  """
  binding = wrappers.bind(model)
  initial = binding.initial()
  binding.check_held()
  optimizers = _optimizers(binding, optimizer, reset_optimizer)
  before = binding.mask
  scores = criteria.get(criterion)(binding, before, batches, seed)
  mask = scopes.select(
    scores,
    before,
    density,
    scope or scopes.default(),
    binding.report.prunable,
    wrappers.pattern_of(model) if pattern is None else patterns.get(pattern),
  )
  if warning := masks.nearly_empty(mask, binding.report.prunable):
    warnings.warn(warning, stacklevel=2)
  for one in optimizers:
    wrappers.optimizers.reset(one, model, binding.generation)
  binding.write(initial)
  binding.hold(mask)
  return mask


def _optimizers(
  binding: Binding, given: Any | Sequence[Any] | None, reset: bool
) -> list[Any]:
  """Checks all optimizers, and returns those to reset, each once."""
  if given is None:
    given = []
  elif not isinstance(given, Sequence):
    given = [given]
  if given and not reset:
    raise ValueError(
      "optimizer= names optimizers to reset, but reset_optimizer=False resets"
      " none. Leave one of them out."
    )
  found = {id(one): one for one in (*binding.optimizers, *given)}
  for one in found.values():
    wrappers.optimizers.check(one)
    if wrappers.generation_of(one) is not binding.generation:
      raise TypeError(
        f"optimizer= must belong to {binding.generation.library.__name__}, as"
        f" the model does, got {type(one).__module__}.{type(one).__qualname__}."
      )
  if reset and not found:
    warnings.warn(
      "prune_and_rewind() found no optimizer to reset: the model is not"
      " compiled, and optimizer= is not given. Momenta of the last training"
      " would disturb the next one. Give your loop's optimizer by optimizer=,"
      " or say reset_optimizer=False.",
      stacklevel=3,
    )
  return list(found.values()) if reset else []
