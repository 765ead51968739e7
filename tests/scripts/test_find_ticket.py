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
  recipe = experiment.make_recipe()
  assert (experiment.data, experiment.recipe) == (data, "lenet_300_100")
  assert (recipe.steps, recipe.batch_size) == (50_000, 60)
  assert recipe.learning_rate == pytest.approx(1.2e-3)
  assert experiment.evaluate_every == "100it"
  assert recipe.rate == pytest.approx(0.2)
  assert (experiment.replicates, experiment.reinits) == (5, 3)
  assert module.get_config("smoke").steps < 1000
