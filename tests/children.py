"""Child processes that stop or die while they write files."""

import contextlib
import multiprocessing
import os
import signal
import sys

from tf_lottery.storage import files

# A fork server imports TensorFlow once, not once for each child.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tf_lottery.storage.files", "tests.children"])
# What Python's auditing reports before it happens.
_CHANGES = {"fcntl.flock", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}


def _die_at(number, function, arguments):
  count = 0

  def hook(event, details):
    nonlocal count
    writes = event == "open" and (details[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    if event in _CHANGES or writes:
      if count == number:
        os.kill(os.getpid(), signal.SIGKILL)
      count += 1

  sys.addaudithook(hook)
  function(*arguments)


def killed_at(number: int, function, *arguments) -> bool:
  """Calls a function in a child that is killed before its n-th file operation.

  Args:
    number: How many times the child may open a file to write, lock, rename,
      make or remove something.
    function: What the child calls; importable by name.
    *arguments: Its arguments.

  Returns:
    Whether the child was killed; else it has ended well.
  """
  child = CONTEXT.Process(target=_die_at, args=(number, function, arguments))
  child.start()
  child.join()
  assert child.exitcode in (0, -signal.SIGKILL)
  return child.exitcode != 0


def _die_while_aside(path):
  def hook(event, details):
    if event == "os.rename" and os.fspath(details[1]) == os.fspath(path):
      os.kill(os.getpid(), signal.SIGKILL)

  sys.addaudithook(hook)
  with files.replacing(path) as new:
    new.mkdir()


def kill_while_aside(path):
  """Kills a child that replaces a directory and has moved the old one aside."""
  child = CONTEXT.Process(target=_die_while_aside, args=(path,))
  child.start()
  child.join()
  assert child.exitcode == -signal.SIGKILL
  assert not path.exists()


class Child:
  """A child that has called `pause`, and waits there."""

  def __init__(self, process, connection):
    self._process = process
    self._connection = connection

  def go_on(self):
    """Ends the pause."""
    self._connection.send(None)

  def finish(self):
    """Ends the pause, and waits for a good end of the child."""
    self.go_on()
    self._process.join()
    assert self._process.exitcode == 0

  def kill(self):
    """Kills it where it waits."""
    self._process.kill()
    self._process.join()


def _run_paused(connection, function, arguments):
  def pause():
    connection.send(None)
    connection.recv()

  function(pause, *arguments)


@contextlib.contextmanager
def paused(function, *arguments):
  """Calls `function(pause, *arguments)` in a child, up to its `pause()`."""
  ours, theirs = CONTEXT.Pipe()
  process = CONTEXT.Process(
    target=_run_paused, args=(theirs, function, arguments)
  )
  process.start()
  theirs.close()
  child = Child(process, ours)
  try:
    ours.recv()
    yield child
  finally:
    child.kill()
