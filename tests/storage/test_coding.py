import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_lottery.storage import coding

KEPT = st.one_of(
  hnp.arrays(bool, st.integers(0, 300)),
  st.tuples(st.integers(0, 5000), st.integers(0, 3), st.integers(0, 99)).map(
    lambda drawn: np.isin(
      np.arange(drawn[0]),
      np.random.default_rng(drawn[2]).integers(0, drawn[0] + 1, drawn[1]),
    )
  ),
)


@pytest.mark.parametrize(
  ("kept", "code"),
  [
    ([0, 1, 1, 0, 0, 1], [1, 0, 2]),
    ([0] * 254 + [1], [254]),
    ([0] * 255 + [1], [255, 0]),
    ([0] * 256 + [1], [255, 1]),
    ([0] * 510 + [1], [255, 255, 0]),
    ([1, 0, 0], [0]),
    ([0, 0], []),
    ([0] * 255, [255]),
    ([1] + [0] * 254, [0]),
    ([1] + [0] * 511, [0, 255, 255]),
    ([], []),
  ],
)
def test_a_gap_counts_the_pruned_before_a_kept_entry(kept, code):
  kept = np.array(kept, bool)
  assert coding.to_gaps(kept).tolist() == code
  assert np.array_equal(
    coding.decode("gaps", np.array(code, np.uint8), len(kept)), kept
  )


@given(KEPT)
def test_gaps_come_back(kept):
  assert np.array_equal(
    coding.decode("gaps", coding.to_gaps(kept), len(kept)), kept
  )


@given(KEPT)
def test_the_smaller_code_is_chosen(kept):
  name, code = coding.smallest(kept)
  gaps, bits = coding.to_gaps(kept), np.packbits(kept)
  assert len(code) == min(len(gaps), len(bits))
  assert np.array_equal(code, gaps if name == "gaps" else bits)
  assert np.array_equal(coding.decode(name, code, len(kept)), kept)


def test_gaps_are_smaller_below_one_in_eight():
  kept = np.arange(8000) % 10 == 0
  assert coding.smallest(kept)[0] == "gaps"
  kept = np.arange(8000) % 7 == 0
  assert coding.smallest(kept)[0] == "bits"


@given(KEPT)
def test_a_code_is_counted_without_being_decoded(kept):
  assert coding.count(*coding.smallest(kept), len(kept)) == kept.sum()


@given(KEPT)
def test_an_array_has_at_most_255_entries_for_each_byte_of_its_gaps(kept):
  assert len(kept) <= 255 * (len(coding.to_gaps(kept)) + 1)


def test_a_code_without_the_pruned_entries_at_the_end_is_read():
  """Earlier versions wrote such codes."""
  kept = coding.decode("gaps", np.array([1], np.uint8), 700)
  assert np.flatnonzero(kept).tolist() == [1]


@pytest.mark.parametrize(
  ("name", "code", "message"),
  [
    ("gaps", np.array([5], np.uint8), "of 3 entries, got one of 6 entries"),
    ("gaps", np.array([255], np.uint8), "got one of 255 entries"),
    ("gaps", np.array([1], np.int8), "vector of bytes, got int8"),
    ("gaps", np.array([[1]], np.uint8), r"got uint8 of shape \(1, 1\)"),
    ("bits", np.array([], np.uint8), "must be 1 bytes, got 0"),
    ("bits", np.array([0, 0], np.uint8), "must be 1 bytes, got 2"),
    ("bits", np.array([16], np.uint8), "bits after the last entry"),
    ("bits", np.array([32.0]), "vector of bytes, got float64"),
  ],
)
def test_a_code_of_another_array_is_refused(name, code, message):
  for read in (coding.count, coding.decode):
    with pytest.raises(ValueError, match=message):
      read(name, code, 3)
