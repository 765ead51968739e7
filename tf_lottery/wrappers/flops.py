"""Counts the floating-point operations of a model's forward pass.

The model computes the outputs of one example, operation by operation, and each
matrix product and convolution is counted as it happens. So layers that are
called several times, loops over time, subclassed models and layers of a user's
own are all counted as what they compute. Which weight an operation multiplies
by is found by following the values from the variables.
"""

import contextlib
import dataclasses
import itertools
import math
import weakref
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_callbacks
from tensorflow.python.framework import op_def_registry

from tf_lottery.masks import Mask
from tf_lottery.wrappers import variables
from tf_lottery.wrappers.binding import Binding
from tf_lottery.wrappers.flop_formulas import FORMULAS
from tf_lottery.wrappers.flop_formulas import size

# Operations whose result depends on the shapes of their inputs alone.
_OF_SHAPES = ("OnesLike", "Rank", "Shape", "ShapeN", "Size", "ZerosLike")
# Operations that run others which are not seen.
_OPAQUE = ("PartitionedCall", "StatefulPartitionedCall", "XlaLaunch")


@dataclasses.dataclass(frozen=True)
class Flops:
  """The floating-point operations of one example's forward pass.

  Matrix products and convolutions are counted, also those of two activations,
  as in attention. A multiply-add counts 2. As TensorFlow's profiler does, a
  convolution is counted as if its padding were examples, too. Sums,
  activations, normalisation and look-ups in embeddings are not counted; nor
  are computations of weights alone, which are done once a batch.

  Attributes:
    multiply_adds: Number of multiply-adds.
    uses: Key -> in how many of them each entry of this weight takes part: the
      number of output positions of a convolution, or of time steps. Keys of
      weights that no matrix product or convolution uses are missing.
  """

  multiply_adds: float
  uses: Mapping[str, float]

  def forward(self, mask: Mask | None = None) -> float:
    """Returns the number of operations, at least 0.

    Args:
      mask: Multiplications by weights that it prunes are left out. Defaults to
        `None`: all are counted.

    >>> Flops(6.0, {"0/kernel": 1.0}).forward()
    12.0
    >>> mask = Mask({"0/kernel": np.array([[True, False, False]])})
    >>> Flops(6.0, {"0/kernel": 1.0}).forward(mask)
    8.0
    """
    saved = sum(
      self.uses.get(key, 0) * (kept.size - int(np.count_nonzero(kept)))
      for key, kept in (mask or {}).items()
    )
    return 2.0 * (self.multiply_adds - saved)


def count(binding: Binding, x: Any) -> Flops:
  """Counts the operations of a model's forward pass, as in an evaluation.

  The model's weights, statistics and random states are afterwards what they
  were.

  Args:
    binding: The binding of the model.
    x: Inputs of the model for at least one example: arrays or tensors.

  Raises:
    ValueError: The model runs functions that are compiled already, such as
      those of a SavedModel, of which the operations are not seen.
  """
  x = tf.nest.map_structure(_tensor, x)
  first, *_ = tf.nest.flatten(x)
  before = binding.read(random_states=True)
  recording = _Recording(binding)
  recording.begin(tf.nest.flatten(x, expand_composites=True))
  try:
    with _watched(recording.note):
      outputs = binding.model(x)
      outputs = [*tf.nest.flatten(outputs), *binding.model.losses]
  finally:
    after = binding.read(random_states=True)
    changed = [
      key
      for key, value in before.items()
      if not np.array_equal(
        value, after[key], equal_nan=value.dtype.kind == "f"
      )
    ]
    binding.write({key: before[key] for key in changed})
  return recording.flops(outputs, int(first.shape[0]))


def _tensor(value: Any) -> Any:
  is_array = isinstance(value, np.ndarray)
  return tf.convert_to_tensor(value) if is_array else value


@contextlib.contextmanager
def _watched(note: Callable[..., None]) -> Iterator[None]:
  """Has every operation noted, also those in functions and loops."""
  before = tf.config.functions_run_eagerly()
  tf.config.run_functions_eagerly(True)
  op_callbacks.add_op_callback(note)
  try:
    yield
  finally:
    op_callbacks.remove_op_callback(note)
    tf.config.run_functions_eagerly(before)


@dataclasses.dataclass(frozen=True)
class _Value:
  """What is known of a tensor.

  Attributes:
    number: A number that no other tensor has.
    tensor: A weak reference to it, because Python may use its id again.
    of_data: Whether it depends on the inputs of the model.
    keys: If it does not, the weights that it depends on.
  """

  number: int
  tensor: weakref.ref
  of_data: bool = False
  keys: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class _Operation:
  """One operation: its inputs and outputs by number, and what it multiplies.

  Attributes:
    inputs: Its inputs.
    outputs: Its outputs.
    multiply_adds: What it computes.
    keys: The weights that it multiplies by.
    keeps: If it moves values only, the fraction of them that it keeps.
  """

  inputs: tuple[int, ...]
  outputs: tuple[int, ...]
  multiply_adds: float
  keys: frozenset[str]
  keeps: float | None = None


class _Recording:
  """The operations of a forward pass, and the weights that they multiply by."""

  def __init__(self, binding: Binding):
    # Statistics and states of layers are no weights, and biases are added.
    self._weights = {
      weight.key: binding.variables[weight.key]
      for weight in binding.report
      if weight.trainable and not weight.role.startswith("bias")
    }
    self._key_of_handle = {
      id(replica.handle): key
      for key, variable in self._weights.items()
      for replica in variables.replicas(variable)
    }
    self._keys_of_shape: dict[tuple[int, ...], list[str]] = {}
    for key, variable in self._weights.items():
      shape = tuple(variable.shape)
      self._keys_of_shape.setdefault(shape, []).append(key)
    self._values: dict[int, _Value] = {}
    self._numbers = itertools.count()
    self._operations: list[_Operation] = []
    self._unseen = ""  # a function that cannot be looked into

  def begin(self, inputs: Sequence[tf.Tensor]) -> None:
    """Notes the inputs of the model."""
    for tensor in inputs:
      self._add(tensor, of_data=True)

  def note(self, op_type, inputs, attrs, outputs, op_name=None, graph=None):
    """Notes an operation; TensorFlow calls this after each."""
    del op_name
    name = op_type.decode() if isinstance(op_type, bytes) else op_type
    if graph is not None:
      return
    # Functions are called by names of their own.
    if name in _OPAQUE or op_def_registry.get(name) is None:
      self._unseen = name  # Keras would put its own words around an error.
      return
    if name == "ReadVariableOp":
      key = self._key_of_handle.get(id(inputs[0]))
      self._add(outputs[0], keys=frozenset() if key is None else {key})
      return
    multiply_adds, factors = 0.0, []
    if name in FORMULAS:
      named = dict(zip(attrs[::2], attrs[1::2], strict=True))
      multiply_adds, factors = FORMULAS[name](inputs, outputs, named)
      factors = [self._find(factor) for factor in factors]
    values = [self._find(i) for i in inputs if name not in _OF_SHAPES]
    used = frozenset().union(*(factor.keys for factor in factors))
    fixed = sum(bool(factor.keys) for factor in factors)
    of_data = any(value.of_data for value in values)
    if not of_data and fixed != 1:
      # Of weights alone, so that it is done once a batch, or of constants.
      multiply_adds = 0.0
    of_data = of_data or multiply_adds > 0
    keys = frozenset().union(*(value.keys for value in values))
    added = [
      self._add(output, of_data, frozenset() if of_data else keys)
      for output in outputs
    ]
    numbers = tuple(value.number for value in values)
    self._operations.append(
      _Operation(
        numbers,
        tuple(value.number for value in added),
        multiply_adds,
        used,
        _keeps(name, inputs, outputs),
      )
    )

  def flops(self, outputs: Sequence[tf.Tensor], examples: int) -> Flops:
    """Sums up the operations that the outputs need.

    Keras computes the first time step of some loops twice, to learn the shapes
    of its outputs. A compiled program leaves that out.

    Args:
      outputs: The outputs of the model.
      examples: The number of examples.
    """
    outputs = tf.nest.flatten(outputs, expand_composites=True)
    found = [self._find(output) for output in outputs]
    if self._unseen or not any(value.of_data for value in found):
      raise ValueError(
        f"the operations inside of {self._unseen or 'a layer'} are not seen. A"
        " layer of a SavedModel is such a layer."
      )
    needed = {value.number for value in found}
    kept: dict[int, float] = {}  # the fraction of a tensor that is used
    total = 0.0
    sums = dict.fromkeys(self._weights, 0.0)
    for operation in reversed(self._operations):
      if needed.isdisjoint(operation.outputs):
        continue
      needed.update(operation.inputs)
      fraction = kept.get(operation.outputs[0], 1.0)
      if operation.keeps is not None:
        kept[operation.inputs[0]] = fraction * operation.keeps
      multiply_adds = fraction * operation.multiply_adds
      total += multiply_adds
      # Parts of a weight, or several weights that were joined, share it.
      shared = sum(self._size(key) for key in operation.keys)
      for key in operation.keys:
        sums[key] += multiply_adds / shared
    uses = {key: value / examples for key, value in sums.items() if value}
    return Flops(total / examples, uses)

  def _size(self, key: str) -> int:
    return math.prod(self._weights[key].shape)

  def _add(
    self,
    tensor: tf.Tensor,
    of_data: bool = False,
    keys: Collection[str] = (),
  ) -> _Value:
    value = _Value(
      next(self._numbers), weakref.ref(tensor), of_data, frozenset(keys)
    )
    self._values[id(tensor)] = value
    return value

  def _find(self, tensor: tf.Tensor) -> _Value:
    """Returns what is known of a tensor.

    TensorFlow does not tell when some operations read a variable. So a tensor
    that no operation has made is a weight if it has its shape and values; else
    it is a constant.
    """
    value = self._values.get(id(tensor))
    if value is not None and value.tensor() is tensor:
      return value
    for key in self._keys_of_shape.get(tuple(tensor.shape), ()):
      variable = variables.replicas(self._weights[key])[0]
      if variable.dtype == tensor.dtype and np.array_equal(
        variable.numpy(), tensor.numpy()
      ):
        return self._add(tensor, keys={key})
    return self._add(tensor)


def _keeps(name: str, inputs: Sequence, outputs: Sequence) -> float | None:
  """The fraction of values that an operation keeps, if it moves them only.

  A dilated convolution is a plain one over a batch of images that are filled
  up to equal sizes; what that adds is cut off when they are put together.
  """
  if name == "BatchToSpaceND":
    return size(outputs[0]) / size(inputs[0])
  return 1.0 if name == "Squeeze" else None
