"""Runs exported files: under TFLite's interpreters and TensorFlow's loaders."""

import importlib
import importlib.util
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery.export import quiet
from tf_lottery.export import signatures
from tf_lottery.export import verification
from tf_lottery.export.signatures import Tensors

# The end of the interpreter's name in reports -> how it finds its kernels.
_RESOLVERS = {
  "": "AUTO",
  " without delegates": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
}


def run_tflite(
  content: bytes, examples: Mapping[str, Tensors]
) -> Iterator[tuple[str, Mapping[str, Tensors]]]:
  """Runs all signatures of a TFLite file under each interpreter.

  Args:
    content: The content of the file.
    examples: Signature -> input -> array.

  Yields:
    The name of the runtime, and signature -> output -> array.

  Raises:
    ExportError: An interpreter refuses the file.
  """
  for name, make, resolvers in _interpreters():
    for suffix, resolver in _RESOLVERS.items():
      runtime = name + suffix
      try:
        interpreter = make(
          model_content=content,
          experimental_op_resolver_type=getattr(resolvers, resolver),
        )
        outputs = {
          signature: interpreter.get_signature_runner(signature)(**inputs)
          for signature, inputs in examples.items()
        }
      except (RuntimeError, ValueError) as error:
        raise verification.ExportError(
          f"{runtime} does not run the file: {str(error).rstrip('.')}. Nothing"
          " was written."
        ) from error
      yield runtime, outputs


def _interpreters() -> Iterator[tuple[str, Any, Any]]:
  """Yields the name, the interpreter's class and the kinds of resolvers."""
  yield (
    "TensorFlow Lite",
    tf.lite.Interpreter,
    tf.lite.experimental.OpResolverType,
  )
  if importlib.util.find_spec("ai_edge_litert") is not None:
    litert = importlib.import_module("ai_edge_litert.interpreter")
    yield "LiteRT", litert.Interpreter, litert.OpResolverType


def tflite_function(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
  """Returns the default signature of a TFLite file as a function.

  It runs under LiteRT if that is installed.

  Raises:
    ValueError: The file has several inputs.
  """
  *_, (_, make, _) = _interpreters()
  with quiet.quiet():
    interpreter = make(model_content=content)
    runner = interpreter.get_signature_runner(signatures.DEFAULT)
  name, details = _only_input(runner.get_input_details())
  output = next(iter(runner.get_output_details()))
  return lambda x: runner(**{name: x.astype(details["dtype"])})[output]


def run_saved_model(
  path: pathlib.Path, examples: Mapping[str, Tensors]
) -> Iterator[tuple[str, Mapping[str, Tensors]]]:
  """Runs all signatures of a SavedModel under both loaders of TensorFlow.

  Args:
    path: The directory of the SavedModel.
    examples: Signature -> input -> array.

  Yields:
    The name of the loader, and signature -> output -> array.
  """
  loaded = tf.saved_model.load(str(path))
  outputs: dict[str, Tensors] = {}
  for name, inputs in examples.items():
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    results = loaded.signatures[name](**tensors)
    outputs[name] = {key: value.numpy() for key, value in results.items()}
  yield "tf.saved_model.load", outputs
  yield (
    "the Session loader, as in TensorFlow Serving",
    _run_in_session(path, examples),
  )


def _run_in_session(
  path: pathlib.Path, examples: Mapping[str, Tensors]
) -> Mapping[str, Tensors]:
  outputs = {}
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    loaded = tf.compat.v1.saved_model.loader.load(
      session, [tf.saved_model.SERVING], str(path)
    )
    for name, inputs in examples.items():
      definition = loaded.signature_def[name]
      feed = {
        definition.inputs[key].name: value for key, value in inputs.items()
      }
      fetch = {key: info.name for key, info in definition.outputs.items()}
      outputs[name] = session.run(fetch, feed)
  return outputs


def saved_model_function(
  path: pathlib.Path,
) -> Callable[[np.ndarray], np.ndarray]:
  """Returns the default signature of a SavedModel as a function.

  Raises:
    ValueError: The SavedModel has several inputs.
  """
  loaded = tf.saved_model.load(str(path))
  function = loaded.signatures[signatures.DEFAULT]
  inputs = function.structured_input_signature[1]
  name, spec = _only_input(inputs)
  output = next(iter(function.structured_outputs))

  def call(x):
    # `function` alone would not keep the SavedModel's variables alive.
    function = loaded.signatures[signatures.DEFAULT]
    return function(**{name: tf.constant(x, spec.dtype)})[output].numpy()

  return call


def _only_input(inputs: Mapping[str, Any]) -> tuple[str, Any]:
  """Returns the name and the description of a signature's only input."""
  if len(inputs) > 1:
    raise ValueError(
      f"predict() needs a file with one input, got {sorted(inputs)}. Load the"
      " file and call its signature."
    )
  return next(iter(inputs.items()))
