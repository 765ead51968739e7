"""Writes SavedModels that are small on disk and dense once they are loaded."""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Literal

import numpy as np
import tensorflow as tf

from tf_lottery import tickets
from tf_lottery.export import quiet
from tf_lottery.export import runtimes
from tf_lottery.export import saved_model_graph
from tf_lottery.export.exportable import Exportable
from tf_lottery.export.exportable import check_choice
from tf_lottery.export.exportable import saves_enough
from tf_lottery.export.reports import ExportReport
from tf_lottery.export.reports import WeightReport
from tf_lottery.export.saved_model_weights import SparseWeights
from tf_lottery.export.verification import ExportError
from tf_lottery.storage import coding
from tf_lottery.storage import files

# Arrays of at most this many bytes are stored as constants of the graph,
# because saving and restoring a variable takes about as many.
_CONSTANT_BYTES = 1200
# One more sparse weight adds about this many bytes to the graph.
_RESOURCE_BYTES = 2500


def to_saved_model(
  model_or_ticket: Any,
  path: str | os.PathLike,
  *,
  carry_ticket: bool | tickets.Ticket = True,
  layout: Literal["auto", "dense"] = "auto",
  inputs: Any = None,
  signatures: Mapping[str, Any] | None = None,
  make_model: Callable[[], Any] | None = None,
  tolerance: float | None = None,
) -> ExportReport:
  """Writes a SavedModel that is small on disk and carries the ticket.

  Pruned weights are stored as kept values and the code of their places. Stock
  TensorFlow operations make them dense once, when the SavedModel is loaded. So
  a server needs no Python code of this library, and calls take as long as
  those of a dense model. The ticket (mask, start weights at kept places,
  provenance) lies in `assets.extra/`, which no server loads;
  `Ticket.load(path)` reads it.

  Args:
    model_or_ticket: See `to_tflite`.
    path: The directory to write. An existing SavedModel is replaced.
    carry_ticket: `True` adds the ticket that is exported, or that of a
      lottery-ready model. A `Ticket` adds that ticket. `False` adds none. A
      ticket is a second set of weights: leave it out if every byte counts.
    layout: `"auto"` stores each weight in its smaller form, `"dense"` all
      weights in dense form.
    inputs: See `to_tflite`.
    signatures: See `to_tflite`.
    make_model: See `to_tflite`.
    tolerance: See `to_tflite`. Defaults to 1e-4.

  Returns:
    The same as `to_tflite`.

  Raises:
    ExportError: TensorFlow cannot save the model, or the SavedModel does not
      compute what the model does. Then nothing is written.
    ValueError: There is something else at `path`, or the arguments do not fit
      each other.
    RuntimeError: A mask is held, and pruned weights are not zero.
  """
  check_choice("layout", layout, ("auto", "dense"))
  path = pathlib.Path(path)
  if path.exists() and not (path / "saved_model.pb").is_file():
    raise ValueError(
      f"path must be free or hold a SavedModel, which is replaced; {path} is"
      " something else. Give another path."
    )
  source = Exportable(model_or_ticket, make_model, inputs, signatures)
  ticket, about_ticket = _ticket_to_carry(carry_ticket, source)
  with files.replacing(path) as temporary:
    with quiet.quiet():
      weights = _write(temporary, source, layout)
    differences = source.compare(
      runtimes.run_saved_model(temporary, source.examples), tolerance
    )
    if ticket is not None:
      ticket.save(temporary / tickets.IN_SAVED_MODEL)
  return source.report(
    path,
    format="saved_model",
    weights=weights,
    differences=differences,
    notes=[
      "Once loaded, weights are dense: calls take the time and the memory of a"
      " dense model.",
      about_ticket,
    ],
  )


def _ticket_to_carry(
  carry_ticket: bool | tickets.Ticket, source: Exportable
) -> tuple[tickets.Ticket | None, str]:
  """Returns the ticket, and a sentence about it for the report."""
  if not carry_ticket:
    return None, "It carries no ticket, as asked."
  ticket = source.ticket() if carry_ticket is True else carry_ticket
  if ticket is None:
    return None, (
      "It carries no ticket: the model stores no initial weights. To carry"
      " one, give the Ticket itself, carry_ticket=ticket."
    )
  return ticket, f"It carries its ticket, of density {ticket.density:.2%}."


@dataclasses.dataclass(frozen=True)
class _Storage:
  """The form in which a SavedModel stores one variable of the model.

  Attributes:
    value: The value of the variable.
    form: The form in which it is stored.
    reason: Why it has this form.
  """

  value: np.ndarray
  form: Literal["constant", "variable", "sparse"]
  reason: str

  def report(self, name: str) -> WeightReport:
    """Measures the variable as it is stored."""
    if self.form != "sparse":
      return WeightReport.of(
        name, self.value, [self.value], "dense", self.reason
      )
    encoding, code = coding.smallest(self.value != 0)
    kept = self.value[self.value != 0]
    return WeightReport.of(
      name, self.value, [code, kept], encoding, self.reason
    )


def _write(
  path: pathlib.Path, source: Exportable, layout: str
) -> list[WeightReport]:
  """Writes a SavedModel, and reports how each weight is stored."""
  functions = {name: each.function for name, each in source.signatures.items()}
  variables = {
    id(variable.handle): variable
    for function in functions.values()
    for variable in function.variables
  }
  storages = {
    handle: _choose(
      variable.numpy(),
      layout,
      all(
        saved_model_graph.is_only_read(function, handle)
        for function in functions.values()
      ),
    )
    for handle, variable in variables.items()
  }
  module, replacements = _store(storages)
  module.resources += source.resources
  try:
    tf.saved_model.save(
      module,
      str(path),
      {
        name: saved_model_graph.with_variables_replaced(function, replacements)
        for name, function in functions.items()
      },
    )
  except (AssertionError, ValueError) as error:
    raise ExportError(f"TensorFlow cannot save the model: {error}") from error
  return [
    storage.report(source.names.of_variable(variables[handle]))
    for handle, storage in storages.items()
    if storage.value.ndim > 1
  ]


def _choose(value: np.ndarray, layout: str, is_only_read: bool) -> _Storage:
  """Chooses the form in which a variable is stored."""
  reason = _why_dense(value) if layout == "auto" else "the file is dense"
  if not reason:
    return _Storage(value, "sparse", "smaller")
  if is_only_read and value.nbytes <= _CONSTANT_BYTES:
    return _Storage(value, "constant", reason)
  return _Storage(value, "variable", reason)


def _why_dense(value: np.ndarray) -> str:
  """Says why a variable is stored in dense form; empty if it is sparse."""
  if not tf.as_dtype(value.dtype).is_floating or value.ndim < 2:
    return "not a weight that is pruned"
  _, code = coding.smallest(value != 0)
  stored = code.nbytes + int(np.count_nonzero(value)) * value.itemsize
  if not saves_enough(stored + _RESOURCE_BYTES, value.nbytes):
    return "sparse would save less than 5 %"
  return ""


def _store(
  storages: Mapping[int, _Storage],
) -> tuple[tf.Module, dict[int, np.ndarray | tf.Tensor]]:
  """Makes the variables of a SavedModel.

  Args:
    storages: `id` of the handle of each variable of the model -> its storage.

  Returns:
    The module that tracks the new variables and resources, and what replaces
    each variable in the functions.
  """
  module = tf.Module()
  module.stored = []
  module.resources = []
  replacements: dict[int, np.ndarray | tf.Tensor] = {}
  sparse_by_dtype: dict[np.dtype, list[int]] = {}
  for handle, storage in storages.items():
    if storage.form == "constant":
      replacements[handle] = storage.value
    elif storage.form == "variable":
      variable = tf.Variable(storage.value, trainable=False, name="dense")
      module.stored.append(variable)
      replacements[handle] = variable.handle
    else:
      sparse_by_dtype.setdefault(storage.value.dtype, []).append(handle)
  for handles in sparse_by_dtype.values():
    weights = SparseWeights([storages[handle].value for handle in handles])
    module.stored += weights.variables
    module.resources += weights.resources
    replacements |= dict(zip(handles, weights.handles, strict=True))
  return module, replacements
