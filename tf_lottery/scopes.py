"""Scopes say which weights compete, and how many entries each group keeps.

A scope turns one density into groups of weights with exact budgets. `select`
keeps the highest scores of each group.
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

# The scores of a weight's entries that are left, a vector -> numbers that can
# be compared between weights, and that rank the entries as the scores do.
Compare = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Group:
  """Weights that compete for the same budget.

  Attributes:
    keys: The keys of the weights.
    keep: Number of entries to keep of all these weights together.
    compare: Makes the scores of different weights comparable. Defaults to
      `None`: they compete by the scores themselves.
  """

  keys: tuple[str, ...]
  keep: int
  compare: Compare | None = None


Scope = Callable[[Sequence[Weight], float], list[Group]]


@dataclasses.dataclass(frozen=True)
class Global:
  """See `global_`."""

  exempt: tuple[str, ...] = ()

  def __call__(self, weights: Sequence[Weight], density: float) -> list[Group]:
    """Returns the groups and their budgets for a density."""
    _check_selectors(self.exempt, weights)
    competing = [
      weight
      for weight in weights
      if not any(weight.matches(selector) for selector in self.exempt)
    ]
    total = sum(weight.size for weight in competing)
    keys = tuple(weight.key for weight in competing)
    return [Group(keys, round(density * total))]


def global_(exempt: Sequence[str] = ()) -> Global:
  """Lets all weights compete with each other.

  Args:
    exempt: The weights that are never pruned, each by kind (`"dense"`), layer
      name (wildcards allowed), key, or `"output"`. A Level's density applies to
      the other weights, while the density of a mask counts all, as in the
      papers. The paper's ResNet-20 exempts its output and its shortcuts.

  Returns:
    A scope that keeps `round(density * n)` of the n entries that compete.
  """
  if isinstance(exempt, str):
    raise TypeError(f"exempt must be a list of selectors, got {exempt!r}.")
  return Global(tuple(exempt))


@dataclasses.dataclass(frozen=True)
class Layerwise:
  """See `layerwise`."""

  rate: float
  rates: tuple[tuple[str, float], ...] = ()

  def __call__(self, weights: Sequence[Weight], density: float) -> list[Group]:
    """Returns the groups and their budgets for a density."""
    _check_selectors([selector for selector, _ in self.rates], weights)
    return [
      Group(
        (weight.key,),
        round(self._density(weight, density) * weight.size),
      )
      for weight in weights
    ]

  def _density(self, weight: Weight, density: float) -> float:
    rate = next(
      (rate for selector, rate in self.rates if weight.matches(selector)),
      self.rate,
    )
    # After l Levels at the default rate, density is (1 - self.rate) ** l, and
    # the density of this weight is (1 - rate) ** l. If the rates are equal,
    # the power would only add a rounding error.
    if rate == self.rate:
      return density
    return density ** (math.log1p(-rate) / math.log1p(-self.rate))


def layerwise(
  rates: Mapping[str, float] | None = None, *, rate: float = 0.2
) -> Layerwise:
  """Lets only the entries of the same weight compete, at a rate per weight.

  A weight with the default rate gets the density of the Level. A weight with
  rate r gets `density ** (log(1 - r) / log(1 - rate))`. With a geometric
  schedule that is `(1 - r) ** level`, as in the paper. A one-shot schedule to
  the same density gives each weight the same count.

  Args:
    rates: Selector -> fraction pruned at each Level, in [0, 1). A selector is a
      kind (`"conv"`), a layer name (wildcards allowed), a key, or `"output"`.
      The first one that matches applies. The paper's LeNet is
      `layerwise({"output": 0.1})`, its Conv-2
      `layerwise({"output": 0.1, "conv": 0.1})`.
    rate: The rate of all other weights, in (0, 1); the same as the rate of the
      schedule. Defaults to `0.2`.

  Returns:
    A scope that keeps `round(density * n)` of each weight's n entries.
  """
  if not 0 < rate < 1:
    raise ValueError(f"rate must be in (0, 1), got {rate}.")
  rates = rates or {}
  if not isinstance(rates, Mapping):
    raise TypeError(f"rates must map selectors to rates, got {rates!r}.")
  for selector, value in rates.items():
    if not 0 <= value < 1:
      raise ValueError(
        f"The rates of layerwise() must be in [0, 1), got {value} for"
        f" {selector!r}."
      )
  return Layerwise(rate, tuple(rates.items()))


@dataclasses.dataclass(frozen=True)
class ErdosRenyiKernel:
  """See `erdos_renyi`."""

  def __call__(self, weights: Sequence[Weight], density: float) -> list[Group]:
    """Returns the groups and their budgets for a density."""
    sizes = np.array([weight.size for weight in weights])
    shares = np.array([sum(weight.shape) for weight in weights])
    keep = _apportion(shares, sizes, round(density * sizes.sum()))
    return [
      Group((weight.key,), int(count))
      for weight, count in zip(weights, keep, strict=True)
    ]


def erdos_renyi() -> ErdosRenyiKernel:
  """Gives larger weights lower densities (Erdos-Renyi-Kernel).

  The density of a weight is proportional to `sum(shape) / prod(shape)`, at most
  1, and scaled so that the whole mask has the density of the Level (Evci et
  al., arXiv 1911.11134, section 3).
  """
  return ErdosRenyiKernel()


@dataclasses.dataclass(frozen=True)
class Lamp:
  """See `lamp`."""

  def __call__(self, weights: Sequence[Weight], density: float) -> list[Group]:
    """Returns the group and its budget for a density."""
    total = sum(weight.size for weight in weights)
    keys = tuple(weight.key for weight in weights)
    return [Group(keys, round(density * total), _share_of_those_above)]


def lamp() -> Lamp:
  """Lets all weights compete, each entry relative to its own weight (LAMP).

  Within a weight, the entries are ranked by their scores s. They compete with
  the entries of other weights by

      s ** 2 / sum(t ** 2 for the entry itself and all t that rank above it)

  so the scale of a weight's scores makes no difference: an embedding, whose
  entries start small, competes with kernels as an equal. The best entry of each
  weight has the value 1, and no other has it. So each weight keeps one entry at
  least, if as many entries are kept as there are weights. A `pattern` competes
  in the same way by the scores of its blocks or channels. If a weight has
  scores below 0, its lowest score is subtracted first.

  Reference: Lee et al., arXiv 2010.07611, equation 5.

  >>> weights = [
  ...   Weight(key, key, "kernel", "dense", (2,), True, "") for key in "ab"
  ... ]
  >>> scores = {"a": np.array([0.02, 0.01]), "b": np.array([5.0, 4.0])}
  >>> mask = masks.Mask.ones({"a": (2,), "b": (2,)})
  >>> select(scores, mask, 0.5, lamp(), weights)["a"]
  array([ True, False])
  """
  return Lamp()


def _share_of_those_above(scores: np.ndarray) -> np.ndarray:
  """The formula of `lamp`, for the entries of one weight."""
  scores = scores.astype(np.float64)
  # Stable, so that of equal scores the lower index ranks above.
  order = np.argsort(-scores, kind="stable")
  ranked = scores[order]
  ranked -= min(ranked[-1], 0)
  # Their scale makes no difference. Zeros are equal scores like any others.
  squares = np.square(ranked / ranked[0]) if ranked[0] else ranked + 1
  shares = np.empty(len(scores))
  shares[order] = squares / np.cumsum(squares)
  return shares


def default() -> Scope:
  """The scope of those who name none: `lamp()`.

  It was compared with the others on models of many kinds, see
  docs/results/default_scope.md in the repository.
  """
  return lamp()


_BY_NAME: Mapping[str, Callable[[], Scope]] = {
  "global": global_,
  "layerwise": layerwise,
  "erdos_renyi": erdos_renyi,
  "lamp": lamp,
}


def get(scope: str | Scope) -> Scope:
  """Returns the scope of a name; a scope is returned as it is.

  Raises:
    ValueError: There is no scope of that name.
  """
  if not isinstance(scope, str):
    return scope
  if scope not in _BY_NAME:
    raise ValueError(
      f"scope must be a scope or one of {', '.join(_BY_NAME)}; got {scope!r}."
    )
  return _BY_NAME[scope]()


def _apportion(shares: np.ndarray, sizes: np.ndarray, total: int) -> np.ndarray:
  """Returns whole counts in proportion to `shares` that add up to `total`.

  A count is `min(size, round(factor * share))`, with the factor that gives the
  total. So no count rises when the total falls.
  """

  def counts(factor: float) -> np.ndarray:
    return np.minimum(sizes, np.floor(factor * shares + 0.5)).astype(int)

  low, high = 0.0, float((sizes / shares).max()) + 1
  while low < (middle := (low + high) / 2) < high:
    if counts(middle).sum() < total:
      low = middle
    else:
      high = middle
  keep = counts(high)
  # Counts that all round up at this factor may exceed the total by a few: the
  # last of them are lowered by one.
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
  """Returns the mask of the next Level: the highest scores of each group.

  The result is a subset of `mask`, with the exact count of each group. Among
  equal scores the lower index is kept. With a pattern of blocks,
  `round(density * blocks)` blocks of each group are kept. Where blocks differ
  in size, as the channels of several layers do, the density of the mask may
  differ from `density`.

  Args:
    scores: Weight key -> array of finite numbers; the highest are kept.
    mask: The present mask.
    density: Fraction to keep of the weights that the scope prunes, in (0, 1].
    scope: Which weights compete with each other.
    weights: The prunable weights, `binding.report.prunable`.
    pattern: What is pruned together. Defaults to `unstructured()`.

  Raises:
    ValueError: A score is missing, not finite or of another shape, or a group
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
    left = np.concatenate([part for _, part in pooled])
    size = sum(mask[key].size for key in group.keys)
    keep = round(group.keep * len(left) / size)
    _check_keep(keep, left, density, pattern, group, mask)
    flat = np.concatenate(
      [_comparable(*parts, group.compare) for parts in pooled]
    )
    kept = keep_highest(flat, left, keep)
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


def _comparable(
  scores: np.ndarray, left: np.ndarray, compare: Compare | None
) -> np.ndarray:
  if compare is None or not left.any():
    return scores
  compared = np.zeros(len(scores))
  compared[left] = compare(scores[left])
  return compared


def keep_highest(scores: np.ndarray, left: np.ndarray, keep: int) -> np.ndarray:
  """Returns which entries have the highest scores; of equal ones, the first.

  Args:
    scores: A vector of numbers.
    left: Which entries may be kept, a boolean vector.
    keep: How many to keep, at most as many as are left.
  """
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


def _check_selectors(
  selectors: Sequence[str], weights: Sequence[Weight]
) -> None:
  for selector in selectors:
    if not any(weight.matches(selector) for weight in weights):
      names = ", ".join(f"{weight.layer} ({weight.kind})" for weight in weights)
      raise ValueError(
        f"The scope names {selector!r}, which matches no prunable weight. There"
        f" are: {names}."
      )
