"""Traces the functions that an exported file offers, and finds their inputs."""

import dataclasses
import re
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

# The name of the signature that runs the whole model.
DEFAULT = "serving_default"
# Arrays by the name of the input or output that they belong to.
Tensors = Mapping[str, np.ndarray]
# Random examples: how many, and the size of other dimensions of any size.
_EXAMPLES = 4
_ANY_SIZE = 16
# At most this many of the caller's examples are compared.
_GIVEN = 100


@dataclasses.dataclass(frozen=True)
class Signature:
  """One function that an exported file offers.

  Attributes:
    function: The traced function. It takes tensors by name, and returns a
      dictionary of tensors.
    examples: Input name -> array. On these, the file is compared with the
      model.
    compute: Runs the live model on such a dictionary.
  """

  function: Any
  examples: Tensors
  compute: Callable[[Tensors], dict[str, np.ndarray]]

  @property
  def batch_size(self) -> int | None:
    """The fixed number of examples in a batch, or None for any number."""
    specs = self.function.structured_input_signature[1].values()
    return next(iter(specs)).shape[0]

  def __str__(self) -> str:
    inputs = _describe(self.function.structured_input_signature[1])
    return f"{inputs} -> {_describe(self.function.structured_outputs)}"


def _describe(specs: Mapping[str, Any]) -> str:
  return ", ".join(
    f"{name} {spec.dtype.name} {spec.shape}" for name, spec in specs.items()
  )


def of_model(
  model: Any, inputs: Any = None, functions: Mapping[str, Any] | None = None
) -> dict[str, Signature]:
  """Traces the model itself, and the further functions that a file offers.

  Args:
    model: A built Keras model of either generation.
    inputs: Examples in the structure that the model takes: an array, or a
      list or dictionary of arrays. Defaults to random numbers.
    functions: Name -> a `tf.function` that uses the model, has an
      `input_signature`, and returns a tensor or a dictionary of tensors.

  Returns:
    Name -> signature. The model itself is `"serving_default"`.

  Raises:
    ValueError: The model does not declare its inputs, `inputs` do not fit
      them, or a function has no `input_signature`.
  """
  signatures = {DEFAULT: _default(model, inputs)}
  for name, function in (functions or {}).items():
    signatures[name] = _of_function(name, function)
  return signatures


def named(model: Any, inputs: Any) -> dict[str, np.ndarray]:
  """Names examples as the default signature names its inputs.

  Args:
    model: A built Keras model of either generation.
    inputs: An array, or a list or dictionary of arrays. If the model takes a
      list, a dictionary is matched by the names of the inputs.

  Raises:
    ValueError: An input is missing, is unknown, or has another shape.
  """
  specs = _specs(model, inputs)
  by_name = _by_name(specs)
  if isinstance(inputs, Mapping) and not isinstance(specs, Mapping):
    if set(inputs) != set(by_name):
      raise ValueError(
        f"inputs must have the model's names {list(by_name)}, got"
        f" {list(inputs)}."
      )
    values = [inputs[name] for name in by_name]
  else:
    values = tf.nest.flatten(inputs)
  if len(values) != len(by_name):
    raise ValueError(
      f"inputs must hold an array for each of the model's {len(by_name)}"
      f" inputs, got {len(values)}."
    )
  pairs = zip(by_name.items(), values, strict=True)
  return {name: _checked(name, value, spec) for (name, spec), value in pairs}


def _checked(name: str, value: Any, spec: tf.TensorSpec) -> np.ndarray:
  value = np.asarray(value)
  smallest_batch = spec.shape[0] or 1
  if (
    value.ndim != spec.shape.rank
    or not spec.shape[1:].is_compatible_with(value.shape[1:])
    or len(value) < smallest_batch
  ):
    raise ValueError(
      f"Input {name!r} takes examples of shape {spec.shape}, at least"
      f" {smallest_batch} at a time, got {value.shape}."
    )
  return value.astype(spec.dtype.as_numpy_dtype)


def _specs(model: Any, inputs: Any) -> Any:
  """Returns the input specs in the structure that the model takes."""
  structure = _input_structure(model)
  if structure is not None:
    return tf.nest.map_structure(_spec_of_tensor, structure)
  if inputs is None:
    raise ValueError(
      f"The model {model.name!r} does not declare its inputs, as subclassed"
      " models do not. Give examples by inputs=."
    )
  return tf.nest.map_structure(_spec_of_examples, inputs)


def _default(model: Any, inputs: Any) -> Signature:
  specs = _specs(model, inputs)
  examples = None
  if inputs is not None:
    by_name = _by_name(specs)
    examples = {
      name: value[: by_name[name].shape[0] or _GIVEN]
      for name, value in named(model, inputs).items()
    }
  return _trace(lambda x: model(x, training=False), specs, examples)


def _of_function(name: str, function: Any) -> Signature:
  specs = getattr(function, "input_signature", None)
  if specs is None:
    raise ValueError(
      f"The signature {name!r} must be a tf.function with an input_signature,"
      f" got {function!r}."
    )
  return _trace(lambda arguments: function(*arguments), specs)


def _trace(
  function: Callable[[Any], Any], specs: Any, examples: Tensors | None = None
) -> Signature:
  """Traces a function of one structure of tensors as a signature.

  Args:
    function: Takes tensors in the structure of `specs`.
    specs: A structure of `tf.TensorSpec`.
    examples: See `Signature`. Defaults to random numbers.
  """
  by_name = _by_name(specs)
  if examples is None:
    examples = _random_examples(by_name)

  def call(**tensors):
    ordered = [tensors[name] for name in by_name]
    return _named_outputs(function(tf.nest.pack_sequence_as(specs, ordered)))

  traced = tf.function(call, autograph=False).get_concrete_function(
    **{
      name: tf.TensorSpec(spec.shape, spec.dtype, name)
      for name, spec in by_name.items()
    }
  )

  def compute(tensors):
    tensors = {name: tf.constant(value) for name, value in tensors.items()}
    return {name: value.numpy() for name, value in call(**tensors).items()}

  return Signature(traced, examples, compute)


def _input_structure(model: Any) -> Any:
  """Returns the symbolic inputs in the model's structure, or None."""
  try:
    return model.input
  except AttributeError:  # of a subclassed model, or a Keras 3 Sequential
    inputs = getattr(model, "inputs", None)
    return inputs[0] if inputs else None


def _spec_of_tensor(tensor: Any) -> tf.TensorSpec:
  dtype = tf.as_dtype(tensor.dtype)
  return tf.TensorSpec(tensor.shape, dtype, tensor.name.partition(":")[0])


def _spec_of_examples(array: Any) -> tf.TensorSpec:
  array = np.asarray(array)
  dtype = tf.float32 if array.dtype == np.float64 else array.dtype
  return tf.TensorSpec((None, *array.shape[1:]), dtype)


def _by_name(specs: Any) -> dict[str, tf.TensorSpec]:
  """Flattens specs, and names them by different, valid Python arguments.

  The automatic names of Keras count all layers of the process. They become
  `input_0`, `input_1`, ..., which are the same in every process.
  """
  by_name: dict[str, tf.TensorSpec] = {}
  for index, spec in enumerate(tf.nest.flatten(specs)):
    name = re.sub(r"\W", "_", spec.name or "input")
    if re.fullmatch(r"(keras_tensor|input_layer|input)(_\d+)?", name):
      name = f"input_{index}"
    while name in by_name:
      name += "_"
    by_name[name] = spec
  return by_name


def _named_outputs(outputs: Any) -> dict[str, tf.Tensor]:
  """Names outputs by their own keys, or `output_0`, `output_1`, ..."""
  if not isinstance(outputs, Mapping):
    flat = tf.nest.flatten(outputs)
    outputs = {f"output_{index}": value for index, value in enumerate(flat)}
  return {str(key): tf.identity(value) for key, value in outputs.items()}


def _random_examples(
  specs: Mapping[str, tf.TensorSpec],
) -> dict[str, np.ndarray]:
  """Draws normal numbers for floats, and zeros and ones for integers.

  Zero and one are valid indices of any vocabulary.
  """
  rng = np.random.default_rng(0)
  examples = {}
  for name, spec in specs.items():
    free = [_EXAMPLES] + [_ANY_SIZE] * spec.shape.rank
    shape = [size or free[axis] for axis, size in enumerate(spec.shape)]
    dtype = spec.dtype.as_numpy_dtype
    if spec.dtype.is_floating:
      examples[name] = rng.normal(size=shape).astype(dtype)
    elif spec.dtype.is_integer or spec.dtype.is_bool:
      examples[name] = rng.integers(0, 2, shape).astype(dtype)
    else:
      raise ValueError(
        f"No examples can be drawn for {name!r} of {spec.dtype.name}. Give"
        " examples by inputs=."
      )
  return examples
