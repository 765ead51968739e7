"""Compares search methods by what they find and what they cost.

    python scripts/search_cost.py --data_dir=~/data

It trains the tasks of `search_cost_tasks.py` with each of their methods and
rivals, below `--runs`, and writes a line of docs/results/search_cost/
trainings.csv for each training. Then it writes the page and the figures beside
it. The same command again goes on where it stopped; when all is there, it only
writes. Several processes may share the work: give each
its own replicates, as `--only=lenet:0-2`. All of it takes about an hour on two
quiet cores.
"""

from __future__ import annotations

import csv
import io
import pathlib
import re
import shutil
import sys
import typing
from typing import Any

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

if typing.TYPE_CHECKING:
  from scripts import search_cost_tasks
  from tf_lottery.search.loop import Search

_RUNS = flags.DEFINE_string("runs", "runs/search_cost", "The trainings.")
_OUT = flags.DEFINE_string(
  "out",
  str(startup.ROOT / "docs" / "results" / "search_cost"),
  "The folder of the page.",
)
_DATA = flags.DEFINE_string("data_dir", None, "Where Fashion-MNIST lies.")
_ONLY = flags.DEFINE_list(
  "only", None, "Only these replicates, such as lenet:0-4. Default: all."
)
_METHODS = flags.DEFINE_list("methods", None, "Only these. Default: all.")

REPLICATES = {"lenet": 5, "mnist_1d": 5, "cnn": 5, "table": 5}
FIELDS = (
  "task",
  "method",
  "replicate",
  "what",  # dense, ticket, answer, or the name of a control
  "level",
  "density",
  "validation",  # the objective at the end of training
  "test",
  "search",  # the cost of the mask, in trainings of the dense network
  "search_sparse",  # the same for hardware that skips zeros
  "training",  # the cost of this training; of an answer, of everything
  "training_sparse",
  "shown",  # the part of the training after which it had matched for good
  "gap",  # how much it missed the dense network at its end, in noise
)


def main(argv: list[str]) -> None:
  """Trains what is not there yet, then writes the page."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import search_cost_tasks

  tasks = search_cost_tasks.tasks(_DATA.value)
  path = pathlib.Path(_OUT.value) / "trainings.csv"
  done = {(r["task"], r["method"], int(r["replicate"])) for r in read(path)}
  for name, numbers in _wanted(_ONLY.value).items():
    for replicate in numbers:
      train(name, tasks[name], replicate, done, path)
  if _ONLY.value is None:
    from scripts import search_cost_page

    search_cost_page.write(read(path), tasks, path.parent)


def _wanted(only: list[str] | None) -> dict[str, range]:
  """Returns the replicates of each task to be trained."""
  if only is None:
    return {name: range(count) for name, count in REPLICATES.items()}
  wanted = {}
  for text in only:
    match = re.fullmatch(r"(\w+):(\d+)-(\d+)", text)
    if not match or match[1] not in REPLICATES:
      raise app.UsageError(
        f"--only takes {', '.join(REPLICATES)} with replicates, such as"
        f" lenet:0-4; got {text!r}."
      )
    wanted[match[1]] = range(int(match[2]), int(match[3]) + 1)
  return wanted


def train(
  name: str,
  task: search_cost_tasks.Task,
  replicate: int,
  done: set[tuple[str, str, int]],
  path: pathlib.Path,
) -> None:
  """Trains one replicate by each method; one compile serves them all."""
  from tf_lottery.experiments import running
  from tf_lottery.experiments import trained

  trainer = data = dense = None
  for method, experiment in task.experiments(name, REPLICATES[name]).items():
    left_out = _METHODS.value and method not in _METHODS.value
    if left_out or (name, method, replicate) in done:
      continue
    trainer = trainer or experiment.make_trainer()
    data = data or experiment.load(replicate)
    directory = trained.run_dir(experiment, replicate, _RUNS.value)
    if dense and not directory.exists():
      # All methods have the same dense network: it is trained once.
      shutil.copytree(dense, directory / dense.name)
    search = running.run(
      experiment, replicate, _RUNS.value, trainer=trainer, data=data
    )
    dense = search.directory.level(0).path
    rows = rows_of(search)
    for row in rows:
      row |= {"task": name, "method": method, "replicate": replicate}
    append(path, rows)
    print(name, method, replicate, flush=True)


def rows_of(search: Search) -> list[dict[str, Any]]:
  """A row for each training, and one for the answer of the search."""
  from tf_lottery.search import choosing
  from tf_lottery.search import prices
  from tf_lottery.search.rounds import Round

  dense, metric = search.round(0), search.objective.name
  matching = choosing.Matching(search)
  rows = []
  for level, control, _, directory in search.directory.rounds():
    if not directory.is_done or prices.is_superseded(control):
      continue
    round_ = Round.read(directory)
    if round_.stopped:
      continue
    spent, shown = search.spent_on(level), matching.steps_until_shown(round_)
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
        "gap": matching.gap(round_),
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
  return [*rows, {**answer, **spent, "what": "answer"}]


def read(path: pathlib.Path) -> list[dict[str, str]]:
  """The rows that are there."""
  if not path.is_file():
    return []
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


def append(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
  """Adds rows, below a header in a new file, all of them or none."""
  text = io.StringIO()
  writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
  if not path.is_file():
    writer.writeheader()
  for row in rows:
    writer.writerow(
      {
        name: f"{value:.6g}" if isinstance(value, float) else value
        for name, value in row.items()
      }
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a") as file:
    file.write(text.getvalue())


if __name__ == "__main__":
  startup.run(main)
