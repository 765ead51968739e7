"""Figures of lines between networks, and of the steps from which they agree."""

import os
import pathlib
import typing
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from tf_lottery.report import drawing

if typing.TYPE_CHECKING:
  from tf_lottery.search.instability import Instability
  from tf_lottery.training.lines import Line


def draw_lines(
  lines: Mapping[str, "Line"], metric: str, path: str | os.PathLike
) -> list[pathlib.Path]:
  """Draws a metric on lines between two networks, as SVG and as PNG.

  Args:
    lines: Label -> line, as `analysis.interpolate` returns it.
    metric: The name of the metric, such as `"accuracy"`.
    path: The files to write, without `.svg` and `.png`.

  Returns:
    The paths of both files.

  Raises:
    ValueError: There is no line, or a line lacks the metric.

  Example:
  ```python
  report.draw_lines({"Levels 1 and 2": line}, "accuracy", "figures/line")
  ```
  """
  for label, line in lines.items():
    if metric not in line.values:
      raise ValueError(
        f"The metrics on the line {label!r} are {', '.join(line.values)}; got"
        f" {metric!r}."
      )
  return _written(lambda: _lines(lines, metric), lines, path)


def draw_instability(
  measured: Iterable["Instability"], path: str | os.PathLike
) -> list[pathlib.Path]:
  """Draws the barrier between two orders of the data against the step.

  There is one line for each Level. The shaded area is that of stable training.

  Args:
    measured: What `analysis.instability` returned.
    path: The files to write, without `.svg` and `.png`.

  Returns:
    The paths of both files.

  Raises:
    ValueError: Nothing is measured.
  """
  found = tuple(measured)
  return _written(lambda: _instability(found), found, path)


def _written(
  function: Callable[[], Figure],
  shown: Collection[Any],
  path: str | os.PathLike,
) -> list[pathlib.Path]:
  if not shown:
    raise ValueError("There is nothing to draw: give at least one line.")
  base = pathlib.Path(path)
  drawing.draw(function, base.name, base)
  return [base.with_name(f"{base.name}.{kind}") for kind in ("svg", "png")]


def _lines(lines: Mapping[str, "Line"], metric: str) -> Figure:
  words = metric.replace("_", " ")
  figure, axes = drawing.axes("place between the two networks", words)
  colours = drawing.ramp(len(lines))
  for (label, line), colour in zip(lines.items(), colours, strict=True):
    axes.plot(line.places, line.values[metric], color=colour, label=label)
  drawing.legend(figure)
  return figure


def _instability(measured: tuple["Instability", ...]) -> Figure:
  objective = measured[0].objective
  figure, axes = drawing.axes(
    "step from which the order of the data differs",
    f"barrier of {objective.name.replace('_', ' ')}",
  )
  by_level: dict[tuple[int, float], list[Instability]] = {}
  for one in measured:
    by_level.setdefault((one.level, one.density), []).append(one)
  colours = drawing.ramp(len(by_level))
  for ((level, density), group), colour in zip(
    by_level.items(), colours, strict=True
  ):
    group = sorted(group, key=lambda one: one.step)
    axes.plot(
      [one.step for one in group],
      [one.barrier for one in group],
      color=colour,
      marker="o",
      label=f"{density:.1%} of the weights" if level else "dense network",
    )
  steps = sorted({one.step for one in measured} - {0})
  if steps:
    axes.set_xscale("symlog", linthresh=steps[0], linscale=0.4)
    axes.set_xticks([0, *steps], [str(step) for step in (0, *steps)])
    axes.minorticks_off()
  axes.set_ylim(bottom=0)
  axes.axhspan(
    0, measured[0].threshold, color=drawing.FAINT, zorder=0, label="stable"
  )
  drawing.legend(figure)
  return figure
