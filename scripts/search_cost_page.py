"""The page and the figures of `search_cost.py`, from the lines of its CSV."""

import pathlib
import statistics
from collections.abc import Mapping
from collections.abc import Sequence

import matplotlib

from scripts import search_cost_targets
from scripts import search_cost_tasks
from scripts.search_cost_table import Table
from tf_lottery.search import choosing

matplotlib.use("Agg")

from matplotlib import pyplot as plt

Row = Mapping[str, str]

_HEAD = """\
# What a ticket costs

`scripts/search_cost.py` wrote this page from `trainings.csv`, which has a line
for each of {trainings:,} tickets, controls and dense networks that were trained
to their ends; nothing is typed by hand. Values are
those on test data at the end of training: accuracies in percent, errors as they
are. Costs are in full trainings of the dense network, by floating-point
operations of hardware that multiplies by zeros. "Replicates" are seeds; a
comparison pairs the trainings of one seed, and its test is one-sided. No p
value is corrected for the number of comparisons on this page.

- `iterative`: a full training for each Level, pruned and rewound after it.
- `gradual_F`: one training of F of the full length, in which the density falls;
  then every ticket is rewound.
- `cycles_NxF`: N such trainings, each F of the full length, with a rewind after
  each.
- `early_bird`: a dense training that stops when the mask is stable.
- `snip`, `grasp`, `synflow` (100 rounds), `force` (60 rounds), `random`: scores
  of the untrained network, compared globally.
- `budget_4`: `find_ticket(budget=4)`. `..._bisect`: a method with
  `choose="bisect"`.
"""


def write(
  rows: Sequence[Row],
  tasks: Mapping[str, search_cost_tasks.Task],
  out: pathlib.Path,
) -> None:
  """Writes the page and a figure for each task.

  Args:
    rows: The lines of the CSV.
    tasks: The tasks by name.
    out: The folder to write into.
  """
  trainings = sum(not row["what"].startswith("answer") for row in rows)
  tables = {
    name: Table(own, task)
    for name, task in tasks.items()
    if (own := [row for row in rows if row["task"] == name])
  }
  parts = [_HEAD.format(trainings=trainings), search_cost_targets.of(tables)]
  for name, table in tables.items():
    parts.append(f"## {table.task.says}\n")
    parts.append(f"![Test value against the cost of the search]({name}.svg)\n")
    draw(table, out / f"{name}.svg")
    parts += [
      _of_methods(table),
      _of_rivals(table),
      _of_answers(table),
      _of_stops(table),
    ]
  text = "\n".join(part for part in parts if part)
  (out / "README.md").write_text(text, "utf-8")


def _of_methods(table: Table) -> str:
  """A line for each method and density."""
  margin = f"{table.factor * table.task.margin:g}"
  lines = [
    f"Tickets against those of iterative pruning, which may be {margin} better:"
    " p is that of the test that they are as good. A ticket matches the dense"
    " network if it is within the default tolerance.",
    "",
    "| density | method | replicates | cost of the search | test | dense |"
    " p, matches | iterative | p, as good |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
  ]
  for density in table.task.densities:
    iterative = table.values("iterative", "ticket", density)
    for method in table.drawing_methods:
      found = table.values(method, "ticket", density)
      if not found:
        continue
      cost = table.values(method, "ticket", density, "search")
      dense = table.values(method, "dense", 1.0)
      allowed = table.values(method, "dense", 1.0, "tolerance")
      tolerance = statistics.mean(allowed.values())
      matches = table.p_better(found, dense, tolerance)
      p = None
      if method != "iterative":
        p = table.p_better(found, iterative, table.task.margin)
      lines.append(
        f"| {density:.1%} | {method} | {len(found)} |"
        f" {statistics.mean(cost.values()):.2f} | {table.text(found)} |"
        f" {table.text(dense)} | {_p(matches)} |"
        f" {table.text(iterative)} | {_p(p)} |"
      )
  return "\n".join(lines) + "\n"


def _of_rivals(table: Table) -> str:
  """A line for each rival of a ticket."""
  lines = []
  for method in table.methods:
    for density in table.task.densities:
      ticket = table.values(method, "ticket", density)
      rivals = dict.fromkeys(
        row["what"]
        for row in table.rows
        if row["method"] == method and not row["what"].startswith("answer")
      )
      for rival in rivals:
        found = table.values(method, rival, density)
        if rival in ("dense", "ticket") or not found:
          continue
        cost = table.values(method, rival, density, "training")
        lines.append(
          f"| {density:.1%} | {method} | {rival} | {len(found)} |"
          f" {statistics.mean(cost.values()):.2f} | {table.text(found)} |"
          f" {table.text(ticket)} | {_p(table.p_better(ticket, found))} |"
          f" {_p(table.p_better(found, ticket))} |"
        )
  if not lines:
    return ""
  return "\n".join(
    [
      "Tickets against their rivals, with a test in each direction:",
      "",
      "| density | method | rival | replicates | training of the rival | rival"
      " | ticket | p, ticket better | p, rival better |",
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
      *lines,
      "",
    ]
  )


def _of_answers(table: Table) -> str:
  """A line for each method that looks for the smallest matching ticket."""
  lines = []
  for method in table.answering_methods:
    densities = table.answers(method, "density")
    whole = table.answers(method, "training")
    levels = table.levels(method)
    lines.append(
      f"| {method} | {len(densities)} |"
      f" {statistics.median(densities.values()):.1%} |"
      f" {statistics.median(levels):g} ({levels[0]} to {levels[-1]}) |"
      f" {statistics.mean(whole.values()):.2f} |"
      f" {table.price_in_hindsight(method):.2f} |"
    )
  if not lines:
    return ""
  return "\n".join(
    [
      "The smallest matching ticket, by validation data. The price has the"
      " dense network, the search, choosing and the final training; the price"
      " without choosing is that of somebody who knows which Level to train.",
      "",
      "| method | replicates | density (median) | Level of the ladder (range) |"
      " price | price without choosing |",
      "| --- | --- | --- | --- | --- | --- |",
      *lines,
      "",
    ]
  )


def _of_stops(table: Table) -> str:
  """Sentences on the rule that stops a training, and on bisection."""
  tickets = [row for row in table.rows if row["what"] == "ticket"]
  stopped = [row for row in tickets if row["shown"]]
  wrong = [row for row in stopped if float(row["gap"]) > 0]
  matching = [row for row in tickets if float(row["gap"]) == 0]
  saved = sum(1 - float(row["shown"] or 1) for row in matching)
  text = (
    f"The rule that ends a training which has matched for good: of"
    f" {len(tickets)} tickets that were trained to their ends, it would have"
    f" stopped {len(stopped)}, of which {len(wrong)} did not match at their"
    f" ends. Of the steps of the {len(matching)} that match it would have saved"
    f" {saved / max(1, len(matching)):.0%}."
  )
  behind = [
    row
    for row in tickets
    if row["behind"]
    and not (row["shown"] and float(row["shown"]) < float(row["behind"]))
  ]
  lost = [row for row in behind if float(row["gap"]) == 0]
  failing = [row for row in tickets if float(row["gap"]) > 0]
  first = {id(row) for row in behind}
  saved = sum(1 - float(row["behind"]) for row in failing if id(row) in first)
  text += (
    " The rule that ends a training which has fallen behind for good would have"
    f" stopped {len(behind)}, of which {len(lost)} matched at their ends. Of"
    f" the steps of the {len(failing)} that do not match it would have saved"
    f" {saved / max(1, len(failing)):.0%}."
  )
  same, within, count = 0, 0, 0
  for replicate in {row["replicate"] for row in tickets}:
    levels = {
      int(row["level"]): row
      for row in tickets
      if (row["method"], row["replicate"]) == ("iterative", replicate)
    }
    if not levels:
      continue
    every = max(
      (n for n, r in levels.items() if not float(r["gap"])), default=0
    )
    found = choosing.bisection(
      len(levels),
      lambda level, levels=levels: bool(
        levels[level]["shown"] or not float(levels[level]["gap"])
      ),
      lambda level, levels=levels: (
        0 < float(levels[level]["gap"]) < choosing.NEAR
      ),
    )
    # A Level that was stopped and does not match at its end is given up.
    while found and float(levels[found]["gap"]) > 0:
      found -= 1
    same += found == every
    within += abs(found - every) <= 1
    count += 1
  if count:
    text += (
      f" Bisection over the Levels of iterative pruning finds the Level that"
      f" training all of them finds in {same} of {count} replicates, and one"
      f" within a Level of it in {within}."
    )
  return text + "\n"


def _p(p: float | None) -> str:
  if p is None:
    return "-"
  return "< 0.001" if p < 0.001 else f"{p:.3f}"


def draw(table: Table, path: pathlib.Path) -> None:
  """Draws test values against the cost of the search, a panel each density."""
  densities = table.task.densities
  figure, axes = plt.subplots(
    1,
    len(densities),
    figsize=(3.1 * len(densities) + 1.6, 3.4),
    sharey=False,
    layout="constrained",
  )
  colors = plt.get_cmap("tab20").colors
  for axis, density in zip(axes, densities, strict=True):
    dense = list(table.values("iterative", "dense", 1.0).values())
    axis.axhline(
      statistics.mean(dense), color="black", linestyle="--", label="dense"
    )
    for method, color in zip(table.drawing_methods, colors, strict=False):
      found = table.values(method, "ticket", density)
      cost = table.values(method, "ticket", density, "search")
      if not found:
        continue
      mean, values = statistics.mean(found.values()), list(found.values())
      axis.errorbar(
        max(statistics.mean(cost.values()), 0.003),
        mean,
        [[mean - min(values)], [max(values) - mean]],
        fmt="o",
        color=color,
        capsize=3,
        label=method,
      )
    axis.set_xscale("log")
    axis.set_title(f"{density:.1%} of the weights", fontsize=10)
    axis.grid(alpha=0.3)
  figure.supxlabel("cost of the search, in trainings of the dense network")
  axes[0].set_ylabel(
    "test accuracy, %" if table.factor > 1 else "test error (less is better)"
  )
  handles = {}
  for axis in axes:
    for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  figure.legend(
    handles.values(), handles.keys(), loc="outside right upper", fontsize=8
  )
  figure.savefig(path, metadata={"Date": None})
  plt.close(figure)
