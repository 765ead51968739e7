"""Writes plain `.keras` files."""

import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from tf_lottery import wrappers
from tf_lottery.export import signatures
from tf_lottery.export.exportable import Exportable
from tf_lottery.export.reports import ExportReport
from tf_lottery.export.signatures import Tensors
from tf_lottery.export.verification import ExportError
from tf_lottery.storage import files


def to_keras(
  model_or_ticket: Any,
  path: str | os.PathLike,
  *,
  inputs: Any = None,
  make_model: Callable[[], Any] | None = None,
) -> ExportReport:
  """Writes a plain `.keras` file, without masks and optimizer.

  Pruned weights are zeros in dense arrays.

  Args:
    model_or_ticket: See `to_tflite`. Your own classes must be registered with
      Keras, or else the file cannot be loaded.
    path: The file to write. It must end in `.keras`.
    inputs: See `to_tflite`.
    make_model: See `to_tflite`.

  Returns:
    The same as `to_tflite`, without rows for the weights.

  Raises:
    ExportError: The file cannot be loaded, or does not compute what the model
      does. Then nothing is written.
    ValueError: The path does not end in `.keras`, or the arguments do not fit
      each other.
    RuntimeError: A mask is held, and pruned weights are not zero.
  """
  path = pathlib.Path(path)
  files.refuse_directory(path)
  if path.suffix != ".keras":
    raise ValueError(f"path must end in .keras, got {str(path)!r}.")
  source = Exportable(model_or_ticket, make_model, inputs)
  with files.replacing(path) as temporary:
    # A loaded copy is stripped, so that the model keeps its masks.
    source.model.save(temporary)
    wrappers.strip_lottery(_load(temporary)).save(temporary)
    differences = source.compare(_run(source, temporary, inputs))
  return source.report(
    path,
    format="keras",
    differences=differences,
    notes=["Weights are dense arrays with zeros: gzip makes the file small."],
  )


def _load(path: pathlib.Path) -> Any:
  try:
    return wrappers.load(path)
  except TypeError as error:
    raise ExportError(
      "Keras cannot load its own file of the model: register your own classes"
      " with @keras.saving.register_keras_serializable(). Nothing was written."
      f" {str(error)[:300]}"
    ) from error


def _run(
  source: Exportable, path: pathlib.Path, inputs: Any
) -> Iterator[tuple[str, dict[str, Tensors]]]:
  loaded = signatures.of_model(_load(path), inputs)
  outputs: dict[str, Tensors] = {
    name: loaded[name].compute(examples)
    for name, examples in source.examples.items()
  }
  yield "keras.models.load_model", outputs
