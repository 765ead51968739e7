"""The figure of values against the cost of the search, one panel a density."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tf_lottery.report import drawing
from tf_lottery.report import wording

# Of Okabe and Ito, and of Tol, as those of `drawing.STYLES`.
_COLOURS = (
  *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
  *("#332288", "#882255", "#7f7f1a", "#44AA99", "#8a8d93", "#7a4f21"),
)
_MARKERS = "osD^vPX<>h"
_PANEL = (4.7, 3.5)  # inches


@dataclasses.dataclass(frozen=True)
class Point:
  """The tickets of one method at one density, in replicates.

  Attributes:
    label: The name of the method, with how much it trains.
    family: The name of methods that differ by how much they train.
    density: The density of the panel.
    costs: For each replicate, the cost of the search in trainings of the dense
      network. A search that is not known to cost anything has 0.
    values: For each replicate, the value that its ticket reached.
  """

  label: str
  family: str
  density: float
  costs: Sequence[float]
  values: Sequence[float]

  @property
  def cost(self) -> float:
    """The mean cost."""
    return sum(self.costs) / len(self.costs)

  @property
  def value(self) -> float:
    """The mean value."""
    return sum(self.values) / len(self.values)


def against_cost(
  points: Sequence[Point], dense: float | None, label: str, *, percent: bool
) -> Figure | None:
  """Draws each method's mean against the mean cost of its search.

  Bars go from the minimum to the maximum over replicates, which are small
  points. Methods of one family have a colour in common, and a line.

  Args:
    points: What to show, for any number of densities.
    dense: The value of the dense network; None if it is not known.
    label: The label of the vertical axes.
    percent: Whether to show values in percent.
  """
  if not points:
    return None
  densities = sorted({point.density for point in points}, reverse=True)
  columns = min(len(densities), 2 if len(densities) in (2, 4) else 3)
  rows = math.ceil(len(densities) / columns)
  width, height = _PANEL
  figure = Figure(figsize=(max(width * columns, 6.6), height * rows + 0.9))
  grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
  panels = list(grid.flat)
  looks = _looks(points)
  floor = _floor(points)
  span = max(max(p.costs) for p in points) / floor
  gap = max(span, 10) ** 0.012
  _name_all(panels[0], looks, dense is not None)
  for axes, density in zip(panels, densities, strict=False):
    here = [point for point in points if point.density == density]
    _panel(axes, here, dense, looks, floor, gap, 100 if percent else 1)
    title = f"{wording.density(density)} of the weights"
    axes.set_title(title, fontsize=11)
  for axes in panels[len(densities) :]:
    axes.set_visible(False)
  for number, axes in enumerate(panels[: len(densities)]):
    if number % columns == 0:
      axes.set_ylabel(label)
    if number + columns >= len(densities):
      axes.set_xlabel("cost of the search, dense trainings")
      axes.xaxis.set_tick_params(labelbottom=True)
  _cost_axis(panels[0], points, floor)
  drawing.legend(figure)
  return figure


def _looks(points: Sequence[Point]) -> dict[str, drawing.Style]:
  """Returns a style for each label: a colour a family, a marker a member."""
  by_family: dict[str, list[Point]] = {}
  for point in points:
    by_family.setdefault(point.family, []).append(point)
  looks = {}
  families = zip(by_family.values(), itertools.cycle(_COLOURS), strict=False)
  for number, (members, colour) in enumerate(families):
    cheapest: dict[str, float] = {}
    for point in members:
      cheapest[point.label] = min(
        point.cost, cheapest.get(point.label, math.inf)
      )
    labels = sorted(cheapest, key=lambda label: (cheapest[label], label))
    for member, label in enumerate(labels):
      # A family of one has a marker that tells it apart in a grey print.
      index = member if len(labels) > 1 else number
      marker = _MARKERS[index % len(_MARKERS)]
      looks[label] = drawing.Style(label, colour, marker, "-")
  return looks


def _floor(points: Sequence[Point]) -> float:
  """Returns where the logarithmic axis shows a cost of nothing."""
  positive = [cost for point in points for cost in point.costs if cost > 0]
  return min(positive, default=1.0) / 2


def _name_all(
  axes: Axes, looks: dict[str, drawing.Style], has_dense: bool
) -> None:
  """Gives the first panel the legend's entries of all panels."""
  if has_dense:
    axes.plot([], [], color=drawing.INK, linestyle="--", label="dense")
  for label, look in looks.items():
    axes.plot([], [], color=look.colour, marker=look.marker, ls="", label=label)


def _panel(
  axes: Axes,
  points: Sequence[Point],
  dense: float | None,
  looks: dict[str, drawing.Style],
  floor: float,
  gap: float,
  scale: int,
) -> None:
  axes.set_axisbelow(True)
  axes.grid(axis="y", color=drawing.FAINT)
  axes.set_xscale("log")
  if dense is not None:
    axes.axhline(scale * dense, color=drawing.INK, ls="--", linewidth=1.2)
  places = _places(points, floor, gap)
  for family in dict.fromkeys(point.family for point in points):
    members = sorted(
      (point for point in points if point.family == family),
      key=lambda point: point.cost,
    )
    axes.plot(
      [places[point.label] for point in members],
      [scale * point.value for point in members],
      color=looks[members[0].label].colour,
      linewidth=1.1,
      zorder=2,
    )
  for point in points:
    look = looks[point.label]
    mean = scale * point.value
    low, high = scale * min(point.values), scale * max(point.values)
    axes.errorbar(
      [places[point.label]],
      [mean],
      yerr=[[mean - low], [high - mean]] if high > low else None,
      color=look.colour,
      marker=look.marker,
      markersize=6,
      elinewidth=1,
      capsize=2,
      zorder=4,
    )
    if len(point.values) > 1:
      moved = places[point.label] / max(point.cost, floor)
      axes.plot(
        [moved * max(cost, floor) for cost in point.costs],
        [scale * value for value in point.values],
        color=look.colour,
        marker=".",
        markersize=3,
        ls="",
        alpha=0.55,
        zorder=3,
      )


def _places(
  points: Sequence[Point], floor: float, gap: float
) -> dict[str, float]:
  """Returns where points stand: bars of the same cost would hide each other."""
  places: dict[str, float] = {}
  last = 0.0
  for point in sorted(points, key=lambda point: point.cost):
    last = max(point.cost, floor, gap * last)
    places[point.label] = last
  return places


def _cost_axis(axes: Axes, points: Sequence[Point], floor: float) -> None:
  """Fits the horizontal axis, which all panels share, with plain numbers."""
  costs = [max(cost, floor) for point in points for cost in point.costs]
  low, high = min(costs), max(costs)
  axes.set_xlim(low / 1.5, high * 1.5)
  decades = math.log10(high / low) if high > low else 0
  subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1 else (1, 2, 5)
  axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
  axes.xaxis.set_major_formatter(
    ticker.FuncFormatter(lambda value, _: f"{value:.3g}")
  )
  axes.xaxis.set_minor_formatter(ticker.NullFormatter())
