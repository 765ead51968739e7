"""The figures of one experiment.

Each function takes a theme and returns a matplotlib `Figure`, or None if there
is nothing to draw. `drawing.draw` calls it once for each theme.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tf_lottery.report import drawing
from tf_lottery.report import summaries

# Figures cut off accuracies that are further below the dense network's.
LOWEST = 0.12


def against_density(
  rows: Sequence[summaries.Summary],
  label: str,
  theme: drawing.Theme,
  *,
  percent: bool,
  whole: bool = False,
) -> Figure | None:
  """Draws each method's mean at each Level, with bars from minimum to maximum.

  Args:
    rows: The summaries of one measure.
    label: The label of the vertical axis.
    theme: The colours.
    percent: Whether to show values in percent.
    whole: Whether values are whole numbers, for which the vertical axis begins
      at zero. Defaults to `False`.
  """
  scale = 100 if percent else 1
  dense = next((row for row in rows if row.method == "dense"), None)
  methods = [m for m in in_order(rows) if m != "dense"]
  if dense is None and not methods:
    return None
  figure, axes = drawing.axes(theme, "weights remaining, %", label)
  for number, method in enumerate(methods):
    points = sorted(
      (row for row in rows if row.method == method), key=lambda row: row.level
    )
    # A little apart from each other, because bars of a Level would overlap.
    apart = 1.008 ** (number - (len(methods) - 1) / 2)
    _bars(axes, points, drawing.style(method), scale, apart)
  if dense is not None:
    _dense_band(axes, dense, scale, theme)
  drawing.density_axis(axes, [row.density for row in rows])
  if percent:
    _leave_out_collapse(axes, rows, dense, scale)
  if whole:
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
  drawing.legend(figure)
  return figure


def curves(
  by_density: Sequence[tuple[float, Sequence[int], Sequence[float]]],
  label: str,
  theme: drawing.Theme,
  *,
  percent: bool,
) -> Figure | None:
  """Draws values by training step, one line for each density.

  Args:
    by_density: The density, the steps and the values of each line.
    label: The label of the vertical axis.
    theme: The colours.
    percent: Whether to show values in percent.
  """
  drawn = [line for line in by_density if len(line[1])]
  if not drawn:
    return None
  scale = 100 if percent else 1
  figure, axes = drawing.axes(theme, "training step", label)
  sparse = [density for density, *_ in drawn if density < 1]
  colours = dict(zip(sparse, drawing.ramp(theme, len(sparse)), strict=True))
  lines = itertools.cycle(["-", (0, (7, 1.5)), (0, (7, 1.5, 1.5, 1.5))])
  for density, steps, values in drawn:
    axes.plot(
      steps,
      scale * np.asarray(values, float),
      color=colours.get(density, theme.ink),
      label=f"{100 * density:.3g} %" if density < 1 else "dense",
      linestyle=next(lines) if density < 1 else "-",
      linewidth=1.5 if density < 1 else 2.2,
    )
  _leave_out_beginning(axes, drawn, scale)
  axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
  drawing.legend(figure)
  return figure


def layers(
  densities: Sequence[float],
  by_layer: Sequence[tuple[str, Sequence[float]]],
  theme: drawing.Theme,
) -> Figure | None:
  """Draws the density of each layer against the density of the network.

  Args:
    densities: The density of the network at each Level.
    by_layer: The name of each layer, and its density at each Level.
    theme: The colours.
  """
  if len(densities) < 2 or not by_layer:
    return None
  figure, axes = drawing.axes(
    theme, "weights remaining, %", "remaining in layer, %"
  )
  axes.plot(
    *[100 * np.asarray(densities)] * 2,
    color=theme.ink,
    linestyle=":",
    linewidth=1,
    label="whole network",
  )
  _layer_lines(axes, densities, by_layer, theme)
  axes.set_yscale("log")
  axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
  axes.yaxis.set_minor_locator(ticker.NullLocator())
  drawing.density_axis(axes, densities)
  drawing.legend(figure)
  return figure


def input_maps(
  maps: Sequence[tuple[float, np.ndarray]], theme: drawing.Theme
) -> Figure | None:
  """Draws how many weights the first layer keeps at each pixel of the input.

  Args:
    maps: For each ticket the density of the network, and the number of weights
      at each pixel, of shape `(height, width)`.
    theme: The colours.
  """
  maps = [(density, counts) for density, counts in maps if counts.any()]
  if not maps:
    return None
  figure = Figure(figsize=(1.75 * len(maps) + 0.9, 2.3))
  grid = figure.subplots(1, len(maps), squeeze=False)[0]
  relative = [counts / counts.mean() for _, counts in maps]
  top = max(float(image.max()) for image in relative)
  for axes, (density, _), image in zip(grid, maps, relative, strict=True):
    drawn = axes.imshow(image, cmap="cividis", vmin=0, vmax=top)
    axes.set_title(f"{100 * density:.3g} %", fontsize=11)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
      spine.set_visible(False)
  bar = figure.colorbar(drawn, ax=list(grid), shrink=0.8, pad=0.02)
  bar.set_label("kept, against\nthe mean pixel", fontsize=10.5)
  bar.outline.set_visible(False)
  return figure


def in_order(rows: Sequence[summaries.Summary]) -> list[str]:
  """Returns the methods of some rows, in the order of legends and tables."""
  known = ["dense", *drawing.STYLES]
  found = {row.method for row in rows}
  return [m for m in known if m in found] + sorted(found - set(known))


def _layer_lines(
  axes: Axes,
  densities: Sequence[float],
  by_layer: Sequence[tuple[str, Sequence[float]]],
  theme: drawing.Theme,
) -> None:
  """Draws the line of each layer, and names at most nine of them."""
  markers = itertools.cycle("os^DvPX<>h")
  shown = math.ceil(len(by_layer) / 9)
  for number, ((name, values), colour) in enumerate(
    zip(by_layer, drawing.ramp(theme, len(by_layer)), strict=True)
  ):
    kept = [100 * value if value > 0 else math.nan for value in values]
    axes.plot(
      100 * np.asarray(densities),
      kept,
      color=colour,
      marker=next(markers),
      # Each line is thinner than the one below, which stays visible.
      linewidth=1.2 + 2 * (1 - number / len(by_layer)),
      markersize=4 + 3 * (1 - number / len(by_layer)),
      label=None if number % shown else name,
    )


def _bars(
  axes: Axes,
  points: Sequence[summaries.Summary],
  style: drawing.Style,
  scale: float,
  apart: float,
) -> None:
  """Draws a line through means, with bars if there are several values."""
  x = [100 * row.density * apart for row in points]
  mean = scale * np.asarray([row.mean for row in points])
  below = mean - scale * np.asarray([row.low for row in points])
  above = scale * np.asarray([row.high for row in points]) - mean
  axes.errorbar(
    x,
    mean,
    yerr=np.maximum([below, above], 0) if max(below + above) > 0 else None,
    label=style.label,
    color=style.colour,
    marker=style.marker,
    linestyle=style.line,
    elinewidth=1,
    capsize=2,
  )


def _dense_band(
  axes: Axes,
  dense: summaries.Summary,
  scale: float,
  theme: drawing.Theme,
) -> None:
  """Draws the dense network's mean as a line, and its range as a band."""
  axes.axhline(
    scale * dense.mean, color=theme.ink, linewidth=1.2, label="dense"
  )
  if dense.high > dense.low:
    axes.axhspan(
      scale * dense.low, scale * dense.high, color=theme.ink, alpha=0.13, lw=0
    )


def _leave_out_collapse(
  axes: Axes,
  rows: Sequence[summaries.Summary],
  dense: summaries.Summary | None,
  scale: float,
) -> None:
  """Ends the axis `LOWEST` below the dense value, however far controls fall."""
  middle = dense.mean if dense else max(row.mean for row in rows)
  high = max(row.high for row in rows)
  bottom = max(min(row.low for row in rows), middle - LOWEST)
  margin = 0.04 * max(high - bottom, 0.01)
  axes.set_ylim(scale * (bottom - margin), scale * (high + margin))


def _leave_out_beginning(
  axes: Axes,
  lines: Sequence[tuple[float, Sequence[int], Sequence[float]]],
  scale: float,
) -> None:
  """Fits the vertical axis to the values after a twentieth of training."""
  after = [
    scale * value
    for _, steps, values in lines
    for step, value in zip(steps, values, strict=True)
    if step > max(steps) / 20
  ]
  margin = 0.04 * (max(after) - min(after))
  if margin > 0:
    axes.set_ylim(min(after) - margin, max(after) + margin)
