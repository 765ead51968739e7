"""The study of stability: its page is what it writes of its results."""

import pathlib

import pytest

from scripts import csv_rows
from scripts import stability_page
from scripts import stability_runs
from scripts import stability_tasks
from tests import spirals
from tf_lottery.experiments import Experiment

RESULTS = pathlib.Path(__file__).parents[2] / "docs" / "results" / "stability"


def test_the_page_is_made_of_the_results(tmp_path):
  rows = csv_rows.read(RESULTS / "results.csv")
  stability_page.write(rows, stability_tasks.tasks(None), tmp_path)
  page = (tmp_path / "README.md").read_text("utf-8")
  assert page == (RESULTS / "README.md").read_text("utf-8")


def test_steps_are_fractions_of_the_training():
  task = stability_tasks.tasks(None, 64)["resnet"]
  assert task.steps == (0, 1, 4, 16)
  rewinds = {k: e.rewind for k, e in task.experiments("resnet").items()}
  assert rewinds == {"auto": "auto", "init": "init"}


def load():
  return spirals.examples(400, 0), *[spirals.examples(200, n) for n in (1, 2)]


@pytest.mark.slow
def test_a_task_is_trained_once_and_has_a_page(tmp_path):
  task = stability_tasks.Task(
    "two spirals",
    Experiment(
      make_model=spirals.make_model,
      load_data=load,
      steps=600,
      batch_size=20,
      schedule=(0.8, 0.5),
      evaluate_every=600,
      controls=(),
      control_levels=(),
    ),
    tickets=(1,),
    steps=(0, 150),
    replicates=1,
    both=True,
  )
  path = tmp_path / "results.csv"
  for _ in range(2):
    stability_runs.train(task, "spirals", 0, tmp_path / "runs", path)
  rows = csv_rows.read(path)
  (found,) = (row for row in rows if row["what"] == "found")
  rewound = {r["step"] for r in rows if r["what"] == "ticket"}
  assert {found["step"], "0"} == rewound | {"0"}
  assert found["value"] in ("0", "1")
  orders = [r for r in rows if r["what"] == "orders"]
  assert [(r["level"], r["step"]) for r in orders] == [
    ("0", "0"),
    ("0", "150"),
    ("1", "0"),
  ]
  assert sum(r["what"] == "ticket" for r in rows) == 4
  stability_page.write(rows, {"spirals": task}, tmp_path)
  page = (tmp_path / "README.md").read_text("utf-8")
  assert "## Two spirals" in page
  assert (tmp_path / "spirals.png").is_file()
