"""The figures of one experiment.

Each function returns a matplotlib `Figure`, or None if there is nothing to
draw. `drawing.draw` calls it.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tf_lottery.report import drawing
from tf_lottery.report import scales
from tf_lottery.report import summaries


def against_density(
  rows: Sequence[summaries.Summary],
  label: str,
  *,
  percent: bool,
  sign: int | None = None,
  tolerance: float = 0.0,
  whole: bool = False,
  wide: bool = False,
) -> Figure | None:
  """Draws each method's mean at each Level, with bars from minimum to maximum.

  Args:
    rows: The summaries of one measure.
    label: The label of the vertical axis.
    percent: Whether to show values in percent.
    sign: 1 if more is better, -1 if less is better. Values that are much worse
      than the dense network's are then on a compressed scale; see `scales`.
      Defaults to `None`: the axis is linear.
    tolerance: By how much worse a value may be and still match the dense
      network. Defaults to `0.0`.
    whole: Whether values are whole numbers, for which the vertical axis begins
      at zero. Defaults to `False`.
    wide: Whether the figure is for the whole width of a page. Defaults to
      `False`.
  """
  scale = 100 if percent else 1
  dense = next((row for row in rows if row.method == "dense"), None)
  methods = [m for m in in_order(rows) if m != "dense"]
  if dense is None and not methods:
    return None
  figure, axes = drawing.axes("weights remaining, %", label, wide=wide)
  for number, method in enumerate(methods):
    points = sorted(
      (row for row in rows if row.method == method), key=lambda row: row.level
    )
    # A little apart from each other, because bars of a Level would overlap.
    apart = 1.008 ** (number - (len(methods) - 1) / 2)
    style = drawing.style(method, methods)
    _bars(axes, points, style, scale, apart, main=method == "ticket")
  if dense is not None:
    _dense_band(axes, dense, scale)
  drawing.density_axis(axes, [row.density for row in rows])
  if dense is not None and sign is not None:
    _show_collapse(axes, rows, dense, scale, sign, tolerance)
  if whole:
    axes.set_ylim(0, 1.05 * max(row.high for row in rows) or 1)
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
  drawing.legend(figure)
  return figure


def scale_of(
  rows: Sequence[summaries.Summary], sign: int, tolerance: float
) -> scales.Scale | None:
  """Returns the scale of `against_density`; None if it is linear."""
  dense = next((row for row in rows if row.method == "dense"), None)
  if dense is None:
    return None
  least = max(3 * tolerance, 2 * (dense.high - dense.low))
  values = [row.mean for row in rows]
  scale = scales.fitting(values, dense.mean, least, sign)
  if scale is None:
    return None
  worst = max(sign * (dense.mean - v) for r in rows for v in (r.low, r.high))
  return dataclasses.replace(scale, far=worst)


def curves(
  by_density: Sequence[tuple[float, Sequence[int], Sequence[float]]],
  label: str,
  *,
  percent: bool,
  sign: int | None = None,
  tolerance: float = 0.0,
) -> Figure | None:
  """Draws values by training step, one line for each density.

  Args:
    by_density: The density, the steps and the values of each line.
    label: The label of the vertical axis.
    percent: Whether to show values in percent.
    sign: See `against_density`.
    tolerance: See `against_density`.
  """
  drawn = [line for line in by_density if len(line[1])]
  if not drawn:
    return None
  scale = 100 if percent else 1
  figure, axes = drawing.axes("training step", label)
  sparse = [density for density, *_ in drawn if density < 1]
  colours = dict(zip(sparse, drawing.ramp(len(sparse)), strict=True))
  lines = itertools.cycle(["-", (0, (7, 1.5)), (0, (7, 1.5, 1.5, 1.5))])
  for density, steps, values in drawn:
    axes.plot(
      steps,
      scale * np.asarray(values, float),
      color=colours.get(density, drawing.INK),
      label=f"{100 * density:.3g} %" if density < 1 else "dense",
      linestyle=next(lines) if density < 1 else "-",
      linewidth=1.5 if density < 1 else 2.2,
    )
  _fit_to_end(axes, drawn, scale, sign, tolerance)
  axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
  drawing.legend(figure)
  return figure


def layers(
  densities: Sequence[float],
  by_layer: Sequence[tuple[str, Sequence[float]]],
) -> Figure | None:
  """Draws the density of each layer against the density of the network.

  Args:
    densities: The density of the network at each Level.
    by_layer: The name of each layer, and its density at each Level.
  """
  if len(densities) < 2 or not by_layer:
    return None
  figure, axes = drawing.axes("weights remaining, %", "remaining in layer, %")
  axes.plot(
    *[100 * np.asarray(densities)] * 2,
    color=drawing.INK,
    linestyle=":",
    linewidth=1,
    label="whole network",
  )
  _layer_lines(axes, densities, by_layer)
  axes.set_yscale("log")
  axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
  axes.yaxis.set_minor_locator(ticker.NullLocator())
  drawing.density_axis(axes, densities)
  drawing.legend(figure)
  return figure


def input_maps(maps: Sequence[tuple[float, np.ndarray]]) -> Figure | None:
  """Draws how many weights the first layer keeps at each pixel of the input.

  Args:
    maps: For each ticket the density of the network, and the number of weights
      at each pixel, of shape `(height, width)`.
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
) -> None:
  """Draws the line of each layer, and names at most nine of them."""
  markers = itertools.cycle("os^DvPX<>h")
  shown = math.ceil(len(by_layer) / 9)
  for number, ((name, values), colour) in enumerate(
    zip(by_layer, drawing.ramp(len(by_layer)), strict=True)
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
  *,
  main: bool,
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
    linewidth=2.4 if main else 1.5,
    markersize=6 if main else 5,
    zorder=3 if main else 2,
    elinewidth=1,
    capsize=2,
  )


def _dense_band(axes: Axes, dense: summaries.Summary, scale: float) -> None:
  """Draws the dense network's mean as a line, and its range as a band."""
  axes.axhline(
    scale * dense.mean, color=drawing.INK, linewidth=1.2, label="dense"
  )
  if dense.high > dense.low:
    axes.axhspan(
      scale * dense.low,
      scale * dense.high,
      color=drawing.INK,
      alpha=0.13,
      lw=0,
    )


def _show_collapse(
  axes: Axes,
  rows: Sequence[summaries.Summary],
  dense: summaries.Summary,
  scale: float,
  sign: int,
  tolerance: float,
) -> None:
  """Shows values near the dense one in detail, and the others compressed."""
  found = scale_of(rows, sign, tolerance)
  if found is None:
    # A linear axis, on which a margin of the tolerance makes noise look small.
    low = min(min(row.low for row in rows), dense.mean - tolerance)
    high = max(max(row.high for row in rows), dense.mean + tolerance)
    if high > low:
      margin = 0.04 * (high - low)
      axes.set_ylim(scale * (low - margin), scale * (high + margin))
    return
  best = max((v for r in rows for v in (r.low, r.high)), key=lambda v: sign * v)
  scales.apply(axes, found.times(scale), scale * best)


def _fit_to_end(
  axes: Axes,
  lines: Sequence[tuple[float, Sequence[int], Sequence[float]]],
  scale: float,
  sign: int | None,
  tolerance: float,
) -> None:
  """Fits the vertical axis to the values after a twentieth of training."""
  after = [
    value
    for _, steps, values in lines
    for step, value in zip(steps, values, strict=True)
    if step > max(steps) / 20
  ]
  if sign is not None:
    centre = lines[0][2][-1]
    if found := scales.fitting(after, centre, 3 * tolerance, sign):
      best = scale * sign * max(sign * value for value in after)
      scales.apply(axes, found.times(scale), best)
      return
  margin = 0.04 * (max(after) - min(after))
  if margin > 0:
    axes.set_ylim(scale * (min(after) - margin), scale * (max(after) + margin))
