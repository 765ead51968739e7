import pytest

from tf_lottery.papers import claims
from tf_lottery.papers import recipes
from tf_lottery.report import drawing


@pytest.mark.parametrize("name", claims.BY_RECIPE)
def test_claims_name_recipes_and_methods_that_exist(name):
  assert recipes.recipe(name).source.startswith("Frankle and Carbin")
  for claim in claims.BY_RECIPE[name]:
    assert {claim.first, claim.second} <= {"dense", *drawing.STYLES}
    assert "arXiv" in claim.source
