"""How scripts start: help, refused flags, and what TensorFlow may print."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tf_lottery.export import tflite

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = sorted(
  path.name
  for path in (ROOT / "scripts").glob("*.py")
  if "__main__" in path.read_text(encoding="utf-8")
)
# How TensorFlow's C++ prints.
HARMLESS = (
  "WARNING: All log messages before absl::InitializeLog() is called are",
  "I0000 00:00:17 port.cc:153] oneDNN custom operations are on. You may",
  "E0000 00:00:17 cuda_dnn.cc:8] Unable to register cuDNN factory",
  "W0000 00:00:17 computation_placer.cc:1] computation placer already"
  " registered.",
)
NO_GPU = "E0000 00:00:17 cuda_platform.cc:52] failed call to cuInit: INTERNAL"
REAL = "F0000 00:00:17 cpu_feature_guard.cc:1] Compiled to use AVX."


def run(*command, cwd=ROOT, **variables):
  environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
  if "TF_CPP_MIN_LOG_LEVEL" not in variables:
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
  return subprocess.run(
    [sys.executable, *map(str, command)],
    cwd=cwd,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_scripts_are_found():
  assert {"benchmark.py", "find_ticket.py", "run_sweep.py"} <= set(SCRIPTS)


@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_help_imports_neither_tensorflow_nor_the_library(
  script, flag, tmp_path
):
  path = ROOT / "scripts" / script
  done = run("-X", "importtime", path, flag, cwd=tmp_path)
  text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
  assert text.splitlines()[0] in done.stdout
  imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
  assert "absl.flags" in imported
  assert not imported & {"keras", "tensorflow", "tf_keras", "tf_lottery"}
  assert "Error" not in done.stderr


@pytest.mark.parametrize("script", ["find_ticket.py", "run_sweep.py"])
def test_help_after_a_config_shows_it_and_loads_none(script):
  arguments = ["--config=scripts/configs/digits.py", "--config.levels=3"]
  path = ROOT / "scripts" / script
  done = run("-X", "importtime", path, *arguments, "--help")
  assert "  --config: The config file to run." in done.stdout
  assert "(default: 'scripts/configs/" in done.stdout
  assert not re.search(r"\| +tensorflow$", done.stderr, re.MULTILINE)


def test_the_help_of_the_export_lists_the_dtypes_of_the_library():
  done = run(ROOT / "scripts/export_ticket.py", "--help")
  assert f"<{'|'.join(tflite.DTYPES)}>" in done.stdout


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ("make_report.py --nosuch=1", "Unknown command line flag 'nosuch'"),
    (
      "find_ticket.py --config.nosuch=1",
      "--config.nosuch is unknown. The fields are batch_size, ",
    ),
    pytest.param(
      "find_ticket.py --config=missing.py --config.levels=3",
      "--config must name a config file, got 'missing.py'.",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      "find_ticket.py --config=scripts/configs/lenet_mnist.py:huge",
      "must have one of full, short, smoke; got 'huge'.",
      marks=pytest.mark.slow,
    ),
    (
      "run_sweep.py --grid=levels=x",
      "--grid=levels=... must have values of type int, got 'x'.",
    ),
    ("make_report.py --out=report", "Name one run directory or more."),
    ("export_ticket.py --run=x --dtype=int4", "--dtype=int4: value should be"),
    ("prepare_data.py", "Give --download, or --from=DIR with local IDX"),
    ("benchmark.py --suite=nosuch", "--suite=nosuch: value should be one of"),
  ],
)
def test_a_bad_flag_is_refused_in_one_line(arguments, message):
  script, *flags = arguments.split()
  done = run(ROOT / "scripts" / script, *flags)
  assert done.returncode == 1
  assert message in done.stderr
  lines = done.stderr.splitlines()
  assert (
    len(lines)
    - lines.count("Pass --helpshort or --helpfull to see help on flags.")
    == 1
  )


@pytest.fixture
def tensorflow(tmp_path):
  """A folder with a TensorFlow that prints as the real one, then aborts."""
  lines = "\n".join([*HARMLESS, NO_GPU, REAL])
  (tmp_path / "tensorflow.py").write_text(
    f"import os\nos.write(2, {lines.encode()!r})\nos.abort()\n"
  )
  return tmp_path


def start(tensorflow, **variables):
  path = f"{tensorflow}{os.pathsep}{ROOT}"
  program = "from scripts import startup; startup.import_tensorflow()"
  return run("-c", program, PYTHONPATH=path, **variables)


def test_what_tensorflow_says_before_it_aborts_comes_through(tensorflow):
  done = start(tensorflow)
  assert done.returncode < 0
  has_gpu = os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")
  assert done.stderr.splitlines() == [NO_GPU] * has_gpu + [REAL]


def test_all_that_tensorflow_says_is_there_for_those_who_ask(tensorflow):
  done = start(tensorflow, TF_CPP_MIN_LOG_LEVEL="0")
  assert done.stderr.splitlines() == [*HARMLESS, NO_GPU, REAL]


def test_an_error_of_the_import_comes_through(tmp_path):
  (tmp_path / "tensorflow.py").write_text("raise ImportError('no .so')\n")
  done = start(tmp_path)
  assert done.returncode == 1
  assert done.stderr.splitlines()[-1] == "ImportError: no .so"
