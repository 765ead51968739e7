"""TFLite's runtimes: TensorFlow's own, and LiteRT where it is installed."""

import importlib
import importlib.util
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery.export import quiet
from tf_lottery.export import signatures
from tf_lottery.export import verification

# With delegates, and the kernels behind them alone.
_RESOLVERS = {
  "": "AUTO",
  " without delegates": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
}


def _interpreters() -> Iterator[tuple[str, Any, Any]]:
  yield (
    "TensorFlow Lite",
    tf.lite.Interpreter,
    tf.lite.experimental.OpResolverType,
  )
  if importlib.util.find_spec("ai_edge_litert") is not None:
    litert = importlib.import_module("ai_edge_litert.interpreter")
    yield "LiteRT", litert.Interpreter, litert.OpResolverType


def caller(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
  """The default signature of a file as a function, under the best runtime."""
  *_, (_, make, _) = _interpreters()
  with quiet.quiet():
    runner = make(model_content=content).get_signature_runner(
      signatures.DEFAULT
    )
  name, details = verification.only_input(runner.get_input_details())
  output = next(iter(runner.get_output_details()))
  return lambda x: runner(**{name: x.astype(details["dtype"])})[output]


def run(
  content: bytes, examples: Mapping[str, verification.Tensors]
) -> Iterator[tuple[str, dict[str, dict[str, np.ndarray]]]]:
  """Runs all signatures of a file under each runtime.

  Args:
    content: the file.
    examples: signature -> input -> array.

  Yields:
    The runtime's name, and signature -> output -> array.

  Raises:
    ExportError: a runtime refuses the file.
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
