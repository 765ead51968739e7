"""The code of docs/search.md runs as it stands."""

import pathlib
import re

import pytest

import tf_lottery
from tf_lottery import criteria

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "search.md").read_text("utf-8")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names(tmp_path_factory):
  """Runs the Python blocks one after the other; returns what they define."""
  names = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(tmp_path_factory.mktemp("search"))
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
      exec(compile(code, "search.md", "exec"), names)
    yield names


def test_the_search_costs_what_the_page_says(names):
  price = names["price"]
  assert 0 < price["search"].trainings(price["dense"]) <= 0.75


def test_the_page_names_every_method():
  table = re.findall(r"^\| `(\w+)\(.*?\)` \|", PAGE, re.MULTILINE)
  methods = {"iterative", "gradual", "cycles", "early_bird", "at_init"}
  assert set(table) == methods
  for name in methods:
    assert callable(getattr(tf_lottery, name))


def test_the_page_names_every_criterion():
  section = PAGE.split("## Criteria")[1]
  named = set(re.findall(r'`"(\w+)"`', section))
  assert named == set(criteria.BY_NAME) - {"random"}
