"""How far the outputs of a file are from the model's."""

import ml_dtypes
import numpy as np
import pytest

from tf_lottery import export
from tf_lottery.export import verification

BFLOAT16 = ml_dtypes.bfloat16


@pytest.mark.parametrize(
  ("expected", "got", "distance", "scale"),
  [
    ([1.0, -4.0], [1.5, -4.0], 0.5, 4.0),
    ([np.inf, 2.0], [np.inf, 2.25], 0.25, 2.0),
    ([np.inf, 2.0], [9.0, 2.0], np.inf, 1.0),
    ([1.0, 2.0], [1.0], np.inf, 1.0),
    (["yes"], ["yes"], 0.0, 1.0),
    (["yes"], ["no"], np.inf, 1.0),
    ([True, False], [True, True], 1.0, 1.0),
  ],
)
def test_the_largest_difference_and_what_it_is_relative_to(
  expected, got, distance, scale
):
  found = verification.difference(np.array(expected), np.array(got))
  assert found == (distance, scale)


def test_bfloat16_outputs_are_numbers():
  expected = np.array([1.0, -4.0], BFLOAT16)
  got = np.array([1.5, -4.0], BFLOAT16)
  assert verification.difference(expected, got) == (0.5, 4.0)


@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16])
def test_a_model_that_gives_nan_is_refused(dtype):
  outputs = {"f": {"y": np.array([1.0, np.nan], dtype)}}
  with pytest.raises(export.ExportError, match="itself gives NaN"):
    verification.compare("a runtime", outputs, outputs, 1e-4)
