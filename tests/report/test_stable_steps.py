"""The report tells where tickets rewind to, if the searches found the step."""

import pytest

from tests import runs
from tf_lottery import report
from tf_lottery.storage import run_directory

METHODS = {"dense": [0.9], "ticket": [0.9, 0.9]}


@pytest.fixture
def home(tmp_path):
  home = runs.write_experiment(tmp_path, "mine", replicates=0)
  home.mkdir(parents=True, exist_ok=True)
  for number in range(3):
    runs.write_run(home / f"replicate_{number:02d}", METHODS, seed=number)
  return home


def write(home, number, step, is_stable):
  path = home / f"replicate_{number:02d}"
  run_directory.RunDirectory(path).write_stable_step(
    {
      "step": step,
      "is_stable": is_stable,
      "threshold": 0.02,
      "barriers": [[0, 0.5], [step, 0.01 if is_stable else 0.4]],
      "cost": {"steps": 1, "examples": 1, "dense_flops": 1, "sparse_flops": 1},
    }
  )


def summary(home, tmp_path):
  report.write([home], tmp_path / "report")
  page = (tmp_path / "report" / "report.html").read_text("utf-8")
  text = (tmp_path / "report" / "summary.md").read_text("utf-8")
  assert ("from which training is stable" in page) == ("by rewind=" in text)
  return text


def test_a_declared_step_needs_no_sentence(home, tmp_path):
  assert "rewind=" not in summary(home, tmp_path)


def test_each_replicate_has_its_step(home, tmp_path):
  for number, step in enumerate((0, 12, 50)):
    write(home, number, step, True)
  text = summary(home, tmp_path)
  assert "of replicates 0, 1 and 2 rewind to step 0, 12 and 50," in text
  assert "none is stable" not in text


def test_replicates_without_a_stable_step_are_named(home, tmp_path):
  for number, step in enumerate((50, 12, 50)):
    write(home, number, step, step < 50)
  assert "In 2 replicates (0 and 2) none is stable" in summary(home, tmp_path)
