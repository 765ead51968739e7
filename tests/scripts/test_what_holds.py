"""The page "What holds" is what its script writes of the studies."""

import pathlib
import shutil

from scripts import csv_rows
from scripts import what_holds_claims
from scripts import what_holds_page

RESULTS = pathlib.Path(__file__).parents[2] / "docs" / "results"


def test_the_page_is_made_of_the_tables(tmp_path):
  what_holds_page.write(what_holds_claims.claims(RESULTS), tmp_path)
  page = (tmp_path / "what_holds.md").read_text("utf-8")
  assert page == (RESULTS / "what_holds.md").read_text("utf-8")


def test_a_claim_follows_the_numbers(tmp_path):
  """With worse tickets, what held does not hold any more."""
  (tmp_path / "search_cost").mkdir()
  path = tmp_path / "search_cost" / "trainings.csv"
  shutil.copy(RESULTS / "search_cost" / "trainings.csv", path)
  words = [
    {t.where: t.word for t in what_holds_claims.claims(tmp_path)[0].tests}
  ]
  rows = csv_rows.read(path)
  for row in rows:
    if row["what"] == "ticket" and row["task"] == "lenet":
      row["test"] = str(float(row["test"]) - 0.1)
  csv_rows.write(path, list(rows[0]), rows)
  words.append(
    {t.where: t.word for t in what_holds_claims.claims(tmp_path)[0].tests}
  )
  before, after = words
  for where, word in before.items():
    if "LeNet" in where:
      assert (word, after[where]) == ("holds", "does not hold")
    else:
      assert after[where] == word


def test_claims_without_a_study_are_left_out(tmp_path):
  assert what_holds_claims.claims(tmp_path) == []
