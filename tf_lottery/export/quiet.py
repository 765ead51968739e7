"""TensorFlow's converter, loaders and interpreters, without their chatter."""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[Callable[[], str]]:
  """Holds back what the process prints, from Python and from C++.

  Also what its other threads print meanwhile.

  Yields:
    A function that returns what was printed.
  """
  with tempfile.TemporaryFile("w+b") as file:

    def said() -> str:
      _flush()
      file.seek(0)
      return file.read().decode(errors="replace")[-4000:]

    kept = {}
    _flush()
    for descriptor in (1, 2):
      kept[descriptor] = os.dup(descriptor)
      os.dup2(file.fileno(), descriptor)
    try:
      with warnings.catch_warnings():
        # tf.lite.Interpreter warns that it is to give way to LiteRT's.
        warnings.simplefilter("ignore")
        yield said
    finally:
      _flush()
      for descriptor, original in kept.items():
        os.dup2(original, descriptor)
        os.close(original)


def _flush() -> None:
  for stream in (sys.stdout, sys.stderr):
    if stream is not None:
      stream.flush()
