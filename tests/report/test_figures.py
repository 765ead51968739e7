import itertools
import math
import pathlib
import re

import numpy as np
import pytest

from tests import runs
from tf_lottery import masks
from tf_lottery.report import drawing
from tf_lottery.report import figures
from tf_lottery.report import gallery
from tf_lottery.report import summaries
from tf_lottery.report.evidence import gather


def summary(method, level, density, mean, spread=0.01):
  return summaries.Summary(
    method,
    level,
    density,
    "test_early",
    mean,
    mean - spread,
    mean + spread,
    2,
    2,
  )


ROWS = [
  summary("dense", 0, 1.0, 0.9),
  *(summary("ticket", k, 0.8**k, 0.9) for k in range(1, 21)),
  *(summary("random_reinit", k, 0.8**k, 0.5) for k in range(1, 21)),
  summary("mine", 3, 0.512, 0.88),
]


def drawn(function, *args, **options):
  with drawing.look():
    return function(*args, **options)


def labels(figure):
  return [text.get_text() for text in figure.legends[0].get_texts()]


def test_accuracy_falls_to_the_right_on_a_log_axis():
  figure = drawn(figures.against_density, ROWS, "test accuracy", percent=True)
  (axes,) = figure.axes
  left, right = axes.get_xlim()
  assert axes.get_xscale() == "log"
  assert left > 100 > 1.15 > right
  assert labels(figure) == ["dense", "ticket", "random reinit", "mine"]


def test_a_density_near_zero_is_not_rounded_to_it():
  """Of a record that is damaged, say."""
  rows = [*ROWS[:3], summary("ticket", 3, 1e-12, 0.5)]
  figure = drawn(figures.against_density, rows, "test accuracy", percent=True)
  _, right = figure.axes[0].get_xlim()
  assert 0 < right < 1e-10


def test_labels_of_levels_do_not_overlap():
  figure = drawn(figures.against_density, ROWS, "test accuracy", percent=True)
  with drawing.look():
    figure.draw_without_rendering()
  axis = figure.axes[0].xaxis
  texts = [tick.label1 for tick in axis.get_major_ticks()]
  assert texts[0].get_text() == "100"
  boxes = sorted((t.get_window_extent() for t in texts), key=lambda box: box.x0)
  assert len(boxes) > 5
  assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def heights(figure, *values):
  """How far up the axes values are, as a fraction of their height."""
  (axes,) = figure.axes
  points = axes.transData.transform([(50, value) for value in values])
  return axes.transAxes.inverted().transform(points)[:, 1]


@pytest.mark.parametrize(("sign", "collapsed"), [(1, 50), (-1, 1e9)])
def test_collapse_is_shown_and_does_not_flatten_the_rest(sign, collapsed):
  """Also of a metric without bounds of which less is better."""
  rows = [
    summary("dense", 0, 1.0, 90.0),
    *(summary("ticket", k, 0.8**k, 90.0 - sign * k / 10) for k in range(20)),
    *(summary("random_mask", k, 0.8**k, collapsed) for k in range(10, 20)),
  ]
  figure = drawn(
    figures.against_density,
    rows,
    "value",
    percent=False,
    sign=sign,
    tolerance=0.1,
  )
  dense, ticket, worst = heights(figure, 90.0, 90.0 - sign * 1.9, collapsed)
  assert 0 < worst < 1
  assert 0 < dense < 1
  assert sign * (dense - ticket) > 0.4
  assert sign * (ticket - worst) > 0.1
  ticks = figure.axes[0].get_yticks()
  assert min(ticks) < 90 < max(ticks) or len(ticks) > 3
  assert np.min(np.diff(heights(figure, *sorted(ticks)))) > 0.04


def test_values_that_lie_near_each_other_have_a_linear_axis():
  rows = [
    summary("dense", 0, 1.0, 0.9),
    *(summary("ticket", k, 0.8**k, 0.9 - k / 100) for k in range(1, 6)),
  ]
  figure = drawn(
    figures.against_density,
    rows,
    "",
    percent=True,
    sign=1,
    tolerance=0.01,
  )
  low, middle, high = heights(figure, 85, 87.5, 90)
  assert middle == pytest.approx((low + high) / 2)


def test_tickets_that_are_all_poor_are_shown():
  rows = [
    summary("dense", 0, 1.0, 0.9),
    *(summary("ticket", k, 0.8**k, 0.5 - k / 100) for k in range(1, 21)),
  ]
  figure = drawn(
    figures.against_density, rows, "", percent=True, sign=1, tolerance=0.01
  )
  top, bottom = heights(figure, 49, 30)
  assert top - bottom > 0.2
  assert bottom > 0


def test_steps_begin_at_zero():
  rows = [summary("ticket", 1, 0.8, 4000, 100)]
  figure = drawn(figures.against_density, rows, "", percent=False, whole=True)
  assert figure.axes[0].get_ylim()[0] == 0


@pytest.mark.parametrize(
  ("function", "args", "options"),
  [
    (figures.against_density, ([], ""), {"percent": True}),
    (figures.curves, ([(1.0, [], [])], ""), {"percent": True}),
    (figures.layers, ([1.0], [("a", [1.0])]), {}),
    (figures.layers, ([1.0, 0.5], []), {}),
    (figures.input_maps, ([(0.5, np.zeros((4, 4)))],), {}),
  ],
)
def test_of_nothing_there_is_no_figure(function, args, options):
  assert drawn(function, *args, **options) is None


def test_curves_are_named_by_density():
  lines = [(1.0, [1, 2], [0.5, 0.6]), (0.5, [1, 2], [0.5, 0.7])]
  figure = drawn(figures.curves, lines, "", percent=True)
  assert labels(figure) == ["dense", "50 %"]


def test_of_many_layers_some_are_named():
  by_layer = [(f"layer_{k}", [1.0, 0.5, 0.0]) for k in range(40)]
  figure = drawn(figures.layers, [1.0, 0.5, 0.25], by_layer)
  assert labels(figure) == ["whole network"] + [
    f"layer_{k}" for k in range(0, 40, 5)
  ]
  assert len(figure.axes[0].lines) == 41


def test_maps_are_relative_to_the_mean_pixel():
  counts = np.array([[0, 2], [2, 4]])
  figure = drawn(figures.input_maps, [(0.5, counts), (0.1, counts)])
  images = [image for axes in figure.axes[:2] for image in axes.images]
  np.testing.assert_array_equal(images[0].get_array(), [[0, 1], [1, 2]])
  assert [axes.get_title() for axes in figure.axes[:2]] == ["50 %", "10 %"]


@pytest.mark.parametrize(
  ("shape", "expected"),
  [
    ((784, 300), (28, 28, 1)),
    ((3072, 10), (32, 32, 3)),
    ((100, 10), (10, 10, 1)),
    ((13, 10), None),
    ((3, 3, 3, 64), None),
  ],
)
def test_which_first_layers_take_images(shape, expected):
  assert gallery.image_shape(shape) == expected


def test_a_method_looks_different_from_all_others():
  looks = [(s.colour, s.marker, s.line) for s in drawing.STYLES.values()]
  assert len(set(looks)) == len({s.marker for s in drawing.STYLES.values()})
  assert drawing.style("my_control").label == "my control"


def luminance(colour):
  parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
  linear = [
    p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
  ]
  return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one, other):
  low, high = sorted((luminance(one), luminance(other)))
  return (high + 0.05) / (low + 0.05)


def test_text_is_legible_on_the_page():
  assert contrast(drawing.INK, "#ffffff") > 7


@pytest.mark.parametrize("method", [*drawing.STYLES, "mine"])
def test_lines_are_visible_on_a_dark_page(method):
  colour = drawing.style(method).colour.lower()
  element = drawing.element(f'<svg style="stroke: {colour}"/>', "a")
  light, dark = re.findall("#[0-9a-f]{6}", element)
  assert light == colour
  assert contrast(dark, "#15171a") > 4


def test_methods_without_a_style_differ_from_each_other():
  methods = ["mine", "ticket", "yours", "theirs"]
  looks = {drawing.style(method, methods) for method in methods}
  assert len({(look.colour, look.marker) for look in looks}) == 4


def test_a_figure_is_drawn_for_a_page_and_on_disk(tmp_path):
  rows = ROWS[:3]
  element = drawing.draw(
    lambda: figures.against_density(rows, "value", percent=True),
    "a-figure",
    tmp_path / "figure",
  )
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "figure.png",
    "figure.svg",
  ]
  assert element.startswith("<svg")
  ids = re.findall(r'\bid="([^"]+)"', element)
  assert len(ids) == len(set(ids))
  assert all(name.startswith("a-figure-") for name in ids)
  used = re.findall(r'(?:href="#|url\(#)([^")]+)', element)
  assert used
  assert set(used) <= set(ids)
  sizes = re.findall(r"font-size: ([\d.]+)px", element)
  assert min(map(float, sizes)) >= 9
  # The page's colours in the page, and plain ones in the file.
  assert "fill: var(--ink)" in element
  assert "#ffffff" not in element
  file = (tmp_path / "figure.svg").read_text()
  assert "var(" not in file
  assert "light-dark(" not in file


def test_the_same_figure_gives_the_same_bytes(tmp_path):
  def draw(name):
    drawing.draw(
      lambda: figures.curves(
        [(1.0, [1, 2], [0.1, math.pi])], "", percent=False
      ),
      "a",
      tmp_path / name,
    )
    return (tmp_path / f"{name}.svg").read_bytes()

  assert draw("one") == draw("two")


def evidence(path):
  (found,) = gather([path])
  return found


def test_curves_are_means_over_replicates(tmp_path):
  home = runs.write_experiment(tmp_path, replicates=3)
  steps, values = gallery._mean_curve(evidence(home), 0)
  assert steps == [10, 20, 30]
  assert values == pytest.approx([0.801, 0.901, 0.891])


def test_curves_count_steps_from_the_start_of_each_round(tmp_path):
  """A ticket that goes on from trained weights begins at their step."""
  run = runs.write_run(tmp_path / "run", {"dense": [0.9]})
  runs.write_round(run.level(1), 0.8, 0.5, start=30)
  (draw,) = [
    function
    for name, _, _, function in gallery.sketches(evidence(run.path))
    if name == "curves"
  ]
  dense, ticket = drawn(draw).axes[0].lines
  np.testing.assert_array_equal(dense.get_xdata(), [10, 20, 30])
  np.testing.assert_array_equal(ticket.get_xdata(), [10, 20, 30])


def test_chosen_levels_are_the_nearest_ones(tmp_path):
  home = runs.write_experiment(tmp_path, replicates=1)
  near = gallery._levels(evidence(home), (0.5, 0.21, 0.001), dense=True)
  assert [level for level, _ in near] == [0, 1, 2]
  far = gallery._levels(evidence(home), (0.001,), dense=False)
  assert [level for level, _ in far] == [1, 2]


def test_layers_and_input_are_those_of_the_masks():
  mask = masks.Mask(
    {"0/kernel": np.eye(16, 2, dtype=bool), "1/kernel": np.ones((2, 2), bool)}
  )
  _, _, alt, _ = gallery._layers([mask], ["first", "second"])
  assert alt.endswith("at the last Level: first 6.25 %; second 100 %.")
  ((name, *_),) = gallery._input_maps([mask])
  assert name == "input"
  assert gallery._input_maps([masks.Mask({"a": np.ones((13, 2), bool)})]) == []


def test_figures_need_no_display():
  source = pathlib.Path(drawing.__file__).read_text()
  assert "pyplot" not in source
