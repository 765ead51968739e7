"""The tables and the page of the tuned dense network, on written runs."""

import pytest

from scripts import csv_rows
from scripts import tuned_dense_page
from scripts import tuned_dense_tables
from tests.report import test_tuned
from tf_lottery import Cost
from tf_lottery import Objective
from tf_lottery import Round
from tf_lottery import experiments
from tf_lottery import papers
from tf_lottery import report


@pytest.fixture
def tuning():
  made = Round(0, 1.0, {}, 1.0, 300, None, cost=Cost(300))
  first, second = tuned_dense_tables.GRID[0], tuned_dense_tables.GRID[4]
  candidates = (
    experiments.Candidate(first, (made,), {"end": 0.91, "early": 0.92}),
    experiments.Candidate(second, (made,), {"end": 0.94, "early": 0.93}),
  )
  original = papers.experiment(data="digits")
  return experiments.Tuning(original, Objective("accuracy", "max"), candidates)


def page(tuning, dense, folder):
  """Writes the tables and the page of tickets around 0.92."""
  original = test_tuned.write(folder, "a", 0.9, (0.92, 0.91), (0.88, 0.86))
  tuned = test_tuned.write(folder, "b", dense, (0.92, 0.88), (0.88, 0.86))
  compared = report.against_tuned(original, tuned)
  for name, fields, rows in (
    (
      "candidates",
      tuned_dense_tables.CANDIDATE_FIELDS,
      tuned_dense_tables.candidate_rows(tuning),
    ),
    (
      "levels",
      tuned_dense_tables.LEVEL_FIELDS,
      tuned_dense_tables.level_rows(compared),
    ),
  ):
    csv_rows.write(folder / f"{name}.csv", fields, rows)
  tuned_dense_page.write(folder)
  return (folder / "README.md").read_text("utf-8")


def test_it_says_that_tickets_win(tuning, tmp_path):
  text = page(tuning, 0.9, tmp_path)
  assert (
    "There are winning tickets of the original recipe against it, with 50.0 %"
    " and 20.0 % of the weights." in text
  )
  assert (
    "winning tickets of the tuned recipe against it, with 50.0 % of" in text
  )


def test_it_says_that_none_wins(tuning, tmp_path):
  text = page(tuning, 0.97, tmp_path)
  assert "No tickets of the original recipe are shown to match it." in text
  assert "No tickets of the tuned recipe are shown to match it." in text
  assert "There are winning" not in text


def test_it_tells_the_grid(tuning, tmp_path):
  text = page(tuning, 0.9, tmp_path)
  assert "--steps=300 --levels=2 --replicates=4\n" in text
  assert "2 recipes for 300 iterations, each trained from one seed" in text
  assert "they cost 2.0 trainings" in text
  assert "| 0.0006 | cosine | 0.1 | none | none | 93.00 | **94.00** |" in text


def test_the_grid_brackets_the_rate_of_the_paper():
  low, own, high = tuned_dense_tables.RATES
  assert low < own == papers.recipes.recipe("lenet_300_100").learning_rate
  assert own < high
  assert {"learning_rate": own, "decay": None} in tuned_dense_tables.GRID


def test_levels_that_there_are_not_are_left_out():
  assert tuned_dense_tables.tested(10) == (3, 7, 9)
  assert tuned_dense_tables.tested(2) == (2,)
