"""The README's code runs as it stands."""

import re

from tests import readme
from tf_lottery.papers import datasets


def test_the_python_blocks_run_one_after_the_other(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  data = datasets.load_data("digits")
  names = readme.run(data.train, data.validation)
  assert (tmp_path / "ticket.safetensors").is_file()
  assert names["result"].smallest_matching_level()
  assert (tmp_path / "report" / "report.html").is_file()
  assert (tmp_path / "ticket.tflite").is_file()
  assert {v.n_ticket for v in names["proof"].verdicts} == {3}
  printed = capsys.readouterr().out
  assert "level  density" in printed
  assert "parameters are prunable" in printed


def test_there_are_two_commands_and_they_name_files_that_exist():
  commands = [
    block
    for block in readme.blocks("shell")
    if block.startswith("python3 -m venv")
  ]
  assert len(commands) == 2
  text = readme.README.read_text("utf-8")
  scripts = re.findall(r"scripts/[\w/]+\.py", text)
  assert scripts
  for script in scripts:
    assert (readme.README.parent / script).is_file(), script


def test_it_is_short():
  assert len(readme.README.read_text("utf-8").splitlines()) <= 200
