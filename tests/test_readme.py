"""The README's code runs as it stands."""

import pathlib
import re

import pytest

from tf_lottery.papers import datasets

README = pathlib.Path(__file__).parents[1] / "README.md"


def blocks(language):
  text = README.read_text(encoding="utf-8")
  return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_python_blocks_run_one_after_the_other(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  data = datasets.load_data("digits")
  names = {"x": data.train[0], "y": data.train[1]}
  names |= {"x_val": data.validation[0], "y_val": data.validation[1]}
  for block in blocks("python"):
    exec(compile(block, "README.md", "exec"), names)
  assert (tmp_path / "ticket.safetensors").is_file()
  assert names["result"].rounds[-1].density == pytest.approx(0.8**10, abs=1e-4)
  assert names["ticket"].density != 1
  printed = capsys.readouterr().out
  assert "level  density" in printed
  assert "parameters are prunable" in printed


def test_there_are_two_commands_and_they_name_files_that_exist():
  commands = [b for b in blocks("shell") if b.startswith("python3 -m venv")]
  assert len(commands) == 2
  scripts = re.findall(r"scripts/[\w/]+\.py", README.read_text("utf-8"))
  assert scripts
  for script in scripts:
    assert (README.parent / script).is_file(), script


def test_it_is_short():
  assert len(README.read_text("utf-8").splitlines()) <= 200
