"""Keeps the output of TensorFlow's converter and runtimes off the terminal."""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[Callable[[], str]]:
  """Holds back all output of the process, from Python and from C++.

  This includes the output of other threads.

  Yields:
    A function that returns the end of the output so far.
  """
  with tempfile.TemporaryFile("w+b") as file:

    def output() -> str:
      _flush()
      file.seek(0)
      return file.read().decode(errors="replace")[-4000:]

    terminals = {}
    _flush()
    for descriptor in (1, 2):
      terminals[descriptor] = os.dup(descriptor)
      os.dup2(file.fileno(), descriptor)
    try:
      with warnings.catch_warnings():
        # tf.lite.Interpreter warns that LiteRT will replace it.
        warnings.simplefilter("ignore")
        yield output
    finally:
      _flush()
      for descriptor, terminal in terminals.items():
        os.dup2(terminal, descriptor)
        os.close(terminal)


def _flush() -> None:
  for stream in (sys.stdout, sys.stderr):
    if stream is not None:
      stream.flush()
