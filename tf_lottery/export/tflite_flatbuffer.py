"""TFLite's flatbuffer: the weights in it, and how one is made sparse.

A sparse weight takes one of two ways. *Densified*: a DENSIFY operator expands
it when the interpreter is prepared, and what follows sees the dense weight.
*Direct*: the operator reads the compressed rows; of TFLite's kernels that is
FULLY_CONNECTED, from version 8 on.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from tf_lottery.export import tflite_csr

_IDENTIFIER = b"TFL3"
_OPERATORS = schema.BuiltinOperator
_FORMATS = schema.DimensionType
_NAMES = {
  code: name
  for name, code in vars(_OPERATORS).items()
  if not name.startswith("_")
}
# Where an operator takes its weight, for those that may follow a DENSIFY.
_WEIGHT_INPUT = {
  _OPERATORS.FULLY_CONNECTED: 1,
  _OPERATORS.CONV_2D: 1,
  _OPERATORS.DEPTHWISE_CONV_2D: 1,
  _OPERATORS.TRANSPOSE_CONV: 1,
  _OPERATORS.GATHER: 0,  # embeddings
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
  """One operator that takes a weight, in a file or behind a DEQUANTIZE.

  Attributes:
    operator: the operator, as the file has it.
    name: of its kind, e.g. `"CONV_2D"`.
    is_weight: whether it takes the weight as such, in the place for it.
    is_direct: whether the weight is its own input: no DEQUANTIZE between.
  """

  operator: schema.OperatorT
  name: str
  is_weight: bool
  is_direct: bool

  @property
  def has_sparse_kernel(self) -> bool:
    """Whether TFLite could run it on compressed rows."""
    options = self.operator.builtinOptions
    return (
      self.name == "FULLY_CONNECTED"
      and self.is_direct
      and options.weightsFormat == 0
    )


@dataclasses.dataclass(frozen=True)
class Weight:
  """A constant of a file that operators compute with.

  Attributes:
    name: of its tensor.
    array: its values.
    tensors: `(subgraph, index of the tensor)`; several share one buffer where
      several signatures use a weight.
    uses: the operators that take it.
  """

  name: str
  array: np.ndarray
  tensors: tuple[tuple[schema.SubGraphT, int], ...]
  uses: tuple[Use, ...]


def is_file(path: pathlib.Path) -> bool:
  """Whether a file is one of TFLite's, by what it holds."""
  with open(path, "rb") as file:
    return file.read(8)[4:] == _IDENTIFIER


def read(content: bytes) -> schema.ModelT:
  """The file as objects."""
  return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def write(model: schema.ModelT) -> bytes:
  """The objects as a file, each buffer aligned as the converter does it."""
  model.buffers = [_AlignedBuffer(b.data) for b in model.buffers]
  builder = flatbuffers.Builder(1 << 16)
  builder.Finish(model.Pack(builder), _IDENTIFIER)
  return bytes(builder.Output())


class _AlignedBuffer(schema.BufferT):
  """The schema asks for 16 bytes, and its generated Python forgets it."""

  def Pack(self, builder):
    if self.data is not None:
      builder.Prep(16, len(self.data))
    return super().Pack(builder)


class _SharedSparsity(schema.SparsityParametersT):
  """Written once, however many tensors it belongs to."""

  written = (None, None)

  def Pack(self, builder):
    if self.written[0] is not builder:
      self.written = (builder, super().Pack(builder))
    return self.written[1]


def weights(model: schema.ModelT) -> Iterator[Weight]:
  """Yields the file's constants of two dimensions or more, each once."""
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
    yield Weight(
      tensor.name.decode(),
      data.reshape(tensor.shape),
      tuple(places),
      tuple(itertools.chain.from_iterable(uses[id(s)][i] for s, i in places)),
    )


def _uses(model: schema.ModelT, subgraph: schema.SubGraphT) -> list[list[Use]]:
  """For each tensor of a subgraph the operators that take it."""
  uses: list[list[Use]] = [[] for _ in subgraph.tensors]
  # Backwards, so that what follows a DEQUANTIZE is known when it is met.
  for operator in reversed(subgraph.operators):
    code = _code(model, operator)
    for place, index in enumerate(operator.inputs):
      if index < 0:  # an optional input that is absent
        continue
      is_weight = _WEIGHT_INPUT.get(code) == place
      if code == _OPERATORS.DEQUANTIZE:
        behind = uses[operator.outputs[0]]
        uses[index] += [
          dataclasses.replace(use, is_direct=False) for use in behind
        ]
      else:
        uses[index].append(Use(operator, _NAMES[code], is_weight, True))
  for index in subgraph.outputs:
    uses[index].append(Use(schema.OperatorT(), "an output", False, True))
  return uses


def _code(model: schema.ModelT, operator: schema.OperatorT) -> int:
  entry = model.operatorCodes[operator.opcodeIndex]
  # Old files have the first only, which cannot hold codes above 127.
  return max(entry.deprecatedBuiltinCode, entry.builtinCode)


@dataclasses.dataclass(frozen=True)
class Convolution:
  """One convolution of a file.

  Attributes:
    kernel: height and width.
    stride: the same.
    channels: of its input.
    is_depthwise: whether each channel has its own filter.
  """

  kernel: tuple[int, int]
  stride: tuple[int, int]
  channels: int
  is_depthwise: bool

  def __str__(self) -> str:
    (height, width), (down, right) = self.kernel, self.stride
    return (
      f"{height}x{width} with stride {down}x{right} on {self.channels} channels"
    )


def convolutions(model: schema.ModelT) -> list[Convolution]:
  """The convolutions of a file, in the order in which they run."""
  found = []
  for subgraph in model.subgraphs:
    for operator in subgraph.operators:
      code = _code(model, operator)
      if code in (_OPERATORS.CONV_2D, _OPERATORS.DEPTHWISE_CONV_2D):
        options = operator.builtinOptions
        _, height, width, channels = subgraph.tensors[operator.inputs[1]].shape
        found.append(
          Convolution(
            (int(height), int(width)),
            (options.strideH, options.strideW),
            int(channels),
            code == _OPERATORS.DEPTHWISE_CONV_2D,
          )
        )
  return found


def make_sparse(
  model: schema.ModelT,
  weight: Weight,
  rows: tflite_csr.CompressedRows,
  direct: bool,
) -> None:
  """Stores a weight as compressed rows.

  Args:
    model: the file, changed in place.
    weight: one of its `weights`.
    rows: the same weight, compressed.
    direct: whether its operators read the rows; otherwise a DENSIFY precedes
      them.
  """
  sparsity = _sparsity(rows)
  for subgraph, index in weight.tensors:
    tensor = subgraph.tensors[index]
    model.buffers[tensor.buffer].data = np.frombuffer(
      rows.values.tobytes(), np.uint8
    )
    tensor.sparsity = sparsity
    if not direct:
      _densify(model, subgraph, index)
  if direct:
    code = _operator_code(
      model, _OPERATORS.FULLY_CONNECTED, _SPARSE_FULLY_CONNECTED
    )
    for use in weight.uses:
      use.operator.opcodeIndex = code


def _densify(
  model: schema.ModelT, subgraph: schema.SubGraphT, index: int
) -> None:
  """Puts a DENSIFY between a sparse tensor and all that take it."""
  sparse = subgraph.tensors[index]
  dense = schema.TensorT(
    shape=sparse.shape,
    type=sparse.type,
    buffer=0,  # by convention the empty one
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
  """The index of an operator's code in the file; added where it is missing."""
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
  rank = len(rows.shape)
  dimensions = [
    schema.DimensionMetadataT(format=_FORMATS.DENSE, denseSize=size)
    for size in rows.shape[:-1]
  ]
  segments_type, segments = _index_vector(rows.segments)
  indices_type, indices = _index_vector(rows.indices)
  dimensions.append(
    schema.DimensionMetadataT(
      format=_FORMATS.SPARSE_CSR,
      arraySegmentsType=segments_type,
      arraySegments=segments,
      arrayIndicesType=indices_type,
      arrayIndices=indices,
    )
  )
  if rows.block > 1:
    dimensions.append(
      schema.DimensionMetadataT(format=_FORMATS.DENSE, denseSize=rows.block)
    )
  return _SharedSparsity(
    traversalOrder=np.arange(len(dimensions), dtype=np.int32),
    blockMap=np.array([rank - 1] if rows.block > 1 else [], np.int32),
    dimMetadata=dimensions,
  )


def _index_vector(numbers: np.ndarray):
  kind, vector = _INDEX_VECTORS[numbers.dtype.type]
  return kind, vector(numbers)
