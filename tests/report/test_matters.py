"""What a report says about the controls that change one thing of a ticket."""

import pytest

from tests import runs
from tf_lottery import report
from tf_lottery.report import matters

BASE = {"dense": 0.9, "ticket": 0.91, "random_reinit": 0.88}


@pytest.mark.parametrize(
  ("value", "said"),
  [
    (0.93, "better than the ticket at 20.0 %; better than random reinit at"),
    (0.9099, "not shown to differ from the ticket at 20.0 %; better than"),
    (0.84, "worse than the ticket at 20.0 %; worse than random reinit at 20.0"),
  ],
)
def test_a_control_is_compared_with_the_ticket_and_a_second(
  tmp_path, value, said
):
  text = matters.answer(runs.gather_values(tmp_path, {**BASE, "signs": value}))
  assert text.startswith("What of the ticket matters? ")
  (line,) = [one for one in text.splitlines() if one.startswith("- The signs")]
  assert said in line


def test_of_a_loss_less_is_better(tmp_path):
  found = runs.gather_values(
    tmp_path, {"dense": 0.4, "ticket": 0.3, "permuted": 0.5}, "mae"
  )
  assert "worse than the ticket at 20.0 %" in matters.answer(found)


def test_without_a_second_method_the_ticket_alone_is_compared(tmp_path):
  found = runs.gather_values(
    tmp_path, {"dense": 0.9, "ticket": 0.91, "signs": 0.8}
  )
  assert "random reinit" not in matters.answer(found)
  (row,) = matters.table(found).rows
  assert row[1] == "signs alone"
  assert row[4].endswith("11.00")
  assert set(row[7:]) == {""}


def test_the_usual_controls_have_other_words(tmp_path):
  found = runs.gather_values(tmp_path, {**BASE, "shuffled_mask": 0.8})
  assert matters.answer(found) == ""
  assert not matters.table(found).rows


def test_the_report_has_the_table(tmp_path):
  runs.gather_values(
    tmp_path / "runs", {**BASE, "signs": 0.9, "half_data": 0.9}
  )
  report.write([tmp_path / "runs"], tmp_path / "report")
  page = (tmp_path / "report" / "report.html").read_text("utf-8")
  text = (tmp_path / "report" / "summary.md").read_text("utf-8")
  assert "What of the ticket matters?" in page
  assert "| 20.0 % | mask of half the data |" in text


def test_means_are_of_the_replicates_that_have_both(tmp_path):
  for seed, ticket in enumerate((0.9, 0.5, 0.92)):
    methods = {"dense": [0.9], "ticket": [ticket], "signs": [0.9 + seed / 100]}
    if seed == 1:
      del methods["signs"]
    path = tmp_path / f"seed_{seed}"
    runs.write_run(path, methods, seed=seed, schedule=(0.2,))
  (found,) = report.gather([tmp_path], 0.005)
  (row,) = matters.table(found).rows
  # At the end of training, which is 1 point below the early stop.
  assert row[2:4] == ("90.0 %", "90.0 %")
