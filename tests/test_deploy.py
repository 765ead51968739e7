"""The code of docs/deploy.md runs as it stands, or says what it needs."""

import pathlib
import re

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "deploy.md").read_text("utf-8")


def blocks():
  """Language, code, and the paragraph before it."""
  pattern = r"(?:^|\n\n)((?:(?!\n\n|```).)*?)\n\n```(\w+)\n(.*?)```"
  for words, language, code in re.findall(pattern, PAGE, re.DOTALL):
    yield language, code, words


@pytest.mark.slow
def test_the_python_blocks_run_one_after_the_other(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  keras.utils.set_random_seed(0)
  names = {}
  ran = [code for language, code, _ in blocks() if language == "python"]
  assert len(ran) == 4
  for code in ran:
    exec(compile(code, "deploy.md", "exec"), names)
  printed = capsys.readouterr().out
  accuracies = re.findall(r"accuracy through the file: (0\.\d+)", printed)
  assert len(accuracies) == 5
  assert min(map(float, accuracies)) > 0.8
  assert names["ticket"].density == pytest.approx(0.05, abs=1e-3)


def test_other_blocks_are_marked_or_name_scripts_that_exist():
  others = [block for block in blocks() if block[0] != "python"]
  assert len(others) == len(re.findall(r"```[a-z]+\n", PAGE)) - 4
  for _, code, words in others:
    scripts = re.findall(r"scripts/[\w/]+\.py", code)
    for script in scripts:
      assert (ROOT / script).is_file()
    assert scripts or re.search(r"Needs a (device|server)", words)
