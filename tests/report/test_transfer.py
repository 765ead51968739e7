"""What a report says about tickets of another experiment."""

import pytest

from tests import runs
from tf_lottery import report
from tf_lottery.report import transfer

BASE = {"dense": 0.9, "ticket": 0.91}


def test_only_replicates_that_a_look_has_seen_are_compared(tmp_path):
  found = runs.gather_values(tmp_path, {**BASE, "transferred": 0.9})
  assert "not corrected for the looks" not in transfer.answer(found)
  plan = {
    "planned": [2, 3],
    "significances": [(0.03, 0.015), (0.03, 0.014)],
    "spending": "linear",
    "fixed_before": 0,
    "taken": [2],
  }
  seen = found.with_looks(plan)
  assert {one.n for one in transfer.findings(found)} == {3}
  assert {one.n for one in transfer.findings(seen)} == {2}
  assert transfer.answer(seen).endswith(
    "These tests are at 5 % each, and are not corrected for the looks at the"
    " verdicts."
  )


@pytest.mark.parametrize(
  ("methods", "said"),
  [
    (
      {"transferred": 0.9, "transferred_reinit": 0.8},
      "With 20.0 % of the weights it does:",
    ),
    (
      {"transferred": 0.9, "transferred_reinit": 0.9},
      "one cannot tell whether its weights matter",
    ),
    (
      {"transferred": 0.9, "transferred_reinit": 0.95},
      "its weights do not travel",
    ),
    ({"transferred": 0.8, "transferred_reinit": 0.7}, "it does not:"),
    (
      {"transferred": 0.895, "transferred_reinit": 0.7},
      "one cannot tell: it is not shown",
    ),
  ],
)
def test_the_answer_depends_on_dense_and_reinit(tmp_path, methods, said):
  found = runs.gather_values(tmp_path, {**BASE, **methods})
  text = transfer.answer(found)
  assert text.startswith("Does the ticket travel? ")
  assert said in text


@pytest.mark.parametrize(
  ("value", "said"),
  [
    (0.9, "its mask travels alone"),
    (0.8, "its mask does not travel alone"),
    (0.895, "one cannot tell whether its mask travels alone"),
  ],
)
def test_a_mask_alone_has_an_answer(tmp_path, value, said):
  methods = {"transferred_mask": value, "transferred_permuted": 0.9}
  text = transfer.answer(runs.gather_values(tmp_path, {**BASE, **methods}))
  assert text.startswith("Does the ticket travel? With 20.0 % of the weights ")
  assert said in text


def test_without_reinits_it_says_what_is_missing(tmp_path):
  text = transfer.answer(
    runs.gather_values(tmp_path, {**BASE, "transferred": 0.9})
  )
  assert "Only the control transferred_reinit can tell" in text
  assert "not shown to be better" not in text


def test_one_replicate_cannot_tell(tmp_path):
  methods = {**BASE, "transferred": 0.9, "transferred_reinit": 0.7}
  found = runs.gather_values(tmp_path, methods, replicates=1)
  assert {one.word for one in transfer.findings(found)} == {"cannot tell"}


def test_less_may_be_better(tmp_path):
  methods = {"dense": 0.3, "ticket": 0.3, "transferred": 0.3}
  methods["transferred_reinit"] = 0.5
  found = runs.gather_values(tmp_path, methods, monitor="mae")
  dense, reinit, ticket = transfer.findings(found)
  assert (dense.word, reinit.word) == ("matching", "better")
  assert reinit.mean < reinit.other
  assert ticket.against == "ticket"


def test_every_comparison_is_a_row(tmp_path):
  methods = {**BASE, "transferred": 0.9, "transferred_reinit": 0.8}
  methods |= {"transferred_shuffled": 0.85, "transferred_mask": 0.84}
  methods["transferred_permuted"] = 0.88
  found = runs.gather_values(tmp_path, methods)
  rows = [(row[1], row[3], row[-1]) for row in transfer.table(found).rows]
  assert rows == [
    ("transferred ticket", "dense", "matching"),
    ("transferred ticket", "transferred mask, new weights", "better"),
    ("transferred ticket", "transferred ticket, shuffled", "better"),
    ("transferred ticket", "ticket", "worse"),
    ("transferred mask, own weights", "dense", "below"),
    (
      "transferred mask, own weights",
      "transferred mask, new weights",
      "better",
    ),
    (
      "transferred mask, units matched",
      "transferred mask, own weights",
      "better",
    ),
  ]
  report.write([tmp_path], tmp_path / "out")
  page = (tmp_path / "out" / "report.html").read_text("utf-8")
  assert "<h2>Does the ticket travel?</h2>" in page
  assert "transferred mask, units matched" in page
  assert "does: the transferred ticket" in (
    tmp_path / "out" / "summary.md"
  ).read_text("utf-8")


def test_without_transferred_tickets_nothing_is_said(tmp_path):
  found = runs.gather_values(tmp_path, BASE)
  assert transfer.answer(found) == ""
  assert not transfer.table(found).rows
