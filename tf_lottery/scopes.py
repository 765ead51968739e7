"""Who competes with whom, and how many of each group stay.

A scope turns one density into groups of weights with exact budgets; `select`
keeps the best scores of each group. Both are pure functions of their
arguments.
"""

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from tf_lottery import masks
from tf_lottery import patterns
from tf_lottery.weights import Weight


@dataclasses.dataclass(frozen=True)
class Group:
  """Weights that compete for the same budget.

  Attributes:
    keys: the weights' keys.
    keep: how many of their entries stay, all together.
  """

  keys: tuple[str, ...]
  keep: int


Scope = Callable[[Sequence[Weight], float], list[Group]]


@dataclasses.dataclass(frozen=True)
class Global:
  """See `global_`."""

  exempt: tuple[str, ...] = ()

  def __call__(self, weights: Sequence[Weight], density: float) -> list[Group]:
    """The groups and budgets for a density."""
    _check_patterns(self.exempt, weights)
    competing = [
      weight
      for weight in weights
      if not any(weight.matches(pattern) for pattern in self.exempt)
    ]
    total = sum(weight.size for weight in competing)
    keys = tuple(weight.key for weight in competing)
    return [Group(keys, round(density * total))]


def global_(exempt: Sequence[str] = ()) -> Global:
  """All weights compete with each other.

  Args:
    exempt: weights that are never pruned, by kind (`"dense"`), layer name
      (wildcards allowed), key, or `"output"`. They still count in a mask's
      density, as in the papers, and the density asked for is that of the
      others. ResNet-20 of the paper exempts its output and its shortcuts.

  Returns:
    A scope that keeps `round(density * n)` of the n entries that compete.
  """
  if isinstance(exempt, str):
    raise TypeError(f"exempt must be a list of patterns, got {exempt!r}.")
  return Global(tuple(exempt))


@dataclasses.dataclass(frozen=True)
class Layerwise:
  """See `layerwise`."""

  rate: float
  rates: tuple[tuple[str, float], ...] = ()

  def __call__(self, weights: Sequence[Weight], density: float) -> list[Group]:
    """The groups and budgets for a density."""
    _check_patterns([pattern for pattern, _ in self.rates], weights)
    return [
      Group(
        (weight.key,),
        round(self._density(weight, density) * weight.size),
      )
      for weight in weights
    ]

  def _density(self, weight: Weight, density: float) -> float:
    rate = next(
      (rate for pattern, rate in self.rates if weight.matches(pattern)),
      self.rate,
    )
    # After l Levels at the default rate, density is (1 - self.rate) ** l;
    # this weight then has (1 - rate) ** l. Equal rates must not be rounded.
    if rate == self.rate:
      return density
    return density ** (math.log1p(-rate) / math.log1p(-self.rate))


def layerwise(
  rates: Mapping[str, float] | None = None, *, rate: float = 0.2
) -> Layerwise:
  """Each weight keeps its own best, at a rate of its own.

  A weight at the default rate keeps the density of the Level; one with
  another rate keeps `density ** (log(1 - its rate) / log(1 - rate))`. With a
  geometric schedule that is `(1 - its rate) ** level`, as the paper prunes,
  and a one-shot schedule to the same density gives each weight the same count.

  Args:
    rates: pattern -> fraction pruned at each Level, in [0, 1). A pattern is a
      kind (`"conv"`), a layer name (wildcards allowed), a key, or `"output"`;
      the first that matches counts. The paper's LeNet is
      `layerwise({"output": 0.1})`, its Conv-2
      `layerwise({"output": 0.1, "conv": 0.1})`.
    rate: the rate of the others, in (0, 1): the schedule's. Defaults to `0.2`.

  Returns:
    A scope that keeps `round(density * n)` of each weight's n entries.
  """
  if not 0 < rate < 1:
    raise ValueError(f"rate must be in (0, 1), got {rate}.")
  rates = rates or {}
  if not isinstance(rates, Mapping):
    raise TypeError(f"rates must map patterns to rates, got {rates!r}.")
  for pattern, value in rates.items():
    if not 0 <= value < 1:
      raise ValueError(
        f"The rates of layerwise() must be in [0, 1), got {value} for"
        f" {pattern!r}."
      )
  return Layerwise(rate, tuple(rates.items()))


@dataclasses.dataclass(frozen=True)
class ErdosRenyiKernel:
  """See `erdos_renyi`."""

  def __call__(self, weights: Sequence[Weight], density: float) -> list[Group]:
    """The groups and budgets for a density."""
    sizes = np.array([weight.size for weight in weights])
    shares = np.array([sum(weight.shape) for weight in weights])
    keep = _apportion(shares, sizes, round(density * sizes.sum()))
    return [
      Group((weight.key,), int(count))
      for weight, count in zip(weights, keep, strict=True)
    ]


def erdos_renyi() -> ErdosRenyiKernel:
  """Each weight's density falls with its size (Erdos-Renyi-Kernel).

  The density of a weight is proportional to `sum(shape) / prod(shape)`, capped
  at 1, and scaled so that all together have the density asked for (Evci et
  al., arXiv 1911.11134, section 3).
  """
  return ErdosRenyiKernel()


def _apportion(shares: np.ndarray, sizes: np.ndarray, total: int) -> np.ndarray:
  """Whole counts in proportion to `shares`, at most `sizes`, that add up.

  They are `min(size, round(level * share))` for the level that gives the
  total, so that no count rises when the total falls.
  """

  def counts(level: float) -> np.ndarray:
    return np.minimum(sizes, np.floor(level * shares + 0.5)).astype(int)

  low, high = 0.0, float((sizes / shares).max()) + 1
  while low < (middle := (low + high) / 2) < high:
    if counts(middle).sum() < total:
      low = middle
    else:
      high = middle
  keep = counts(high)
  # Those that round up at this very level; the last of them yield.
  tied = np.flatnonzero(keep > counts(low))
  keep[tied[len(tied) - (keep.sum() - total) :]] -= 1
  return keep


def select(
  scores: Mapping[str, np.ndarray],
  mask: masks.Mask,
  density: float,
  scope: Scope,
  weights: Sequence[Weight],
  pattern: patterns.Pattern | None = None,
) -> masks.Mask:
  """Keeps the highest scores of each group: the mask of the next Level.

  The result is a subset of `mask`, with the exact count of each group. Among
  equal scores the one of lower index stays. With a pattern of blocks the
  counts are those of blocks, `round(density * blocks)` of each group: where
  blocks differ in size, as the channels of several layers do, the density of
  the mask may differ from the one asked for.

  Args:
    scores: weight key -> array of finite numbers; higher = keep.
    mask: what is kept now.
    density: target for the weights that the scope prunes, in (0, 1].
    scope: who competes with whom.
    weights: the prunable weights, `binding.report.prunable`.
    pattern: what is pruned together. Defaults to `unstructured()`.

  Raises:
    ValueError: a score is missing, not finite or of another shape, or a group
      has fewer entries left than its budget.

  >>> import numpy as np
  >>> weight = Weight("w", "w", "kernel", "dense", (4,), True, "")
  >>> scores = {"w": np.array([0.1, 0.9, 0.2, 0.5])}
  >>> mask = masks.Mask.ones({"w": (4,)})
  >>> select(scores, mask, 0.5, global_(), [weight])["w"]
  array([False,  True, False,  True])
  """
  masks.check_density(density)
  _check_scores(scores, mask)
  pattern = pattern or patterns.unstructured()
  by_key = {weight.key: weight for weight in weights}
  chosen = dict(mask)
  for group in scope(weights, density):
    keys = [key for key in group.keys if not pattern.spares(by_key[key])]
    if not keys:
      continue
    pooled = [
      pattern.pool(by_key[key], np.asarray(scores[key]), mask[key])
      for key in keys
    ]
    flat, left = (np.concatenate(parts) for parts in zip(*pooled, strict=True))
    size = sum(mask[key].size for key in group.keys)
    keep = round(group.keep * len(flat) / size)
    _check_keep(keep, left, density, pattern, group, mask)
    kept = _keep_highest(flat, left, keep)
    cuts = np.cumsum([len(part) for part, _ in pooled])[:-1]
    for key, part in zip(keys, np.split(kept, cuts), strict=True):
      chosen[key] = pattern.expand(by_key[key], part) & mask[key]
  return masks.Mask(chosen)


def _check_keep(
  keep: int,
  left: np.ndarray,
  density: float,
  pattern: patterns.Pattern,
  group: Group,
  mask: masks.Mask,
) -> None:
  possible = np.count_nonzero(left)
  if keep <= possible:
    return
  if all(mask[key].all() for key in group.keys):
    raise ValueError(
      f"{pattern} keeps at most {possible} of {len(left)}, and a density of"
      f" {density} would keep {keep}. Give densities of at most"
      f" {possible / len(left):g}, such as one_shot({possible / len(left):g})."
    )
  raise ValueError(
    f"density must not rise: {density} would keep {keep} of"
    f" {', '.join(group.keys)}, and only {possible} are left."
  )


def _keep_highest(
  scores: np.ndarray, left: np.ndarray, keep: int
) -> np.ndarray:
  candidates = np.flatnonzero(left)
  values = scores[candidates]
  kept = np.zeros(len(scores), bool)
  if keep == 0:
    return kept
  threshold = np.partition(values, len(values) - keep)[len(values) - keep]
  above = values > threshold
  ties = np.flatnonzero(values == threshold)[: keep - np.count_nonzero(above)]
  kept[candidates[above]] = True
  kept[candidates[ties]] = True
  return kept


def _check_scores(scores: Mapping[str, np.ndarray], mask: masks.Mask) -> None:
  for key, shape in mask.shapes.items():
    if key not in scores:
      raise ValueError(f"The criterion gave no score for {key!r}.")
    if np.shape(scores[key]) != shape:
      raise ValueError(
        f"The scores of {key!r} must have the weight's shape {shape}, got"
        f" {np.shape(scores[key])}."
      )
    if not np.isfinite(scores[key]).all():
      raise ValueError(
        f"The scores of {key!r} must be finite. Weights that are NaN or"
        " infinite mean that training diverged: lower the learning rate."
      )


def _check_patterns(patterns: Sequence[str], weights: Sequence[Weight]) -> None:
  for pattern in patterns:
    if not any(weight.matches(pattern) for weight in weights):
      names = ", ".join(f"{weight.layer} ({weight.kind})" for weight in weights)
      raise ValueError(
        f"The scope names {pattern!r}, which matches no prunable weight. There"
        f" are: {names}."
      )
