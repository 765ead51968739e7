"""Whatever the network, an exported file computes it, or is refused."""

import math

import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.export import sparse_models
from tf_lottery import export
from tf_lottery.export import tflite_csr

# Relative to the largest magnitude in the output. Rounding counts for more
# where the terms of a sum cancel; a wrong weight gives far more than this.
LIMITS = {"float32": 5e-5, "float16": 5e-3}


def expand(rows):
  """The dense weight of compressed rows."""
  columns = rows.shape[-1] // rows.block
  count = math.prod(rows.shape[:-1])
  dense = np.zeros((count, columns, rows.block), rows.values.dtype)
  row = np.repeat(np.arange(count), np.diff(rows.segments.astype(np.int64)))
  dense[row, rows.indices] = rows.values.reshape(-1, rows.block)
  return dense.reshape(rows.shape)


@settings(max_examples=40)
@given(
  array=hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=9),
    elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, -2.5]),
  ),
  block=st.sampled_from([1, 4]),
)
def test_compressed_rows_come_back(array, block):
  if array.shape[-1] % block:
    with pytest.raises(ValueError, match="multiple of 4 columns, got"):
      tflite_csr.compress(array, block)
    return
  rows = tflite_csr.compress(array, block)
  assert np.array_equal(expand(rows), array)
  assert rows.values.size


@pytest.mark.parametrize(
  ("shape", "dtype"),
  [((2, 200), np.uint8), ((2, 300), np.uint16), ((1, 70_000), np.int32)],
)
def test_indices_take_the_smallest_type(shape, dtype):
  array = np.zeros(shape, np.float32)
  array[:, -1] = 1
  rows = tflite_csr.compress(array)
  assert rows.indices.dtype == dtype
  assert np.array_equal(expand(rows), array)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
  blocks=sparse_models.architectures(),
  density=st.sampled_from([0.5, 0.2, 0.05, 0.0]),
  dtype=st.sampled_from(["float32", "float16"]),
  layout=st.sampled_from(["auto", "sparse"]),
  library=st.sampled_from([keras, tf_keras]),
)
def test_any_small_network_is_computed_by_its_tflite_file(
  tmp_path_factory, blocks, density, dtype, layout, library
):
  model = sparse_models.prune(sparse_models.build(library, blocks), density)
  path = tmp_path_factory.mktemp("export") / "a.tflite"
  report = export.to_tflite(model, path, dtype=dtype, layout=layout)
  x = np.random.default_rng(3).normal(size=(5, 16, 16, 2)).astype(np.float32)
  expected = np.asarray(model(x))
  limit = LIMITS[dtype] * np.abs(expected).max()
  assert np.abs(export.predict(path, x) - expected).max() <= limit
  for difference in report.differences:
    assert difference.relative <= LIMITS[dtype]


@settings(max_examples=8, deadline=None)
@given(
  blocks=sparse_models.architectures(),
  density=st.sampled_from([0.5, 0.2, 0.05, 0.0]),
  library=st.sampled_from([keras, tf_keras]),
)
def test_any_small_network_is_computed_by_its_saved_model(
  tmp_path_factory, blocks, density, library
):
  model = sparse_models.prune(sparse_models.build(library, blocks), density)
  path = tmp_path_factory.mktemp("export") / "a"
  report = export.to_saved_model(model, path)
  for difference in report.differences:
    assert difference.relative <= 1e-6
