"""Writes TFLite files whose size follows the density."""

import os
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Literal

from tf_lottery.export import runtimes
from tf_lottery.export import tflite_advice
from tf_lottery.export import tflite_converter
from tf_lottery.export import tflite_encoding
from tf_lottery.export import tflite_flatbuffer
from tf_lottery.export.exportable import Exportable
from tf_lottery.export.exportable import check_choice
from tf_lottery.export.reports import ExportReport
from tf_lottery.export.signatures import named
from tf_lottery.storage import files

DTYPES = ("float32", "float16", "int8")


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

  Pruned weights are stored as compressed rows (CSR). In float32, fully
  connected layers at a density of at most 7 % (20 % if pruned in blocks of
  four inputs) compute with the compressed rows. This takes less memory, and
  less time at batch size 1 on a CPU. All other weights become dense when the
  interpreter is prepared, and the file runs as fast as a dense one.

  Args:
    model_or_ticket: A built Keras model of either generation, lottery-ready or
      plain, whose pruned weights are zero. It is not changed. A `Ticket` needs
      `make_model`, and is exported with its start weights.
    path: The file to write. An existing file is replaced.
    dtype: The dtype of the weights. With `"int8"` they stay dense, because
      LiteRT by default refuses sparse int8 weights. After gzip, an int8 file
      is the smallest.
    representative_data: For int8, examples like `inputs` by which activations
      are quantised too. Without them only weights are quantised.
    layout: `"auto"` stores each weight in its smaller form. `"sparse"` stores
      every weight that has zeros in sparse form, and lets layers compute with
      it at any density. `"dense"` stores all weights in dense form.
    inputs: Examples on which the file is compared with the model, in the
      structure that the model takes: an array, or a list or dictionary of
      arrays. At most 100 are used. Defaults to `representative_data`, or else
      random numbers. Subclassed models need examples, because they do not
      declare their inputs.
    signatures: Further functions that the file offers: name -> a `tf.function`
      that uses the model and has an `input_signature`. The model itself is
      always offered as `"serving_default"`.
    make_model: A function that returns a model of the ticket's architecture.
    tolerance: The largest difference from the model that is accepted, relative
      to the largest magnitude in an output. Defaults to 1e-4 for float32, 1e-2
      for float16 and 0.5 for int8.

  Returns:
    How each weight is stored and why, all sizes, the largest differences
    under each runtime, and whether to expect the file to be faster.

  Raises:
    ExportError: TensorFlow's converter refuses the model, or the file does
      not compute what the model does. Then nothing is written.
    ValueError: An argument is out of range, or the arguments do not fit each
      other.
    RuntimeError: A mask is held, and pruned weights are not zero.

  Example:
  ```python
  report = to_tflite(model, "ticket.tflite", dtype="float16", inputs=x_test)
  print(report)
  ```
  """
  files.refuse_directory(path)
  _check(dtype, layout, representative_data is not None)
  if inputs is None:
    inputs = representative_data
  source = Exportable(model_or_ticket, make_model, inputs, signatures)
  calibration = None
  if representative_data is not None:
    calibration = named(source.model, representative_data)
  dense = tflite_converter.convert(source, dtype, calibration)
  file = tflite_flatbuffer.read(dense)
  weights = tflite_encoding.encode(
    file, "dense" if dtype == "int8" else layout, source.names
  )
  content = tflite_flatbuffer.write(file)
  differences = source.compare(
    runtimes.run_tflite(content, source.examples), tolerance, dtype
  )
  files.write_bytes(path, content)
  is_calibrated = calibration is not None
  notes = [tflite_advice.on_int8(is_calibrated)] if dtype == "int8" else []
  return source.report(
    path,
    format="tflite",
    dtype=dtype,
    dense_bytes=len(dense),
    weights=weights,
    differences=differences,
    notes=notes + tflite_advice.on_speed(file, weights),
  )


def _check(dtype: str, layout: str, has_representative_data: bool) -> None:
  check_choice("dtype", dtype, DTYPES)
  check_choice("layout", layout, tflite_encoding.LAYOUTS)
  if dtype == "int8" and layout == "sparse":
    raise ValueError(
      "layout must be 'auto' or 'dense' for dtype='int8', got 'sparse': by"
      " default LiteRT refuses sparse int8. Use 'auto' and gzip the file."
    )
  if has_representative_data and dtype != "int8":
    raise ValueError(
      f"representative_data calibrates dtype='int8', got dtype={dtype!r}."
    )
