"""The code of docs/prove.md runs as it stands."""

import pathlib
import re

import pytest

from tf_lottery import experiments

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "prove.md").read_text("utf-8")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
  """Runs the Python blocks one after the other; returns what they define."""
  names = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(tmp_path_factory.mktemp("prove"))
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
      exec(compile(code, "prove.md", "exec"), names)
    yield names


@pytest.mark.slow
def test_every_replicate_has_its_controls(names):
  methods = {round_.method for round_ in names["proof"].evidence.rounds}
  assert {"random_reinit", "shuffled_mask", "small_dense"} < methods
  assert "longer" in methods


@pytest.mark.slow
def test_runs_by_hand_are_replicates_of_one_experiment(names):
  (section,) = names["made"].sections
  assert section.evidence.replicates == 3


def test_the_page_names_what_there_is():
  table = set(re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE))
  named = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
  assert named == set(experiments.CONTROLS)
  for script in re.findall(r"scripts/[\w/]+\.py", PAGE):
    assert (ROOT / script).is_file()
