"""The claims of the papers belong to recipes that there are."""

import pytest

from tf_lottery.papers import claims
from tf_lottery.papers import recipes
from tf_lottery.report import drawing


@pytest.mark.parametrize("name", claims.BY_RECIPE)
def test_claims_are_about_recipes_and_methods_that_there_are(name):
  assert recipes.recipe(name).source.startswith("Frankle and Carbin")
  for claim in claims.BY_RECIPE[name]:
    assert {claim.first, claim.second} <= {"dense", *drawing.STYLES}
    assert "arXiv" in claim.source
