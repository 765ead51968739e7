"""The types of the JSON in run directories, and a parser that checks them.

The types are annotations that `msgspec` understands.
"""

import json
from typing import Annotated
from typing import Any
from typing import NotRequired
from typing import TypedDict

import msgspec

# Bounded, so that sums of them stay exact or finite.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
Density = Annotated[float, msgspec.Meta(gt=0, le=1)]
# NumPy's arrays had at most 32 dimensions until NumPy 2.
Shape = Annotated[list[Count], msgspec.Meta(max_length=32)]

# More than any configuration of a layer needs, and far from Python's limit.
_MAX_DEPTH = 100
_TOO_DEEP = f"values must not be nested more than {_MAX_DEPTH} levels deep"


class Row(TypedDict):
  """A line of `metrics.jsonl`: one evaluation.

  Further fields are metrics, such as `val_accuracy`; all are numbers.

  Attributes:
    step: optimizer updates made so far.
    seconds: of training and evaluation so far.
    val_loss: the validation loss.
  """

  step: Count
  seconds: Amount
  val_loss: float


class Record(TypedDict):
  """The content of `round.json`: one training that is done.

  Attributes:
    level: how often the network has been pruned; 0 is dense.
    density: fraction of the prunable weights kept; of a control that is a
      smaller network, its size as a fraction of the dense one's.
    metrics: of the last evaluation.
    seconds: of training and evaluation.
    steps: how many optimizer updates the training took.
    start: the step at which the training began.
    seed: of the order of the data.
    versions: the versions of Python and of packages.
  """

  level: Count
  density: Amount
  metrics: dict[str, float]
  seconds: Amount
  steps: Count
  # The first versions did not write these.
  start: NotRequired[Count]
  seed: NotRequired[int]
  versions: NotRequired[dict[str, str]]


class Declaration(TypedDict, total=False):
  """The fields of `declaration.json` that are read; it has many more.

  Attributes:
    monitor: the metric that tickets are chosen by.
    seed: of the run.
    schedule: the density of each Level after the dense one.
    layers: class and settings of each layer.
    weights: key, shape and whether it can be pruned, of each weight.
  """

  monitor: str
  seed: int
  schedule: list[Density]
  layers: list[dict[str, Any]]
  weights: list[tuple[str, Shape, bool]]


class Experiment(TypedDict, total=False):
  """The fields of `experiment.json` that are read without TensorFlow.

  Attributes:
    id: the name of the experiment.
    trainings: how many Rounds all replicates have together.
  """

  id: str
  trainings: Count


def parse(content: str | bytes, schema: Any = Any) -> Any:
  """Parses JSON, and checks its type.

  `NaN` and `Infinity` are read, because the metrics of a diverged training
  have them; a type such as `Amount` refuses them.

  Args:
    content: the text; bytes are UTF-8.
    schema: the type of the value. Fields that it does not name are kept.
      Defaults to any value.

  Raises:
    ValueError: the text is no JSON or no UTF-8, an object has the same key
      twice, an integer does not fit in 64 bits, values are nested more than
      100 levels deep, or the value has another type.

  >>> parse('{"step": 8, "more": []}', dict[str, Any])
  {'step': 8, 'more': []}
  """
  text = content if isinstance(content, str) else content.decode()
  try:
    value = json.loads(text, object_pairs_hook=_unique, parse_int=_integer)
  except RecursionError:
    raise ValueError(_TOO_DEEP) from None
  if "\\u" in text:
    # Half of a surrogate pair is no text, and raises a ValueError here.
    json.dumps(value, ensure_ascii=False).encode()
  if text.count("[") + text.count("{") > _MAX_DEPTH:
    _check_depth(value)
  check(value, schema)
  # The value itself: a converted one lacks fields that the type does not name.
  return value


def check(value: Any, schema: Any) -> None:
  """Raises ValueError unless a value of JSON has a type."""
  msgspec.convert(value, schema)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  value = dict(pairs)
  if len(value) < len(pairs):
    raise ValueError("an object must not have the same key twice")
  return value


def _integer(digits: str) -> int:
  value = int(digits)
  if not -(2**63) <= value < 2**64:
    raise ValueError(f"an integer must fit in 64 bits, got {digits:.40}")
  return value


def _check_depth(value: Any, depth: int = 1) -> None:
  if depth > _MAX_DEPTH:
    raise ValueError(_TOO_DEEP)
  for item in value.values() if isinstance(value, dict) else value:
    if isinstance(item, dict | list):
      _check_depth(item, depth + 1)
