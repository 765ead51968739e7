"""Criteria give each prunable weight a score; the highest scores are kept.

A criterion is one function with the signature `Criterion`. It knows neither
density nor scope: `select` applies those. To add a criterion, write a function:

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
from tf_lottery.wrappers.binding import Binding

# (binding, present mask, batches of (x, y, sample_weight), seed) -> scores.
# A criterion that does not iterate over `batches` reads no data.
Criterion = Callable[
  [Binding, masks.Mask, Iterable[Any], int], dict[str, np.ndarray]
]


def magnitude(
  binding: Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Returns the size of each trained weight: `score = |w|`.

  Returns:
    Weight key -> array of the weight's shape, at least 0.

  Reference: Han et al., arXiv 1506.02626; Frankle and Carbin, arXiv
  1803.03635.
  """
  del batches, seed
  weights = binding.read()
  return {key: np.abs(weights[key]) for key in mask}


def random(
  binding: Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Draws each score from `U[0, 1)`: the baseline that knows nothing.

  Args:
    binding: Not used.
    mask: The mask that covers the weights to score.
    batches: Not used.
    seed: Seed of the draw. The number of kept entries seeds it too, so that
      each Level has other scores.

  Returns:
    Weight key -> array of the weight's shape, in [0, 1).
  """
  del binding, batches
  rng = np.random.default_rng([seed, mask.kept])
  return {key: rng.random(shape) for key, shape in mask.shapes.items()}


BY_NAME = {"magnitude": magnitude, "random": random}


def get(criterion: str | Criterion) -> Criterion:
  """Returns the criterion of a name; a function is returned as it is.

  Raises:
    ValueError: There is no criterion of that name.
  """
  if callable(criterion):
    return criterion
  if criterion not in BY_NAME:
    raise ValueError(
      f"criterion must be a function or one of {sorted(BY_NAME)}, got"
      f" {criterion!r}."
    )
  return BY_NAME[criterion]
