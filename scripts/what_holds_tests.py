"""The tests of `what_holds_claims.py`, on the tables of the studies."""

import dataclasses
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from tf_lottery.report import wording
from tf_lottery.report.comparisons import Comparison
from tf_lottery.report.verdicts import SIGNIFICANCE

Rows = Sequence[Mapping[str, str]]
_POINTS = "points"
# By what fraction a density may differ from that of a claim.
_NEAR = 0.1


@dataclasses.dataclass(frozen=True)
class Test:
  """A claim on one task.

  Attributes:
    where: The task and the density.
    compares: What is compared.
    difference: The mean difference, positive if it is for the claim.
    p_for: If it is small, the claim holds.
    p_against: If it is small, it does not.
    n: The number of replicates.
    margin: How much worse the first may be for the claim to hold.
    unit: The unit of the difference and of the margin.
  """

  where: str
  compares: str
  difference: float
  p_for: float | None
  p_against: float | None
  n: int
  margin: float = 0.0
  unit: str = _POINTS

  @property
  def scale(self) -> float:
    """What the difference and the margin are multiplied by to be in units."""
    return 100.0 if self.unit == _POINTS else 1.0

  @property
  def word(self) -> str:
    """`"holds"`, `"does not hold"` or `"cannot tell"`."""
    if self.p_for is not None and self.p_for < SIGNIFICANCE:
      return "holds"
    if self.p_against is not None and self.p_against < SIGNIFICANCE:
      return "does not hold"
    return "cannot tell"


def _by_replicate(
  rows: Rows, column: str, factor: float = 1.0, **equal: str
) -> dict[int, float]:
  """Returns the means of a column over draws, of rows with some cells."""
  found: dict[int, list[float]] = {}
  for row in rows:
    if equal.items() <= row.items():
      found.setdefault(int(row["replicate"]), []).append(float(row[column]))
  return {n: factor * sum(v) / len(v) for n, v in found.items()}


def _test(
  where: str,
  compares: str,
  first: Mapping[int, float],
  second: Mapping[int, float],
  margin: float = 0.0,
  unit: str = _POINTS,
) -> Test:
  compared = Comparison.of(first, second)
  return Test(
    where,
    compares,
    compared.difference or 0.0,
    compared.p_greater(-margin),
    compared.p_less(-margin),
    compared.n,
    margin,
    unit,
  )


_TASKS = {
  "lenet": "LeNet-300-100, Fashion-MNIST",
  "cnn": "convolutional network, Fashion-MNIST",
  "mnist_1d": "residual MLP, MNIST-1D",
  "table": "MLP, Friedman regression",
}


def against_dense(
  rows: Rows, method: str, densities: Sequence[float], *, matching: bool
) -> Iterator[Test]:
  """Tests tickets of a search method against the dense network."""
  for task, words in _TASKS.items():
    own = [r for r in rows if (r["task"], r["method"]) == (task, method)]
    if not own:
      continue
    less_is_better = own[0]["direction"] == "min"
    factor = -1.0 if less_is_better else 1.0
    dense = _by_replicate(own, "test", factor, what="dense")
    tolerances = _by_replicate(own, "tolerance", what="dense").values()
    margin = sum(tolerances) / len(tolerances) if matching else 0.0
    tickets = [row for row in own if row["what"] == "ticket"]
    for level, density in _near(tickets, densities):
      ticket = _by_replicate(tickets, "test", factor, level=level)
      yield _test(
        f"{words}, {wording.density(density)}",
        "ticket, dense",
        ticket,
        dense,
        margin,
        "of the error" if less_is_better else _POINTS,
      )


def of_rivals(rows: Rows, control: str) -> Iterator[Test]:
  """Tests the tickets of searches that rewind against one of their controls."""
  for task, words in _TASKS.items():
    for method in ("iterative", "cycles_8x0.25"):
      own = [r for r in rows if (r["task"], r["method"]) == (task, method)]
      levels = {
        row["level"]: float(row["density"])
        for row in own
        if row["what"] == control
      }
      for level, density in levels.items():
        values = (
          _by_replicate(own, "test", what=what, level=level)
          for what in ("ticket", control)
        )
        name = method.replace("_", " ")
        where = f"{words}, {name}, {wording.density(density)}"
        yield _test(where, _pair("ticket", control), *values)


def _near(
  rows: Rows, densities: Sequence[float]
) -> Iterator[tuple[str, float]]:
  """Yields the Levels whose densities are close to some, and their own."""
  own = {row["level"]: float(row["density"]) for row in rows}
  for wanted in densities:
    distance = {n: abs(density / wanted - 1) for n, density in own.items()}
    level = min(distance, key=lambda n: distance[n])
    if distance[level] < _NEAR:
      yield level, own[level]


def _levels(rows: Rows) -> list[tuple[str, float]]:
  """Returns the Levels that have controls, with their densities."""
  found: dict[str, float] = {}
  for row in rows:
    if row["method"] not in ("dense", "ticket"):
      found[row["level"]] = float(row["density"])
  return sorted(found.items(), key=lambda one: -one[1])


def of_controls(
  rows: Rows, first: str, second: str, *, matching: bool = False
) -> Iterator[Test]:
  """Tests two methods of the study of what matters."""
  for name in dict.fromkeys(row["experiment"] for row in rows):
    own = [row for row in rows if row["experiment"] == name]
    for level, density in _levels(own):
      values = (
        _by_replicate(own, "test_end", method=method, level=level)
        for method in (first, second)
      )
      yield _test(
        f"{name}, {wording.density(density)}",
        _pair(first, second),
        *values,
        margin=float(own[0]["tolerance"]) if matching else 0.0,
      )


def of_speed(rows: Rows) -> Iterator[Test]:
  """Tests the steps of the early stop of tickets and dense networks."""
  for name in dict.fromkeys(row["experiment"] for row in rows):
    own = [row for row in rows if row["experiment"] == name]
    dense = _by_replicate(own, "early_stop_step", -1, method="dense")
    for level, density in _levels(own):
      ticket = _by_replicate(
        own, "early_stop_step", -1, method="ticket", level=level
      )
      where = f"{name}, {wording.density(density)}"
      yield _test(where, "ticket, dense", ticket, dense, unit="steps sooner")


def of_transfer(rows: Rows, first: str, second: str) -> Iterator[Test]:
  """Tests two methods of the study of transfer, where it has both."""
  for task in dict.fromkeys(row["task"] for row in rows):
    own = [row for row in rows if row["task"] == task]
    for level, density in _levels(own):
      one, other = (
        _by_replicate(own, "test", method=method, level=level)
        for method in (first, second)
      )
      if one and other:
        words = task.replace("_", " ")
        yield _test(
          f"{words}, {wording.density(density)}",
          _pair(first, second),
          one,
          other,
        )


def of_rewinds(rows: Rows) -> Iterator[Test]:
  """Tests tickets that rewind to the step found against those of init."""
  unstable = {
    (row["task"], row["replicate"])
    for row in rows
    if row["what"] == "found" and not float(row["value"])
  }
  own = [
    row
    for row in rows
    if row["what"] == "ticket"
    and (row["task"], row["replicate"]) not in unstable
  ]
  inits = [row for row in own if row["rewind"] == "init"]
  for task in dict.fromkeys(row["task"] for row in inits):
    for level in sorted({row["level"] for row in inits}, key=int):
      density = next(float(r["density"]) for r in inits if r["level"] == level)
      values = (
        _by_replicate(own, "value", task=task, rewind=rewind, level=level)
        for rewind in ("auto", "init")
      )
      yield _test(
        f"{task.replace('_', ' ')}, {wording.density(density)}",
        "rewound to the step, to init",
        *values,
      )


def of_barriers(rows: Rows) -> Iterator[Test]:
  """Tests the barriers of tickets from step 0 against dense networks'."""
  own = [r for r in rows if r["what"] == "orders" and r["step"] == "0"]
  for task in dict.fromkeys(row["task"] for row in own):
    here = [row for row in own if row["task"] == task]
    dense = _by_replicate(here, "value", -1, level="0")
    for level in sorted({row["level"] for row in here} - {"0"}, key=int):
      density = next(float(r["density"]) for r in here if r["level"] == level)
      ticket = _by_replicate(here, "value", -1, level=level)
      words = task.replace("_", " ")
      where = f"{words}, {wording.density(density)}"
      yield _test(where, "barrier of the ticket, of dense", ticket, dense)


def of_tuned(rows: Rows) -> Iterator[Test]:
  """The tests of tickets against the tuned dense network, from its table."""
  for row in rows:
    for recipe in ("original", "tuned"):
      p = row[f"{recipe}_p_matching"]
      if not p or not row[f"{recipe}_mean"]:
        continue
      yield Test(
        f"LeNet-300-100, {wording.density(float(row['density']))}",
        f"ticket of the {recipe} recipe, tuned dense",
        float(row[f"{recipe}_mean"]) - float(row["tuned_dense"]),
        float(p),
        1 - float(p),
        int(row["replicates"]),
        float(row["tolerance"]),
      )


def _pair(first: str, second: str) -> str:
  return f"{first}, {second}".replace("_", " ")
