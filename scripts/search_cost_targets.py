"""What `search_cost.py` set out to show, beside what its trainings show."""

import statistics
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

from scripts import search_cost_runs
from scripts import search_cost_tasks
from scripts.search_cost_table import Table

# A claim holds if the p value of its test is below this.
SIGNIFICANCE = 0.05
AT_INIT = ("snip", "grasp", "synflow", "force")
# By how much shuffling a mask within its layers may harm the ticket, in units
# of the objective, if it is called insensitive.
_SHUFFLED = 0.005


def of(tables: Mapping[str, Table]) -> str:
  """Returns the table of the targets as Markdown.

  Args:
    tables: Name -> the trainings of a task.
  """
  lines = [
    "## Targets",
    "",
    f"A claim with a p value holds if that of its one-sided test is below"
    f" {SIGNIFICANCE:g}; the others compare medians. Where several methods cost"
    " little enough, the line is about the dearest of them, whatever it shows.",
    "",
    "| task | claim | at most | measured | holds? |",
    "| --- | --- | --- | --- | --- |",
  ]
  for table in tables.values():
    rows = [*_matches(table), *_equals(table), *_price(table)]
    rows += [*_budget(table), *_at_init(table)]
    lines += [f"| {table.task.says} | {row} |" for row in rows]
  return "\n".join(lines) + "\n"


def _matches(table: Table) -> Iterable[str]:
  """Whether a search of a tenth of a training finds a matching ticket."""
  limit = table.task.matching
  if limit is None or not table.values("iterative", "dense", 1.0):
    return
  density = table.task.densities[0]
  dense = table.values("iterative", "dense", 1.0)
  allowed = table.values("iterative", "dense", 1.0, "tolerance").values()
  yield _dearest(
    table,
    f"a ticket of {density:.1%} matches the dense network",
    density,
    limit,
    lambda found: table.p_better(found, dense, statistics.mean(allowed)),
  )


def _equals(table: Table) -> Iterable[str]:
  """Whether cheaper tickets are as good as those of iterative pruning."""
  for density, cost in zip(
    table.task.densities, table.task.equal, strict=False
  ):
    if cost is None:
      continue
    iterative = table.values("iterative", "ticket", density)
    yield _dearest(
      table,
      f"at {density:.1%}, at most {table.factor * table.task.margin:g} below"
      f" the ticket of iterative pruning, {table.text(iterative)}",
      density,
      cost,
      lambda found, all_=iterative: table.p_better(
        found, all_, table.task.margin
      ),
    )


def _dearest(
  table: Table,
  claim: str,
  density: float,
  limit: float,
  test: Callable[[Mapping[int, float]], float | None],
) -> str:
  """The line of a claim about one of the methods that cost little enough."""
  costs = {
    method: statistics.mean(cost.values())
    for method in table.drawing_methods
    if method != "iterative"
    and (cost := table.values(method, "ticket", density, "search"))
  }
  affordable = {m: cost for m, cost in costs.items() if cost <= limit}
  if not affordable:
    return f"{claim} | search of {limit:g} | nothing was trained | no"
  method = max(affordable, key=lambda name: affordable[name])
  found = table.values(method, "ticket", density)
  return (
    f"{claim} | search of {limit:g} | `{method}`: {table.text(found)}, search"
    f" of {costs[method]:.2f} | {_shown(test(found))}"
  )


def _price(table: Table) -> Iterable[str]:
  """What the smallest matching ticket costs, everything included."""
  budget = search_cost_tasks.BUDGET
  prices = table.answers(budget, "training").values()
  whole = table.answers("iterative", "training").values()
  if not prices or not whole:
    return
  own, dear = _answer(table, budget), _answer(table, "iterative")
  yield (
    "what it costs to find a matching ticket, everything included | 4 |"
    f" `{budget}`: {statistics.mean(prices):.2f} in the mean, at most"
    f" {max(prices):.2f}; in the median it finds {own}. Iterative pruning finds"
    f" {dear} for {statistics.mean(whole):.0f} |"
    f" {'yes' if max(prices) <= 4 else 'no'}"
  )


def _budget(table: Table) -> Iterable[str]:
  """`budget=4` beside the best single method for at most the same price."""
  budget = search_cost_tasks.BUDGET
  if not table.answers(budget, "level"):
    return
  own = statistics.median(table.levels(budget))
  claim = f"the ticket of `{budget}` is at most one Level larger than that of"
  ended = [
    (statistics.median(levels), method.removesuffix("_bisect"))
    for method in table.answering_methods
    if (levels := table.levels(method, search_cost_runs.AT_BUDGET))
  ]
  if ended:
    best, method = max(ended)
    yield (
      f"{claim} the best method, known in hindsight, whose bisection ends when"
      f" 4 trainings are spent | 4 | Level {own:g}; `{method}`: Level {best:g}"
      f" | {'yes' if best - own <= 1 else 'no'}"
    )
  informed = [
    (statistics.median(table.levels(method)), method.removesuffix("_bisect"))
    for method in table.answering_methods
    if method != budget and table.price_in_hindsight(method) <= 4
  ]
  if informed:
    best, method = max(informed)
    yield (
      f"{claim} the best method, if the Level to train is known in hindsight,"
      f" too | 4 | Level {own:g}; `{method}`: Level {best:g} |"
      f" {'yes' if best - own <= 1 else 'no'}"
    )


def _at_init(table: Table) -> Iterable[str]:
  """Claims of the literature on scores of the untrained network."""
  density = table.task.densities[0]
  trained = table.values("iterative", "ticket", density)
  random = table.values("random", "ticket", density)
  for method in AT_INIT:
    found = table.values(method, "ticket", density)
    shuffled = table.values(method, "shuffled_mask", density)
    if not (found and shuffled):
      continue
    below = table.p_better(trained, found)
    above = table.p_better(found, random)
    harmless = table.p_better(shuffled, found, _SHUFFLED)
    yield (
      f"`{method}` at {density:.1%} is below trained magnitude, above random,"
      f" and at most {table.factor * _SHUFFLED:g} better than shuffled within"
      f" layers | - | {table.text(found)}; trained magnitude"
      f" {table.text(trained)}, random {table.text(random)}, shuffled"
      f" {table.text(shuffled)} | {_shown(below)}; {_shown(above)};"
      f" {_shown(harmless)}"
    )


def _answer(table: Table, method: str) -> str:
  density = statistics.median(table.answers(method, "density").values())
  return f"{density:.1%} of the weights"


def _shown(p: float | None) -> str:
  if p is None:
    return "cannot tell"
  word = "yes" if p < SIGNIFICANCE else "no"
  return f"{word} (p = {p:.3f})" if p >= 0.001 else f"{word} (p < 0.001)"
