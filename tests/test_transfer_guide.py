"""The code of docs/transfer.md runs as it stands."""

import pathlib
import re

import pytest

from tf_lottery.experiments import controls

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "transfer.md").read_text("utf-8")


@pytest.mark.slow
def test_the_python_runs_in_order(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  names = {}
  for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
    exec(compile(code, "transfer.md", "exec"), names)
  new = names["moved"].provenance["drawn_anew"]
  assert f"# {new}" in PAGE
  assert names["deeper"].count_params() == 9 * 16 + 3 * 17 * 16 + 17 * 4
  methods = {round_.method for round_ in names["proof"].evidence.rounds}
  assert {"transferred", "transferred_reinit"} < methods
  assert names["mask"].table() == names["ticket"].mask.table()


def test_the_page_names_every_control_with_a_source():
  table = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
  assert set(table) == set(controls.WITH_SOURCE)
