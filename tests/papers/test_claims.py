"""The claims of the papers belong to recipes that there are."""

import pytest

from tf_lottery import paper_claims
from tf_lottery import workloads
from tf_lottery.report import drawing


@pytest.mark.parametrize("name", paper_claims.BY_RECIPE)
def test_claims_are_about_recipes_and_methods_that_there_are(name):
  assert workloads.recipe(name).source.startswith("Frankle and Carbin")
  for claim in paper_claims.BY_RECIPE[name]:
    assert {claim.first, claim.second} <= {"dense", *drawing.STYLES}
    assert "arXiv" in claim.source
