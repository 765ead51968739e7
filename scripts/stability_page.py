"""The page and the figures of `stability_study.py`, from its CSV."""

import pathlib
import statistics
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from scripts.stability_tasks import Task
from tf_lottery.report import drawing
from tf_lottery.report.comparisons import Comparison

Row = Mapping[str, str]

_HEAD = """\
# From which step on is training stable?

`python scripts/stability_study.py --data_dir=~/data` wrote this page from
`results.csv`; nothing is typed by hand. Two trainings start from the same
weights of the dense network at a step, and see the data in different orders.
The *barrier* between their ends is how much worse the worst network on the line
between them is than the mean of the two, in points of test accuracy. Training
is *stable* from that step on if the barrier is below 2 % of what training
gained, which is close to the 2 points of Frankle et al. (arXiv 1912.05671). In
parentheses are the least and the greatest of all replicates.
"""


def write(
  rows: Sequence[Row], tasks: Mapping[str, Task], out: pathlib.Path
) -> None:
  """Writes the page and a figure for each task.

  Args:
    rows: The lines of the CSV.
    tasks: The tasks by name.
    out: The folder to write into.
  """
  parts = [_HEAD]
  for name, task in tasks.items():
    own = [row for row in rows if row["task"] == name]
    if not own:
      continue
    parts.append(f"## {task.says[0].upper()}{task.says[1:]}\n")
    parts.append(_found(own))
    parts.append(_orders(own))
    parts.append(f"![Barrier against the step]({name}.png)\n")
    _draw(own, out / name)
    if task.both:
      parts.append(_tickets(own))
    parts.append(_levels(own))
  (out / "README.md").write_text("\n".join(parts), "utf-8")


def _select(rows: Iterable[Row], **values: str) -> list[Row]:
  return [row for row in rows if values.items() <= row.items()]


def _by_replicate(rows: Iterable[Row], column: str = "value") -> dict:
  return {int(row["replicate"]): 100 * float(row[column]) for row in rows}


def _spread(values: Iterable[float]) -> str:
  found = list(values)
  mean, low, high = statistics.mean(found), min(found), max(found)
  return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _sorted(rows: Iterable[Row], column: str) -> list[str]:
  return sorted({row[column] for row in rows}, key=float)


def _found(rows: Sequence[Row]) -> str:
  """Says which step the search has found."""
  found = _select(rows, what="found")
  steps = [row["step"] for row in found]
  text = (
    f'`rewind="auto"` rewinds to step {", ".join(steps)} in the {len(steps)}'
    " replicates, by the validation data."
  )
  unstable = [row["replicate"] for row in found if not float(row["value"])]
  if unstable:
    text += (
      f" In replicate {', '.join(unstable)} no step that was tried is stable,"
      " and the last one is taken."
    )
  return f"{text}\n"


def _orders(rows: Sequence[Row]) -> str:
  """The barriers between two orders of the data, by step."""
  orders = _select(rows, what="orders")
  threshold = statistics.mean(100 * float(row["threshold"]) for row in orders)
  lines = [
    f"Barriers between two orders of the data; stable is below {threshold:.1f}."
    " Where there is batch normalisation, the last column has moving"
    " statistics that are computed anew on the line.",
    "",
    "| weights | from step | barrier | stable | barrier, statistics anew |",
    "| --- | ---: | ---: | ---: | ---: |",
  ]
  for level in _sorted(orders, "level"):
    for step in _sorted(orders, "step"):
      here = _select(orders, level=level, step=step)
      if not here:
        continue
      values = _by_replicate(here)
      limits = _by_replicate(here, "threshold")
      stable = sum(values[n] < limits[n] for n in values)
      density = float(here[0]["density"])
      lines.append(
        f"| {density:.1%} | {step} | {_spread(values.values())} | {stable} of"
        f" {len(values)} |"
        f" {_spread(_by_replicate(here, 'recomputed').values())} |"
      )
  return "\n".join(lines) + "\n"


def _tickets(rows: Sequence[Row]) -> str:
  """Tickets that rewind to the step found, against those rewound to init."""
  auto = _select(rows, rewind="auto")
  init = _select(rows, rewind="init")
  dense = _by_replicate(_select(auto, what="dense"))
  lines = [
    "Test accuracy at the end, in percent, of tickets of iterative pruning that"
    " rewind to the step that was found, and of those that rewind to"
    f" initialisation. Dense networks reach {_spread(dense.values())}. p is of"
    " a one-sided paired test that the first are better; it is not corrected"
    " for the number of rows.",
    "",
    "| weights | rewound to the step | to initialisation | p, step is better |",
    "| --- | ---: | ---: | ---: |",
  ]
  for level in _sorted(_select(auto, what="ticket"), "level"):
    first, second = (
      _select(own, what="ticket", level=level) for own in (auto, init)
    )
    values = _by_replicate(first), _by_replicate(second)
    if not all(values):
      continue
    p = Comparison.of(*values).p_greater()
    lines.append(
      f"| {float(first[0]['density']):.1%} | {_spread(values[0].values())} |"
      f" {_spread(values[1].values())} |"
      f" {'' if p is None else f'{p:.3f}'} |"
    )
  return "\n".join(lines) + "\n"


def _levels(rows: Sequence[Row]) -> str:
  """The barriers between successive Levels of one search."""
  levels = _select(rows, what="levels")
  lines = [
    "Barriers between the trained networks of successive Levels of one search.",
    "",
    "| rewound to | weights of the smaller | barrier | statistics anew |",
    "| --- | --- | ---: | ---: |",
  ]
  names = {"auto": "the step that was found", "init": "initialisation"}
  for rewind in sorted({row["rewind"] for row in levels}):
    own = _select(levels, rewind=rewind)
    for level in _sorted(own, "level"):
      here = _select(own, level=level)
      lines.append(
        f"| {names[rewind]} | {float(here[0]['density']):.1%} |"
        f" {_spread(_by_replicate(here).values())} |"
        f" {_spread(_by_replicate(here, 'recomputed').values())} |"
      )
  return "\n".join(lines) + "\n"


def _draw(rows: Sequence[Row], path: pathlib.Path) -> None:
  """Draws the mean barrier against the step, a line for each Level."""
  orders = _select(rows, what="orders")
  levels = _sorted(orders, "level")

  def figure():
    made, axes = drawing.axes(
      "step from which the order of the data differs",
      "barrier, points of test accuracy",
    )
    steps = [int(step) for step in _sorted(orders, "step")]
    colours = drawing.ramp(len(levels))
    for level, colour in zip(levels, colours, strict=True):
      means, label = [], "dense network"
      own = [int(row["step"]) for row in _select(orders, level=level)]
      for step in sorted(set(own)):
        here = _select(orders, level=level, step=str(step))
        values = list(_by_replicate(here).values())
        means.append(statistics.mean(values))
        axes.plot([step] * len(values), values, ".", color=colour, alpha=0.5)
        if int(level):
          label = f"{float(here[0]['density']):.1%} of the weights"
      axes.plot(sorted(set(own)), means, color=colour, marker="o", label=label)
    axes.set_xscale("symlog", linthresh=steps[1], linscale=0.4)
    axes.set_xticks(steps, [str(step) for step in steps])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    limit = statistics.mean(100 * float(row["threshold"]) for row in orders)
    axes.axhspan(0, limit, color=drawing.FAINT, zorder=0, label="stable")
    drawing.legend(made)
    return made

  drawing.draw(figure, path.name, path)
