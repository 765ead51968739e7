"""The trainings of one task of `search_cost.py`, as its page tells them."""

import statistics
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from scripts import search_cost_tasks
from tf_lottery.report.comparisons import Comparison

Row = Mapping[str, str]


class Table:
  """The rows of one task.

  Args:
    rows: The lines of the CSV of this task.
    task: The task.
  """

  def __init__(self, rows: Iterable[Row], task: search_cost_tasks.Task):
    self.rows = list(rows)
    self.task = task
    higher = all(row["direction"] == "max" for row in self.rows)
    # Where more is better, these are accuracies, which are told in percent.
    self.factor = 100.0 if higher else 1.0
    self.sign = 1 if higher else -1
    self.digits = 1 if higher else 3

  def values(
    self, method: str, what: str, density: float, column: str = "test"
  ) -> dict[int, float]:
    """Replicate -> a number of a method's training at about a density."""
    factor = self.factor if column in ("test", "validation") else 1.0
    return {
      int(row["replicate"]): factor * float(row[column])
      for row in self.rows
      if (row["method"], row["what"]) == (method, what)
      and abs(float(row["density"]) / density - 1) < 0.05
    }

  def answers(
    self, method: str, column: str, what: str = "answer"
  ) -> dict[int, float]:
    """Replicate -> a number of the smallest matching ticket of a method."""
    return {
      int(row["replicate"]): float(row[column])
      for row in self.rows
      if (row["method"], row["what"]) == (method, what)
    }

  @property
  def methods(self) -> list[str]:
    """The methods that have trainings, in their order on the page."""
    return list(dict.fromkeys(row["method"] for row in self.rows))

  @property
  def drawing_methods(self) -> list[str]:
    """The methods whose tickets are compared at the densities of the task."""
    return [
      method
      for method in self.methods
      if not method.endswith("_bisect") and method != search_cost_tasks.BUDGET
    ]

  @property
  def answering_methods(self) -> list[str]:
    """The methods that look for the smallest matching ticket."""
    return [
      method
      for method in self.methods
      if method.endswith("_bisect")
      or method in ("iterative", search_cost_tasks.BUDGET)
    ]

  def levels(self, method: str, what: str = "answer") -> list[int]:
    """The Levels of the ladder that a method answers with, in rising order."""
    densities = self.answers(method, "density", what).values()
    return sorted(_level(self.task.ladder, density) for density in densities)

  def price_in_hindsight(self, method: str) -> float:
    """What a method's answer costs somebody who knows which Level to train.

    That is the dense network, the search and one training of the ticket, in the
    mean, in trainings.
    """
    search = statistics.mean(self.answers(method, "search").values())
    # `iterative` counts the dense network as part of its search, and so does a
    # budget, whose first draw starts from the trained dense network.
    includes = method in ("iterative", search_cost_tasks.BUDGET)
    return search + (1 if includes else 2)

  def text(self, values: Mapping[int, float]) -> str:
    """Writes the mean and the standard deviation."""
    if not values:
      return "-"
    numbers = list(values.values())
    mean = f"{statistics.mean(numbers):.{self.digits}f}"
    if len(numbers) < 2:
      return mean
    return f"{mean} ± {statistics.stdev(numbers):.{self.digits}f}"

  def p_better(
    self,
    first: Mapping[int, float],
    second: Mapping[int, float],
    margin: float = 0.0,
  ) -> float | None:
    """Returns the p value of: the first is better than the second less margin.

    Args:
      first: Replicate -> value.
      second: Replicate -> value.
      margin: In units of the objective, at least 0.
    """
    signed = [
      {replicate: self.sign * value for replicate, value in values.items()}
      for values in (first, second)
    ]
    return Comparison.of(*signed).p_greater(-margin * self.factor)


def _level(ladder: Sequence[float], density: float) -> int:
  """The nearest Level of a schedule; 0 is dense."""
  gaps = [abs(one / density - 1) for one in (1.0, *ladder)]
  return gaps.index(min(gaps))
