import csv
import json

import pytest

from tests import runs
from tests import small
from tf_lottery import report
from tf_lottery.cost import Cost
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.experiments.proving import prove
from tf_lottery.report import cost_figures
from tf_lottery.report import drawing
from tf_lottery.report import gallery
from tf_lottery.report import search_costs
from tf_lottery.report.evidence import gather
from tf_lottery.search.methods import at_init
from tf_lottery.search.methods import cycles
from tf_lottery.search.methods import gradual
from tf_lottery.search.methods import iterative

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
# Method -> what it costs to draw a Level's mask, and the values less 0.9.
METHODS = {
  iterative(): (lambda level: float(level), 0.02),
  gradual(0.1): (lambda level: 0.1, 0.0),
  gradual(1.0): (lambda level: 1.0, 0.01),
  cycles(4, 0.25): (lambda level: min(0.25 * level, 1), 0.005),
  at_init("snip"): (lambda level: 0.0, -0.1),
}


def write_method(root, method, *, schedule=DENSITIES, replicates=2, **fields):
  """Writes an experiment of a method, with costs and values of its own."""
  search, better = METHODS[method]
  experiment = Experiment(
    make_model="nets:make_lenet",
    load_data="digits:load_digits",
    steps=30,
    schedule=schedule,
    method=method,
    replicates=replicates,
    **fields,
  )
  home = root / experiment.id
  experiment.declare(home)
  for number in range(replicates):
    value = 0.9 + better + number / 1000
    directory = runs.write_run(
      home / f"replicate_{number:02d}",
      {"dense": [0.9]},
      seed=number,
      schedule=schedule,
    )
    for level, density in enumerate(schedule, 1):
      round_ = directory.level(level)
      runs.write_round(round_, value - level / 50, density, done=False)
      spent = Cost(round(30 * search(level)), 0, 1e6 * search(level))
      cost = Cost(30, 0, 1e6, density * 1e6)
      record = runs.record(level=level, density=density, cost=cost.to_json())
      round_.finish({**record, "search_cost": spent.to_json()})
    dense = directory.level(0)
    dense.finish(
      {**dense.read_record(), "cost": Cost(30, 0, 1e6, 1e6).to_json()}
    )
  return home


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
  root = tmp_path_factory.mktemp("methods")
  return [write_method(root, method) for method in METHODS]


def test_methods_are_compared_at_the_same_densities(homes, tmp_path):
  named = dict(zip("abcde", homes, strict=True))
  rows = report.search_cost(named, tmp_path / "cost", densities=[0.21, 0.05])
  assert [(row.method, row.density) for row in rows] == [
    *((name, 0.2) for name in "ebdca"),
    *((name, 0.05) for name in "ebcda"),
  ]
  last = rows[-1]
  assert (last.level, last.search, last.final, last.n) == (4, 4.0, 1.0, 2)
  assert last.mean == pytest.approx(0.9 + 0.02 - 0.08 - 0.01 + 0.0005)
  assert last.sd == pytest.approx(0.001 / 2**0.5)
  assert last.dense == pytest.approx(0.89)
  for ending in ("svg", "png"):
    assert (tmp_path / f"cost.{ending}").stat().st_size > 1000


def test_densities_that_most_methods_have_are_chosen(homes, tmp_path):
  named = dict(zip("abcde", homes, strict=True))
  other = (0.51, 0.202, 0.07, 0.05)
  named["f"] = write_method(tmp_path, gradual(0.1), schedule=other)
  rows = report.search_cost(named, tmp_path / "cost")
  shown = list(dict.fromkeys(row.density for row in rows))
  assert len(shown) == 4
  assert 0.07 not in shown
  for density in shown:
    methods = {row.method for row in rows if row.density == density}
    levels = {row.level for row in rows if row.density == density}
    assert set("abcde") <= methods
    assert len(levels) == 1


def test_what_cannot_be_compared_is_refused(homes, tmp_path):
  with pytest.raises(ValueError, match="has 5"):
    report.search_cost({"a": homes[0].parent}, tmp_path / "cost")
  with pytest.raises(ValueError, match="at most 6"):
    report.search_cost({"a": homes[0]}, tmp_path / "cost", densities=[0.5] * 7)
  with pytest.raises(ValueError, match="got none"):
    report.search_cost({}, tmp_path / "cost")
  runs.write_run(tmp_path / "loss", {"dense": [0.9]}, monitor="mae")
  other = {"a": homes[0], "b": tmp_path / "loss"}
  with pytest.raises(ValueError, match="must have one metric"):
    report.search_cost(other, tmp_path / "cost")


def test_experiments_of_one_network_and_data_are_found(homes, tmp_path):
  (one,) = search_costs.comparisons(gather([homes[0].parent]))
  assert one.title == "lenet on digits"
  assert sorted(one.by_label) == [
    "4 cycles of 0.25",
    "at initialisation: snip",
    "gradual, 0.1 of a training",
    "gradual, 1 of a training",
    "iterative",
  ]
  assert not search_costs.comparisons(gather(homes[:1]))
  # The same network on other data.
  other = write_method(tmp_path, gradual(1.0))
  for path in other.glob("*/declaration.json"):
    declared = {**json.loads(path.read_text()), "train_data": "others"}
    path.write_text(json.dumps(declared))
  assert not search_costs.comparisons(gather([homes[0], other]))


def test_the_overview_shows_the_figure_and_its_numbers(
  homes, tmp_path, monkeypatch
):
  # The figures of each experiment, which take the time.
  monkeypatch.setattr(gallery, "pictures", lambda found, *_: [()] * len(found))
  made = report.write(homes[:3], tmp_path)
  assert {section.title for section in made.sections} == {
    "lenet on digits, iterative",
    "lenet on digits, gradual, 0.1 of a training",
    "lenet on digits, gradual, 1 of a training",
  }
  page = made.paths[0].read_text()
  assert "Methods by the cost of their search" in page
  assert (tmp_path / "figures" / "search-cost-1.svg") in made.paths
  text = (tmp_path / "summary.md").read_text()
  assert "| gradual, 0.1 of a training | 50.0 % |" in text
  written = (tmp_path / "search_cost.csv").read_text().splitlines()
  rows = list(csv.DictReader(written))
  assert {row["method"] for row in rows} == {
    "iterative",
    "gradual, 0.1 of a training",
    "gradual, 1 of a training",
  }
  assert {float(row["search"]) for row in rows if row["density"] == "0.5"} == {
    0.1,
    1.0,
  }


def drawn(points, dense=0.9):
  with drawing.look():
    return cost_figures.against_cost(points, dense, "accuracy, %", percent=True)


def point(label, cost, *, family=None, density=0.2, values=(0.8, 0.9)):
  costs = [cost] * len(values)
  return cost_figures.Point(label, family or label, density, costs, values)


@pytest.mark.parametrize("panels", [1, 2, 3, 4, 6])
def test_there_is_a_panel_for_each_density(panels):
  points = [
    point(label, cost, density=0.5**n)
    for n in range(panels)
    for label, cost in (("a", 0.1), ("b", 1.0))
  ]
  figure = drawn(points)
  shown = [axes for axes in figure.axes if axes.get_visible()]
  assert len(shown) == panels
  assert shown[0].get_title() == "100 % of the weights"
  labels = [text.get_text() for text in figure.legends[0].get_texts()]
  assert labels == ["dense", "a", "b"]
  assert all(axes.get_xscale() == "log" for axes in shown)


def test_one_family_has_one_colour_and_a_line():
  points = [
    point("gradual, 1", 1.0, family="gradual"),
    point("gradual, 0.1", 0.1, family="gradual"),
    point("iterative", 5.0),
  ]
  (axes,) = drawn(points).axes
  named = {line.get_label(): line for line in axes.lines}
  first, second = named["gradual, 0.1"], named["gradual, 1"]
  assert (
    first.get_color() == second.get_color() != named["iterative"].get_color()
  )
  assert first.get_marker() != second.get_marker()
  lines = [list(line.get_xdata()) for line in axes.lines]
  assert [0.1, 1.0] in lines


def test_points_of_the_same_cost_do_not_hide_each_other():
  points = [point("a", 1.0), point("b", 1.0), point("c", 0.0), point("d", 30.0)]
  (axes,) = drawn(points).axes
  bars = [container[0].get_xdata()[0] for container in axes.containers]
  assert len(set(bars)) == 4
  # A search that costs nothing is shown on the logarithmic axis.
  left, right = axes.get_xlim()
  assert all(left < place < right for place in bars)


def test_there_is_no_figure_without_points():
  assert drawn([]) is None


def load(seed):
  return [
    small.examples(96, seed),
    small.examples(40, 1),
    small.examples(40, 2),
  ]


def make():
  import keras

  return small.make_model(keras)


@pytest.mark.slow
def test_real_experiments_of_several_methods_are_compared(tmp_path):
  common = {"make_model": make, "load_data": load, "steps": 24}
  common |= {"batch_size": 12, "evaluate_every": 4, "replicates": 2}
  common |= {"schedule": (0.7, 0.5, 0.35, 0.2), "tolerance": 0.2}
  for fields in (
    {},
    {"method": gradual(0.5), "choose": "bisect"},
    {"method": at_init("snip")},
    {"budget": 6},
    {"budget": 8, "control_levels": (1,), "name": "named"},
  ):
    proof = prove(Experiment(**common, **fields), tmp_path / "runs")
    found = proof.evidence
    assert found.unfinished == 0
    printed = str(proof)
    assert "trainings of the dense network" in printed
    assert ("How tickets do at" in printed) == bool(
      {"choose", "budget"} & fields.keys()
    )
  made = report.write([tmp_path / "runs"], tmp_path / "out")
  (one,) = search_costs.comparisons([s.evidence for s in made.sections])
  assert len(one.by_label) == 5
  costs = {row.method: row.search for row in one.rows}
  assert costs["at initialisation: snip"] < costs["iterative"]
