"""The script of the main job, run as a user runs it."""

import importlib
import os
import pathlib
import subprocess
import sys

import pytest

import tf_lottery
from scripts import configs

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments):
  environment = dict(os.environ)
  environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
  return subprocess.run(
    [sys.executable, str(ROOT / "scripts/find_ticket.py"), *arguments],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.slow
def test_it_prints_levels_the_choice_and_the_controls_and_resumes(tmp_path):
  arguments = [
    "--config=scripts/configs/digits.py",
    "--config.levels=2",
    "--config.steps=60",
    "--config.tolerance=1.0",
    f"--config.run_dir={tmp_path / 'run'}",
  ]
  first = run(*arguments)
  assert first.returncode == 0, first.stderr
  assert first.stderr == ""  # nothing of TensorFlow's
  assert "    0  100.00%" in first.stdout
  assert "    2   64.34%" in first.stdout
  assert "level 2" in first.stdout
  assert "random_reinit  shuffled_mask" in first.stdout
  ticket = tf_lottery.Ticket.load(tmp_path / "run" / "ticket.safetensors")
  assert ticket.density == pytest.approx(0.6434, abs=1e-4)

  again = run(*arguments)
  assert again.stdout == first.stdout
  other = run(*arguments, "--config.seed=1")
  assert other.returncode != 0
  assert "seed: it was 0, now 1" in other.stderr


def test_data_that_is_not_prepared_is_two_lines(tmp_path):
  result = run(
    "--config=scripts/configs/lenet_fashion_mnist.py:smoke",
    f"--config.data_dir={tmp_path}",
  )
  assert result.returncode != 0
  lines = result.stderr.strip().splitlines()
  assert lines[-2].startswith("fashion_mnist is not prepared in")
  assert "scripts/prepare_data.py --dataset=fashion_mnist" in lines[-1]
  assert "Traceback" not in result.stderr


@pytest.mark.parametrize("data", ["mnist", "fashion_mnist"])
def test_the_paper_configs_are_the_papers_protocol(data):
  module = importlib.import_module(f"scripts.configs.lenet_{data}")
  experiment = configs.experiment_of(module.get_config())
  assert experiment.model_args["recipe"] == "lenet_300_100"
  assert experiment.data_args["name"] == data
  assert (experiment.steps, experiment.batch_size) == (50_000, 60)
  rate = experiment.make().optimizer.learning_rate
  assert float(rate) == pytest.approx(1.2e-3)
  assert experiment.evaluate_every == "100it"
  assert experiment.schedule == tf_lottery.geometric(24)
  assert experiment.scope == tf_lottery.layerwise({"output": 0.1})
  assert (experiment.replicates, experiment.reinits) == (5, 3)
  assert module.get_config("smoke").steps < 1000


CONFIG = """
from scripts import configs


def get_config():
  fields = dict(
    make_model="mine:make_model",
    load_data="mine:load_data",
    model_args={"units": 6},
    steps=8,
    batch_size=12,
    schedule=(0.5, 0.2),
    controls=("random_reinit", "small_dense"),
    replicates=2,
  )
  return configs.config_of(fields, "runs")
"""


@pytest.mark.slow
def test_a_config_names_a_model_of_ones_own(tmp_path):
  (tmp_path / "config.py").write_text(CONFIG)
  mine = ROOT / "tests" / "experiments" / "mine.py"
  (tmp_path / "mine.py").write_text(mine.read_text())

  def script(name, *arguments):
    done = subprocess.run(
      [sys.executable, str(ROOT / "scripts" / name), *arguments],
      cwd=tmp_path,
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

  config = "--config=config.py"
  printed = script("find_ticket.py", config, "--config.run_dir=one")
  assert "model on data: 96 train examples" in printed
  assert "One replicate cannot give a verdict" in printed
  too_small = ["--config.schedule=(0.04, 0.02)", "--config.objective=loss"]
  within = ["--config.budget=3", "--config.steps=80", "--config.run_dir=two"]
  printed = script(
    "find_ticket.py", config, *too_small, *within, "--config.tolerance=0"
  )
  assert "No ticket matches" in printed
  assert "The dense network's test loss is" in printed
  levels = "--config.control_levels=(1, 2)"
  printed = script("run_sweep.py", config, levels, "--processes=1")
  assert "mean over 2 replicates" in printed
  (page,) = [
    line
    for line in script("make_report.py", "--out=report", "runs").splitlines()
    if line.endswith(".html")
  ]
  assert (tmp_path / page).is_file()
  (run,) = (tmp_path / "runs").glob("*/replicate_01")
  assert len(list(run.glob("level_0*-*/round.json"))) == 4
  printed = script("export_ticket.py", f"--run={run}", "--level=2")
  assert "Through the file, on the test data: accuracy" in printed
