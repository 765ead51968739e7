"""The comparison of search methods, on a task of seconds."""

import pytest

import tf_lottery
from scripts import csv_rows
from scripts import search_cost_page
from scripts import search_cost_runs
from scripts import search_cost_tasks
from tests.experiments import mine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def task():
  base = tf_lottery.Experiment(
    make_model=mine.make_model,
    load_data=mine.load_data,
    steps=16,
    batch_size=24,
    schedule=tf_lottery.geometric(3, 0.5),
    evaluate_every=2,
  )
  return search_cost_tasks.Task(
    base=base,
    densities=base.schedule[1:],
    ladder=base.schedule,
    says="Two classes",
    margin=0.01,
    rivals=(1,),
    matching=0.01,
    equal=(None, 2.0),
  )


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory):
  """Trains two replicates by four methods; returns the CSV's path."""
  folder = tmp_path_factory.mktemp("search_cost")
  path = folder / "t.csv"
  methods = ["iterative", "cycles_8x0.25", "gradual_1_bisect", "budget_4"]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(search_cost_tasks, "RIVALS", ("shuffled_mask",))
    for replicate in range(2):
      search_cost_runs.train(
        "small", task, replicate, 2, folder / "runs", path, methods
      )
    lines = path.read_text()
    # What is there is not trained again.
    search_cost_runs.train("small", task, 0, 2, folder / "x", path, methods)
  assert path.read_text() == lines
  return path


def test_every_training_has_a_line(trained):
  rows = csv_rows.read(trained)
  found = [(r["method"], r["what"], int(r["level"])) for r in rows]
  assert found.count(("iterative", "ticket", 3)) == 2
  assert found.count(("cycles_8x0.25", "shuffled_mask", 1)) == 2
  assert sum(what == "answer" for _, what, _ in found) == 8
  assert sum(what == search_cost_runs.AT_BUDGET for _, what, _ in found) == 2


def test_costs_are_in_trainings_of_the_dense_network(trained):
  rows = [r for r in csv_rows.read(trained) if r["what"] == "ticket"]
  cost = {(r["method"], int(r["level"])): float(r["search"]) for r in rows}
  assert cost["iterative", 3] == 3
  assert cost["cycles_8x0.25", 2] == 2
  answers = [
    float(r["training"])
    for r in csv_rows.read(trained)
    if (r["method"], r["what"]) == ("budget_4", "answer")
  ]
  assert all(2 <= price <= 4 for price in answers)


def test_the_page_tells_them(trained, task, tmp_path):
  rows = csv_rows.read(trained)
  search_cost_page.write(rows, {"small": task}, tmp_path)
  page = (tmp_path / "README.md").read_text("utf-8")
  assert "## Two classes" in page
  assert "| cycles_8x0.25 | 2 | 2.00 |" in page
  assert "shuffled_mask" in page
  assert "within a Level of it" in page
  assert (tmp_path / "small.svg").read_text("utf-8").startswith("<?xml")


def test_the_targets_stand_beside_what_was_measured(trained, task, tmp_path):
  rows = csv_rows.read(trained)
  search_cost_page.write(rows, {"small": task}, tmp_path)
  page = (tmp_path / "README.md").read_text("utf-8")
  lines = page.split("## Targets")[1].split("## Two classes")[0].splitlines()
  told = [line for line in lines if line.startswith("| Two classes |")]
  # No method costs as little as the first claim asks for.
  assert sum("nothing was trained" in line for line in told) == 1
  assert sum("`cycles_8x0.25`: " in line for line in told) == 1
  assert sum("whose bisection ends when" in line for line in told) == 1
  assert sum("everything included" in line for line in told) == 1


def test_targets_of_what_is_not_trained_are_left_out(trained, task, tmp_path):
  rows = [r for r in csv_rows.read(trained) if r["method"] == "iterative"]
  search_cost_page.write(rows, {"small": task}, tmp_path)
  page = (tmp_path / "README.md").read_text("utf-8")
  assert "everything included" not in page


def test_rows_of_other_columns_are_refused(trained):
  before = trained.read_text()
  with pytest.raises(ValueError, match="has other columns"):
    csv_rows.append(trained, ("task", "method"), [{"task": "t"}])
  assert trained.read_text() == before
