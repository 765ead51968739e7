"""A vertical axis that shows values near the dense network's in detail.

Values that are much worse are on the same axis, in a part whose scale is
logarithmic in the distance to the dense network, and shaded.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import ticker
from matplotlib.axes import Axes

from tf_lottery.report import drawing

# The height of the compressed part, beside a height of 1 for the other part.
_COMPRESSED = 0.5
# The fraction of all values that are shown in detail.
_IN_DETAIL = 0.65
# Values at most this many times as far away as those in detail need no
# compressed part.
_FAR = 2.5


@dataclasses.dataclass(frozen=True)
class Scale:
  """A scale that is linear near a centre, and logarithmic on its worse side.

  Attributes:
    centre: The value of the dense network.
    near: Values that are worse by at most this much are shown in detail.
    far: By how much the worst value is worse; above `near`.
    sign: 1 if more is better, -1 if less is better.
  """

  centre: float
  near: float
  far: float
  sign: int

  @property
  def edge(self) -> float:
    """The value at which the compressed part begins."""
    return self.centre - self.sign * self.near

  def times(self, factor: float) -> "Scale":
    """Returns the scale for values in another unit."""
    centre, near, far = self.centre, self.near, self.far
    return Scale(factor * centre, factor * near, factor * far, self.sign)

  def forward(self, values: npt.ArrayLike) -> np.ndarray:
    """Returns the heights of values; 0 is the height of the centre."""
    worse = self.sign * (self.centre - np.asarray(values, float)) / self.near
    compressed = 1 + self._slope * np.log(np.maximum(worse, 1))
    return -self.sign * np.where(worse > 1, compressed, worse)

  def inverse(self, heights: npt.ArrayLike) -> np.ndarray:
    """Returns the values at some heights."""
    worse = -self.sign * np.asarray(heights, float)
    # Beyond this height there is nothing, and `exp` would overflow.
    beyond = np.clip((worse - 1) / self._slope, 0, 600)
    gap = np.where(worse > 1, np.exp(beyond), worse)
    return self.centre - self.sign * self.near * gap

  @property
  def _slope(self) -> float:
    return _COMPRESSED / math.log(self.far / self.near)


def fitting(
  values: Sequence[float], centre: float, least: float, sign: int
) -> Scale | None:
  """Returns the scale for some values; None if a linear one shows them all.

  Args:
    values: The values to show.
    centre: The value of the dense network.
    least: By how much worse a value may be that is shown in detail in any
      case.
    sign: 1 if more is better, -1 if less is better.
  """
  worse = sign * (centre - np.asarray(values, float))
  worse = np.maximum(worse[np.isfinite(worse)], 0)
  if not len(worse):
    return None
  near, far = max(least, float(np.quantile(worse, _IN_DETAIL))), worse.max()
  if not 0 < _FAR * near < far:
    return None
  return Scale(centre, near, float(far), sign)


def apply(axes: Axes, scale: Scale, best: float) -> None:
  """Gives an axis a scale, with ticks, and shades the compressed part.

  Args:
    axes: The axes; all lines must be drawn.
    scale: The scale.
    best: The best value that is shown.
  """
  worst = scale.centre - scale.sign * scale.far
  top, bottom = scale.forward([best, worst])
  margin = 0.04 * (top - bottom)
  ends = scale.inverse([bottom - margin, top + margin])
  axes.set_yscale("function", functions=(scale.forward, scale.inverse))
  axes.set_ylim(*sorted(ends))
  axes.yaxis.set_major_locator(ticker.FixedLocator(_ticks(scale, best, worst)))
  axes.yaxis.set_minor_locator(ticker.NullLocator())
  axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:.6g}"))
  axes.axhspan(
    scale.edge, ends[0], color=drawing.FAINT, alpha=0.45, lw=0, zorder=0
  )
  axes.annotate(
    "compressed scale",
    (1, scale.edge),
    xycoords=("axes fraction", "data"),
    xytext=(-4, -4 * scale.sign),
    textcoords="offset points",
    ha="right",
    va="top" if scale.sign > 0 else "bottom",
    fontsize=9.5,
    fontstyle="italic",
    color=drawing.INK,
    alpha=0.75,
  )


def _ticks(scale: Scale, best: float, worst: float) -> list[float]:
  """Returns round values, of which no two are too close to each other."""
  chosen: list[float] = []
  detail = ticker.MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(
    *sorted((scale.edge, best))
  )
  beyond = ticker.MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(
    *sorted((worst, scale.edge))
  )
  total = np.ptp(scale.forward([best, worst]))
  # From the best to the worst.
  for value in sorted(
    {*detail, *beyond}, key=lambda value: -scale.sign * value
  ):
    inside = scale.sign * (best - value) >= -0.02 * scale.near
    inside &= scale.sign * (value - worst) >= 0
    is_detail = scale.sign * (value - scale.edge) >= 0
    if not inside or (is_detail and value not in detail):
      continue
    heights = scale.forward([*chosen[-1:], value])
    if not chosen or np.ptp(heights) > 0.075 * total:
      chosen.append(float(value))
  return chosen
