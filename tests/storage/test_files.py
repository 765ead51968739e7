import json
import math
import os

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_lottery.storage import files

TENSORS = {
  "0/kernel": np.array([[1.5, -2.0], [0.0, 3.25]], np.float32),
  "0/bias": np.array([7, 8, 9], np.int32),
  "step": np.array(500),
}
METADATA = {"preset": "lenet", "levels": [0.8, 0.64], "seed": 3}


def deep(levels):
  """Lists in lists."""
  value = []
  for _ in range(levels - 1):
    value = [value]
  return value


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
  files.write_tensors(path, "snapshot", TENSORS, METADATA)
  return path


@pytest.fixture(scope="module")
def content(tmp_path_factory):
  path = tmp_path_factory.mktemp("content") / "a.safetensors"
  files.write_tensors(path, "snapshot", TENSORS, METADATA)
  return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
  return tmp_path_factory.mktemp("scratch") / "a.safetensors"


class TestWriteBytes:
  def test_makes_missing_directories(self, tmp_path):
    path = tmp_path / "run" / "level_1" / "done"
    files.write_bytes(path, b"yes")
    assert path.read_bytes() == b"yes"

  def test_replaces_the_whole_file(self, tmp_path):
    path = tmp_path / "a"
    files.write_bytes(path, b"a long first version")
    files.write_bytes(str(path), b"short")
    assert path.read_bytes() == b"short"

  def test_leaves_no_other_file(self, tmp_path):
    files.write_bytes(tmp_path / "a", b"x")
    assert os.listdir(tmp_path) == ["a"]

  @pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt])
  def test_interrupted_keeps_the_old_file_only(
    self, tmp_path, monkeypatch, interruption
  ):
    files.write_bytes(tmp_path / "a", b"old")

    def fail(*_):
      raise interruption("stopped")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(interruption, match="stopped"):
      files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]

  @pytest.mark.parametrize("durable", [True, False])
  def test_waits_for_the_disk_only_when_durable(
    self, tmp_path, monkeypatch, durable
  ):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    files.write_bytes(tmp_path / "a", b"x", durable=durable)
    assert bool(synced) == durable
    assert (tmp_path / "a").read_bytes() == b"x"

  def test_a_system_that_cannot_open_directories(self, tmp_path, monkeypatch):
    opened = os.open

    def windows_open(path, *arguments, **keywords):
      if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
      return opened(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", windows_open)
    monkeypatch.delattr(os, "O_DIRECTORY")
    files.write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"

  def test_a_link_is_replaced(self, tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "old")
    files.write_bytes(tmp_path / "link", b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_bytes() == b"new"
    assert (tmp_path / "old").read_bytes() == b"old"


class TestJson:
  def test_round_trip(self, tmp_path):
    value = {"b": [1, 2.5, None], "a": {"é": True}}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value

  def test_is_indented_and_sorted(self, tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": 2})
    text = (tmp_path / "a.json").read_text()
    assert text == '{\n  "a": 2,\n  "b": 1\n}\n'

  def test_what_json_cannot_hold_leaves_the_old_file(self, tmp_path):
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError, match="set"):
      files.write_json(tmp_path / "a.json", {1, 2})
    assert files.read_json(tmp_path / "a.json") == 1

  @pytest.mark.parametrize("value", [2**64, {"a": "\ud800"}, deep(101)])
  def test_what_could_not_be_read_again_is_not_written(self, tmp_path, value):
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match=r"64 bits|surrogates|100 levels"):
      files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == 1

  @pytest.mark.parametrize(
    ("damage", "why"),
    [
      (b"", "Expecting value"),
      (b'{"a": ', "Expecting value"),
      (b'{"a": "\xff"}', "invalid start byte"),
      (json.dumps({"a": 1}).encode("utf-16"), "invalid start byte"),
      (b"\xef\xbb\xbf{}", "BOM"),
      (b"[" * 200 + b"]" * 200, "more than 100 levels"),
      (b"[" * 100_000 + b"]" * 100_000, "more than 100 levels"),
      (b'{"a": 1, "a": 2}', "the same key twice"),
      (b"18446744073709551616", "64 bits, got 18446744073709551616"),
      (b"-9223372036854775809", "64 bits, got -9223372036854775809"),
      (b"9" * 5000, "integer string conversion"),
      (b'"\\ud800"', "surrogates not allowed"),
    ],
  )
  def test_damage_names_the_file(self, tmp_path, damage, why):
    (tmp_path / "round.json").write_bytes(damage)
    with pytest.raises(
      files.FileFormatError, match=rf"round\.json is damaged: .*{why}"
    ):
      files.read_json(tmp_path / "round.json")

  @pytest.mark.parametrize("value", [2**64 - 1, -(2**63), deep(100), math.inf])
  def test_what_is_just_allowed_comes_back(self, tmp_path, value):
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value

  def test_a_value_of_another_type_is_refused(self, tmp_path):
    files.write_json(tmp_path / "a.json", {"step": "8"})
    with pytest.raises(
      files.FileFormatError,
      match=r"a\.json is damaged: Expected `int`, got `str` - at `\$\[...\]`",
    ):
      files.read_json(tmp_path / "a.json", dict[str, int])

  def test_missing(self, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*round\.json"):
      files.read_json(tmp_path / "round.json")
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no file at .*a/b"):
      files.read_json(tmp_path / "a" / "b")


class TestOtherThanFiles:
  """Each is refused at once: to open a pipe would wait for its writer."""

  @pytest.fixture(params=["directory", "pipe", "device"])
  def path(self, request, tmp_path):
    path = tmp_path / "round.json"
    if request.param == "directory":
      path.mkdir()
    elif request.param == "pipe":
      os.mkfifo(path)
    else:
      path.symlink_to("/dev/zero")
    return path

  def test_they_are_no_json(self, path):
    with pytest.raises(
      files.FileFormatError, match=r"round\.json must be a file, and it is a"
    ):
      files.read_json(path)

  def test_they_are_no_tensors(self, path):
    with pytest.raises(
      files.FileFormatError, match=r"round\.json must be a ticket file, and"
    ):
      files.read_tensors(path, "ticket")


class TestTensors:
  def test_round_trip(self, saved):
    tensors, metadata = files.read_tensors(saved, "snapshot")
    assert_same_tensors(tensors, TENSORS)
    assert metadata == METADATA

  def test_no_tensors_and_no_metadata(self, tmp_path):
    files.write_tensors(tmp_path / "a", "ticket", {})
    assert files.read_tensors(tmp_path / "a", "ticket") == ({}, {})

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
    files.write_tensors(tmp_path / "a", "snapshot", {"x": array})
    tensors, _ = files.read_tensors(tmp_path / "a", "snapshot")
    assert_same_tensors(tensors, {"x": array})

  def test_big_endian_values_survive(self, tmp_path):
    array = np.array([1.0, 2.0], ">f4")
    files.write_tensors(tmp_path / "a", "snapshot", {"x": array})
    tensors, _ = files.read_tensors(tmp_path / "a", "snapshot")
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
    files.write_tensors(scratch, "snapshot", tensors, durable=False)
    got, _ = files.read_tensors(scratch, "snapshot")
    assert_same_tensors(got, tensors)

  def test_missing(self, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no ticket file at .*nowhere"):
      files.read_tensors(tmp_path / "nowhere", "ticket")

  def test_the_same_content_gives_the_same_bytes(self, saved, content):
    assert saved.read_bytes() == content

  def test_other_kind(self, saved):
    with pytest.raises(
      files.FileFormatError, match="must be a ticket file, got kind 'snapshot'"
    ):
      files.read_tensors(saved, "ticket")

  def test_newer_version(self, saved, tmp_path):
    newer = files.FORMAT_VERSION + 1
    resave(saved, tmp_path / "b", format_version=newer)
    with pytest.raises(
      files.FileFormatError,
      match=rf"b has format version {newer}.* up to {files.FORMAT_VERSION}",
    ):
      files.read_tensors(tmp_path / "b", "snapshot")

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
      files.FileFormatError, match="b does not match its own checksum"
    ):
      files.read_tensors(tmp_path / "b", "snapshot")

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
      files.FileFormatError, match=f"b is not a readable snapshot file: .*{why}"
    ):
      files.read_tensors(tmp_path / "b", "snapshot")

  def test_metadata_of_another_type(self, saved):
    with pytest.raises(
      files.FileFormatError, match=r"Expected `int`, got `str` - at `\$\[...\]`"
    ):
      files.read_tensors(saved, "snapshot", dict[str, int])

  @pytest.mark.parametrize("value", [2**64, "\ud800", deep(99)])
  def test_metadata_that_could_not_be_read_again(self, tmp_path, value):
    with pytest.raises(ValueError, match=r"64 bits|surrogates|100 levels"):
      files.write_tensors(tmp_path / "a", "ticket", {}, {"value": value})
    assert not (tmp_path / "a").exists()

  def test_metadata_with_numbers_as_keys_come_back_with_text(self, tmp_path):
    files.write_tensors(tmp_path / "a", "ticket", {}, {"seeds": {9: 1, 10: 2}})
    _, metadata = files.read_tensors(tmp_path / "a", "ticket")
    assert metadata == {"seeds": {"9": 1, "10": 2}}

  def test_an_array_of_a_type_that_numpy_does_not_read(self, tmp_path):
    array = np.zeros(2, ml_dtypes.float8_e4m3fn)
    with pytest.raises(TypeError, match=r"bfloat16, .*; got float8_e4m3fn"):
      files.write_tensors(tmp_path / "a", "ticket", {"x": array})
    (tmp_path / "a").write_bytes(safetensors.numpy.save({"x": array}))
    with pytest.raises(files.FileFormatError, match="of another program"):
      files.read_tensors(tmp_path / "a", "ticket")

  def test_swapped_names(self, tmp_path):
    one = {"a": np.array([1.0]), "b": np.array([2.0])}
    files.write_tensors(tmp_path / "a", "snapshot", one)
    two = {"a": np.array([2.0]), "b": np.array([1.0])}
    resave(tmp_path / "a", tmp_path / "b", tensors=two)
    with pytest.raises(files.FileFormatError, match="checksum"):
      files.read_tensors(tmp_path / "b", "snapshot")

  def test_safetensors_of_others(self, tmp_path):
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(safetensors.numpy.save(TENSORS))
    with pytest.raises(files.FileFormatError, match="of another program"):
      files.read_tensors(path, "snapshot")

  @pytest.mark.parametrize("other", [b"", b"\x89HDF\r\n\x1a\n", b"{}" * 100])
  def test_no_safetensors_at_all(self, tmp_path, other):
    (tmp_path / "model.h5").write_bytes(other)
    with pytest.raises(
      files.FileFormatError, match=r"model\.h5 is not a readable snapshot file"
    ):
      files.read_tensors(tmp_path / "model.h5", "snapshot")

  def test_altered_files_can_be_caught_as_value_errors(self):
    assert issubclass(files.FileFormatError, ValueError)


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
      tensors, metadata = files.read_tensors(scratch, "snapshot")
    except files.FileFormatError:
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
      with pytest.raises(files.FileFormatError, match="checksum"):
        files.read_tensors(scratch, "snapshot")

  def test_every_truncation(self, content, scratch):
    for length in range(len(content)):
      scratch.write_bytes(content[:length])
      with pytest.raises(files.FileFormatError, match="is not a readable"):
        files.read_tensors(scratch, "snapshot")

  @settings(max_examples=30, deadline=None)
  @given(tail=st.binary(min_size=1, max_size=20))
  def test_a_tail(self, content, scratch, tail):
    scratch.write_bytes(content + tail)
    with pytest.raises(files.FileFormatError, match="is not a readable"):
      files.read_tensors(scratch, "snapshot")

  @settings(max_examples=60, deadline=None)
  @given(other=st.binary(max_size=64))
  def test_arbitrary_bytes(self, scratch, other):
    scratch.write_bytes(other)
    with pytest.raises(files.FileFormatError, match=r"a\.safetensors"):
      files.read_tensors(scratch, "snapshot")


class TestReplacing:
  def test_a_directory_replaces_one_of_its_kind_only(self, tmp_path):
    for name in ("file", "directory"):
      path = tmp_path / name
      with files.replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
      assert (path / "new").read_text() == "new"
    (tmp_path / "plain").write_text("old")
    with (
      pytest.raises(ValueError, match="directory must not replace a file"),
      files.replacing(tmp_path / "plain") as temporary,
    ):
      temporary.mkdir()
    assert (tmp_path / "plain").read_text() == "old"
    with (
      pytest.raises(ValueError, match="file must not replace a directory"),
      files.replacing(tmp_path / "directory") as temporary,
    ):
      temporary.write_text("new")
    assert (tmp_path / "directory" / "new").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
      "directory",
      "file",
      "plain",
    ]

  def test_a_link_is_followed(self, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "saved")
    for content in ("old", "new"):
      with files.replacing(tmp_path / "link") as temporary:
        assert temporary.is_relative_to(tmp_path / "disk")
        temporary.mkdir()
        (temporary / content).touch()
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "disk" / "saved") == ["new"]
    assert os.listdir(tmp_path / "disk") == ["saved"]

  def test_an_error_leaves_what_was_there(self, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), files.replacing(path) as new:
      assert new.suffix == ".txt"
      new.write_text("half")
      raise OSError("full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
