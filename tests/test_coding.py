import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_lottery import coding

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
    ([], []),
  ],
)
def test_a_gap_counts_the_pruned_before_a_kept_entry(kept, code):
  kept = np.array(kept, bool)
  assert coding.to_gaps(kept).tolist() == code
  assert np.array_equal(
    coding.from_gaps(np.array(code, np.uint8), len(kept)), kept
  )


@given(KEPT)
def test_gaps_come_back(kept):
  assert np.array_equal(coding.from_gaps(coding.to_gaps(kept), len(kept)), kept)


@given(KEPT)
def test_the_smaller_code_is_chosen(kept):
  name, code = coding.smallest(kept)
  gaps, bits = coding.to_gaps(kept), np.packbits(kept)
  assert len(code) == min(len(gaps), len(bits))
  assert np.array_equal(code, gaps if name == "gaps" else bits)
  assert np.array_equal(coding.kept(name, code, len(kept)), kept)


def test_gaps_are_smaller_below_one_in_eight():
  kept = np.arange(8000) % 10 == 0
  assert coding.smallest(kept)[0] == "gaps"
  kept = np.arange(8000) % 7 == 0
  assert coding.smallest(kept)[0] == "bits"


def test_a_code_that_reaches_too_far_is_refused():
  with pytest.raises(
    ValueError, match=r"array of 3 entries, got one .* entry 5"
  ):
    coding.from_gaps(np.array([5], np.uint8), 3)
