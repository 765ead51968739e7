import keras
import numpy as np
import pytest

import tf_lottery
from tf_lottery import criteria


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


def test_magnitude_does_not_look_at_the_sign(binding):
  scores = criteria.magnitude(binding, binding.mask)
  np.testing.assert_allclose(scores["0/kernel"], [[0.1, 0.9], [0.2, 0.5]])
  np.testing.assert_allclose(scores["1/kernel"], [[3.0], [0.0]])
  assert scores.keys() == binding.mask.keys()


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
  assert criteria.get("magnitude") is criteria.magnitude
  assert criteria.get("random") is criteria.random
  assert criteria.get(len) is len
  with pytest.raises(ValueError, match=r"'magnitude', 'random'.*got 'snip'"):
    criteria.get("snip")
