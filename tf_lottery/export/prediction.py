"""Runs an exported file of any format on examples."""

import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_lottery import wrappers
from tf_lottery.export import quiet
from tf_lottery.export import runtimes
from tf_lottery.export import tflite_flatbuffer
from tf_lottery.storage import files


def predict(
  path: str | os.PathLike, x: Any, *, batch_size: int = 1000
) -> np.ndarray:
  """Computes the outputs of an exported file, to measure its accuracy, say.

  Args:
    path: A TFLite file, which LiteRT runs if it is installed, a SavedModel or
      a `.keras` file. The format is known by the content.
    x: Examples for the only input of the default signature, of shape
      `(n, ...)`.
    batch_size: How many examples are computed at once. A model of a fixed
      batch size needs this size, and a multiple of it in `x`. Defaults to
      `1000`.

  Returns:
    The first output, of shape `(n, ...)`.

  Raises:
    FileNotFoundError: There is nothing at `path`.
    ValueError: The file has an unknown format or several inputs, or `x` is
      empty.
  """
  function = _load(pathlib.Path(path))
  if not len(x):
    raise ValueError("x must hold at least one example, got none.")
  with quiet.quiet():
    parts = [
      np.asarray(function(x[start : start + batch_size]))
      for start in range(0, len(x), batch_size)
    ]
  return np.concatenate(parts)


def _load(path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
  if not path.exists():
    files.recover(path.resolve().parent)
  if not path.exists():
    raise FileNotFoundError(f"There is no exported file at {path}.")
  if (path / "saved_model.pb").is_file():
    return runtimes.saved_model_function(path)
  if path.is_dir():
    raise ValueError(
      f"path must be a file or a SavedModel, and {path} is another directory."
      " A SavedModel may be in a numbered directory below it, as TensorFlow"
      " Serving wants it."
    )
  if tflite_flatbuffer.is_file(path):
    return runtimes.tflite_function(path.read_bytes())
  if zipfile.is_zipfile(path):
    return wrappers.load(path).predict_on_batch
  raise ValueError(
    f"path must be a TFLite or .keras file or a SavedModel, got {path}."
  )
