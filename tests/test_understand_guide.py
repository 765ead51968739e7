"""The code of docs/understand.md runs as it stands."""

import pathlib
import re

import pytest

import tf_lottery

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "understand.md").read_text("utf-8")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names(tmp_path_factory):
  """Runs the Python blocks one after the other; returns what they define."""
  names = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(tmp_path_factory.mktemp("understand"))
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
      exec(compile(code, "understand.md", "exec"), names)
    yield names


def test_a_small_network_is_stable_from_initialisation_on(names):
  assert [(one.level, one.step) for one in names["found"]] == [
    (0, 0),
    (0, 37),
    (3, 0),
    (3, 37),
  ]
  assert names["automatic"].rewind == tf_lottery.to_init()


def test_tickets_of_two_seeds_are_compared(names):
  assert [round(one.density, 1) for one in names["overlaps"]] == [0.5, 0.2, 0.1]
  assert not any(one.is_nested for one in names["overlaps"])
