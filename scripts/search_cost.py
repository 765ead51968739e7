"""Compares search methods by what they find and what they cost.

    pip install '.[all,test]'
    python scripts/search_cost.py --data_dir=~/data

It trains the tasks of `search_cost_tasks.py` with each of their methods and
rivals, below `--runs`, and writes a line of docs/results/search_cost/
trainings.csv for each training. Then it writes the page and the figures beside
it. The same command again goes on where it stopped; when all is there, it only
writes. Several processes may share the work: give each its own replicates, as
`--only=lenet:0-2`.
"""

from __future__ import annotations

import pathlib
import sys

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import chosen_replicates
from scripts import startup

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


def main(argv: list[str]) -> None:
  """Trains what is not there yet, then writes the page."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import csv_rows
  from scripts import search_cost_runs
  from scripts import search_cost_tasks

  tasks = search_cost_tasks.tasks(_DATA.value)
  path = pathlib.Path(_OUT.value) / "trainings.csv"
  for name, numbers in chosen_replicates.parse(_ONLY.value, REPLICATES):
    for replicate in numbers:
      search_cost_runs.train(
        name,
        tasks[name],
        replicate,
        REPLICATES[name],
        _RUNS.value,
        path,
        _METHODS.value,
      )
  if _ONLY.value is None:
    from scripts import search_cost_page

    rows = csv_rows.read(path)
    search_cost_page.write(rows, tasks, path.parent)


if __name__ == "__main__":
  startup.run(main)
