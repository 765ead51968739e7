"""What an exported model can be asked: named functions of named tensors."""

import dataclasses
import re
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

DEFAULT = "serving_default"
# What stands for dimensions that may have any size.
_EXAMPLES = 4
# Of examples that are given, so many are compared.
_GIVEN = 100
_ANY_SIZE = 16


@dataclasses.dataclass(frozen=True)
class Signature:
  """One function that a file will offer.

  Attributes:
    function: traced; takes tensors by name and returns a dictionary.
    examples: input name -> array, to compare the file with the model on.
    compute: the live model on such a dictionary.
  """

  function: Any
  examples: Mapping[str, np.ndarray]
  compute: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]

  @property
  def batch_size(self) -> int | None:
    """How many examples it takes at once; None for any number."""
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
  """The signatures of a Keras model.

  Args:
    model: of either generation, built.
    inputs: examples, as the model takes them: an array, or a list or
      dictionary of arrays. Defaults to numbers drawn at random.
    functions: more signatures: name -> a `tf.function` over the model, with
      an `input_signature`, that returns a tensor or a dictionary.

  Raises:
    ValueError: what the model takes is not known, or a function has no
      `input_signature`.
  """
  signatures = {DEFAULT: _default(model, inputs)}
  for name, function in (functions or {}).items():
    signatures[name] = _of_function(name, function)
  return signatures


def named(model: Any, inputs: Any) -> dict[str, np.ndarray]:
  """Examples as the model takes them, by the names of the default signature.

  Args:
    model: as in `of_model`.
    inputs: an array, or a list or dictionary of arrays. A dictionary goes by
      name where the model takes a list.

  Raises:
    ValueError: an input is missing, unknown, or of another shape.
  """
  specs = _specs(model, inputs)
  flat = tf.nest.flatten(specs)
  names = _unique([spec.name for spec in flat])
  if isinstance(inputs, Mapping) and not isinstance(specs, Mapping):
    if set(inputs) != set(names):
      raise ValueError(
        f"inputs must have the model's names {names}, got {list(inputs)}."
      )
    values = [inputs[name] for name in names]
  else:
    values = tf.nest.flatten(inputs)
  if len(values) != len(flat):
    raise ValueError(
      f"inputs must hold an array for each of the model's {len(flat)} inputs,"
      f" got {len(values)}."
    )
  return {
    name: _checked(name, value, spec)
    for name, value, spec in zip(names, values, flat, strict=True)
  }


def _checked(name: str, value: Any, spec: tf.TensorSpec) -> np.ndarray:
  value = np.asarray(value)
  fixed = spec.shape[0] or 1
  if not spec.shape[1:].is_compatible_with(value.shape[1:]) or (
    value.ndim != spec.shape.rank or len(value) < fixed
  ):
    raise ValueError(
      f"Examples of {name!r} must have the shape {spec.shape}, or be more of"
      f" them, got {value.shape}."
    )
  return value.astype(spec.dtype.as_numpy_dtype)


def _specs(model: Any, inputs: Any) -> Any:
  """What the model takes, nested as it takes it."""
  structure = _input_structure(model)
  if structure is not None:
    return tf.nest.map_structure(_spec_of_tensor, structure)
  if inputs is None:
    raise ValueError(
      f"The model {model.name!r} does not say what it takes, as subclassed"
      " models do not. Give examples by inputs=."
    )
  return tf.nest.map_structure(_spec_of_examples, inputs)


def _default(model: Any, inputs: Any) -> Signature:
  specs = _specs(model, inputs)
  flat = tf.nest.flatten(specs)
  names = _unique([spec.name for spec in flat])

  def call(**tensors):
    ordered = [tensors[name] for name in names]
    outputs = model(tf.nest.pack_sequence_as(specs, ordered), training=False)
    return _named(outputs)

  by_name = dict(zip(names, flat, strict=True))
  if inputs is None:
    return _traced(call, by_name, _drawn(by_name))
  examples = {
    name: value[: by_name[name].shape[0] or _GIVEN]
    for name, value in named(model, inputs).items()
  }
  return _traced(call, by_name, examples)


def _of_function(name: str, function: Any) -> Signature:
  specs = getattr(function, "input_signature", None)
  if specs is None:
    raise ValueError(
      f"The signature {name!r} must be a tf.function with an input_signature,"
      f" got {function!r}."
    )
  flat = tf.nest.flatten(specs)
  names = _unique([spec.name for spec in flat])

  def call(**tensors):
    ordered = [tensors[name] for name in names]
    return _named(function(*tf.nest.pack_sequence_as(specs, ordered)))

  by_name = dict(zip(names, flat, strict=True))
  return _traced(call, by_name, _drawn(by_name))


def _traced(
  call: Callable[..., dict[str, tf.Tensor]],
  specs: Mapping[str, tf.TensorSpec],
  examples: Mapping[str, np.ndarray],
) -> Signature:
  function = tf.function(call, autograph=False).get_concrete_function(
    **{
      name: tf.TensorSpec(spec.shape, spec.dtype, name)
      for name, spec in specs.items()
    }
  )

  def compute(tensors):
    tensors = {name: tf.constant(value) for name, value in tensors.items()}
    return {name: value.numpy() for name, value in call(**tensors).items()}

  return Signature(function, examples, compute)


def _input_structure(model: Any) -> Any:
  """The symbolic inputs as the model takes them; None if it has none."""
  try:
    structure = model.input
  except AttributeError:  # a Keras 3 Sequential
    structure = getattr(model, "inputs", None)
    structure = structure[0] if structure else None
  return structure


def _spec_of_tensor(tensor: Any) -> tf.TensorSpec:
  dtype = tf.as_dtype(tensor.dtype)
  return tf.TensorSpec(tensor.shape, dtype, tensor.name.partition(":")[0])


def _spec_of_examples(array: Any) -> tf.TensorSpec:
  array = np.asarray(array)
  dtype = tf.float32 if array.dtype == np.float64 else array.dtype
  return tf.TensorSpec((None, *array.shape[1:]), dtype)


def _unique(names: Sequence[str | None]) -> list[str]:
  """Valid names of arguments, none twice.

  Names that Keras makes up count what was made before in the process: a
  number stands for those, the same in every process.
  """
  unique: list[str] = []
  for index, name in enumerate(names):
    name = re.sub(r"\W", "_", name or "input")
    if re.fullmatch(r"(keras_tensor|input_layer|input)(_\d+)?", name):
      name = f"input_{index}"
    while name in unique:
      name += "_"
    unique.append(name)
  return unique


def _named(outputs: Any) -> dict[str, tf.Tensor]:
  """The outputs by their own keys, or else by number."""
  if not isinstance(outputs, Mapping):
    flat = tf.nest.flatten(outputs)
    outputs = {f"output_{index}": value for index, value in enumerate(flat)}
  return {str(key): tf.identity(value) for key, value in outputs.items()}


def _drawn(specs: Mapping[str, tf.TensorSpec]) -> dict[str, np.ndarray]:
  """Numbers at random: normal ones, and of integers 0 and 1 alone.

  Those are within any vocabulary.
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
