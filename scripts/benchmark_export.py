"""The competitors of `benchmark.py --suite=export`.

Tickets are trained first, briefly, on Fashion-MNIST where it is prepared and on
5,000 images of MNIST otherwise: LeNet-300-100, an MLP of 784-1024-1024-10, and
Conv-4 at the size that it has for CIFAR-10 (images padded to 32x32x3). Their
files are measured; those of the MLP and SavedModels of LeNet are also timed, in
an interpreter with one thread, at batch 1.
"""

import dataclasses
import functools
import importlib
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np

Pause = Callable[[], None]

_LENET = (784, 300, 100, 10)
_MLP = (784, 1024, 1024, 10)

# What a file adds to the memory of a process that has run another one: what the
# runtime takes for itself is not the file's.
_MEMORY = """
import importlib
import pathlib
import sys
import numpy as np

def resident():
  status = pathlib.Path("/proc/self/status").read_text()
  return int(status.split("VmRSS:")[1].split()[0])

def run(path):
  interpreter = make(model_path=path, num_threads=1)
  runner = interpreter.get_signature_runner("serving_default")
  runner(input_0=np.zeros((1, 784), np.float32))
  return interpreter

module, another, path = sys.argv[1:]
make = importlib.import_module(module)
make = getattr(make, "lite", make).Interpreter
kept = run(another)
before = resident()
interpreter = run(path)
print(resident() - before)
"""


@dataclasses.dataclass(frozen=True)
class Task:
  """What all are given.

  Attributes:
    directory: where the files lie.
    calls: how many a round.
  """

  directory: pathlib.Path
  calls: int

  @classmethod
  def load(cls, directory: pathlib.Path, repeats: int) -> "Task":
    """Reads what `prepare` wrote."""
    del repeats
    return cls(directory, json.loads((directory / "task.json").read_text()))


def prepare(
  directory: pathlib.Path, data_dir: str | None, smoke: bool
) -> tuple[str, dict[str, Any]]:
  """Trains tickets and exports them; says on what, and how large they are."""
  (directory / "task.json").write_text(json.dumps(20 if smoke else 2000))
  name, data = _load(data_dir)
  steps = 10 if smoke else 600
  densities = (0.05, 0.02, 0.01)
  facts = {}
  for density, model in _tickets(_dense(_LENET), data, densities, steps):
    facts[f"LeNet {density:.0%}"] = _lenet(model, density, directory)
  for pattern in ("unstructured", "block_1x4"):
    found = _tickets(
      _dense(_MLP), data, (0.1, 0.05, 0.02), steps // 2, pattern=pattern
    )
    for density, model in found:
      _export_mlp(model, directory, pattern, density)
  images = tuple((_as_cifar(x[:4000]), y[:4000]) for x, y in data)
  steps = 2 if smoke else 40
  for density, model in _tickets(_conv4, images, (0.05, 0.02), steps):
    facts[f"Conv-4 {density:.0%}"] = _conv4_facts(model, density, directory)
  facts["memory"] = {
    name: _resident(directory / f"{name}.tflite", directory / "lenet.tflite")
    for name in ("dense", "unstructured-0.05")
  }
  return f"tickets trained on {name}", facts


def _load(data_dir: str | None) -> tuple[str, tuple]:
  from tf_lottery.papers import datasets

  try:
    splits = datasets.load_data("fashion_mnist", data_dir=data_dir)
    return "Fashion-MNIST", (splits.train, splits.validation)
  except FileNotFoundError:
    splits = datasets.load_data("mnist_5k")
    return "5,000 images of MNIST", (splits.train, splits.validation)


def _as_cifar(x: np.ndarray) -> np.ndarray:
  return np.repeat(np.pad(x, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=-1)


def _dense(widths: tuple[int, ...]) -> Callable[[], Any]:
  def make_model():
    import keras

    layers = [keras.layers.Dense(width, "relu") for width in widths[1:-1]]
    model = keras.Sequential(
      [
        keras.Input((widths[0],)),
        *layers,
        keras.layers.Dense(widths[-1], "softmax"),
      ]
    )
    model.compile(
      "adam", "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model

  return make_model


def _conv4() -> Any:
  from tf_lottery.papers import recipes

  return recipes.recipe("conv4").make_model((32, 32, 3))


def _tickets(
  make_model: Callable[[], Any],
  data: tuple,
  densities: tuple[float, ...],
  steps: int,
  pattern: str = "unstructured",
) -> Iterator[tuple[float, Any]]:
  """Density and trained model of each Level."""
  import tf_lottery

  width = make_model().inputs[0].shape[1:]
  train, validation = ((x.reshape(len(x), *width), y) for x, y in data)
  result = tf_lottery.find_ticket(
    make_model,
    train,
    validation_data=validation,
    steps=steps,
    batch_size=60,
    schedule=densities,
    method="iterative",
    scope=tf_lottery.global_(),
    pattern=pattern,
    evaluate_every=steps,
    progress=False,
  )
  for density, round_ in zip(densities, result.rounds[1:], strict=True):
    yield density, round_.restore(tf_lottery.lottery_prune(make_model()))


def _lenet(
  model: Any, density: float, directory: pathlib.Path
) -> dict[str, Any]:
  """Bytes of LeNet's files, and the largest relative errors."""
  from tf_lottery import export

  facts = {}
  for dtype in ("float32", "float16", "int8"):
    report = export.to_tflite(model, directory / "lenet.tflite", dtype=dtype)
    facts[dtype] = _facts_of(report)
  for layout in ("dense", "auto"):
    report = export.to_saved_model(
      model,
      directory / f"saved_model-{layout}-{density}",
      layout=layout,
      carry_ticket=False,
    )
    facts[f"SavedModel {layout}"] = _facts_of(report)
  report = export.to_saved_model(model, directory / "carrying")
  facts["SavedModel with ticket"] = _facts_of(report)
  return facts


def _export_mlp(
  model: Any, directory: pathlib.Path, pattern: str, density: float
) -> None:
  from tf_lottery import export

  export.to_tflite(
    model, directory / f"{pattern}-{density}.tflite", layout="sparse"
  )
  export.to_tflite(
    model, directory / f"{pattern}-{density}-auto.tflite", layout="auto"
  )
  export.to_tflite(model, directory / "dense.tflite", layout="dense")


def _conv4_facts(
  model: Any, density: float, directory: pathlib.Path
) -> dict[str, Any]:
  from tf_lottery import export

  facts = {
    "float32": _facts_of(export.to_tflite(model, directory / "conv.tflite"))
  }
  for layout in ("dense", "auto"):
    path = directory / f"conv-{layout}-{density}"
    report = export.to_saved_model(
      model, path, layout=layout, carry_ticket=False
    )
    facts[f"SavedModel {layout}"] = _facts_of(report)
  return facts


def _facts_of(report: Any) -> dict[str, Any]:
  return {
    "bytes": report.file_bytes,
    "gzip": report.gzip_bytes,
    "dense": report.dense_bytes,
    "error": max(d.relative for d in report.differences),
  }


def _runtime() -> str:
  found = importlib.util.find_spec("ai_edge_litert")
  return "ai_edge_litert.interpreter" if found else "tensorflow"


def _resident(path: pathlib.Path, another: pathlib.Path) -> int:
  """KB that a file takes in a process of its own, which ran another before."""
  command = [sys.executable, "-W", "ignore", "-c", _MEMORY]
  command += [_runtime(), another, path]
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  return int(done.stdout)


def tflite(task: Task, pause: Pause, name: str) -> None:
  """Calls of a file at batch 1, on one thread."""
  module = importlib.import_module(_runtime())
  make = getattr(module, "lite", module).Interpreter
  path = str(task.directory / f"{name}.tflite")
  interpreter = make(model_path=path, num_threads=1)
  interpreter.allocate_tensors()
  index = interpreter.get_input_details()[0]["index"]
  x = np.random.default_rng(0).normal(size=(1, 784)).astype(np.float32)
  interpreter.set_tensor(index, x)
  while True:
    for _ in range(task.calls):
      interpreter.invoke()
    pause()


def saved_model(task: Task, pause: Pause, layout: str) -> None:
  """Calls of LeNet's SavedModel at batch 1."""
  import tensorflow as tf

  path = str(task.directory / f"saved_model-{layout}-0.05")
  loaded = tf.saved_model.load(path)
  function = loaded.signatures["serving_default"]
  x = tf.random.normal((1, 784), seed=0)
  while True:
    for _ in range(task.calls):
      function(input_0=x)
    pause()


FLOOR = "MLP dense"
_SPARSE = {
  f"MLP {sparsity} %{words}": f"{pattern}-{density}"
  for pattern, words, densities in (
    ("unstructured", "", (0.1, 0.05, 0.02)),
    ("block_1x4", " in blocks", (0.1, 0.05)),
  )
  for density in densities
  for sparsity in [round(100 * (1 - density))]
}
GROUPS = (
  {
    FLOOR: functools.partial(tflite, name="dense"),
    **{
      name: functools.partial(tflite, name=file)
      for name, file in _SPARSE.items()
    },
    "MLP 90 %, auto": functools.partial(tflite, name="unstructured-0.1-auto"),
  },
  {
    "SavedModel dense": functools.partial(saved_model, layout="dense"),
    "SavedModel 95 %": functools.partial(saved_model, layout="auto"),
  },
)
OPTIONAL = ()


def targets(
  results: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[tuple[str, str, bool]]:
  """Yields each target: text, value, whether met.

  Args:
    results: name -> `Result`.
    facts: what `prepare` measured.
  """
  for name, dtype, limit in (
    ("LeNet 5%", "float32", 90),
    ("LeNet 2%", "float32", 38),
    ("LeNet 1%", "float32", 22),
    ("LeNet 5%", "float16", 60),
    ("Conv-4 2%", "float32", 310),
  ):
    file = facts[name][dtype]
    yield (
      f"TFLite of {name} in {dtype} takes at most {limit} KB",
      f"{file['bytes'] / 1000:.1f} KB (dense {file['dense'] / 1000:,.0f}, gzip"
      f" {file['gzip'] / 1000:.1f})",
      file["bytes"] <= 1000 * limit,
    )
  yield from _error_targets(facts)
  for name, limit in (("LeNet 5%", 11), ("Conv-4 5%", 14)):
    files = (facts[name][f"SavedModel {how}"] for how in ("dense", "auto"))
    sizes = [file["bytes"] for file in files]
    ratio = sizes[0] / sizes[1]
    yield (
      f"SavedModel of {name} is at least {limit} x smaller",
      f"{ratio:.2f} x ({sizes[0] / 1000:,.1f} to {sizes[1] / 1000:,.1f} KB)",
      ratio >= limit,
    )
  for name, limit in zip(_SPARSE, (1.3, 2.5, 4.5, 3, 7), strict=True):
    ratio = 1 / results[name].over(results[FLOOR])
    yield (
      f"{name} is at least {limit} x faster",
      f"{ratio:.2f} x",
      ratio >= limit,
    )
  memory = facts["memory"]
  ratio = memory["dense"] / max(memory["unstructured-0.05"], 1)
  sizes = [f"{memory[name]:,}" for name in ("dense", "unstructured-0.05")]
  text = f"{ratio:.1f} x ({' to '.join(sizes)} KB)"
  yield "MLP at 95 % takes 10 x less memory", text, ratio >= 10
  ratio = results["SavedModel 95 %"].over(results["SavedModel dense"])
  text = "calls of the SavedModel at 95 % are within 10 % of dense"
  yield text, f"{ratio:.3f} x", ratio <= 1.1


def _error_targets(
  facts: Mapping[str, Any],
) -> Iterator[tuple[str, str, bool]]:
  for dtype, limit in (("float32", 1e-5), ("float16", 1e-3)):
    worst = max(
      files[dtype]["error"]
      for name, files in facts.items()
      if name != "memory" and dtype in files
    )
    text = f"relative errors of trained tickets in {dtype} are at most {limit}"
    yield text, f"{worst:.1e}", worst <= limit
