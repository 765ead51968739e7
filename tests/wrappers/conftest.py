"""Each test of the wrappers starts from the same seed."""

import pytest

from tf_lottery.wrappers import set_seed


@pytest.fixture(autouse=True)
def seeded():
  set_seed(0)
