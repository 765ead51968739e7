"""Ship a ticket: files whose size follows the density, checked before use.

Each function writes under a temporary name, loads what it wrote as the phone
or the server will, runs it, compares it with the live model, and only then
moves it into place.
"""

import gzip
import math
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Literal

import numpy as np
import tensorflow as tf

from tf_lottery import files
from tf_lottery import tickets
from tf_lottery import wrappers
from tf_lottery.export import quiet
from tf_lottery.export import runtimes
from tf_lottery.export import saved_model
from tf_lottery.export import signatures as signatures_lib
from tf_lottery.export import tflite
from tf_lottery.export import tflite_advice
from tf_lottery.export import tflite_encoding
from tf_lottery.export import tflite_flatbuffer
from tf_lottery.export import verification
from tf_lottery.export import weight_names
from tf_lottery.export.prediction import predict
from tf_lottery.export.reports import Difference
from tf_lottery.export.reports import ExportReport
from tf_lottery.export.reports import WeightReport
from tf_lottery.export.verification import ExportError

# Largest relative difference from the model that is accepted: ten times what is
# usual, for a softmax of large logits magnifies rounding. Quantisation is lossy
# by intent: there, only what is plainly broken is refused.
_TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "int8": 0.5}


def to_tflite(
  model_or_ticket: Any,
  path: str | os.PathLike,
  *,
  dtype: Literal["float32", "float16", "int8"] = "float32",
  representative_data: Any = None,
  layout: Literal["auto", "dense", "sparse"] = "auto",
  inputs: Any = None,
  signatures: Mapping[str, Any] | None = None,
  make_model: Callable[[], Any] | None = None,
  tolerance: float | None = None,
) -> ExportReport:
  """Writes a TFLite file whose size follows the density.

  Pruned weights are stored as compressed rows. In float32, fully connected
  layers at a density of at most 7 % (in blocks of four inputs, 20 %) are
  computed from those rows, which takes less memory and, at batch 1 on a CPU,
  less time; all else is densified when the interpreter is prepared, and runs as
  fast as a dense file.

  Args:
    model_or_ticket: a built Keras model of either generation, lottery-ready
      or plain, whose pruned weights are zero; it is not changed. A `Ticket`
      needs `make_model`, and is written with its start weights.
    path: of the file; what is there is replaced.
    dtype: of the weights. With `"int8"` they stay dense, since LiteRT refuses
      sparse ones by default; after gzip such a file is the smallest.
    representative_data: for int8, examples as `inputs`, by which activations
      are quantised too. Without them only weights are.
    layout: `"auto"` takes the smaller form of each weight; `"sparse"` the
      sparse one wherever there is a zero, and kernels for it at any density;
      `"dense"` the dense one.
    inputs: examples on which the file is compared with the model: an array,
      or a list or dictionary of arrays, as the model takes them. At most 100
      are used. Defaults to numbers drawn at random. Subclassed models, which
      do not say what they take, need them.
    signatures: more functions to offer: name -> `tf.function` over the model,
      with an `input_signature`. The model itself is `"serving_default"`.
    make_model: a function that returns a model of the ticket's architecture.
    tolerance: largest difference from the model that is accepted, relative to
      the largest magnitude in an output. Defaults to 1e-4 for float32, 1e-2
      for float16, 0.5 for int8.

  Returns:
    What was done with each weight and why, all sizes, the largest differences
    under each runtime, and whether to expect a gain of speed.

  Raises:
    ExportError: TensorFlow's converter refuses the model, or the file does
      not compute what the model does. Then nothing is written.
    ValueError: an argument is out of range, or arguments do not fit.
    RuntimeError: a mask is held, and pruned weights are not zero.

  Example:
  ```python
  report = to_tflite(model, "ticket.tflite", dtype="float16", inputs=x_test)
  print(report)
  ```
  """
  files.refuse_directory(path)
  _check_tflite(dtype, layout, representative_data is not None)
  model, _ = _model_of(model_or_ticket, make_model)
  if inputs is None:
    inputs = representative_data
  offered = signatures_lib.of_model(model, inputs, signatures)
  calibration = None
  if representative_data is not None:
    calibration = signatures_lib.named(model, representative_data)
  converted = tflite.convert(offered, dtype, calibration, _resources(model))
  file = tflite_flatbuffer.read(converted)
  finder = weight_names.Finder(wrappers.bind(model))
  form = "dense" if dtype == "int8" else layout
  weights = tflite_encoding.encode(file, form, finder)
  content = tflite_flatbuffer.write(file)
  differences = _compare(
    offered,
    lambda examples: runtimes.run(content, examples),
    _TOLERANCES[dtype] if tolerance is None else tolerance,
  )
  files.write_bytes(path, content)
  return ExportReport(
    path=pathlib.Path(path),
    format="tflite",
    dtype=dtype,
    file_bytes=len(content),
    gzip_bytes=_gzip_bytes(content),
    dense_bytes=len(converted),
    signatures={name: str(value) for name, value in offered.items()},
    weights=finder.in_order(weights),
    differences=differences,
    examples=_count(offered),
    notes=(
      *tflite_advice.on_int8(dtype, calibration),
      *tflite_advice.on_speed(file, weights),
    ),
  )


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

  Pruned weights are stored as kept values and the code of their places, and
  densified once, when it is loaded, by stock TensorFlow operations: whoever
  serves it needs no Python of ours, and calls are those of a dense model. The
  ticket (masks, start weights at kept places, provenance) lies in
  `assets.extra/`, which no server loads; `Ticket.load(path)` reads it.

  Args:
    model_or_ticket: see `to_tflite`.
    path: a directory; a SavedModel that is there is replaced.
    carry_ticket: `True` takes the ticket along that a lottery-ready model
      holds, or the one that is exported; a `Ticket` that one; `False` none.
      It is a second set of weights: leave it out where every byte counts.
    layout: `"auto"` or `"dense"`, each weight as it is.
    inputs: see `to_tflite`.
    signatures: see `to_tflite`.
    make_model: see `to_tflite`.
    tolerance: see `to_tflite`. Defaults to 1e-4.

  Returns:
    As `to_tflite`.

  Raises:
    ExportError: TensorFlow cannot save the model, or what was saved does not
      compute what the model does. Then nothing is written.
    ValueError: there is something else at `path`, or arguments do not fit.
    RuntimeError: a mask is held, and pruned weights are not zero.
  """
  _check_choice("layout", layout, ("auto", "dense"))
  path = _free_for_saved_model(path)
  model, ticket = _model_of(model_or_ticket, make_model)
  if isinstance(carry_ticket, tickets.Ticket):
    ticket = carry_ticket
  offered = signatures_lib.of_model(model, inputs, signatures)
  finder = weight_names.Finder(wrappers.bind(model))
  with files.replacing(path) as temporary:
    with quiet.quiet():
      weights = saved_model.write(
        temporary, offered, layout, finder.of_variable, _resources(model)
      )
    differences = _compare(
      offered,
      lambda examples: saved_model.run(temporary, examples),
      _TOLERANCES["float32"] if tolerance is None else tolerance,
    )
    if carry_ticket and ticket is not None:
      ticket.save(temporary / tickets.IN_SAVED_MODEL)
    contents = [p.read_bytes() for p in temporary.rglob("*") if p.is_file()]
  spared = sum(row.dense_bytes - row.stored_bytes for row in weights)
  return ExportReport(
    path=path,
    format="saved_model",
    dtype=_dtype_of(model),
    file_bytes=sum(map(len, contents)),
    gzip_bytes=sum(map(_gzip_bytes, contents)),
    dense_bytes=sum(map(len, contents)) + spared,
    signatures={name: str(value) for name, value in offered.items()},
    weights=finder.in_order(weights),
    differences=differences,
    examples=_count(offered),
    notes=(
      "Once loaded, weights are dense: calls take the time and the memory of a"
      " dense model.",
      _about_ticket(carry_ticket, ticket),
    ),
  )


def to_keras(
  model_or_ticket: Any,
  path: str | os.PathLike,
  *,
  inputs: Any = None,
  make_model: Callable[[], Any] | None = None,
) -> ExportReport:
  """Writes a plain `.keras` file: zeros, without masks or optimizer.

  Args:
    model_or_ticket: see `to_tflite`. Classes of your own must be registered
      with Keras, or the file could not be loaded.
    path: of the file, ending in `.keras`.
    inputs: see `to_tflite`.
    make_model: see `to_tflite`.

  Returns:
    As `to_tflite`.

  Raises:
    ExportError: the file does not compute what the model does.
    ValueError: the path ends in something else.
    RuntimeError: a mask is held, and pruned weights are not zero.
  """
  path = pathlib.Path(path)
  files.refuse_directory(path)
  if path.suffix != ".keras":
    raise ValueError(f"path must end in .keras, got {str(path)!r}.")
  model, _ = _model_of(model_or_ticket, make_model)
  offered = signatures_lib.of_model(model, inputs)
  with files.replacing(path) as temporary:
    model.save(temporary)
    plain = wrappers.strip_lottery(_loaded(model, temporary))
    plain.save(temporary)

    def run(examples):
      loaded = _loaded(model, temporary)
      reread = signatures_lib.of_model(loaded, inputs)
      yield (
        "keras.models.load_model",
        {name: reread[name].compute(value) for name, value in examples.items()},
      )

    differences = _compare(offered, run, _TOLERANCES["float32"])
    content = temporary.read_bytes()
  return ExportReport(
    path=path,
    format="keras",
    dtype=_dtype_of(model),
    file_bytes=len(content),
    gzip_bytes=_gzip_bytes(content),
    dense_bytes=len(content),
    signatures={name: str(value) for name, value in offered.items()},
    weights=(),
    differences=differences,
    examples=_count(offered),
    notes=("Weights are dense arrays with zeros: gzip makes the file small.",),
  )


def _check_tflite(
  dtype: str, layout: str, has_representative_data: bool
) -> None:
  _check_choice("dtype", dtype, tflite.DTYPES)
  _check_choice("layout", layout, tflite_encoding.LAYOUTS)
  if dtype == "int8" and layout == "sparse":
    raise ValueError(
      "layout='sparse' must not be asked for with dtype='int8': by default"
      " LiteRT refuses sparse int8. Use layout='auto' and gzip the file."
    )
  if has_representative_data and dtype != "int8":
    raise ValueError(
      f"representative_data calibrates dtype='int8', got dtype={dtype!r}."
    )


def _free_for_saved_model(path: str | os.PathLike) -> pathlib.Path:
  path = pathlib.Path(path)
  if path.exists() and not (path / "saved_model.pb").is_file():
    raise ValueError(
      f"path must be free or hold a SavedModel, which is replaced; {path} is"
      " something else. Give another path."
    )
  return path


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
  if value not in choices:
    raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}.")


def _model_of(
  model_or_ticket: Any, make_model: Callable[[], Any] | None
) -> tuple[Any, tickets.Ticket | None]:
  """The model, and the ticket that it holds, if it does."""
  if isinstance(model_or_ticket, tickets.Ticket):
    if make_model is None:
      raise ValueError(
        "A ticket holds weights and no architecture: give make_model=, a"
        " function that returns the model."
      )
    model = make_model()
    model_or_ticket.apply(model)
    return model, model_or_ticket
  binding = wrappers.bind(model_or_ticket)
  binding.check_held()
  ticket = None
  if binding.is_ready:
    ticket = tickets.Ticket.from_model(model_or_ticket)
  return model_or_ticket, ticket


def _compare(
  offered: Mapping[str, signatures_lib.Signature],
  run: Callable[[Mapping[str, verification.Tensors]], Iterable[Any]],
  tolerance: float,
) -> tuple[Difference, ...]:
  """Runs what was written beside the model; raises where they differ."""
  examples = {name: value.examples for name, value in offered.items()}
  expected = {
    name: value.compute(value.examples) for name, value in offered.items()
  }
  with quiet.quiet():
    return tuple(
      verification.compare(runtime, expected, got, tolerance)
      for runtime, got in run(examples)
    )


def _loaded(model: Any, path: pathlib.Path) -> Any:
  try:
    return wrappers.load(model, path)
  except TypeError as error:
    raise ExportError(
      f"Keras cannot load its own file of {model.name!r}: register the classes"
      " of your own with @keras.saving.register_keras_serializable(). Nothing"
      f" was written. {str(error)[:300]}"
    ) from error


def _count(offered: Mapping[str, signatures_lib.Signature]) -> int:
  examples = offered[signatures_lib.DEFAULT].examples
  return min(map(len, examples.values()))


def _resources(model: Any) -> list[Any]:
  """Lookup tables and their like, which a SavedModel must hold too."""
  kind = tf.saved_model.experimental.TrackableResource
  return [
    value
    for layer in wrappers.walk(model)
    for value in vars(layer).values()
    if isinstance(value, kind)
  ]


def _dtype_of(model: Any) -> str:
  dtypes = {v.dtype.name for v in wrappers.bind(model).variables.values()}
  return ", ".join(sorted(dtypes))


def _about_ticket(
  carry_ticket: bool | tickets.Ticket, ticket: tickets.Ticket | None
) -> str:
  if not carry_ticket:
    return "It carries no ticket, as asked."
  if ticket is None:
    return (
      "It carries no ticket: the model stores no initial weights. To carry one,"
      " give the Ticket itself, carry_ticket=ticket."
    )
  return f"It carries its ticket, of density {ticket.density:.2%}."


def _gzip_bytes(content: bytes) -> int:
  return len(gzip.compress(content, 9, mtime=0))
