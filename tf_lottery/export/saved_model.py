"""SavedModels that are small on disk and dense once loaded.

A pruned weight is stored as its kept values and the code of their places. A
resource densifies it once, when the SavedModel is loaded, by stock TensorFlow
operations: whoever serves it needs no Python of ours. The functions are those
of the model, with that resource in place of the variable.
"""

import gzip
import pathlib
import uuid
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery import coding
from tf_lottery.export import reports
from tf_lottery.export import signatures as signatures_lib
from tf_lottery.export import tflite_encoding
from tf_lottery.export import verification

# Arrays of at most so many bytes are smaller as constants of the graph: a
# variable takes as much in the functions that save and restore.
_CONSTANT_BYTES = 1200
# What one more sparse weight takes in the graph.
_RESOURCE_BYTES = 2500


class SparseWeight(tf.saved_model.experimental.TrackableResource):
  """A variable that a SavedModel does not store, but makes when it is loaded.

  Args:
    value: the dense weight.
    initialize: called when the SavedModel is loaded.
  """

  def __init__(self, value: np.ndarray, initialize: Callable[[], None]):
    super().__init__()
    self.value = value
    self._initialize_all = initialize

  def _create_resource(self):
    return tf.raw_ops.VarHandleOp(
      dtype=self.value.dtype,
      shape=self.value.shape,
      # Two SavedModels in one process must not share a weight.
      shared_name=uuid.uuid4().hex[:16],
    )

  def _initialize(self):
    self._initialize_all()


class SparseWeights:
  """Sparse weights of one dtype, densified together.

  Their kept values lie in one vector, and the code of their places in another.

  Args:
    values: the dense weights.
  """

  def __init__(self, values: Sequence[np.ndarray]):
    flat = np.concatenate([value.ravel() for value in values])
    self.encoding, code = coding.smallest(flat != 0)
    self.code = tf.Variable(code, trainable=False, name="code")
    self.kept = tf.Variable(flat[flat != 0], trainable=False, name="kept")
    first, *others = values
    self.resources = [
      SparseWeight(first, self._densify),
      *(SparseWeight(value, lambda: None) for value in others),
    ]

  def _densify(self) -> None:
    decode = {"gaps": _places_of_gaps, "bits": _places_of_bits}[self.encoding]
    sizes = [resource.value.size for resource in self.resources]
    flat = tf.scatter_nd(
      decode(self.code), self.kept, tf.constant([sum(sizes)], tf.int64)
    )
    parts = tf.split(flat, sizes)
    for resource, part in zip(self.resources, parts, strict=True):
      tf.raw_ops.AssignVariableOp(
        resource=resource.resource_handle,
        value=tf.reshape(part, resource.value.shape),
      )


# Few operations: they are a good part of a small ticket's SavedModel.


def _places_of_gaps(code: tf.Variable) -> tf.Tensor:
  """The places that `coding.to_gaps` coded, as TensorFlow computes them."""
  gaps = tf.cast(code, tf.int64)
  is_kept = gaps < coding.SKIP
  begins = tf.cumsum(gaps + tf.cast(is_kept, tf.int64), exclusive=True)
  return tf.gather(begins + gaps, tf.where(is_kept))


def _places_of_bits(code: tf.Variable) -> tf.Tensor:
  """The places of the ones among bits, the highest of a byte first."""
  shifts = tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8)
  bits = tf.bitwise.right_shift(tf.expand_dims(code, 1), shifts) & 1
  return tf.where(tf.reshape(tf.cast(bits, tf.bool), [-1]))


def write(
  path: pathlib.Path,
  signatures: Mapping[str, signatures_lib.Signature],
  layout: str,
  name_of: Callable[[tf.Variable], str],
  resources: Iterable[Any] = (),
) -> list[reports.WeightReport]:
  """Writes a SavedModel.

  Args:
    path: a directory that does not exist.
    signatures: what it will offer.
    layout: `"auto"`, or `"dense"`: each weight as it is.
    name_of: names a variable for people.
    resources: lookup tables and their like, of the model's layers.

  Returns:
    How each weight was stored.

  Raises:
    ExportError: the model captures something that cannot be saved.
  """
  variables = {
    id(variable.handle): variable
    for signature in signatures.values()
    for variable in signature.function.variables
  }
  module = tf.Module()
  module.resources = list(resources)
  module.variables_stored = []
  sources: dict[int, Any] = {}
  sparse: dict[tf.DType, list[int]] = {}
  rows = []
  for key, variable in variables.items():
    value = variable.numpy()
    reason = _why_dense(value) if layout == "auto" else "the file is dense"
    if not reason:
      sparse.setdefault(variable.dtype, []).append(key)
    elif value.nbytes <= _CONSTANT_BYTES:
      sources[key] = value
    else:
      sources[key] = tf.Variable(value, trainable=False, name="dense")
      module.variables_stored.append(sources[key])
    if value.ndim > 1:
      rows.append(_report(name_of(variable), value, reason))
  for keys in sparse.values():
    weights = SparseWeights([variables[key].numpy() for key in keys])
    module.resources += weights.resources
    module.variables_stored += [weights.code, weights.kept]
    sources |= dict(zip(keys, weights.resources, strict=True))
  functions = {
    name: _with_captures_replaced(signature.function, sources, module)
    for name, signature in signatures.items()
  }
  try:
    tf.saved_model.save(module, str(path), functions)
  except (AssertionError, ValueError) as error:
    raise verification.ExportError(
      f"TensorFlow cannot save the model: {error}"
    ) from error
  return rows


def _why_dense(value: np.ndarray) -> str:
  """Why a variable is stored as it is; empty when it is to be sparse."""
  if not tf.as_dtype(value.dtype).is_floating or value.ndim < 2:
    return "not a weight that is pruned"
  _, code = coding.smallest(value != 0)
  stored = code.nbytes + np.count_nonzero(value) * value.itemsize
  if stored + _RESOURCE_BYTES > tflite_encoding.WORTH * value.nbytes:
    return "sparse would save less than 5 %"
  return ""


def _report(name: str, value: np.ndarray, reason: str) -> reports.WeightReport:
  encoded, code = coding.smallest(value != 0)
  content = value.tobytes()
  if not reason:
    content = code.tobytes() + value[value != 0].tobytes()
  return reports.WeightReport(
    name=name,
    used_by="",
    shape=value.shape,
    density=float(np.count_nonzero(value) / max(value.size, 1)),
    encoding="dense" if reason else encoded,
    reason=reason or "smaller",
    dense_bytes=value.nbytes,
    stored_bytes=len(content),
    gzip_bytes=len(gzip.compress(content, 9, mtime=0)),
  )


def _with_captures_replaced(
  function: Any, sources: Mapping[int, Any], module: tf.Module
) -> Any:
  """The same function of other variables: those that the SavedModel holds.

  Args:
    function: traced.
    sources: id of a captured handle -> a variable, a resource, or an array
      that becomes a constant.
    module: takes a variable where a constant will not do.
  """
  definition = function.graph.as_graph_def()
  specs = function.structured_input_signature[1]
  placeholders = {
    tensor.op.get_attr("_user_specified_name").decode(): tensor
    for tensor in function.inputs[: len(specs)]
  }
  output_names = sorted(function.structured_outputs)
  constants: dict[str, np.ndarray] = {}
  captures = {}
  replaced = set()
  for external, internal in function.graph.captures:
    source = sources.get(id(external))
    reads = internal.consumers()
    if not isinstance(source, np.ndarray):
      captures[internal.name] = _handle(source, external)
    elif all(read.type == "ReadVariableOp" for read in reads):
      constants |= {read.outputs[0].name: source for read in reads}
      replaced |= {internal.op.name, *(read.name for read in reads)}
    else:  # another function reads it
      variable = tf.Variable(source, trainable=False, name="dense")
      module.variables_stored.append(variable)
      captures[internal.name] = variable.handle

  _remove_nodes(definition, replaced)

  def call(**tensors):
    capture = tf.compat.v1.get_default_graph().capture
    inputs = {placeholders[name].name: tensors[name] for name in specs}
    inputs |= {name: tf.constant(value) for name, value in constants.items()}
    inputs |= {name: capture(handle) for name, handle in captures.items()}
    results = tf.graph_util.import_graph_def(
      definition,
      input_map=inputs,
      return_elements=[output.name for output in function.outputs],
      name="",
    )
    for result, output in zip(results, function.outputs, strict=True):
      result.set_shape(output.shape)
    return dict(zip(output_names, results, strict=True))

  return tf.function(call, autograph=False).get_concrete_function(**specs)


def _remove_nodes(definition: Any, names: set[str]) -> None:
  """Takes operations out of a graph; their outputs come from elsewhere."""
  kept = [node for node in definition.node if node.name not in names]
  for node in kept:
    node.input[:] = [
      name
      for name in node.input
      if not (name.startswith("^") and name[1:] in names)
    ]
  definition.ClearField("node")
  definition.node.extend(kept)


def _handle(source: Any, external: tf.Tensor) -> tf.Tensor:
  """What stands for a captured variable; other captures stand as they are."""
  if source is None:
    return external
  is_sparse = isinstance(source, SparseWeight)
  return source.resource_handle if is_sparse else source.handle


def caller(path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
  """The default signature of a SavedModel as a function."""
  loaded = tf.saved_model.load(str(path))
  function = loaded.signatures[signatures_lib.DEFAULT]
  inputs = function.structured_input_signature[1]
  name, spec = verification.only_input(inputs)
  output = next(iter(function.structured_outputs))

  def call(x):
    # By its signatures, so that the SavedModel lives as long as this.
    function = loaded.signatures[signatures_lib.DEFAULT]
    return function(**{name: tf.constant(x, spec.dtype)})[output].numpy()

  return call


def run(
  path: pathlib.Path, examples: Mapping[str, verification.Tensors]
) -> Iterable[tuple[str, dict[str, dict[str, np.ndarray]]]]:
  """Runs all signatures under TensorFlow's two loaders.

  Yields:
    The loader's name, and signature -> output -> array.
  """
  loaded = tf.saved_model.load(str(path))
  outputs = {}
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
  path: pathlib.Path, examples: Mapping[str, verification.Tensors]
) -> dict[str, dict[str, np.ndarray]]:
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
