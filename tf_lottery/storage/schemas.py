"""The types of the JSON in run directories, and a parser that checks them.

The types are annotations that `msgspec` understands.
"""

import json
import re
from typing import Annotated
from typing import Any
from typing import Literal
from typing import NotRequired
from typing import TypedDict

import msgspec

# The bounds keep sums of counts exact and sums of amounts finite.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
# The largest trainings so far took 1e26.
Flops = Annotated[float, msgspec.Meta(ge=0, le=1e30)]
Density = Annotated[float, msgspec.Meta(gt=0, le=1)]
# Arrays of NumPy 1 have at most 32 dimensions.
Shape = Annotated[list[Count], msgspec.Meta(max_length=32)]

# More than any configuration of a layer needs, and far below Python's limit.
_MAX_DEPTH = 100
_LINES = msgspec.json.Decoder(dict[str, int | float])
# What `parse` and msgspec read in different ways.
_UNUSUAL = re.compile(rb"\\|[ :-]\d{19}")
_TOO_DEEP = f"values must not be nested more than {_MAX_DEPTH} levels deep"


class Row(TypedDict):
  """A line of `metrics.jsonl`: one evaluation.

  Further fields are metrics, such as `val_accuracy`. All fields are numbers.

  Attributes:
    step: Number of optimizer updates made so far.
    seconds: Seconds of training and evaluation so far.
    val_loss: The validation loss.
  """

  step: Count
  seconds: Amount
  val_loss: float


class SmallestLayer(TypedDict):
  """The weight of the lowest density under a mask.

  Attributes:
    name: The name of its layer and its role in it, `layer/role`.
    density: Fraction of its entries that is kept.
  """

  name: str
  density: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Cost(TypedDict, total=False):
  """What training took; see `tf_lottery.cost.Cost`.

  Attributes:
    steps: Number of optimizer updates.
    examples: Number of examples.
    dense_flops: Floating-point operations.
    sparse_flops: The same without multiplications by pruned weights.
  """

  steps: Count
  examples: Count
  dense_flops: Flops
  sparse_flops: Flops


class Record(TypedDict):
  """The content of `round.json`: one Round that is done.

  Attributes:
    level: The Level; 0 is dense.
    density: Fraction of the prunable weights that is kept. For a control that
      is a smaller network, its size as a fraction of the dense network's.
    metrics: The metrics of the last evaluation.
    seconds: Seconds of training and evaluation.
    steps: Number of optimizer updates in the Round.
    start: The step at which the Round began.
    seed: Seed of the data order.
    versions: The versions of Python and of packages.
    smallest_layer: The weight of the lowest density.
    stopped: Whether it was stopped before its end, and may go on.
    cost: What the training took.
    search_cost: Of a Level: what it took to draw its mask.
    search: Of a Level: the number of the search's training that drew its mask.
    scoring_cost: What it took to score the weights at its end, for a mask.
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
  smallest_layer: NotRequired[SmallestLayer]
  stopped: NotRequired[bool]
  cost: NotRequired[Cost]
  search_cost: NotRequired[Cost]
  search: NotRequired[Count]
  scoring_cost: NotRequired[Cost]


class Declaration(TypedDict, total=False):
  """The fields of `declaration.json` that are read; the file has more.

  Attributes:
    monitor: The name of the objective's metric.
    seed: Seed of the run.
    schedule: The density of each Level after the dense one.
    layers: Class and settings of each layer.
    weights: Key, shape, and whether it may be pruned, of each weight.
  """

  monitor: str
  seed: int
  schedule: list[Density]
  layers: list[dict[str, Any]]
  weights: list[tuple[str, Shape, bool]]


class Outcome(TypedDict, total=False):
  """The fields of `outcome.json`, which a search writes at its end.

  Attributes:
    choose: How Levels were chosen to be trained: `all`, `bisect` or `budget`.
    budget: The budget in trainings of the dense network, if there was one.
    level: The smallest Level that matches the dense network; 0 if none does.
    trained: The Levels that are trained, in order.
    price: Part -> steps, examples, dense and sparse FLOPs.
  """

  choose: str
  budget: Amount | None
  level: Count
  trained: list[Count]
  price: dict[str, dict[str, float]]


class StableStep(TypedDict):
  """The content of `stable_step.json`: the step that a search rewinds to.

  Attributes:
    step: The earliest step that is stable; else the latest one tested.
    is_stable: Whether that step is stable.
    threshold: The barrier below which a step is stable.
    barriers: The steps that were tested, each with its barrier; `None` for one
      that is no number, because a training diverged.
    cost: What it took to find the step.
  """

  step: Count
  is_stable: bool
  threshold: Amount
  barriers: list[tuple[Count, Amount | None]]
  cost: dict[str, float]


class Experiment(TypedDict, total=False):
  """The fields of `experiment.json` that are read without TensorFlow.

  Attributes:
    id: The name of the experiment's directory.
    heading: What the experiment is, for people.
    trainings: Number of Rounds of all replicates together, as the first
      versions wrote it.
    rounds: Level, control and draw of each Round of a replicate. For the Round
      of a Level, the control is empty.
    levels: How often to prune.
    control_levels: The Levels that have controls, or how they are chosen.
    reinits: Number of random reinitialisations of each ticket.
    replicates: Number of seeds; a text if `looks.json` tells it.
  """

  id: str
  heading: str
  trainings: Count
  rounds: list[tuple[Count, str, Count]]
  levels: Count
  control_levels: list[Count] | str
  reinits: Count
  replicates: Count | str


class Looks(TypedDict):
  """The fields of `looks.json`, beside the `experiment.json` of an experiment.

  Attributes:
    planned: The numbers of replicates after which the experiment is judged.
    significances: For each planned look the significance of a sequence of tests
      that has all of the 5 %, and of one that has half of it.
    spending: The name of the spending function that they come from.
    taken: The numbers of replicates after which it was judged.
    fixed_before: The number of replicates that an earlier declaration had
      fixed; 0 if there was none.
    declared: The fields of the experiment that its verdicts depend on, as they
      were at the first look. Early versions wrote none of the fields from here.
    shown: For each look taken, the Levels and the words that it has shown.
    diverged: The replicates that diverged before a look.
    settled: Whether no further look is needed.
  """

  planned: list[Count]
  significances: list[tuple[Amount, Amount]]
  spending: str
  taken: list[Count]
  fixed_before: Count
  declared: NotRequired[dict[str, Any]]
  shown: NotRequired[list[list[tuple[Count, Literal["matching", "winning"]]]]]
  diverged: NotRequired[list[Count]]
  settled: NotRequired[bool]


def parse(content: str | bytes, schema: Any = Any) -> Any:
  """Parses JSON, and checks its type.

  `NaN` and `Infinity` are read, because the metrics of a diverged training
  have them. Types such as `Amount` refuse them.

  Args:
    content: The text; bytes are UTF-8.
    schema: The type of the value. Fields that the type does not name are kept.
      Defaults to any value.

  Raises:
    ValueError: The text is not JSON or not UTF-8, an object has the same key
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
    # Half of a surrogate pair raises a ValueError here: it is not text.
    json.dumps(value, ensure_ascii=False).encode()
  if text.count("[") + text.count("{") > _MAX_DEPTH:
    _check_depth(value)
  check(value, schema)
  # Not the converted value, which lacks the fields that the type does not name.
  return value


def parse_rows(content: bytes) -> list[dict[str, float]] | None:
  """Parses lines of numbers by name, many times as fast as `parse` does.

  Args:
    content: One JSON object a line, in UTF-8.

  Returns:
    The rows that `parse` and `check` with `Row` give; None unless each line is
    a `Row` of finite numbers without anything unusual, which only those two
    can judge.
  """
  if _UNUSUAL.search(content):
    return None
  try:
    rows = _LINES.decode_lines(content)
    check(rows, list[Row])
  except (UnicodeDecodeError, msgspec.MsgspecError):
    return None
  lines = content.count(b"\n") + (content[-1:] not in (b"", b"\n"))
  # A line that has a key twice has more colons than keys.
  keys = content.count(b":")
  usual = (len(rows), sum(map(len, rows))) == (lines, keys)
  return rows if usual else None


def check(value: Any, schema: Any) -> None:
  """Raises ValueError unless a JSON value has the type `schema`."""
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
