import keras
import numpy as np
import pytest

import tf_lottery
from tf_lottery import criteria

NOW = [[0.3, -0.2], [-0.1, -0.5]]


@pytest.fixture(scope="module")
def binding():
  model = keras.Sequential(
    [keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)]
  )
  binding = tf_lottery.bind(model)
  binding.write(
    {
      "0/kernel": np.array([[0.1, -0.9], [0.2, -0.5]]),
      "1/kernel": np.array([[-3.0], [0.0]]),
    }
  )
  return binding


@pytest.fixture
def trained(binding):
  """The same weights as initial ones, and others after training."""
  before = binding.read()
  binding.give_initial(before)
  binding.write({"0/kernel": np.array(NOW)})
  yield binding
  binding.write(before)


def test_magnitude_does_not_look_at_the_sign(binding):
  scores = criteria.magnitude(binding, binding.mask)
  np.testing.assert_allclose(scores["0/kernel"], [[0.1, 0.9], [0.2, 0.5]])
  np.testing.assert_allclose(scores["1/kernel"], [[3.0], [0.0]])
  assert scores.keys() == binding.mask.keys()


@pytest.mark.parametrize(
  ("criterion", "expected"),
  [
    (criteria.movement, [[0.2, 0.7], [0.3, 0.0]]),
    (criteria.magnitude_increase, [[0.2, -0.7], [-0.1, 0.0]]),
    # One weight went through zero.
    (criteria.large_final_same_sign, [[0.3, 0.2], [-0.1, 0.5]]),
  ],
)
def test_criteria_that_compare_with_the_initial_weights(
  trained, criterion, expected
):
  scores = criterion(trained, trained.mask)
  np.testing.assert_allclose(scores["0/kernel"], expected, atol=1e-7)
  assert scores.keys() == trained.mask.keys()


def test_random_repeats_by_seed_and_differs_by_seed_and_level(binding):
  mask = binding.mask
  sparser = tf_lottery.Mask.random(binding.shapes, 0.5, seed=0)
  draw = [
    criteria.random(binding, m, seed=seed)["0/kernel"]
    for m, seed in ((mask, 1), (mask, 1), (mask, 2), (sparser, 1))
  ]
  np.testing.assert_array_equal(draw[0], draw[1])
  assert np.any(draw[0] != draw[2])
  assert np.any(draw[0] != draw[3])
  assert all(((d >= 0) & (d < 1)).all() for d in draw)


def test_by_name_and_by_function():
  for name, criterion in criteria.BY_NAME.items():
    assert criteria.get(name) is criterion
    assert criterion.__name__ == name
  assert criteria.get(len) is len
  with pytest.raises(ValueError, match=r"'magnitude'.*'synflow'.*got 'snap'"):
    criteria.get("snap")


def test_the_lists_name_criteria():
  lists = (
    criteria.AT_INITIALISATION,
    criteria.READ_DATA,
    criteria.BRING_BACK,
  )
  assert all(names <= criteria.BY_NAME.keys() for names in lists)
