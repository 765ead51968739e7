"""Permutations of hidden units, which bring one network close to another.

The units of a hidden layer have no order: a network computes the same function
if they change places, together with their biases and with the inputs of the
next layer. Two networks from different initial weights may find the same
features at other places, so the mask of one fits the other only after its units
are brought to their places.
"""

import dataclasses
import math
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import numpy as np

from tf_lottery import _optional
from tf_lottery import wrappers
from tf_lottery.masks import Mask
from tf_lottery.wrappers.binding import Binding

# Key of a weight -> axis -> the order of its entries along that axis.
Permutations = Mapping[str, Mapping[int, np.ndarray]]

_Values = TypeVar("_Values", Mask, Mapping[str, np.ndarray])

_KERNELS = ("Conv1D", "Conv2D", "Conv3D", "Dense")
_NORMALISATION = "BatchNormalization"
# Layers without weights that treat all units alike.
_PASSING = (
  *("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "InputLayer"),
  *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
  *("GaussianDropout", "GaussianNoise", "Flatten"),
  *(
    f"{kind}Pooling{dimensions}D"
    for kind in ("Average", "Max", "GlobalAverage", "GlobalMax")
    for dimensions in (1, 2, 3)
  ),
  *("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
)
# Statistics do not say which unit is which: they depend on the data.
_STATISTICS = ("moving_mean", "moving_variance")


@dataclasses.dataclass(frozen=True)
class _Layer:
  """A layer with a kernel, whose last axis is that of its units.

  Attributes:
    kernel: The key of the kernel, of shape `(..., inputs, units)`.
    vectors: The keys of what has one entry for each unit: the bias, and batch
      normalisation after the layer.
  """

  kernel: str
  vectors: tuple[str, ...]


def match_units(
  model: Any, a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]
) -> Permutations:
  """Finds the order of the hidden units of network a that is closest to b.

  It is the weight matching of Git Re-Basin: one layer after the other, the
  order of its units that maximises the inner product of the weights of a and b,
  while the order of all others is held, until nothing changes. With

      M[i, j] = <weights into and out of unit i of b, the same of unit j of a>,

  the best order of a layer is an assignment problem, which is solved exactly.

  Args:
    model: A built Sequential or functional model of the architecture, or its
      `Binding`. It is a chain of dense layers, convolutions, batch
      normalisation, flattening, pooling, dropout and activations.
    a: Key -> array of the weights of the network to reorder.
    b: Key -> array of the weights of the other network.

  Returns:
    What `permute` applies: key -> axis -> order. The output units, and the
    inputs of the network, keep their places.

  Raises:
    ValueError: The model has other layers or branches, or the weights are not
      those of the model.
    ImportError: SciPy is not installed.

  Example:
  ```python
  permutations = match_units(model, trained_a.weights, trained_b.weights)
  mask_for_b = permute(ticket_of_a.mask, permutations)
  ```

  Reference: Ainsworth et al., "Git Re-Basin", arXiv 2209.04836, section 3.2;
  Adnan et al., "Sparse Training from Random Initialization", arXiv 2505.05143.
  """
  with _optional.needs("report", "The matching of units"):
    from scipy import optimize
  layers = chain(model)
  one, other = _floats(a), _floats(b)
  _check_weights(layers, one, other)
  hidden = layers[:-1]
  orders = [np.arange(one[layer.kernel].shape[-1]) for layer in hidden]
  changed = True
  while changed:
    changed = False
    for place in range(len(hidden)):
      similarity = _similarity(layers, orders, place, one, other)
      _, best = optimize.linear_sum_assignment(similarity, maximize=True)
      units = np.arange(len(best))
      now = similarity[units, orders[place]].sum()
      # Rounding alone must not go on for ever.
      if similarity[units, best].sum() > now + 1e-9 * abs(now):
        orders[place], changed = best, True
  return _by_key(layers, orders, one)


def permute(values: _Values, permutations: Permutations) -> _Values:
  """Returns weights, or a mask, with the hidden units in another order.

  The network computes the same function.

  Args:
    values: A mask, or key -> array.
    permutations: What `match_units` returned. Keys that it does not name stay
      as they are.
  """
  permuted = {}
  for key, array in values.items():
    for axis, order in permutations.get(key, {}).items():
      array = np.take(array, order, axis)
    permuted[key] = array
  return Mask(permuted) if isinstance(values, Mask) else permuted


def chain(model: Any) -> tuple[_Layer, ...]:
  """Returns the layers of a chain that have units, the output layer last.

  Args:
    model: See `match_units`.

  Raises:
    ValueError: The model has other layers, or is no chain.
  """
  binding = model if isinstance(model, Binding) else wrappers.bind(model)
  keys: dict[str, dict[str, str]] = {}
  sizes: dict[str, int] = {}  # how many entries the last axis has
  for weight in binding.report:
    keys.setdefault(weight.layer, {})[weight.role] = weight.key
    sizes[weight.key] = weight.shape[-1] if weight.shape else 1
  layers: list[_Layer] = []
  for layer in _in_order(binding.model):
    own = dict(keys.get(layer.name, {}))
    kind = type(layer).__name__
    if kind in _KERNELS:
      kernel = own.pop("kernel")
      layers.append(_Layer(kernel, tuple(own.values())))
    elif kind == _NORMALISATION and layers:
      units = sizes[layers[-1].kernel]
      if any(sizes[key] != units for key in own.values()):
        raise _refusal(
          f"{layer.name} normalises each position by itself, after flattening:"
          f" its weights do not have one entry for each of the {units} units"
        )
      vectors = (*layers[-1].vectors, *own.values())
      layers[-1] = dataclasses.replace(layers[-1], vectors=vectors)
    elif (own or layers) and kind not in (*_PASSING, _NORMALISATION):
      raise _refusal(f"{layer.name} is of class {kind}")
  if not layers:
    raise _refusal("it has no layer with units")
  return tuple(layers)


def _in_order(model: Any) -> Iterator[Any]:
  """Yields the layers of a chain; refuses what branches or comes twice."""
  calls, _ = wrappers.graph(model)
  before, seen = None, set()
  for layer, inputs, output, shapes in calls:
    if layer.name in seen:
      raise _refusal(f"{layer.name} is called twice, or has several outputs")
    if len(inputs) > 1 or (before is not None and list(inputs) != [before]):
      raise _refusal(f"{layer.name} does not follow the layer before it alone")
    _check_axes(layer, 1 + len(shapes[0]))
    before = output
    seen.add(layer.name)
    yield layer


def _check_axes(layer: Any, rank: int) -> None:
  """Refuses layers whose units are not on the last axis, or are in groups."""
  if getattr(layer, "data_format", None) == "channels_first":
    raise _refusal(f"{layer.name} has its channels first")
  if getattr(layer, "groups", 1) != 1:
    raise _refusal(f"{layer.name} has groups")
  axis = getattr(layer, "axis", -1)
  if axis not in (-1, rank - 1, [rank - 1]):
    raise _refusal(f"{layer.name} works along axis {axis}")


def _refusal(why: str) -> ValueError:
  return ValueError(
    "Units can be matched in chains of dense layers, convolutions, batch"
    " normalisation, flattening, pooling, dropout and activations; in this"
    f" model, {why}."
  )


def _floats(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  return {k: np.asarray(value, np.float64) for k, value in weights.items()}


def _check_weights(
  layers: Sequence[_Layer],
  one: Mapping[str, np.ndarray],
  other: Mapping[str, np.ndarray],
) -> None:
  units = None
  for layer in layers:
    for key in (layer.kernel, *layer.vectors):
      shapes = [w[key].shape if key in w else "none" for w in (one, other)]
      if shapes[0] != shapes[1] or "none" in shapes:
        raise ValueError(
          "Both networks must have the weights of the model: of"
          f" {key!r} they have the shapes {shapes[0]} and {shapes[1]}."
        )
    inputs = one[layer.kernel].shape[-2]
    if units is not None and inputs % units:
      raise _refusal(f"{inputs} inputs of {layer.kernel!r} are not of {units}")
    units = one[layer.kernel].shape[-1]


def _similarity(
  layers: Sequence[_Layer],
  orders: Sequence[np.ndarray],
  place: int,
  one: Mapping[str, np.ndarray],
  other: Mapping[str, np.ndarray],
) -> np.ndarray:
  """Returns M of `match_units` for the hidden layer at a place."""
  layer, after = layers[place], layers[place + 1]
  incoming = one[layer.kernel]
  if place:
    before = _inputs(orders[place - 1], incoming.shape[-2])
    incoming = np.take(incoming, before, -2)
  outgoing = one[after.kernel]
  if place + 1 < len(orders):
    outgoing = np.take(outgoing, orders[place + 1], -1)
  units = len(orders[place])
  found = _into(other[layer.kernel]) @ _into(incoming).T
  found += _out_of(other[after.kernel], units) @ _out_of(outgoing, units).T
  for key in layer.vectors:
    if key.partition("/")[2] not in _STATISTICS:
      found += np.outer(other[key], one[key])
  return found


def _into(kernel: np.ndarray) -> np.ndarray:
  """Returns one row for each unit, with the weights into it."""
  return kernel.reshape(-1, kernel.shape[-1]).T


def _out_of(kernel: np.ndarray, units: int) -> np.ndarray:
  """Returns one row for each unit before, with the weights out of it.

  After flattening, a unit has one input for each position, and the units are
  side by side at each of them.
  """
  *taps, inputs, outputs = kernel.shape
  apart = kernel.reshape(math.prod(taps), inputs // units, units, outputs)
  return apart.transpose(2, 0, 1, 3).reshape(units, -1)


def _inputs(order: np.ndarray, inputs: int) -> np.ndarray:
  """Returns the order of a kernel's inputs, for an order of the units before.

  >>> _inputs(np.array([1, 0]), 4)
  array([1, 0, 3, 2])
  """
  positions = np.arange(inputs // len(order)) * len(order)
  return np.add.outer(positions, order).ravel()


def _by_key(
  layers: Sequence[_Layer],
  orders: Sequence[np.ndarray],
  weights: Mapping[str, np.ndarray],
) -> Permutations:
  found: dict[str, dict[int, np.ndarray]] = {}
  for layer, after, order in zip(layers, layers[1:], orders, strict=False):
    kernel, following = weights[layer.kernel], weights[after.kernel]
    found.setdefault(layer.kernel, {})[kernel.ndim - 1] = order
    for key in layer.vectors:
      found[key] = {0: order}
    inputs = _inputs(order, following.shape[-2])
    found.setdefault(after.kernel, {})[following.ndim - 2] = inputs
  return found
