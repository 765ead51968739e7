"""Figures of what tickets keep, and of how much their masks overlap."""

import functools
import os
import pathlib
import typing
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tf_lottery.analysis.masks import Masked
from tf_lottery.analysis.masks import Overlap
from tf_lottery.analysis.masks import mask_of
from tf_lottery.analysis.neighbours import by_place
from tf_lottery.report import drawing
from tf_lottery.report import figures
from tf_lottery.report import wording
from tf_lottery.report.drawing import Picture
from tf_lottery.report.drawing import Sketch

if typing.TYPE_CHECKING:
  from tf_lottery.analysis.structure import Kept


def draw_overlap(
  overlaps: Sequence[Overlap], path: str | os.PathLike
) -> Picture | None:
  """Draws overlaps against chance by density, and writes SVG and PNG.

  Args:
    overlaps: What `analysis.overlap` returned, for any pairs of masks. Those of
      one density become one point.
    path: The files to write, without `.svg` and `.png`.

  Returns:
    The figure with its caption and alternative text; None if no mask keeps
    anything.

  Example:
  ```python
  overlaps = [analysis.overlap(one, other) for one, other in zip(a, b)]
  report.draw_overlap(overlaps, "figures/overlap")
  ```
  """
  return _drawn(overlap(overlaps), path)


def draw_kept_inputs(
  tickets: Sequence[Masked],
  shape: Sequence[int],
  path: str | os.PathLike,
  key: str | None = None,
) -> Picture | None:
  """Draws how often each input is kept, and writes SVG and PNG.

  Args:
    tickets: Masks, Tickets or Rounds, such as those of some Levels.
    shape: The shape of the input without its channels: `(40,)` gives a line for
      each ticket, `(28, 28)` a map.
    path: The files to write, without `.svg` and `.png`.
    key: The key of the weight that takes the input. Defaults to `None`: the
      first weight of each mask.

  Returns:
    The figure with its caption and alternative text; None if no input is kept.

  Raises:
    ValueError: The shape has neither one nor two axes, or the weight takes no
      inputs of this shape.
  """
  if len(shape) not in (1, 2):
    raise ValueError(f"shape must have one or two axes, got {tuple(shape)}.")
  by_ticket = [
    (
      mask_of(ticket).density,
      by_place(ticket, shape, key).sum(axis=(1, 2)).reshape(shape),
    )
    for ticket in tickets
  ]
  return _drawn(_inputs(by_ticket), path)


def draw_kept(kept: "Kept", path: str | os.PathLike) -> Picture | None:
  """Draws which part of each axis a ticket keeps, and writes SVG and PNG.

  Args:
    kept: What `analysis.kept` returned.
    path: The files to write, without `.svg` and `.png`.

  Returns:
    The figure with its caption and alternative text; None if the mask covers no
    weights.
  """
  return _drawn(_kept(kept), path)


def overlap(overlaps: Sequence[Overlap]) -> Sketch:
  """Returns the figure of overlaps against chance before it is drawn."""
  by_density: dict[float, list[Overlap]] = {}
  for one in overlaps:
    if min(one.first, one.second):
      by_density.setdefault(float(f"{one.density:.6g}"), []).append(one)
  groups = [by_density[density] for density in sorted(by_density)[::-1]]
  ends = " and ".join(
    f"{wording.density(_mean(group, 'share'))} (by chance"
    f" {wording.density(_mean(group, 'expected_share'))}) at"
    f" {wording.density(group[0].density)} of the weights"
    for group in ([groups[0], groups[-1]] if len(groups) > 1 else groups)
  )
  return (
    "overlap",
    "Number of weights that two tickets both keep, divided by its mean for"
    " random masks that keep as many entries of each weight: mean over pairs,"
    " with bars from minimum to maximum. The band holds 95 % of random pairs,"
    " counted over all weights; the first weight alone is smaller and varies"
    " more. Masks that keep few whole units leave it in both directions, as"
    " hidden units have no order that seeds share. The inputs of the first"
    " weight have one.",
    "Line chart of the overlap between tickets, against chance. Of the smaller"
    f" ticket's weights the other keeps {ends}.",
    functools.partial(_draw_overlap, groups),
  )


def _draw_overlap(groups: Sequence[Sequence[Overlap]]) -> Figure | None:
  if not groups:
    return None
  figure, axes = drawing.axes("weights remaining, %", "overlap, against chance")
  densities = [group[0].density for group in groups]
  x = 100 * np.array(densities)
  spread = np.array([_mean_spread(group) for group in groups])
  axes.axhline(1, color=drawing.INK, linewidth=1.2, label="by chance")
  band = (x, 1 - 2 * spread, 1 + 2 * spread)
  axes.fill_between(*band, color=drawing.INK, alpha=0.13, linewidth=0)
  _ratios(axes, x, groups, "all weights", drawing.style("ticket"))
  if len(groups[0][0].weights) > 1:
    first = [[next(iter(one.weights.values())) for one in g] for g in groups]
    _ratios(axes, x, first, "first weight", drawing.style("random_mask"))
  axes.set_ylim(bottom=0)
  drawing.density_axis(axes, densities)
  drawing.legend(figure)
  return figure


def _ratios(
  axes: Axes,
  x: np.ndarray,
  groups: Sequence[Sequence[Overlap]],
  label: str,
  style: drawing.Style,
) -> None:
  """Draws a line through mean ratios, with bars from minimum to maximum."""
  ratios = [[one.ratio for one in group] for group in groups]
  mean = np.array([np.mean(values) for values in ratios])
  low, high = ([end(values) for values in ratios] for end in (min, max))
  axes.errorbar(
    x,
    mean,
    yerr=np.maximum([mean - low, high - mean], 0),
    label=label,
    color=style.colour,
    marker=style.marker,
    linestyle=style.line,
    elinewidth=1,
    capsize=2,
  )


def _mean_spread(group: Sequence[Overlap]) -> float:
  """Returns the standard deviation of the ratio of one pair by chance."""
  spreads = [one.deviation / one.expected for one in group if one.expected]
  return float(np.mean(spreads)) if spreads else 0.0


def _mean(group: Sequence[Overlap], name: str) -> float:
  return float(np.mean([getattr(one, name) for one in group]))


def _inputs(by_ticket: Sequence[tuple[float, np.ndarray]]) -> Sketch:
  """Returns the figure of how often inputs are kept before it is drawn."""
  by_ticket = [(density, c) for density, c in by_ticket if c.any()]
  shown = ", ".join(wording.density(density) for density, _ in by_ticket)
  peaks = ", ".join(
    str(tuple(int(i) for i in np.unravel_index(c.argmax(), c.shape)))
    for _, c in by_ticket
  )
  is_map = bool(by_ticket) and by_ticket[0][1].ndim == 2
  return (
    "inputs",
    "Number of weights that are kept at each place of the input, relative to"
    " the mean place of the same ticket. Tickets are named by the weights that"
    " remain in the network.",
    f"{'Maps' if is_map else 'Lines'} of the kept weights by place of the input"
    f" at {shown} of the weights; most are kept at {peaks}.",
    functools.partial(figures.input_maps if is_map else _lines, by_ticket),
  )


def _lines(by_ticket: Sequence[tuple[float, np.ndarray]]) -> Figure | None:
  if not by_ticket:
    return None
  figure, axes = drawing.axes("place of the input", "kept, against the mean")
  for (density, counts), colour in zip(
    by_ticket, drawing.ramp(len(by_ticket)), strict=True
  ):
    label = wording.density(density)
    axes.plot(counts / counts.mean(), color=colour, label=label)
  axes.set_ylim(bottom=0)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  drawing.legend(figure)
  return figure


def _kept(kept: "Kept") -> Sketch:
  """Returns the figure of the axes that a ticket keeps before it is drawn."""
  rows = [
    (f"{axis.weight}, {axis.axis}", axis.alive / axis.size)
    for axis in kept.axes
    if axis.size
  ]
  least = sorted(rows, key=lambda row: row[1])[:3]
  emptiest = "; ".join(f"{name} {wording.density(p)}" for name, p in least)
  return (
    "kept",
    "Part of each axis of each weight at which the ticket keeps at least one"
    f" entry, at {wording.density(kept.density)} of the weights: inputs, units,"
    " channels or heads beyond the bar are dead.",
    f"Bar chart of the part of each axis that is kept; the least: {emptiest}.",
    functools.partial(_bars, rows),
  )


def _bars(rows: Sequence[tuple[str, float]]) -> Figure | None:
  if not rows:
    return None
  figure, axes = drawing.axes("at least one entry kept, %", "")
  figure.set_figheight(max(1.6, 0.9 + 0.26 * len(rows)))
  names = [name for name, _ in rows]
  places = np.arange(len(rows))
  style = drawing.style("ticket")
  axes.barh(places, [100 * part for _, part in rows], color=style.colour)
  axes.set_yticks(places, names)
  axes.set_ylim(len(rows) - 0.4, -0.6)
  axes.set_xlim(0, 100)
  axes.grid(visible=False, axis="y")
  axes.grid(axis="x", color=drawing.FAINT)
  return figure


def _drawn(sketch: Sketch, path: str | os.PathLike) -> Picture | None:
  """Draws a figure that stands alone."""
  path = pathlib.Path(path)
  _, caption, alt, function = sketch
  svg = drawing.draw(function, path.name, path)
  return None if svg is None else Picture(path.name, caption, alt, svg)
