"""From traced functions to a TFLite file."""

import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery.export import quiet
from tf_lottery.export import signatures as signatures_lib
from tf_lottery.export import verification

DTYPES = ("float32", "float16", "int8")
# What the converter complains of -> the way out.
_WAYS_OUT = {
  "TensorList": (
    "Recurrent layers need unroll=True, or a fixed batch size:"
    " Input(..., batch_size=1)."
  ),
  "f16": (
    "A model of mixed precision is converted from a copy in float32: build it"
    " under that policy and copy its weights, set_weights(get_weights())."
  ),
}
# How many examples calibrate int8.
_CALIBRATION = 256


def convert(
  signatures: Mapping[str, signatures_lib.Signature],
  dtype: str,
  representative: Mapping[str, np.ndarray] | None = None,
  resources: Sequence[Any] = (),
) -> bytes:
  """Converts signatures to a dense TFLite file, quietly.

  Args:
    signatures: what the file will offer.
    dtype: of the weights.
    representative: for int8, examples to calibrate activations by, of the
      default signature; without them only weights are quantised.
    resources: lookup tables and their like, of the model's layers.

  Raises:
    ExportError: the converter refuses; its own words follow.
  """
  module = tf.Module()
  module.variables_used = [
    variable
    for signature in signatures.values()
    for variable in signature.function.variables
  ]
  module.resources = list(resources)
  functions = {name: s.function for name, s in signatures.items()}
  with tempfile.TemporaryDirectory() as directory, quiet.quiet() as said:
    try:
      tf.saved_model.save(module, directory, functions)
      converter = tf.lite.TFLiteConverter.from_saved_model(
        directory, signature_keys=list(functions)
      )
      batch = signatures[signatures_lib.DEFAULT].batch_size or 1
      _set_dtype(converter, dtype, representative, batch)
      return converter.convert()
    except Exception as error:  # the converter raises many types
      words = f"{error}\n{said()}"
      advice = [way for word, way in _WAYS_OUT.items() if word in words]
      lines = ["TensorFlow's converter refuses the model.", *advice, words]
      raise verification.ExportError("\n".join(lines)) from error


def _set_dtype(
  converter: Any,
  dtype: str,
  representative: Mapping[str, np.ndarray] | None,
  batch: int,
) -> None:
  if dtype == "float32":
    return
  converter.optimizations = [tf.lite.Optimize.DEFAULT]
  if dtype == "float16":
    converter.target_spec.supported_types = [tf.float16]
  elif representative is not None:
    count = min(_CALIBRATION, *(len(a) for a in representative.values()))
    converter.representative_dataset = lambda: (
      (
        signatures_lib.DEFAULT,
        {name: array[i : i + batch] for name, array in representative.items()},
      )
      for i in range(0, count - batch + 1, batch)
    )
