"""Finds the weights in a TFLite file, and stores them in sparse form.

A sparse weight is used in one of two ways. Either a DENSIFY operator makes it
dense when the interpreter is prepared, and the operators that follow use the
dense weight. Or operators compute with the compressed rows; TFLite has such a
sparse kernel for FULLY_CONNECTED, from version 8 of that operator.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from tf_lottery.export import tflite_csr

_IDENTIFIER = b"TFL3"
_OPERATORS = schema.BuiltinOperator
_KINDS = {
  code: name
  for name, code in vars(_OPERATORS).items()
  if not name.startswith("_")
}
# Operators that can use a densified weight -> the input that is the weight.
_WEIGHT_INPUT = {
  "FULLY_CONNECTED": 1,
  "CONV_2D": 1,
  "DEPTHWISE_CONV_2D": 1,
  "TRANSPOSE_CONV": 1,
  "GATHER": 0,  # embeddings
}
_SPARSE_FULLY_CONNECTED = 8
_DTYPES = {
  schema.TensorType.FLOAT32: np.float32,
  schema.TensorType.FLOAT16: np.float16,
  schema.TensorType.INT8: np.int8,
}
_INDEX_VECTORS = {
  np.uint8: (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
  np.uint16: (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
  np.int32: (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
}


@dataclasses.dataclass(frozen=True)
class Use:
  """One use of a weight by an operator.

  Attributes:
    operator: The operator.
    name: The kind of the operator, e.g. `"CONV_2D"`, or `"an output"`.
    is_weight: Whether the operator takes it at the place for its weight.
    is_direct: Whether the weight itself is the operator's input. In float16 it
      is not, because a DEQUANTIZE lies between.
  """

  operator: schema.OperatorT
  name: str
  is_weight: bool
  is_direct: bool

  @property
  def has_sparse_kernel(self) -> bool:
    """Whether TFLite can compute the operator with compressed rows."""
    return self.name == "FULLY_CONNECTED" and self.is_direct


@dataclasses.dataclass(frozen=True)
class FileWeight:
  """A constant of a TFLite file that operators use.

  Attributes:
    name: The name of its tensor.
    array: Its values.
    tensors: Each tensor as a subgraph and an index in it. Signatures that use
      the same weight have a tensor each, and share the values.
    uses: The uses of all these tensors.
  """

  name: str
  array: np.ndarray
  tensors: tuple[tuple[schema.SubGraphT, int], ...]
  uses: tuple[Use, ...]


def is_file(path: pathlib.Path) -> bool:
  """Returns whether a file is a TFLite file, by its first bytes."""
  with open(path, "rb") as file:
    return file.read(8)[4:] == _IDENTIFIER


def read(content: bytes) -> schema.ModelT:
  """Parses the content of a file."""
  return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def write(model: schema.ModelT) -> bytes:
  """Builds the content of a file."""
  model.buffers = [_AlignedBuffer(b.data) for b in model.buffers]
  builder = flatbuffers.Builder(1 << 16)
  builder.Finish(model.Pack(builder), _IDENTIFIER)
  return bytes(builder.Output())


class _AlignedBuffer(schema.BufferT):
  """A buffer aligned to 16 bytes.

  The schema asks for the alignment, and the generated Python code forgets it.
  """

  def Pack(self, builder):
    if self.data is not None:
      builder.Prep(16, len(self.data))
    return super().Pack(builder)


class _SharedSparsity(schema.SparsityParametersT):
  """Sparsity parameters that are written once for several tensors."""

  written = (None, None)

  def Pack(self, builder):
    if self.written[0] is not builder:
      self.written = (builder, super().Pack(builder))
    return self.written[1]


def weights(model: schema.ModelT) -> Iterator[FileWeight]:
  """Yields each constant of a file that has two dimensions or more, once."""
  tensors: dict[int, list[tuple[schema.SubGraphT, int]]] = {}
  for subgraph in model.subgraphs:
    for index, tensor in enumerate(subgraph.tensors):
      if model.buffers[tensor.buffer].data is not None:
        tensors.setdefault(tensor.buffer, []).append((subgraph, index))
  uses = {id(s): _uses(model, s) for s in model.subgraphs}
  for buffer, places in tensors.items():
    subgraph, index = places[0]
    tensor = subgraph.tensors[index]
    shapes = {(s.tensors[i].type, tuple(s.tensors[i].shape)) for s, i in places}
    if tensor.type not in _DTYPES or len(tensor.shape) < 2 or len(shapes) > 1:
      continue
    data = np.frombuffer(
      bytes(model.buffers[buffer].data), _DTYPES[tensor.type]
    )
    yield FileWeight(
      tensor.name.decode(),
      data.reshape(tensor.shape),
      tuple(places),
      tuple(itertools.chain.from_iterable(uses[id(s)][i] for s, i in places)),
    )


def _uses(model: schema.ModelT, subgraph: schema.SubGraphT) -> list[list[Use]]:
  """Lists the uses of each tensor of a subgraph."""
  uses: list[list[Use]] = [[] for _ in subgraph.tensors]
  # Backwards, so that the uses of a DEQUANTIZE's output are known before it.
  for operator in reversed(subgraph.operators):
    kind = kind_of(model, operator)
    for place, index in enumerate(operator.inputs):
      if index < 0:  # an optional input that is absent
        continue
      if kind == "DEQUANTIZE":
        uses[index] += [
          dataclasses.replace(use, is_direct=False)
          for use in uses[operator.outputs[0]]
        ]
      else:
        is_weight = _WEIGHT_INPUT.get(kind) == place
        uses[index].append(Use(operator, kind, is_weight, True))
  for index in subgraph.outputs:
    uses[index].append(Use(schema.OperatorT(), "an output", False, True))
  return uses


def kind_of(model: schema.ModelT, operator: schema.OperatorT) -> str:
  """Returns the name of an operator's kind, e.g. `"CONV_2D"`."""
  return _KINDS[model.operatorCodes[operator.opcodeIndex].builtinCode]


def make_sparse(
  model: schema.ModelT,
  weight: FileWeight,
  rows: tflite_csr.CompressedRows,
  sparse_kernel: bool,
) -> None:
  """Stores a weight as compressed rows.

  Args:
    model: The file. It is changed in place.
    weight: One of its `weights`.
    rows: The same weight, compressed.
    sparse_kernel: Whether its operators compute with the rows. If not, a
      DENSIFY operator is put before them.
  """
  sparsity = _sparsity(rows)
  for subgraph, index in weight.tensors:
    tensor = subgraph.tensors[index]
    model.buffers[tensor.buffer].data = np.frombuffer(
      rows.values.tobytes(), np.uint8
    )
    tensor.sparsity = sparsity
    if not sparse_kernel:
      _densify(model, subgraph, index)
  if sparse_kernel:
    code = _operator_code(
      model, _OPERATORS.FULLY_CONNECTED, _SPARSE_FULLY_CONNECTED
    )
    for use in weight.uses:
      use.operator.opcodeIndex = code


def _densify(
  model: schema.ModelT, subgraph: schema.SubGraphT, index: int
) -> None:
  """Puts a DENSIFY operator between a sparse tensor and its uses."""
  sparse = subgraph.tensors[index]
  dense = schema.TensorT(
    shape=sparse.shape,
    type=sparse.type,
    buffer=0,  # the empty buffer of every file
    name=sparse.name + b"/dense",
    hasRank=sparse.hasRank,
  )
  subgraph.tensors.append(dense)
  for operator in subgraph.operators:
    inputs = np.array(operator.inputs)
    inputs[inputs == index] = len(subgraph.tensors) - 1
    operator.inputs = inputs
  subgraph.operators.insert(
    0,
    schema.OperatorT(
      opcodeIndex=_operator_code(model, _OPERATORS.DENSIFY, 1),
      inputs=np.array([index], np.int32),
      outputs=np.array([len(subgraph.tensors) - 1], np.int32),
      builtinOptionsType=schema.BuiltinOptions.DensifyOptions,
      builtinOptions=schema.DensifyOptionsT(),
    ),
  )


def _operator_code(model: schema.ModelT, code: int, version: int) -> int:
  """Returns the index of an operator's code, which is added if missing."""
  for index, entry in enumerate(model.operatorCodes):
    if (entry.builtinCode, entry.version) == (code, version):
      return index
  model.operatorCodes.append(
    schema.OperatorCodeT(
      deprecatedBuiltinCode=code, builtinCode=code, version=version
    )
  )
  return len(model.operatorCodes) - 1


def _sparsity(rows: tflite_csr.CompressedRows) -> schema.SparsityParametersT:
  """Returns the sparsity parameters of a tensor: all but its values."""
  rank = len(rows.shape)
  dimensions = [
    schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=size)
    for size in rows.shape[:-1]
  ]
  segments_type, segments = _index_vector(rows.segments)
  indices_type, indices = _index_vector(rows.indices)
  dimensions.append(
    schema.DimensionMetadataT(
      format=schema.DimensionType.SPARSE_CSR,
      arraySegmentsType=segments_type,
      arraySegments=segments,
      arrayIndicesType=indices_type,
      arrayIndices=indices,
    )
  )
  if rows.block > 1:
    dimensions.append(
      schema.DimensionMetadataT(
        format=schema.DimensionType.DENSE, denseSize=rows.block
      )
    )
  return _SharedSparsity(
    traversalOrder=np.arange(len(dimensions), dtype=np.int32),
    blockMap=np.array([rank - 1] if rows.block > 1 else [], np.int32),
    dimMetadata=dimensions,
  )


def _index_vector(numbers: np.ndarray) -> tuple[int, Any]:
  kind, vector = _INDEX_VECTORS[numbers.dtype.type]
  return kind, vector(numbers)
