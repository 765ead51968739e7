"""What `search_cost.py` trains, and the table that it keeps."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from scripts import csv_rows
from scripts import search_cost_tasks
from tf_lottery.experiments import running
from tf_lottery.experiments import trained
from tf_lottery.search import choosing
from tf_lottery.search import prices
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round
from tf_lottery.search.rounds import tolerance_of

# The answer of a bisection that ends when a budget of 4 trainings is spent.
AT_BUDGET = "answer for 4"

FIELDS = (
  "task",
  "method",
  "replicate",
  "what",  # dense, ticket, answer, the name of a control, or AT_BUDGET
  "level",
  "density",
  "validation",  # the objective at the end of training
  "test",
  "search",  # the cost of the mask, in trainings of the dense network
  "search_sparse",  # the same for hardware that skips zeros
  "training",  # the cost of this training; of an answer, of everything
  "training_sparse",
  "shown",  # the part of the training after which it had matched for good
  "behind",  # the part of it after which it had fallen behind for good
  "gap",  # how much it missed the dense network at its end, in noise
  "direction",  # whether more (max) or less (min) of the objective is better
  "tolerance",  # by how much a ticket may be worse and match
)


def train(
  name: str,
  task: search_cost_tasks.Task,
  replicate: int,
  replicates: int,
  runs: str | os.PathLike,
  path: pathlib.Path,
  methods: Sequence[str] | None = None,
) -> None:
  """Trains one replicate by each method; one compile serves them all.

  Args:
    name: The name of the task.
    task: The task.
    replicate: The number of the replicate, from 0.
    replicates: How many there are.
    runs: The folder of the run directories.
    path: The CSV, which gets a line for each training. What it has is not
      trained again.
    methods: Only these. Defaults to `None`: all.
  """
  done = {
    (r["task"], r["method"], int(r["replicate"])) for r in csv_rows.read(path)
  }
  trainer = data = dense = None
  for method, experiment in task.experiments(name, replicates).items():
    left_out = methods and method not in methods
    if left_out or (name, method, replicate) in done:
      continue
    trainer = trainer or experiment.make_trainer()
    data = data or experiment.load(replicate)
    directory = trained.run_dir(experiment, replicate, runs)
    if dense and not (directory / dense.name).exists():
      # All methods have the same dense network: it is trained once.
      copy = directory.with_name(f"{directory.name}-copy")
      shutil.rmtree(copy, ignore_errors=True)
      shutil.copytree(dense, copy)
      directory.mkdir(parents=True, exist_ok=True)
      copy.rename(directory / dense.name)
    search = running.run(
      experiment, replicate, runs, trainer=trainer, data=data
    )
    dense = search.directory.level(0).path
    rows = rows_of(search)
    own = {"task": name, "method": method, "replicate": replicate}
    rows = [{**_rounded(row), **own} for row in rows]
    csv_rows.append(path, FIELDS, rows)
    print(name, method, replicate, flush=True)


def rows_of(search: Search) -> list[dict[str, Any]]:
  """A row for each training, and for the answers of the search."""
  dense, metric = search.round(0), search.objective.name
  matching = choosing.Matching(search)
  rows = []
  for level, control, _, directory in search.directory.rounds():
    if not directory.is_done or prices.is_superseded(control):
      continue
    round_ = Round.read(directory)
    if round_.stopped:
      continue
    spent = search.spent_on(level)
    shown = matching.steps_until_shown(round_)
    behind = matching.steps_until_behind(round_)
    rows.append(
      {
        "what": control or ("ticket" if level else "dense"),
        "level": level,
        "density": round_.density,
        "validation": round_.metrics[f"val_{metric}"],
        "test": round_.metrics[f"test_{metric}"],
        "search": spent.trainings(dense.cost),
        "search_sparse": spent.sparse_trainings(dense.cost),
        "training": round_.cost.trainings(dense.cost),
        "training_sparse": round_.cost.sparse_trainings(dense.cost),
        "shown": "" if shown is None else shown / round_.steps,
        "behind": "" if behind is None else behind / round_.steps,
        "gap": matching.gap(round_),
        "direction": search.objective.direction,
        "tolerance": tolerance_of(dense, search.objective),
      }
    )
  found, price = search.smallest_matching_level(), search.price()
  answer = next(
    row
    for row in rows
    if row["level"] == found and row["what"] in ("ticket", "dense")
  )
  whole = prices.total(price)
  spent = {
    "training": whole.trainings(dense.cost),
    "training_sparse": whole.sparse_trainings(dense.cost),
  }
  answers = [{**answer, **spent, "what": "answer"}]
  if search.choose is choosing.bisect:
    answers.append(_within(search, matching, 4.0))
  return [*rows, *answers]


def _within(
  search: Search, matching: choosing.Matching, budget: float
) -> dict[str, Any]:
  """Returns the answer of a bisection that ends when a budget is spent.

  It asks about the same Levels, pays for the trainings that drew them, and
  gives up what has fallen behind, as a search with a budget does. What is left
  must be enough to train a Level to its end if it matches, and the best one so
  far if it does not.
  """
  dense, budget = search.round(0).cost, budget + 1e-6
  # What the trainings of the search cost, and how many were needed so far.
  costs = [
    Round.read(directory).cost.trainings(dense)
    for directory in search.directory.searches()
  ]
  needed, spent, answer, reserve = 0, 1.0, 0, 0.0

  def matches(level: int) -> bool:
    nonlocal needed, spent, answer, reserve
    round_ = search.round(level)
    spent += sum(costs[needed : round_.search])
    needed = max(needed, round_.search or 0)
    if spent + 1 > budget:
      raise _Spent
    found = matching.is_reached_by(round_)
    steps, _ = matching.outcome(round_)  # it may give up a Level, too
    part = steps / search.steps
    if not found and spent + part + reserve > budget:
      raise _Spent
    spent += part
    if found:
      answer, reserve = level, 1 - part
    return found

  def is_near(level: int) -> bool:
    return matching.gap(search.round(level)) < choosing.NEAR

  with contextlib.suppress(_Spent):
    choosing.bisection(len(search.schedule), matches, is_near)
  density = search.schedule[answer - 1] if answer else 1.0
  return {
    "what": AT_BUDGET,
    "level": answer,
    "density": density,
    "search": sum(costs[:needed]),
    "training": spent + reserve,
    "direction": search.objective.direction,
  }


class _Spent(Exception):
  """Nothing is left of the budget."""


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
  """Writes numbers with as many digits as tell anything."""
  return {
    name: f"{value:.6g}" if isinstance(value, float) else value
    for name, value in row.items()
  }
