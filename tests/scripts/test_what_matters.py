"""The page on what of a ticket matters, on a task of seconds."""

import re

import pytest

import tf_lottery
from scripts import csv_rows
from scripts import what_matters_page
from scripts import what_matters_tasks
from tests.experiments import mine
from tf_lottery import report
from tf_lottery.experiments import checking
from tf_lottery.report import matters

# Those that are quick, and one that takes a search of its own.
CONTROLS = ("random_reinit", "signs", "shuffled_mask", "other_order")
CONTROLS += ("supermask",)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
  experiment = tf_lottery.Experiment(
    make_model=mine.make_model,
    load_data=mine.load_data,
    steps=16,
    batch_size=24,
    schedule=tf_lottery.geometric(3, 0.5),
    controls=CONTROLS,
    control_levels=(1, 3),
    replicates=3,
    title="Two classes",
  )
  runs = tmp_path_factory.mktemp("what_matters")
  proof = tf_lottery.prove(experiment, runs, progress=False)
  (found,) = report.gather([proof.directory])
  return found


def test_all_its_controls_are_there_and_are_compared():
  assert set(what_matters_tasks.CONTROLS) == set(matters.CONTROLS)
  assert set(what_matters_tasks.CONTROLS) <= set(checking.CONTROLS)


def test_the_experiments_can_be_declared():
  declared = what_matters_tasks.declare(None)
  for experiment in declared.values():
    assert experiment.controls == what_matters_tasks.CONTROLS
    smaller = what_matters_tasks.smaller(experiment)
    assert smaller.id != experiment.id


def test_the_page_and_the_values(evidence, tmp_path):
  what_matters_page.write({"small": evidence}, {"small": (6,)}, tmp_path)
  page = (tmp_path / "README.md").read_text("utf-8")
  assert "## Two classes" in page
  assert "| 12.5 % | " in page.split("What the tickets keep")[1]
  shared = page.split("masks of other searches")[1]
  for row in re.findall(r"^\| \d.*$", shared, re.MULTILINE):
    ((ticket, chance), _) = re.findall(r"([\d.]+)% \(([\d.]+)%\)", row)
    assert 0 < float(chance) < float(ticket) <= 100
  assert "- The signs of the start weights alone are " in page
  assert "](small.svg)" in page
  assert (tmp_path / "small.svg").is_file()
  rows = csv_rows.read(tmp_path / "values.csv")
  found = [(row["method"], int(row["level"])) for row in rows]
  assert found.count(("signs", 3)) == 3
  assert len(rows) == 3 * (1 + 3 + 2 * len(CONTROLS))
