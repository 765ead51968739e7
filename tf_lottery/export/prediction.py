"""What exported files answer, whichever format they have."""

import os
import pathlib
import zipfile
from typing import Any

import numpy as np

from tf_lottery import wrappers
from tf_lottery.export import quiet
from tf_lottery.export import runtimes
from tf_lottery.export import saved_model
from tf_lottery.export import tflite_flatbuffer


def predict(
  path: str | os.PathLike, x: Any, *, batch_size: int = 1000
) -> np.ndarray:
  """What an exported file answers: to measure its accuracy, say.

  Args:
    path: a `.tflite` file (run by LiteRT where it is installed), a SavedModel,
      or a `.keras` file.
    x: examples for the only input of the default signature, of shape
      `(n, ...)`.
    batch_size: how many are asked for at once. Defaults to `1000`; a model of
      a fixed batch size needs that one, and a multiple of it in `x`.

  Returns:
    The first output, of shape `(n, ...)`.

  Raises:
    FileNotFoundError: there is nothing at `path`.
    ValueError: the file is of no known format or has several inputs, or `x`
      is empty.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"There is no exported file at {path}.")
  if path.is_dir() and not (path / "saved_model.pb").is_file():
    raise ValueError(
      f"path must be a file or a SavedModel, and {path} is another directory."
      " A SavedModel may lie in one that is numbered, for TensorFlow Serving."
    )
  if path.is_dir():
    answer = saved_model.caller(path)
  elif tflite_flatbuffer.is_file(path):
    answer = runtimes.caller(path.read_bytes())
  elif zipfile.is_zipfile(path):
    answer = wrappers.load_any(path).predict_on_batch
  else:
    raise ValueError(
      f"path must be a TFLite or .keras file or a SavedModel, got {path}."
    )
  if not len(x):
    raise ValueError("x must hold at least one example, got none.")
  with quiet.quiet():
    parts = [
      np.asarray(answer(x[start : start + batch_size]))
      for start in range(0, len(x), batch_size)
    ]
  return np.concatenate(parts)
