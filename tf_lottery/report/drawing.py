"""The look of figures: colours, markers, axes, and SVG inside a page.

A method has the same colour, marker and line in every figure. Colour-blind
readers can tell the colours apart: Okabe and Ito chose them for that. In a grey
print, markers and lines tell the methods apart.
"""

import contextlib
import dataclasses
import io
import pathlib
import re
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends import backend_agg
from matplotlib.figure import Figure

from tf_lottery.storage import files


@dataclasses.dataclass(frozen=True)
class Theme:
  """The colours of a light or a dark page.

  Attributes:
    name: `"light"` or `"dark"`.
    ink: The colour of text and axes.
    faint: The colour of the grid.
    ramp: The first and the last place in the colour map, in [0, 1], between
      which its colours are legible on the page.
  """

  name: str
  ink: str
  faint: str
  ramp: tuple[float, float]


LIGHT = Theme("light", "#1c1e21", "#dfe1e5", (0.0, 0.85))
DARK = Theme("dark", "#e4e6ea", "#3a3e45", (0.3, 1.0))


@dataclasses.dataclass(frozen=True)
class Style:
  """The name of a method in figures, and its colour, marker and line."""

  label: str
  colour: str
  marker: str
  line: str | tuple[int, tuple[int, ...]]


STYLES = {
  "ticket": Style("ticket", "#0072B2", "o", "-"),
  "random_reinit": Style("random reinit", "#D55E00", "s", "--"),
  "shuffled_mask": Style("shuffled mask", "#009E73", "^", "-."),
  "random_mask": Style("random mask", "#E69F00", "D", ":"),
  "one_shot": Style("one-shot", "#CC79A7", "v", (0, (6, 1, 1, 1, 1, 1))),
  "fine_tune": Style("fine-tuning", "#009E73", "P", (0, (3, 1))),
  "learning_rate_rewind": Style(
    "learning-rate rewinding", "#E69F00", "X", (0, (8, 2))
  ),
  "rewind_to_init": Style("rewound to init", "#D55E00", "<", (0, (1, 2))),
  "gradual": Style("gradual pruning", "#56B4E9", ">", (0, (5, 1, 1, 1))),
  "small_dense": Style("small dense", "#8a8d93", "*", "--"),
}

_WIDTH = 6.6
_HEIGHT = 3.9
_RAMP = "viridis"


def style(method: str) -> Style:
  """Returns the style of a method; a method without one is drawn in grey."""
  label = method.replace("_", " ")
  return STYLES.get(method, Style(label, "#8a8d93", "h", (0, (2, 1))))


@contextlib.contextmanager
def themed(theme: Theme) -> Iterator[None]:
  """Makes matplotlib draw in the colours of a theme, inside a `with` block."""
  settings: dict[Any, Any] = {
    "axes.facecolor": "none",
    "axes.edgecolor": theme.ink,
    "axes.labelcolor": theme.ink,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 11,
    "grid.color": theme.faint,
    "grid.linewidth": 0.7,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "svg.fonttype": "none",
    "svg.hashsalt": theme.name,
    "text.color": theme.ink,
    "xtick.color": theme.ink,
    "xtick.labelsize": 10.5,
    "ytick.color": theme.ink,
    "ytick.labelsize": 10.5,
  }
  with matplotlib.rc_context(settings):
    yield


def draw(
  function: Callable[[Theme], Figure | None],
  prefix: str,
  path: pathlib.Path,
) -> dict[str, str] | None:
  """Draws a figure in both themes, and writes the light one as SVG and PNG.

  Args:
    function: Draws the figure in a theme. It returns None if there is nothing
      to draw.
    prefix: The beginning of all ids in the SVG elements, which makes them
      unique in a page with several figures.
    path: The files to write, without `.svg` and `.png`.

  Returns:
    The SVG element for each theme's name; None if there is nothing to draw.
  """
  elements = {}
  for theme in (LIGHT, DARK):
    with themed(theme):
      figure = function(theme)
      if figure is None:
        return None
      elements[theme.name] = svg(figure, f"{prefix}-{theme.name}")
      if theme is LIGHT:
        whole = _saved(figure, "svg", facecolor="white")
        files.write_bytes(path.with_suffix(".svg"), whole, durable=False)
        image = _saved(figure, "png", dpi=160, facecolor="white")
        files.write_bytes(path.with_suffix(".png"), image, durable=False)
  return elements


def svg(figure: Figure, prefix: str) -> str:
  """Returns a figure as an SVG element whose ids begin with `prefix`."""
  text = _saved(figure, "svg").decode()
  text = text[text.index("<svg") :]
  text = re.sub(r'\bid="', f'id="{prefix}-', text)
  text = re.sub(r'href="#', f'href="#{prefix}-', text)
  return text.replace("url(#", f"url(#{prefix}-")


def axes(theme: Theme, x_label: str, y_label: str) -> tuple[Figure, Axes]:
  """Makes a figure with one pair of axes."""
  figure = Figure(figsize=(_WIDTH, _HEIGHT))
  axes = figure.add_subplot()
  axes.set_xlabel(x_label)
  axes.set_ylabel(y_label)
  axes.set_axisbelow(True)
  axes.grid(axis="y", color=theme.faint)
  return figure, axes


def density_axis(axes: Axes, densities: Sequence[float]) -> None:
  """Makes the horizontal axis one of densities, from high to low.

  Its scale is logarithmic. Each Level has a tick at its density in percent, and
  a label if that does not touch the label to its left.
  """
  # In significant digits, for a small density must not be rounded to zero.
  percents = sorted({float(f"{100 * value:.7g}") for value in densities})[::-1]
  high, low = percents[0], percents[-1]
  room = max(np.log10(high / low), 0.3)
  axes.set_xscale("log")
  axes.set_xlim(high * 10 ** (0.03 * room), low / 10 ** (0.03 * room))
  labelled = percents[:1]
  for percent in percents[1:]:
    if np.log10(labelled[-1] / percent) > 0.085 * room:
      labelled.append(percent)
  axes.xaxis.set_major_locator(ticker.FixedLocator(labelled))
  axes.xaxis.set_major_formatter(
    ticker.FuncFormatter(lambda value, _: f"{value:.3g}")
  )
  axes.xaxis.set_minor_locator(ticker.FixedLocator(percents))
  axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def legend(figure: Figure) -> None:
  """Puts a legend above the axes, with as many columns as fit, at most six."""
  handles, labels = figure.axes[0].get_legend_handles_labels()
  renderer = backend_agg.FigureCanvasAgg(figure).get_renderer()
  for columns in range(min(len(labels), 6), 0, -1):
    made = figure.legend(
      handles,
      labels,
      loc="outside upper center",
      ncols=columns,
      columnspacing=1.5,
      handlelength=2.6,
    )
    if made.get_window_extent(renderer).width < figure.bbox.width:
      return
    if columns > 1:
      made.remove()


def ramp(theme: Theme, count: int) -> list[tuple[float, ...]]:
  """Returns colours along the colour map, for lines that have an order."""
  low, high = theme.ramp
  colours = matplotlib.colormaps[_RAMP]
  return [colours(value) for value in np.linspace(low, high, count)]


def _saved(figure: Figure, kind: str, **options) -> bytes:
  file = io.BytesIO()
  if kind == "svg":
    # Without a date and links, the same figure gives the same bytes.
    none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    options["metadata"] = none
  figure.savefig(file, format=kind, **options)
  return file.getvalue()
