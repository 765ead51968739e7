"""The width at which a dense network has as many weights as a ticket."""

from collections.abc import Callable
from typing import Any

from tf_lottery import wrappers
from tf_lottery.weights import Override

# Each build of a model takes time. After these, the width is known to 2 ** -13
# of the whole, which is less than one unit of most layers.
_BUILDS = 15
_WIDEST = 2.0**6


def closest_width(
  make_model: Callable[..., Any],
  size: int,
  prunable: Override | None = None,
) -> tuple[float, int]:
  """Finds the width at which a model has about as many prunable weights.

  It halves an interval of widths, and builds a model in the middle, at most 15
  times in all, or a few more for widths above 1.

  Args:
    make_model: Called with `width=`, a factor for the number of hidden units;
      returns a built model. A larger width must not give fewer weights.
    size: The wanted number of prunable weights, at least 1.
    prunable: See `lottery_prune`.

  Returns:
    The width, and the number of prunable weights that it gives.

  Raises:
    ValueError: `size` is less than 1, `make_model` fails at a width, or the
      number of weights does not depend on the width.

  Example:
  ```python
  def make_model(width=1.0):
    layers = [
      keras.Input((784,)),
      keras.layers.Dense(max(1, round(300 * width)), "relu"),
      keras.layers.Dense(10),
    ]
    return keras.Sequential(layers)

  width, size = closest_width(make_model, 20_000)
  ```
  """
  if size < 1:
    raise ValueError(f"size must be at least 1, got {size}.")

  def count(width: float) -> int:
    # The model is not kept: only its weights are counted.
    report = wrappers.bind(_built(make_model, width), prunable=prunable).report
    return sum(weight.size for weight in report.prunable)

  low, high = 0.0, 1.0
  counts = {high: count(high)}
  while counts[high] < size and high < _WIDEST:
    low, high = high, 2 * high
    counts[high] = count(high)
  while len(counts) < _BUILDS and size not in counts.values():
    middle = (low + high) / 2
    counts[middle] = count(middle)
    low, high = (middle, high) if counts[middle] < size else (low, middle)
  # Among widths of the same size, the widest: nearest to a whole number.
  width = min(counts, key=lambda w: (abs(counts[w] - size), -w))
  if len(set(counts.values())) == 1 and counts[width] != size:
    raise ValueError(
      f"make_model(width=...) must have fewer weights at a smaller width, got"
      f" {counts[width]:,} at every width. Multiply the number of hidden units"
      " by width."
    )
  return width, counts[width]


def _built(make_model: Callable[..., Any], width: float) -> Any:
  try:
    return make_model(width=width)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"make_model(width={width:g}) fails: {error}\nIt must take width, and"
      " leave each layer a unit: max(1, round(units * width))."
    ) from error
