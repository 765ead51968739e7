"""What is left, and what is not, of processes that are killed in a write."""

import contextlib
import itertools
import os
import random
import shutil
import stat
import threading
import time

import pytest

from tests import children
from tf_lottery.storage import files
from tf_lottery.storage import run_directory

PARTS = 4


def write_file(path, content):
  files.write_bytes(path, content.encode() * 50_000)


def replace_file(path, content):
  with files.replacing(path) as new:
    for _ in range(PARTS):
      with open(new, "a") as file:
        file.write(content * 1000)


def replace_directory(path, content):
  with files.replacing(path) as new:
    fill(new, content)


def fill(directory, content):
  (directory / "part").mkdir(parents=True)
  for number in range(PARTS):
    (directory / "part" / str(number)).write_text(content)


def content_of(path) -> str:
  """The content that the writers above were given; it must be whole."""
  if path.is_dir():
    parts = sorted(path.rglob("?"))
    assert [part.name for part in parts] == [str(n) for n in range(PARTS)]
    texts = {part.read_text() for part in parts}
    assert len(texts) == 1
    return texts.pop()
  text = path.read_text()
  assert len(text) in (50_000, PARTS * 1000)
  assert len(set(text)) == 1
  return text[0]


def open_run(path):
  """What a search does first."""
  with run_directory.RunDirectory(path).locked():
    pass


def names(path) -> set[str]:
  # Some versions of filelock remove the lock file, some leave it.
  return set(os.listdir(path)) - {"lock"}


WRITERS = [write_file, replace_file, replace_directory]


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITERS)
def test_a_kill_before_any_file_operation_leaves_old_or_new(tmp_path, write):
  seen = []
  for number in itertools.count():
    path = tmp_path / str(number) / "some.thing"
    write(path, "o")
    died = children.killed_at(number, write, path, "n")
    open_run(path.parent)
    assert names(path.parent) == {"some.thing"}
    seen.append(content_of(path))
    if not died:
      break
  # Once it is new, it stays new.
  assert seen == sorted(seen, reverse=True)
  assert {"o", "n"} == set(seen)


@pytest.fixture(scope="module")
def between_renames(tmp_path_factory):
  """A directory where a child died while "saved" stood aside."""
  path = tmp_path_factory.mktemp("killed") / "saved"
  replace_directory(path, "o")
  children.kill_while_aside(path)
  return path.parent


@pytest.fixture
def killed(between_renames, tmp_path):
  return shutil.copytree(between_renames, tmp_path / "killed")


def test_the_next_write_puts_the_old_directory_back(killed):
  files.write_bytes(killed / "other", b"x")
  assert content_of(killed / "saved") == "o"
  assert names(killed) == {"other", "saved"}


def test_an_error_in_the_next_write_still_leaves_the_old_directory(killed):
  path = killed / "saved"
  with pytest.raises(OSError, match="full"), files.replacing(path):
    raise OSError("full")
  assert content_of(path) == "o"
  assert names(killed) == {"saved"}


def test_the_next_search_puts_the_old_directory_back(killed):
  open_run(killed.parent)
  assert content_of(killed / "saved") == "o"
  assert names(killed) == {"saved"}


def test_the_next_reader_of_the_run_puts_the_old_directory_back(killed):
  directory = run_directory.RunDirectory(killed.parent, writes=False)
  run_directory.RunDirectory(killed.parent).write_declaration({"seed": 1})
  assert directory.read_declaration() == {"seed": 1}
  assert content_of(killed / "saved") == "o"
  assert names(killed) == {"saved"}


def test_what_took_the_place_of_the_old_directory_stays(killed):
  path = killed / "saved"
  fill(path, "u")  # by hand
  open_run(killed)
  assert content_of(path) == "u"
  assert names(killed) == {"saved"}


@pytest.mark.slow
def test_a_killed_recovery_is_ended_by_the_next(between_renames, tmp_path):
  for number in itertools.count():
    run = shutil.copytree(between_renames, tmp_path / str(number))
    died = children.killed_at(number, open_run, run)
    open_run(run)
    assert content_of(run / "saved") == "o"
    assert names(run) == {"saved"}
    if not died:
      break
  assert number > 5


@pytest.mark.slow
def test_a_deleted_result_does_not_come_back_in_halves(tmp_path):
  for number in itertools.count():
    path = tmp_path / str(number) / "saved"
    replace_directory(path, "o")
    died = children.killed_at(number, replace_directory, path, "n")
    shutil.rmtree(path, ignore_errors=True)  # by hand
    open_run(path.parent)
    if path.exists():
      assert content_of(path) == "o"
    if not died:
      break
  assert not path.exists()


def write_slowly(pause, path):
  with files.replacing(path) as new:
    fill(new / "half" if path.suffix == "" else new, "n")
    pause()
    if path.suffix == "":
      (new / "half" / "part").rename(new / "part")
      (new / "half").rmdir()


def sync_slowly(pause, path):
  def fsync(descriptor):
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
      pause()

  os.fsync = fsync
  write_file(path, "n")


@pytest.mark.parametrize(
  ("write", "name"),
  [(write_slowly, "saved"), (write_slowly, "a.keras"), (sync_slowly, "a.tmp")],
)
def test_the_temporaries_of_a_running_process_survive(tmp_path, write, name):
  path = tmp_path / name
  with children.paused(write, path) as child:
    open_run(tmp_path)
    files.write_bytes(tmp_path / "other", b"x")
    replace_directory(tmp_path / "another", "o")
    assert not path.exists()
    child.finish()
  assert content_of(path) == "n"
  assert names(tmp_path) == {name, "another", "other"}


def test_a_killed_export_does_not_stop_later_searches(tmp_path):
  path = tmp_path / "level_01" / "saved"
  with children.paused(write_slowly, path) as child:
    open_run(tmp_path)
    child.kill()
  open_run(tmp_path)
  assert os.listdir(path.parent) == []


def test_files_of_others_are_left_alone(tmp_path):
  theirs = [
    tmp_path / "mine" / ".notes.tmp",
    tmp_path / "mine" / ".tf_lottery-notes.lock",
    tmp_path / "mine" / f".tf_lottery-{'0' * 32}.tmp",
    tmp_path / ".ticket.safetensors.1.tmp",
  ]
  for path in theirs:
    files.write_bytes(path, b"theirs")
  open_run(tmp_path)
  files.write_bytes(tmp_path / "mine" / "more", b"")
  for path in theirs:
    assert path.read_bytes() == b"theirs"


def test_temporary_names_are_never_shared(tmp_path, monkeypatch):
  # As on two hosts that share a disk.
  monkeypatch.setattr(os, "getpid", lambda: 7)
  path = tmp_path / "a.txt"
  with files.replacing(path) as one, files.replacing(path) as two:
    one.write_text("one")
    two.write_text("two")
    assert one.read_text() == "one"
    assert one.suffix == two.suffix == ".txt"
  assert path.read_text() == "one"
  assert names(tmp_path) == {"a.txt"}


def test_threads_may_write_the_same_file(tmp_path):
  path = tmp_path / "a"
  errors = []

  def write(content):
    try:
      for _ in range(30):
        write_file(path, content)
        content_of(path)
    except (AssertionError, OSError) as error:
      errors.append(error)

  threads = [threading.Thread(target=write, args=(c,)) for c in "abc"]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not errors
  assert names(tmp_path) == {"a"}


def write_forever(pause, write, path):
  pause()
  for number in itertools.count():
    # Two writers may get in each other's way.
    with contextlib.suppress(OSError):
      write(path, "ab"[number % 2])


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("writers", [1, 2])
def test_kills_at_random_times_leave_whole_content(tmp_path, write, writers):
  rng = random.Random(0)
  path = tmp_path / "some.thing"
  write(path, "a")
  for _ in range(40):
    with contextlib.ExitStack() as stack:
      running = [
        stack.enter_context(children.paused(write_forever, write, path))
        for _ in range(writers)
      ]
      for child in running:
        child.go_on()
      time.sleep(rng.uniform(0, 0.05))
      for child in running:
        child.kill()
        # With the other child still at work.
        open_run(tmp_path)
    assert content_of(path) in "ab"
    assert names(tmp_path) == {"some.thing"}
