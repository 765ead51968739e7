"""Finds from which step on training is stable, and what tickets gain by it.

    pip install '.[all,test]'
    python scripts/stability_study.py --data_dir=~/data

For each task of `stability_tasks.py` it searches with `rewind="auto"` and with
a rewind to initialisation, and measures barriers: between two orders of the
data at several steps, and between successive Levels. Each result is a line of
docs/results/stability/results.csv; the page is written beside it. The same
command goes on where it stopped. `--only=lenet_mnist_5k:0-1` trains these
replicates alone, so that processes can share the work.
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

_RUNS = flags.DEFINE_string("runs", "runs/stability", "The trainings.")
_OUT = flags.DEFINE_string(
  "out",
  str(startup.ROOT / "docs" / "results" / "stability"),
  "The folder of the page.",
)
_DATA = flags.DEFINE_string("data_dir", None, "Where Fashion-MNIST lies.")
_ONLY = flags.DEFINE_list(
  "only", None, "Only these replicates, such as resnet:0-2. Default: all."
)
_STEPS = flags.DEFINE_integer(
  "steps", None, "Shorter trainings, to try the script.", 8
)


def main(argv: list[str]) -> None:
  """Trains what is not there yet, then writes the page."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import csv_rows
  from scripts import stability_runs
  from scripts import stability_tasks

  tasks = stability_tasks.tasks(_DATA.value, _STEPS.value)
  path = pathlib.Path(_OUT.value) / "results.csv"
  counts = {name: task.replicates for name, task in tasks.items()}
  for name, replicates in chosen_replicates.parse(_ONLY.value, counts):
    for replicate in replicates:
      stability_runs.train(tasks[name], name, replicate, _RUNS.value, path)
  if _ONLY.value is None:
    from scripts import stability_page

    stability_page.write(csv_rows.read(path), tasks, path.parent)


if __name__ == "__main__":
  startup.run(main)
