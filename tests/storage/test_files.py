import json
import math
import os

import pytest

from tf_lottery.storage import files
from tf_lottery.storage import tensor_files


def deep(levels):
  """Lists in lists."""
  value = []
  for _ in range(levels - 1):
    value = [value]
  return value


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
      tensor_files.read(path, "ticket")


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
