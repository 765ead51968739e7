import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_lottery.storage import tensor_files
from tf_lottery.storage.files import FileFormatError

TENSORS = {
  "0/kernel": np.array([[1.5, -2.0], [0.0, 3.25]], np.float32),
  "0/bias": np.array([7, 8, 9], np.int32),
  "step": np.array(500),
}
# The header of the file adds two levels; JSON may have 100.
TOO_DEEP = json.loads("[" * 99 + "]" * 99)
METADATA = {"preset": "lenet", "levels": [0.8, 0.64], "seed": 3}


def assert_same_tensors(got, expected):
  assert got.keys() == expected.keys()
  for name, array in expected.items():
    assert got[name].dtype == array.dtype
    assert got[name].shape == array.shape
    assert got[name].tobytes() == array.tobytes()


def resave(source, path, tensors=None, **header):
  """Writes a well-formed safetensors file that differs from `source`."""
  with safetensors.safe_open(source, framework="numpy") as file:
    old = json.loads(file.metadata()["tf_lottery"])
  merged = {k: v for k, v in {**old, **header}.items() if v is not None}
  content = safetensors.numpy.save(
    TENSORS if tensors is None else tensors,
    metadata={"tf_lottery": json.dumps(merged)},
  )
  path.write_bytes(content)


@pytest.fixture
def saved(tmp_path):
  path = tmp_path / "a.safetensors"
  tensor_files.write(path, "snapshot", TENSORS, METADATA)
  return path


@pytest.fixture(scope="module")
def content(tmp_path_factory):
  path = tmp_path_factory.mktemp("content") / "a.safetensors"
  tensor_files.write(path, "snapshot", TENSORS, METADATA)
  return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
  return tmp_path_factory.mktemp("scratch") / "a.safetensors"


class TestTensors:
  def test_round_trip(self, saved):
    tensors, metadata = tensor_files.read(saved, "snapshot")
    assert_same_tensors(tensors, TENSORS)
    assert metadata == METADATA

  def test_no_tensors_and_no_metadata(self, tmp_path):
    tensor_files.write(tmp_path / "a", "ticket", {})
    assert tensor_files.read(tmp_path / "a", "ticket") == ({}, {})

  @pytest.mark.parametrize(
    "array",
    [
      np.array(2.5, np.float16),
      np.array([True, False]),
      np.zeros((0, 3), np.float32),
      np.asfortranarray(np.arange(6).reshape(2, 3)),
      np.arange(10)[::3],
      np.array([np.nan, np.inf, -0.0]),
      np.array([2**63], np.uint64),
      np.array([0.5, 3], ml_dtypes.bfloat16),
    ],
    ids=str,
  )
  def test_any_array(self, tmp_path, array):
    tensor_files.write(tmp_path / "a", "snapshot", {"x": array})
    tensors, _ = tensor_files.read(tmp_path / "a", "snapshot")
    assert_same_tensors(tensors, {"x": array})

  def test_big_endian_values_survive(self, tmp_path):
    array = np.array([1.0, 2.0], ">f4")
    tensor_files.write(tmp_path / "a", "snapshot", {"x": array})
    tensors, _ = tensor_files.read(tmp_path / "a", "snapshot")
    np.testing.assert_array_equal(tensors["x"], [1.0, 2.0])

  @settings(max_examples=60, deadline=None)
  @given(
    tensors=st.dictionaries(
      st.text(
        st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8
      ),
      hnp.arrays(
        st.sampled_from(["<f4", "<f8", "<i8", "u1", "?"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
      ),
      max_size=3,
    )
  )
  def test_round_trip_of_anything(self, scratch, tensors):
    tensor_files.write(scratch, "snapshot", tensors, durable=False)
    got, _ = tensor_files.read(scratch, "snapshot")
    assert_same_tensors(got, tensors)

  def test_missing(self, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no ticket file at .*nowhere"):
      tensor_files.read(tmp_path / "nowhere", "ticket")

  def test_the_same_content_gives_the_same_bytes(self, saved, content):
    assert saved.read_bytes() == content

  def test_other_kind(self, saved):
    with pytest.raises(
      FileFormatError, match="must be a ticket file, got kind 'snapshot'"
    ):
      tensor_files.read(saved, "ticket")

  def test_newer_version(self, saved, tmp_path):
    newer = tensor_files.FORMAT_VERSION + 1
    resave(saved, tmp_path / "b", format_version=newer)
    with pytest.raises(
      FileFormatError,
      match=rf"b has format version {newer}.* reads up to {newer - 1}\.",
    ):
      tensor_files.read(tmp_path / "b", "snapshot")

  @pytest.mark.parametrize(
    "change",
    [
      {"metadata": {"seed": 4}},
      {"format_version": 0},
      {"sha256": "0" * 64},
      {"extra": "1"},
      {"tensors": {**TENSORS, "step": np.array(501)}},
      {"tensors": {**TENSORS, "step": np.array([500])}},
      {"tensors": {**TENSORS, "step": np.array(500, np.uint64)}},
      {"tensors": {"0/kernel": TENSORS["0/kernel"]}},
    ],
    ids=str,
  )
  def test_altered(self, saved, tmp_path, change):
    resave(saved, tmp_path / "b", **change)
    with pytest.raises(
      FileFormatError, match="b does not match its own checksum"
    ):
      tensor_files.read(tmp_path / "b", "snapshot")

  @pytest.mark.parametrize(
    ("change", "why"),
    [
      ({"sha256": None}, "missing required field `sha256`"),
      ({"sha256": 3}, r"Expected `str`, got `int` - at `\$.sha256`"),
      ({"metadata": []}, "Expected `object`, got `array`"),
      ({"kind": None}, "missing required field `kind`"),
      ({"format_version": "2"}, "Expected `int`, got `str`"),
      ({"format_version": None}, "Expected `int`, got `null`"),
      ({"format_version": -1}, "Expected `int` >= 0"),
    ],
    ids=str,
  )
  def test_a_header_of_another_type(self, saved, tmp_path, change, why):
    resave(saved, tmp_path / "b", **change)
    with pytest.raises(
      FileFormatError, match=f"b is not a readable snapshot file: .*{why}"
    ):
      tensor_files.read(tmp_path / "b", "snapshot")

  def test_metadata_of_another_type(self, saved):
    with pytest.raises(
      FileFormatError, match=r"Expected `int`, got `str` - at `\$\[...\]`"
    ):
      tensor_files.read(saved, "snapshot", dict[str, int])

  @pytest.mark.parametrize(
    "value", [2**64, "\ud800", json.loads("[" * 99 + "]" * 99)]
  )
  def test_metadata_that_could_not_be_read_again(self, tmp_path, value):
    with pytest.raises(ValueError, match=r"64 bits|surrogates|100 levels"):
      tensor_files.write(tmp_path / "a", "ticket", {}, {"value": value})
    assert not (tmp_path / "a").exists()

  def test_metadata_with_numbers_as_keys_come_back_with_text(self, tmp_path):
    tensor_files.write(tmp_path / "a", "ticket", {}, {"seeds": {9: 1, 10: 2}})
    _, metadata = tensor_files.read(tmp_path / "a", "ticket")
    assert metadata == {"seeds": {"9": 1, "10": 2}}

  def test_an_array_of_a_type_that_numpy_does_not_read(self, tmp_path):
    array = np.zeros(2, ml_dtypes.float8_e4m3fn)
    with pytest.raises(TypeError, match=r"bfloat16, .*; got float8_e4m3fn"):
      tensor_files.write(tmp_path / "a", "ticket", {"x": array})
    (tmp_path / "a").write_bytes(safetensors.numpy.save({"x": array}))
    with pytest.raises(FileFormatError, match="of another program"):
      tensor_files.read(tmp_path / "a", "ticket")

  def test_swapped_names(self, tmp_path):
    one = {"a": np.array([1.0]), "b": np.array([2.0])}
    tensor_files.write(tmp_path / "a", "snapshot", one)
    two = {"a": np.array([2.0]), "b": np.array([1.0])}
    resave(tmp_path / "a", tmp_path / "b", tensors=two)
    with pytest.raises(FileFormatError, match="checksum"):
      tensor_files.read(tmp_path / "b", "snapshot")

  def test_safetensors_of_others(self, tmp_path):
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(safetensors.numpy.save(TENSORS))
    with pytest.raises(FileFormatError, match="of another program"):
      tensor_files.read(path, "snapshot")

  @pytest.mark.parametrize("other", [b"", b"\x89HDF\r\n\x1a\n", b"{}" * 100])
  def test_no_safetensors_at_all(self, tmp_path, other):
    (tmp_path / "model.h5").write_bytes(other)
    with pytest.raises(
      FileFormatError, match=r"model\.h5 is not a readable snapshot file"
    ):
      tensor_files.read(tmp_path / "model.h5", "snapshot")

  def test_altered_files_can_be_caught_as_value_errors(self):
    assert issubclass(FileFormatError, ValueError)


class TestDamage:
  @settings(max_examples=300, deadline=None)
  @given(data=st.data())
  def test_flipped_bytes(self, content, scratch, data):
    damaged = bytearray(content)
    flips = st.tuples(
      st.integers(0, len(content) - 1), st.integers(min_value=1, max_value=255)
    )
    for place, change in data.draw(st.lists(flips, min_size=1, max_size=4)):
      damaged[place] ^= change
    scratch.write_bytes(damaged)
    try:
      tensors, metadata = tensor_files.read(scratch, "snapshot")
    except FileFormatError:
      return
    # Whitespace in the header may change without changing what it says.
    assert_same_tensors(tensors, TENSORS)
    assert metadata == METADATA

  @pytest.mark.parametrize("bit", [0x01, 0x80])
  def test_a_flip_in_any_byte_of_a_tensor(self, content, scratch, bit):
    first = 8 + int.from_bytes(content[:8], "little")
    for place in range(first, len(content)):
      damaged = bytearray(content)
      damaged[place] ^= bit
      scratch.write_bytes(damaged)
      with pytest.raises(FileFormatError, match="checksum"):
        tensor_files.read(scratch, "snapshot")

  def test_every_truncation(self, content, scratch):
    for length in range(len(content)):
      scratch.write_bytes(content[:length])
      with pytest.raises(FileFormatError, match="is not a readable"):
        tensor_files.read(scratch, "snapshot")

  @settings(max_examples=30, deadline=None)
  @given(tail=st.binary(min_size=1, max_size=20))
  def test_a_tail(self, content, scratch, tail):
    scratch.write_bytes(content + tail)
    with pytest.raises(FileFormatError, match="is not a readable"):
      tensor_files.read(scratch, "snapshot")

  @settings(max_examples=60, deadline=None)
  @given(other=st.binary(max_size=64))
  def test_arbitrary_bytes(self, scratch, other):
    scratch.write_bytes(other)
    with pytest.raises(FileFormatError, match=r"a\.safetensors"):
      tensor_files.read(scratch, "snapshot")
