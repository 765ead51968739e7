"""The model that is exported, and the steps that all formats share."""

import functools
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_lottery import tickets
from tf_lottery import wrappers
from tf_lottery.export import quiet
from tf_lottery.export import reports
from tf_lottery.export import signatures
from tf_lottery.export import verification
from tf_lottery.export import weight_names
from tf_lottery.export.signatures import Tensors


class Exportable:
  """A Keras model with traced functions, whose pruned weights are zero.

  Args:
    model_or_ticket: See `to_tflite`.
    make_model: See `to_tflite`.
    inputs: See `to_tflite`.
    functions: Further signatures by name; see `to_tflite`.

  Attributes:
    model: The Keras model.
    signatures: Name -> the `Signature` that the file offers.
    names: The names of the model's weights.

  Raises:
    ValueError: A ticket comes without `make_model`, or the arguments do not
      fit the model.
    RuntimeError: A mask is held, and pruned weights are not zero.
  """

  def __init__(
    self,
    model_or_ticket: Any,
    make_model: Callable[[], Any] | None,
    inputs: Any,
    functions: Mapping[str, Any] | None = None,
  ):
    self._given_ticket: tickets.Ticket | None = None
    self.model = model_or_ticket
    if isinstance(model_or_ticket, tickets.Ticket):
      if make_model is None:
        raise ValueError(
          "A ticket holds weights and no architecture: give make_model=, a"
          " function that returns the model."
        )
      self._given_ticket = model_or_ticket
      self.model = make_model()
      model_or_ticket.apply(self.model)
    self._binding = wrappers.bind(self.model)
    self._binding.check_held()
    self.names = weight_names.WeightNames(self._binding)
    self.signatures = signatures.of_model(self.model, inputs, functions)

  @property
  def examples(self) -> dict[str, Tensors]:
    """Signature -> input -> array: the examples for comparisons."""
    return {name: each.examples for name, each in self.signatures.items()}

  @functools.cached_property
  def resources(self) -> list[Any]:
    """Lookup tables and similar objects, which a SavedModel must track."""
    kind = tf.saved_model.experimental.TrackableResource
    return [
      value
      for layer in wrappers.walk(self.model)
      for value in vars(layer).values()
      if isinstance(value, kind)
    ]

  def ticket(self) -> tickets.Ticket | None:
    """Returns the exported ticket, or a lottery-ready model's, or None."""
    if self._given_ticket is None and self._binding.is_ready:
      return tickets.Ticket.from_model(self.model)
    return self._given_ticket

  def compare(
    self,
    runs: Iterable[tuple[str, Mapping[str, Tensors]]],
    tolerance: float | None = None,
    dtype: str = "float32",
  ) -> tuple[reports.Difference, ...]:
    """Compares a file with the model under each runtime.

    Args:
      runs: Yields the name of each runtime, and signature -> output -> array
        from the file, on `examples`. The output of the process is held back
        meanwhile.
      tolerance: The largest relative difference that is accepted. Defaults to
        the tolerance of the dtype.
      dtype: The dtype of the weights in the file.

    Raises:
      ExportError: The file does not compute what the model does.
    """
    if tolerance is None:
      tolerance = verification.TOLERANCES[dtype]
    expected = {
      name: each.compute(each.examples)
      for name, each in self.signatures.items()
    }
    with quiet.quiet():
      return tuple(
        verification.compare(runtime, expected, got, tolerance)
        for runtime, got in runs
      )

  def report(
    self,
    path: str | os.PathLike,
    *,
    format: str,
    differences: tuple[reports.Difference, ...],
    notes: Iterable[str],
    weights: Iterable[reports.WeightReport] = (),
    dtype: str | None = None,
    dense_bytes: int | None = None,
  ) -> reports.ExportReport:
    """Measures the file or directory that was written, and reports on it.

    The arguments are described in `ExportReport`. Weights may come in any
    order. The dtype defaults to the model's, and `dense_bytes` to the size on
    disk plus the bytes that each weight saves.
    """
    path = pathlib.Path(path)
    parts = [path] if path.is_file() else path.rglob("*")
    contents = [part.read_bytes() for part in parts if part.is_file()]
    file_bytes = sum(map(len, contents))
    weights = self.names.in_order(weights)
    if dense_bytes is None:
      saved = sum(each.dense_bytes - each.stored_bytes for each in weights)
      dense_bytes = file_bytes + saved
    examples = self.signatures[signatures.DEFAULT].examples
    return reports.ExportReport(
      path=path,
      format=format,
      dtype=dtype or self._dtype(),
      file_bytes=file_bytes,
      gzip_bytes=sum(map(reports.gzip_bytes, contents)),
      dense_bytes=dense_bytes,
      signatures={name: str(each) for name, each in self.signatures.items()},
      weights=weights,
      differences=differences,
      examples=min(map(len, examples.values())),
      notes=tuple(notes),
    )

  def _dtype(self) -> str:
    dtypes = {v.dtype.name for v in self._binding.variables.values()}
    return ", ".join(sorted(dtypes))


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
  """Raises ValueError if an argument is not one of its choices."""
  if value not in choices:
    raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}.")


def saves_enough(sparse_bytes: int, dense_bytes: int) -> bool:
  """Whether a sparse form is at least 5 % smaller than the dense one."""
  return sparse_bytes <= 0.95 * dense_bytes
