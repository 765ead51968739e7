"""Tickets against the tuned dense network, on runs whose values are written."""

import json

import pytest

from tests import runs
from tf_lottery import report
from tf_lottery.storage import files
from tf_lottery.storage import run_directory

# Around the means of the dense network, and of its two tickets.
NOISE = (0.0, 0.001, -0.001, 0.0005)


def write(root, name, dense, tickets, reinits, replicates=4, seed=0):
  home = runs.write_experiment(root, name, replicates=0)
  home.mkdir(parents=True, exist_ok=True)
  for number, noise in enumerate(NOISE[:replicates]):
    methods = {
      "dense": [dense + noise],
      "ticket": [value + 0.5 * noise for value in tickets],
      "random_reinit": [value - noise for value in reinits],
    }
    runs.write_run(
      home / f"replicate_{number:02d}", methods, seed=seed + number
    )
  return home


@pytest.fixture
def original(tmp_path):
  """Its tickets win against its own dense network."""
  return write(tmp_path, "original", 0.9, (0.92, 0.905), (0.88, 0.86))


def words(compared, recipe):
  return [getattr(row, recipe).word for row in compared.rows]


def test_tickets_win_against_their_own_and_not_against_the_tuned(
  original, tmp_path
):
  tuned = write(tmp_path, "tuned", 0.94, (0.95, 0.945), (0.9, 0.89))
  compared = report.against_tuned(original, tuned)
  assert [v.word for v in compared.plain.verdicts()] == ["winning"] * 2
  assert words(compared, "original") == ["below"] * 2
  assert words(compared, "tuned") == ["winning"] * 2
  row = compared.rows[0]
  assert row.dense == pytest.approx(0.89, abs=0.002)
  assert row.tuned_dense == pytest.approx(0.93, abs=0.002)
  assert row.original.p_better > 0.99
  assert row.tuned.p_better < 0.01
  assert compared.answers["original"].startswith("No ticket matches the dense")
  assert compared.answers["tuned"].startswith("All tickets down to 20.0 %")


def test_tickets_may_win_against_the_tuned_too(original, tmp_path):
  tuned = write(tmp_path, "tuned", 0.903, (0.89, 0.87), (0.88, 0.86))
  compared = report.against_tuned(original, tuned)
  assert words(compared, "original") == ["winning"] * 2
  assert "below" in words(compared, "tuned")


def test_the_tuned_recipe_may_stop_early(original, tmp_path):
  """A training is 0.01 better at its early stop than at its end."""
  tuned = write(tmp_path, "tuned", 0.9, (0.9, 0.9), (0.88, 0.86))
  rows = {
    when: report.against_tuned(original, tuned, when=when).rows[0]
    for when in ("early", "end")
  }
  gain = rows["early"].tuned_dense - rows["end"].tuned_dense
  assert gain == pytest.approx(0.01)
  assert rows["early"].dense == rows["end"].dense
  assert rows["early"].original.mean == rows["end"].original.mean
  gain = rows["early"].tuned.mean - rows["end"].tuned.mean
  assert gain == pytest.approx(0.01)


def test_looks_judge_the_tuned_network_anew(original, tmp_path):
  plan = {
    "planned": [4, 6],
    "significances": [(0.03, 0.015), (0.03, 0.014)],
    "spending": "linear",
    "fixed_before": 0,
    "taken": [4],
    "declared": {"tolerance": None},
    "shown": [[(1, "winning"), (2, "winning")]],
  }
  run_directory.write_looks(original, plan)
  path = original / run_directory.EXPERIMENT
  files.write_json(path, {"id": "original", "replicates": "auto:6"})
  tuned = write(tmp_path, "tuned", 0.94, (0.95, 0.945), (0.9, 0.89))
  compared = report.against_tuned(original, tuned)
  assert [v.word for v in compared.plain.verdicts()] == ["winning"] * 2
  assert words(compared, "original") == ["below"] * 2
  assert "are not corrected for the looks" in str(compared)


def test_replicates_are_paired_by_their_seeds(original, tmp_path):
  tuned = write(
    tmp_path, "tuned", 0.9, (0.92, 0.905), (0.88, 0.86), replicates=2
  )
  compared = report.against_tuned(original, tuned)
  assert compared.rows[0].original.n == 4
  assert compared.rows[0].tuned.n == 2
  (verdict, _) = compared.original.verdicts()
  assert (verdict.test, verdict.pairs) == ("paired t", 2)


def test_bad_arguments_are_refused(original, tmp_path):
  write(tmp_path, "tuned", 0.9, (0.9, 0.9), (0.9, 0.9))
  other = write(tmp_path / "other", "tuned", 0.9, (0.9,), (0.9,), seed=7)
  with pytest.raises(ValueError, match=r"one seed; of replicate 0.* has 0 and"):
    report.against_tuned(original, other)
  with pytest.raises(ValueError, match="'early' or 'end', got 'late'"):
    report.against_tuned(original, original, when="late")
  with pytest.raises(ValueError, match="must have one experiment, got 3"):
    report.against_tuned(original, tmp_path)
  with pytest.raises(FileNotFoundError):
    report.against_tuned(original, tmp_path / "nothing")


def test_networks_of_other_data_are_refused(original, tmp_path):
  tuned = write(tmp_path, "tuned", 0.903, (0.89, 0.87), (0.88, 0.86))
  for home, data in ((original, "500 examples 1f"), (tuned, "500 examples 2e")):
    path = home / "replicate_00" / run_directory.DECLARATION
    declaration = json.loads(path.read_text("utf-8"))
    files.write_json(path, {**declaration, "test_data": data})
  with pytest.raises(ValueError, match=r"must have one test data.* same data"):
    report.against_tuned(original, tuned)
