"""Converts traced functions to a dense TFLite file."""

import tempfile
from typing import Any

import tensorflow as tf

from tf_lottery.export import quiet
from tf_lottery.export import signatures
from tf_lottery.export import verification
from tf_lottery.export.exportable import Exportable
from tf_lottery.export.signatures import Tensors

# A word in the converter's complaint -> the way out.
_WAYS_OUT = {
  "TensorList": (
    "Recurrent layers need unroll=True, or a fixed batch size:"
    " Input(..., batch_size=1)."
  ),
  "f16": (
    "A model of mixed precision must be copied to float32 first: build the"
    " same model under the policy float32, and copy the weights by"
    " set_weights(get_weights())."
  ),
}
# At most this many examples calibrate int8.
_CALIBRATION = 256


def convert(
  source: Exportable, dtype: str, calibration: Tensors | None
) -> bytes:
  """Converts all signatures of a model, without output on the terminal.

  Args:
    source: The model.
    dtype: `"float32"`, `"float16"` or `"int8"`, of the weights in the file.
    calibration: For int8, examples by input name of the default signature, by
      which the ranges of activations are measured. Without them only weights
      are quantised.

  Returns:
    The content of the file.

  Raises:
    ExportError: The converter refuses the model. The message repeats its
      words.
  """
  functions = {name: each.function for name, each in source.signatures.items()}
  module = tf.Module()
  module.resources = source.resources
  module.variables_used = [
    variable
    for function in functions.values()
    for variable in function.variables
  ]
  with tempfile.TemporaryDirectory() as directory, quiet.quiet() as output:
    try:
      tf.saved_model.save(module, directory, functions)
      converter = tf.lite.TFLiteConverter.from_saved_model(
        directory, signature_keys=list(functions)
      )
      _set_dtype(converter, source, dtype, calibration)
      return converter.convert()
    except Exception as error:  # the converter raises many types
      words = f"{error}\n{output()}"
      ways_out = [way for word, way in _WAYS_OUT.items() if word in words]
      lines = ["TensorFlow's converter refuses the model.", *ways_out, words]
      raise verification.ExportError("\n".join(lines)) from error


def _set_dtype(
  converter: Any, source: Exportable, dtype: str, calibration: Tensors | None
) -> None:
  if dtype == "float32":
    return
  converter.optimizations = [tf.lite.Optimize.DEFAULT]
  if dtype == "float16":
    converter.target_spec.supported_types = [tf.float16]
  elif calibration is not None:
    batch = source.signatures[signatures.DEFAULT].batch_size or 1
    count = min(_CALIBRATION, *(len(array) for array in calibration.values()))
    converter.representative_dataset = lambda: (
      (
        signatures.DEFAULT,
        {name: array[i : i + batch] for name, array in calibration.items()},
      )
      for i in range(0, count - batch + 1, batch)
    )
