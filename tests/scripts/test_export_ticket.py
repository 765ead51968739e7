"""The script that ships a ticket, run as a user runs it."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import tf_lottery
from tf_lottery import experiments
from tf_lottery import export
from tf_lottery import papers
from tf_lottery.papers import datasets

ROOT = pathlib.Path(__file__).parents[2]
TINY = papers.experiment(data="digits", steps=300, levels=3, rate=0.6)


def run(*arguments):
  environment = dict(os.environ)
  environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
  return subprocess.run(
    [sys.executable, str(ROOT / "scripts/export_ticket.py"), *arguments],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """The run directory of a replicate, and what was found."""
  root = tmp_path_factory.mktemp("runs")
  result = experiments.run(TINY, 0, root)
  return experiments.run_dir(TINY, 0, root), result


def test_it_ships_the_smallest_matching_ticket(home):
  run_dir, result = home
  done = run(
    f"--run={run_dir}",
    "--tolerance=0.05",
    "--format=tflite,saved_model,keras",
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == ""  # nothing of TensorFlow's
  level = result.smallest_matching_level(0.05)
  assert level
  chosen = result.rounds[level]
  expected = chosen.metrics["test_accuracy"]
  assert f"level {level}: {chosen.density:.2%} of the weights" in done.stdout
  found = re.findall(
    r"Through the file, on the test data: accuracy ([\d.]+)\.", done.stdout
  )
  assert [float(text) for text in found] == pytest.approx([expected] * 3, 0.01)
  out = run_dir / "export"
  carried = tf_lottery.Ticket.load(out / "saved_model" / "1")
  assert carried.equals(chosen.ticket)
  x, y = datasets.load_data("digits").test
  for name in ("ticket-float32.tflite", "saved_model/1", "ticket.keras"):
    assert f"{out / name} (" in done.stdout
    accuracy = np.mean(export.predict(out / name, x).argmax(-1) == y)
    assert accuracy == pytest.approx(expected, abs=0.01)


def test_it_ships_the_level_that_is_asked_for(home, tmp_path):
  run_dir, result = home
  done = run(
    f"--run={run_dir}",
    "--level=1",
    "--format=tflite",
    "--dtype=int8",
    f"--out={tmp_path}",
  )
  assert done.returncode == 0, done.stderr
  assert f"{result.rounds[1].density:.2%} of the weights" in done.stdout
  assert [p.name for p in tmp_path.iterdir()] == ["ticket-int8.tflite"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--level=9"], r"--level must be one of \[0, 1, 2, 3\], got 9"),
    (["--format=tflight"], "--format must be some of tflite, .*; got tflight"),
    (["--run=/nowhere"], "No experiment.json says how /nowhere was found"),
  ],
)
def test_mistakes_are_a_line(home, arguments, message):
  done = run(f"--run={home[0]}", *arguments)
  assert done.returncode != 0
  assert re.search(message, done.stderr + done.stdout)
  assert "Traceback" not in done.stderr


def test_experiments_are_read_back(home, tmp_path):
  assert experiments.of_run(home[0]) == (TINY, 0)
  TINY.declare(tmp_path)
  assert experiments.of_run(tmp_path) == (TINY, 0)
  (tmp_path / "experiment.json").write_text('{"planet": "Mars"}')
  with pytest.raises(tf_lottery.FileFormatError, match="of this version"):
    experiments.of_run(tmp_path)
