"""Criteria: a score for each prunable weight; higher = keep.

A criterion is one function of the signature of `Criterion`. It knows neither
density nor scope: those are `select`'s. To add one, write the function:

```python
def movement(binding, mask, batches, seed):
  initial = binding.initial()
  now = binding.read()
  return {key: np.abs(now[key]) - np.abs(initial[key]) for key in mask}
```
"""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import numpy as np

from tf_lottery import masks
from tf_lottery.wrappers import binding as binding_lib

# (binding, mask of now, batches of (x, y, sample_weight), seed) -> scores.
# `batches` is read lazily: a criterion that needs no data costs no data.
Criterion = Callable[
  [binding_lib.Binding, masks.Mask, Iterable[Any], int],
  dict[str, np.ndarray],
]


def magnitude(
  binding: binding_lib.Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """`score = |w|`, of the weights as trained.

  Returns:
    Weight key -> array of the weight's shape, at least 0.

  Reference: Han et al., arXiv 1506.02626; Frankle and Carbin, arXiv
  1803.03635.
  """
  del batches, seed
  weights = binding.read()
  return {key: np.abs(weights[key]) for key in mask}


def random(
  binding: binding_lib.Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """`score ~ U[0, 1)`: the baseline that knows nothing.

  Args:
    binding: not looked at.
    mask: which weights to score.
    batches: not looked at.
    seed: the same seed and mask density give the same scores.

  Returns:
    Weight key -> array of the weight's shape, in [0, 1).
  """
  del binding, batches
  rng = np.random.default_rng([seed, mask.kept])
  return {key: rng.random(shape) for key, shape in mask.shapes.items()}


_BY_NAME = {"magnitude": magnitude, "random": random}


def get(criterion: str | Criterion) -> Criterion:
  """A criterion by its name, or the function itself.

  Raises:
    ValueError: there is no criterion of that name.
  """
  if callable(criterion):
    return criterion
  if criterion not in _BY_NAME:
    raise ValueError(
      f"criterion must be a function or one of {sorted(_BY_NAME)}, got"
      f" {criterion!r}."
    )
  return _BY_NAME[criterion]
