"""The look of figures: colours, markers, axes, and SVG inside a page.

A method has the same colour, marker and line in every figure. Colour-blind
readers can tell the colours apart: most are of Okabe and Ito, and of Tol, who
chose them for that. In a grey print, markers and lines tell the methods apart.
A figure is drawn once, for a light page; in the page, CSS turns it dark.
"""

import colorsys
import contextlib
import dataclasses
import functools
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

# Text and axes, and the grid. On a page, the page's own colours replace them.
INK = "#1c1e21"
FAINT = "#dfe1e5"
_OF_PAGE = {INK: "var(--ink)", FAINT: "var(--line)"}


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
  "fine_tune": Style("fine-tuning", "#882255", "P", (0, (3, 1))),
  "learning_rate_rewind": Style(
    "learning-rate rewinding", "#7f7f1a", "X", (0, (8, 2))
  ),
  "rewind_to_init": Style("rewound to init", "#332288", "<", (0, (1, 2))),
  "gradual": Style("gradual pruning", "#56B4E9", ">", (0, (5, 1, 1, 1))),
  "gradual_equal_cost": Style(
    "gradual pruning at equal cost", "#56B4E9", "d", "-"
  ),
  "small_dense": Style("small dense", "#8a8d93", "*", "--"),
  "small_dense_equal_cost": Style(
    "small dense at equal cost", "#8a8d93", "p", "-"
  ),
  "rigl": Style("RigL", "#AA3377", "h", (0, (4, 1, 1, 1))),
  "rigl_equal_cost": Style("RigL at equal cost", "#AA3377", "H", "-"),
  "set": Style("SET", "#5a3d2b", "8", (0, (2, 2))),
  "random_erk": Style("random ERK mask", "#b8860b", "x", (0, (1, 1))),
  # Solid shapes beyond those that matplotlib names, as characters.
  "signs": Style("signs alone", "#EE3377", "$\u25ae$", "-"),
  "magnitudes": Style("magnitudes alone", "#117733", "$\u25ac$", "--"),
  "permuted": Style(
    "weights permuted", "#999933", "$\u2663$", (0, (4, 2, 1, 2))
  ),
  "supermask": Style("supermask, untrained", "#661100", "$\u2660$", ":"),
  "weight_average": Style(
    "average of Levels", "#0d3b66", "$\u2665$", (0, (9, 2))
  ),
  "shuffled_labels": Style(
    "mask of shuffled labels", "#DDAA33", "$\u25d6$", "--"
  ),
  "half_data": Style("mask of half the data", "#AA4499", "$\u25e2$", "-."),
  "other_order": Style(
    "mask of another order", "#44AA99", "$\u25d7$", (0, (2, 2))
  ),
  "transferred": Style("transferred ticket", "#117733", "+", "-"),
  "transferred_mask": Style(
    "transferred mask, own weights", "#117733", "1", (0, (1, 2))
  ),
  "transferred_permuted": Style(
    "transferred mask, units matched", "#44AA99", "2", (0, (3, 1))
  ),
  "transferred_reinit": Style(
    "transferred mask, new weights", "#c2452d", "3", (0, (2, 2))
  ),
  "transferred_shuffled": Style(
    "transferred ticket, shuffled", "#999933", "4", (0, (4, 2))
  ),
}
# The looks of methods that have no style of their own.
_OTHERS = (
  ("#44AA99", "h", (0, (2, 1))),
  ("#AA4499", "p", (0, (4, 1, 1, 1, 1, 1))),
  ("#7a4f21", "d", (0, (7, 2, 2, 2))),
  ("#b01030", "H", (0, (3, 3))),
  ("#4d6a94", "8", (0, (1, 1))),
)

_SIZE = (6.6, 3.9)
_WIDE = (9.4, 4.6)
_RAMP = "viridis"


@dataclasses.dataclass(frozen=True)
class Picture:
  """A figure on a page.

  Attributes:
    name: The name of its files, without `.svg` and `.png`.
    caption: What the figure shows, and how to read it.
    alt: What the figure shows, for readers who do not see it.
    svg: The SVG element, for a light or a dark page.
    wide: Whether the figure takes the whole width of the page.
  """

  name: str
  caption: str
  alt: str
  svg: str = dataclasses.field(repr=False)
  wide: bool = False


# A figure before it is drawn: its name, caption and alternative text, and the
# function that draws it.
Sketch = tuple[str, str, str, Callable[[], Figure | None]]


def style(method: str, among: Sequence[str] = ()) -> Style:
  """Returns the style of a method.

  Args:
    method: The name of the method.
    among: All methods of the figure. Those without a style of their own get
      one by their order. Defaults to the method alone.
  """
  if method in STYLES:
    return STYLES[method]
  others = sorted({*among, method} - STYLES.keys())
  look = _OTHERS[others.index(method) % len(_OTHERS)]
  return Style(method.replace("_", " "), *look)


@contextlib.contextmanager
def look() -> Iterator[None]:
  """Makes matplotlib draw in the look of the report, inside a `with` block."""
  settings: dict[Any, Any] = {
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 11,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "tf_lottery",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 10.5,
    "ytick.color": INK,
    "ytick.labelsize": 10.5,
  }
  with matplotlib.rc_context(settings):
    yield


def draw(
  function: Callable[[], Figure | None],
  prefix: str,
  path: pathlib.Path,
) -> str | None:
  """Draws a figure, and writes it as SVG and as PNG.

  Args:
    function: Draws the figure. It returns None if there is nothing to draw.
    prefix: The beginning of all ids in the SVG element, which makes them
      unique in a page with several figures.
    path: The files to write, without `.svg` and `.png`.

  Returns:
    The SVG element for a page; None if there is nothing to draw.
  """
  with look():
    figure = function()
    if figure is None:
      return None
    drawing = _saved(figure, "svg")
    # All is in its place: the second drawing need not look for it.
    figure.set_layout_engine("none")
    image = _saved(figure, "png", dpi=160)
  files.write_bytes(path.with_suffix(".svg"), drawing, durable=False)
  files.write_bytes(path.with_suffix(".png"), image, durable=False)
  return element(drawing.decode(), prefix)


def element(svg: str, prefix: str) -> str:
  """Returns an SVG file as an element for a light or a dark page.

  Args:
    svg: The text of the file.
    prefix: The beginning of all ids in the element.
  """
  text = svg[svg.index("<svg") :]
  text = re.sub(r'\bid="', f'id="{prefix}-', text)
  text = re.sub(r'href="#', f'href="#{prefix}-', text)
  text = text.replace("url(#", f"url(#{prefix}-")
  text = text.replace("fill: #ffffff", "fill: none", 1)  # the background
  return re.sub(r"(?<=: )#[0-9a-f]{6}\b", lambda m: _of_page(m[0]), text)


@functools.cache
def _of_page(colour: str) -> str:
  """Returns the CSS colour for a light or a dark page."""
  if colour in _OF_PAGE:
    return _OF_PAGE[colour]
  rgb = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
  hue, lightness, saturation = colorsys.rgb_to_hls(*rgb)
  lighter = colorsys.hls_to_rgb(hue, 0.45 + 0.55 * lightness, saturation)
  dark = "".join(f"{round(255 * part):02x}" for part in lighter)
  return f"light-dark({colour}, #{dark})"


def axes(
  x_label: str, y_label: str, *, wide: bool = False
) -> tuple[Figure, Axes]:
  """Makes a figure with one pair of axes."""
  figure = Figure(figsize=_WIDE if wide else _SIZE)
  axes = figure.add_subplot()
  axes.set_xlabel(x_label)
  axes.set_ylabel(y_label)
  axes.set_axisbelow(True)
  axes.grid(axis="y", color=FAINT)
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
  """Puts a legend above the axes, in as many of at most 8 columns as fit."""
  handles, labels = figure.axes[0].get_legend_handles_labels()
  renderer = backend_agg.FigureCanvasAgg(figure).get_renderer()
  for columns in range(min(len(labels), 8), 0, -1):
    made = figure.legend(
      handles,
      labels,
      loc="outside upper center",
      ncols=columns,
      columnspacing=1.2,
      handlelength=2.4,
    )
    if made.get_window_extent(renderer).width < figure.bbox.width:
      return
    if columns > 1:
      made.remove()


def ramp(count: int) -> list[tuple[float, ...]]:
  """Returns colours along the colour map, for lines that have an order."""
  colours = matplotlib.colormaps[_RAMP]
  # The last colours are too pale for a white page.
  return [colours(value) for value in np.linspace(0, 0.85, count)]


def _saved(figure: Figure, kind: str, **options) -> bytes:
  file = io.BytesIO()
  if kind == "svg":
    # Without a date and links, the same figure gives the same bytes.
    none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    options["metadata"] = none
  figure.savefig(file, format=kind, **options)
  return file.getvalue()
