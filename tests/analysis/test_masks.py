"""Overlap of masks against chance, with numbers computed by hand."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import tf_lottery
from tests import runs
from tf_lottery import analysis
from tf_lottery.search import rounds

SHAPES = {"0/kernel": (60, 50), "1/kernel": (50, 20)}


def mask(*rows):
  arrays = {f"{number}/kernel": row for number, row in enumerate(rows)}
  return tf_lottery.Mask({k: np.array(row, bool) for k, row in arrays.items()})


# 2 of 4 and 3 of 4 in the first weight, 1 of 2 and 1 of 2 in the second.
FIRST = mask([1, 1, 0, 0], [1, 0])
SECOND = mask([1, 1, 1, 0], [0, 1])


def test_places_of_each_weight_and_of_all_are_counted():
  found = analysis.overlap(FIRST, SECOND)
  first, second = found.weights.values()
  assert (first.count, first.first, first.second, first.size) == (2, 2, 3, 4)
  assert (second.count, found.count, found.size) == (0, 2, 6)
  assert found.density == 0.5
  assert found.jaccard == pytest.approx(2 / 5)
  assert found.share == pytest.approx(2 / 3)


def test_chance_is_the_hypergeometric_distribution():
  found = analysis.overlap(FIRST, SECOND)
  first, second = found.weights.values()
  # Of 4 places, 3 are drawn: each of the 2 is among them 3 times of 4.
  assert first.expected == pytest.approx(1.5)
  assert first.deviation == pytest.approx(0.5)  # 1 or 2, equally often
  assert first.z == pytest.approx(1)
  assert first.ratio == pytest.approx(4 / 3)
  assert (second.expected, second.deviation) == (0.5, 0.5)
  assert found.expected == pytest.approx(2)
  assert found.deviation == pytest.approx(math.sqrt(0.5))
  assert found.z == pytest.approx(0)
  assert found.expected_share == pytest.approx(2 / 3)


def test_where_chance_has_no_choice_there_is_no_z():
  found = analysis.overlap(mask([1, 1], [0, 0]), mask([1, 1], [1, 0]))
  dense, empty = found.weights.values()
  assert math.isnan(dense.z)
  assert dense.ratio == 1
  assert math.isnan(empty.ratio)
  assert math.isnan(empty.share)
  assert "nan" not in str(found)


def test_random_masks_overlap_as_chance_says():
  draws = [tf_lottery.Mask.random(SHAPES, 0.1, seed) for seed in range(40)]
  pairs = zip(draws[::2], draws[1::2], strict=True)
  z = [analysis.overlap(one, other).z for one, other in pairs]
  assert np.abs(z).max() < 4
  assert np.std(z) == pytest.approx(1, abs=0.5)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.02, 1), st.integers(0, 99))
def test_the_overlap_of_a_mask_with_itself_is_1_over_its_density(density, seed):
  one = tf_lottery.Mask.random({"0/kernel": (20, 10)}, density, seed)
  found = analysis.overlap(one, one)
  assert found.ratio == pytest.approx(1 / one.density)
  assert found.jaccard == found.share == 1
  assert found.is_nested


@settings(max_examples=30, deadline=None)
@given(st.floats(0.02, 1), st.floats(0.02, 1), st.integers(0, 99))
def test_the_order_of_masks_matters_to_no_measure(one, other, seed):
  first = tf_lottery.Mask.random(SHAPES, one, seed)
  second = tf_lottery.Mask.random(SHAPES, other, seed + 1)
  here, there = (
    analysis.overlap(first, second),
    analysis.overlap(second, first),
  )
  assert (here.count, here.share) == (there.count, there.share)
  assert here.expected == pytest.approx(there.expected)
  assert here.deviation == pytest.approx(there.deviation)
  assert here.count <= min(here.first, here.second)


def test_rounds_and_tickets_stand_for_their_masks(tmp_path):
  directory = runs.write_run(tmp_path, {"dense": [0.9], "ticket": [0.9, 0.8]})
  _, first, second = rounds.read_levels(directory)
  found = analysis.overlap(first, second.ticket)
  assert found == analysis.overlap(first.ticket.mask, second)
  assert (found.first, found.second) == (
    first.ticket.mask.kept,
    second.ticket.mask.kept,
  )


def test_the_table_of_nested_masks_says_so():
  found = analysis.overlap(FIRST, mask([1, 0, 0, 0], [1, 0]))
  assert found.is_nested
  assert "the largest possible" in " ".join(str(found).split())
  # The first weight is nested one way, and the second the other way.
  found = analysis.overlap(FIRST, mask([1, 0, 0, 0], [1, 1]))
  assert not found.is_nested
  assert "possible" not in str(found)


def test_a_table_has_a_line_for_each_weight_and_one_for_all():
  header, *lines, total = str(analysis.overlap(FIRST, SECOND)).splitlines()
  assert header.split()[:5] == ["weight", "places", "first", "second", "both"]
  assert [line.split()[0] for line in lines] == ["0/kernel", "1/kernel"]
  cells = ["all", "6", "3", "4", "2", "2.0", "1.00", "+0.0", "0.400"]
  assert total.split() == cells


def test_masks_of_other_weights_are_refused():
  with pytest.raises(ValueError, match="only over the same weights"):
    analysis.overlap(FIRST, mask([1, 1, 0, 0]))


def test_what_has_no_mask_is_refused():
  with pytest.raises(TypeError, match=r"a Ticket or a Round.*got dict"):
    analysis.overlap(FIRST, dict(SECOND))


def test_an_overlap_cannot_be_changed():
  with pytest.raises(dataclasses.FrozenInstanceError):
    analysis.overlap(FIRST, SECOND).count = 0
