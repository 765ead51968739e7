"""Whether neighbouring inputs are kept together, against chance."""

import itertools
import math

import numpy as np
import pytest

import tf_lottery
from tf_lottery import analysis


def adjacency(kept, shape, **arguments):
  mask = tf_lottery.Mask({"0/kernel": np.asarray(kept, bool)})
  return analysis.adjacency(mask, shape, **arguments)


def by_enumeration(kept, shape):
  """Mean and deviation over all ways to place each unit's inputs."""
  places = len(kept)
  means, variances = [], []
  for count in kept.sum(axis=0):
    found = []
    for chosen in itertools.combinations(range(places), count):
      grid = np.isin(np.arange(places), chosen).reshape(shape)
      pairs = 0
      for axis in range(grid.ndim):
        moved = np.moveaxis(grid, axis, 0)
        pairs += np.count_nonzero(moved[1:] & moved[:-1])
      found.append(pairs)
    means.append(np.mean(found))
    variances.append(np.var(found))
  return sum(means), math.sqrt(sum(variances))


def blocks(units, seed=0):
  """Each of 40 inputs in a row, of which each unit keeps 4 side by side."""
  starts = np.random.default_rng(seed).integers(0, 37, units)
  offsets = np.arange(40)[:, None] - starts
  return (offsets >= 0) & (offsets < 4)


def popular(seed=0):
  """Inputs in the middle of an image are kept more often, by any unit."""
  rows, columns = np.mgrid[:12, :12] - 5.5
  often = np.exp(-(rows**2 + columns**2) / 12).ravel()[:, None]
  rng = np.random.default_rng(seed)
  return rng.random((144, 80)) < 0.6 * often


def test_pairs_are_counted_along_each_axis():
  signal = [[1, 0], [1, 1], [0, 0], [1, 1], [1, 0]]
  assert adjacency(signal, (5,)).pairs == 2
  image = np.array([[1, 1, 0], [1, 0, 1]]).reshape(6, 1)
  assert adjacency(image, (2, 3)).pairs == 2
  assert adjacency(image, (6,)).pairs == 1  # the ends of rows do not touch


def test_channels_come_last_and_are_no_neighbours():
  # Two places of two channels: place 0 has both, place 1 the second alone.
  kept = np.array([1, 1, 0, 1]).reshape(4, 1)
  assert adjacency(kept, (2,)).pairs == 1
  assert adjacency(kept, (4,)).pairs == 1
  assert adjacency(np.array([1, 0, 0, 1]).reshape(4, 1), (2,)).pairs == 0


def test_the_window_of_a_convolution_is_an_input():
  kept = np.zeros((3, 3, 2, 4), bool)
  kept[0, 0, 1, 2] = kept[0, 1, 1, 2] = kept[1, 0, 0, 2] = True
  assert adjacency(kept, (3, 3)).pairs == 1


@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 2, 2), (1, 5), (2,)])
def test_shuffled_inputs_have_the_exact_mean_and_deviation(shape):
  rng = np.random.default_rng(1)
  kept = rng.random((math.prod(shape), 4)) < [0.2, 0.5, 0.7, 0.9]
  found = adjacency(kept, shape).inputs_shuffled
  mean, deviation = by_enumeration(kept, shape)
  assert found.expected == pytest.approx(mean)
  assert found.deviation == pytest.approx(deviation, abs=1e-6)


def test_blocks_are_far_above_chance():
  found = adjacency(blocks(50), (40,))
  assert found.pairs == 150
  # 50 units, 39 pairs, 4 of 40 inputs.
  expected = 50 * 39 * (4 / 40) * (3 / 39)
  assert found.inputs_shuffled.expected == pytest.approx(expected)
  assert found.inputs_shuffled.z > 10
  assert found.counts_fixed.ratio > 5
  assert found.counts_fixed.z > 10


def test_shuffled_blocks_are_at_chance():
  rng = np.random.default_rng(0)
  for _ in range(10):
    found = adjacency(rng.permuted(blocks(50), axis=0), (40,))
    assert abs(found.inputs_shuffled.z) < 4
    assert abs(found.counts_fixed.z) < 4


def test_popular_neighbours_are_not_taken_for_neighbours_kept_together():
  found = adjacency(popular(), (12, 12))
  assert found.inputs_shuffled.ratio > 2
  assert found.inputs_shuffled.z > 10
  assert found.counts_fixed.ratio == pytest.approx(1, abs=0.15)
  assert abs(found.counts_fixed.z) < 4


def test_random_masks_are_drawn_from_the_seed():
  one, same, other = (
    adjacency(blocks(20), (40,), seed=seed).counts_fixed for seed in (1, 1, 2)
  )
  assert one == same
  assert one != other


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_a_choice_has_no_z(value):
  found = adjacency(np.full((6, 3), value), (2, 3))
  for chance in (found.inputs_shuffled, found.counts_fixed):
    assert chance.count == chance.expected == 21 * value
    assert math.isnan(chance.z)
  assert "nan" not in str(found)


def test_the_first_weight_is_taken_unless_a_key_is_given():
  mask = tf_lottery.Mask(
    {"0/kernel": np.eye(4, dtype=bool), "1/kernel": np.ones((4, 1), bool)}
  )
  assert analysis.adjacency(mask, (4,)).pairs == 0
  assert analysis.adjacency(mask, (4,), "1/kernel").pairs == 3
  with pytest.raises(ValueError, match=r"no weight '2/kernel'; it has \['0/k"):
    analysis.adjacency(mask, (4,), "2/kernel")


@pytest.mark.parametrize("shape", [(3,), (), (0,), (5, 2)])
def test_an_input_of_another_shape_is_refused(shape):
  with pytest.raises(ValueError, match="takes no inputs of shape"):
    adjacency(np.ones((4, 2), bool), shape)
