"""Criteria give each prunable weight a score; the highest scores are kept.

A criterion is one function with the signature `Criterion`. It knows neither
density nor scope: `select` applies those. To add a criterion, write a function:

```python
def large_initial(binding, mask, batches, seed):
  initial = binding.initial()
  return {key: np.abs(initial[key]) for key in mask}
```

There are criteria for trained weights, and criteria for the untrained network,
of which `AT_INITIALISATION` lists the names. Both score the sparse network of
`mask`: the criteria that compute anything put zeros for its pruned entries
first, whatever the model holds there. They leave the model as they found it,
bit for bit.

A criterion that reads data takes the first `MAX_BATCHES` of the batches that it
is given. They should be drawn at random: data that are sorted by class would
show it one class. The loss is that of the data, without weight decay; dropout
is off, and batch normalisation takes the statistics of each batch. See
`wrappers/gradients.py`.
"""

import itertools
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import numpy as np

from tf_lottery import masks
from tf_lottery.wrappers import gradients
from tf_lottery.wrappers import linearized
from tf_lottery.wrappers.binding import Binding

# (binding, present mask, batches of (x, y, sample_weight), seed) -> scores.
# A criterion that does not iterate over `batches` reads no data.
Criterion = Callable[
  [Binding, masks.Mask, Iterable[Any], int], dict[str, np.ndarray]
]

MAX_BATCHES = 10  # How many batches a criterion reads at most.


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


def movement(
  binding: Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Returns how far training moved each weight: `score = |w - w_init|`.

  Args:
    binding: The binding of a model whose initial weights are known.
    mask: The mask that covers the weights to score.
    batches: Not used.
    seed: Not used.

  Returns:
    Weight key -> array of the weight's shape, at least 0.

  Raises:
    ValueError: The model has no initial weights; see `Binding.initial`.

  Reference: Zhou et al., arXiv 1905.01067, section 3.
  """
  del batches, seed
  now, initial = binding.read(), binding.initial()
  return {key: np.abs(now[key] - initial[key]) for key in mask}


def magnitude_increase(
  binding: Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Returns how much each weight grew in training: `score = |w| - |w_init|`.

  See `movement` for arguments and exceptions.

  Returns:
    Weight key -> array of the weight's shape; below 0 where a weight shrank.

  Reference: Zhou et al., arXiv 1905.01067, section 3.
  """
  del batches, seed
  now, initial = binding.read(), binding.initial()
  return {key: np.abs(now[key]) - np.abs(initial[key]) for key in mask}


def large_final_same_sign(
  binding: Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Returns the size of trained weights that kept their sign.

  `score = sign(w_init) w`: that is |w| where the sign is that of the initial
  weight, and -|w| where training turned it. The paper's score is
  `max(0, sign(w_init) w)`. Without the maximum, weights of the same sign are
  ordered as in the paper, and the others are no ties: those that went least
  beyond zero come next.

  See `movement` for arguments and exceptions.

  Returns:
    Weight key -> array of the weight's shape.

  Reference: Zhou et al., arXiv 1905.01067.
  """
  del batches, seed
  now, initial = binding.read(), binding.initial()
  return {key: np.sign(initial[key]) * now[key] for key in mask}


def taylor(
  binding: Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Estimates how much the loss changes when each weight is removed.

  `score = mean over batches b of |w dL_b/dw|`, the first order of the Taylor
  expansion of the loss. The absolute value is taken before the mean: at the end
  of training the gradients of the batches cancel out, and their sizes still
  tell which weights matter.

  Args:
    binding: The binding of a compiled model.
    mask: The mask that covers the weights to score.
    batches: `(x, y)` or `(x, y, sample_weight)` tuples; the first `MAX_BATCHES`
      are read.
    seed: Not used.

  Returns:
    Weight key -> array of the weight's shape, at least 0.

  Raises:
    ValueError: There are no batches, the model is not compiled, or a gradient
      is not finite.

  Reference: Molchanov et al., arXiv 1611.06440, section 2.2, and 1906.10771,
  section 3.1, where the square replaces the absolute value.
  """
  del seed
  weights = _sparse(binding, mask)
  gradient = gradients.mean_gradient(
    binding, weights, _first(batches, "taylor"), absolute=True
  )
  return {key: np.abs(weights[key]) * gradient[key] for key in mask}


def snip(
  binding: Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Scores connections by their sensitivity: `score = |w dL/dw|`.

  It is the gradient of the loss by the entries of the mask, `|dL/dm|` at the
  sparse network. L is the mean loss of the batches; the paper takes one batch.
  The paper's division by the sum of all scores changes no order, and is left
  out. Asked in several rounds of falling density, it is iterated SNIP.

  See `taylor` for arguments, return value and exceptions.

  Reference: Lee et al., arXiv 1810.02340, section 4; iterated: de Jorge et al.,
  arXiv 2006.09081, section 4.
  """
  del seed
  weights = _sparse(binding, mask)
  gradient = gradients.mean_gradient(binding, weights, _first(batches, "snip"))
  return {key: np.abs(weights[key] * gradient[key]) for key in mask}


def force(
  binding: Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Scores connections as SNIP does, and lets pruned ones come back (FORCE).

  `score = |w dL/dw'|`, where the gradient is that of the sparse network, at
  `w' = mask w`, and w is the weight from before pruning also where `mask`
  prunes. So a pruned entry has a score too. If it is among the highest, the
  next mask may have it again: select from the dense mask, not from `mask`.

  Where `mask` prunes, w is the initial weight (`Binding.initial`); elsewhere it
  is the present one. See `taylor` for arguments and return value.

  Raises:
    ValueError: As for `taylor`; or the mask prunes, and the model has no
      initial weights.

  Reference: de Jorge et al., arXiv 2006.09081, section 4.
  """
  del seed
  weights = _sparse(binding, mask)
  gradient = gradients.mean_gradient(binding, weights, _first(batches, "force"))
  if mask.density < 1:
    initial = binding.initial()
    weights = {
      key: np.where(kept, weights[key], initial[key])
      for key, kept in mask.items()
    }
  return {key: np.abs(weights[key] * gradient[key]) for key in mask}


def grasp(
  binding: Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Scores weights by how much gradient flow they bring (GraSP).

  `score = w (H g)`, where g is the gradient and H the Hessian of the mean loss
  of the batches, both by the prunable weights. Removing a weight changes the
  gradient flow `g . g` by about `-2 w (H g)`. So the weights with the highest
  scores are those whose removal lowers it most, and they are kept. The paper's
  S is `-w (H g)`, and it removes the highest S.

  The loss is the model's own. The authors' code divides logits by a temperature
  of 200, and initialises dense layers anew; neither is in the paper's formula,
  nor done here: a model may have no logits.

  See `taylor` for arguments and exceptions.

  Returns:
    Weight key -> array of the weight's shape, of both signs.

  Reference: Wang et al., arXiv 2002.07376, section 4.
  """
  del seed
  weights = _sparse(binding, mask)
  product = gradients.hessian_gradient(
    binding, weights, _first(batches, "grasp")
  )
  return {key: weights[key] * product[key] for key in mask}


def synflow(
  binding: Binding,
  mask: masks.Mask,
  batches: Iterable[Any] = (),
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Scores weights by the flow through them; it needs no data (SynFlow).

  `score = |w| dR/d|w| / R`, where R is the sum of all outputs for an input of
  ones when every weight has its absolute value. In a network of layers in a
  row the scores of each layer add up to 1. All scores are divided by the same
  R, which changes no order; it is computed in float64, as R grows with the
  power of the depth.

  The network is made linear for that, as it is in the paper: activations pass
  their input on, normalisation only scales by gamma and adds beta, as the
  authors' networks do in inference before training, and an embedding adds up
  all its rows. See `wrappers/linearized.py`. In attention, queries and keys get
  scores near 0: at equal positions they make no difference. Give such a model a
  scope that leaves each weight some, such as `layerwise()`.

  The paper prunes in 100 rounds: one round may empty a whole layer.

  Args:
    binding: The binding of a model, compiled or not.
    mask: The mask that covers the weights to score.
    batches: Read only where the model does not declare the shape of its inputs,
      and only for that shape.
    seed: Not used.

  Returns:
    Weight key -> float64 array of the weight's shape, at least 0.

  Raises:
    ValueError: The shape of the inputs is not known, or R is zero, not finite,
      or the same for all weights.

  Reference: Tanaka et al., arXiv 2006.05467, equations 1 and 2.
  """
  del seed

  def inputs() -> Any:
    batch = next(iter(batches), None)
    return None if batch is None else batch[0]

  weights = _sparse(binding, mask)
  return linearized.synaptic_flow(binding, weights, inputs)


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


BY_NAME: dict[str, Criterion] = {
  "magnitude": magnitude,
  "movement": movement,
  "magnitude_increase": magnitude_increase,
  "large_final_same_sign": large_final_same_sign,
  "taylor": taylor,
  "snip": snip,
  "force": force,
  "grasp": grasp,
  "synflow": synflow,
  "random": random,
}
# Names of the criteria that are meant for the untrained network.
AT_INITIALISATION = frozenset({"snip", "force", "grasp", "synflow"})
# Names of the criteria that read data, up to `MAX_BATCHES` batches.
READ_DATA = frozenset({"taylor", "snip", "force", "grasp"})
# Names of the criteria that score pruned entries, so that they may come back.
BRING_BACK = frozenset({"force"})


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


def _sparse(binding: Binding, mask: masks.Mask) -> dict[str, np.ndarray]:
  """Returns the present weights, with zeros for the entries that are pruned."""
  weights = binding.read()
  return {key: np.where(kept, weights[key], 0) for key, kept in mask.items()}


def _first(batches: Iterable[Any], name: str) -> list[Any]:
  """Returns the first batches.

  Raises:
    ValueError: There is none.
    TypeError: A batch is no tuple.
  """
  first = list(itertools.islice(batches, MAX_BATCHES))
  if not first:
    raise ValueError(
      f"criterion={name!r} reads training data, and there are no batches. Give"
      " batches=[(x, y)]."
    )
  for batch in first:
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
      raise TypeError(
        "A batch must be a tuple (x, y) or (x, y, sample_weight), got"
        f" {type(batch).__name__}. Give one batch as batches=[(x, y)]."
      )
  return first
