"""What of a ticket matters: its start weights, its mask, its search's data.

    pip install '.[all,test]'
    python scripts/what_matters.py --data_dir=~/data

It proves two experiments below `--runs`, with the controls that change one
thing each of what a ticket is. Then it writes docs/results/what_matters: the
page, a figure for each experiment, and values.csv, which has a line for each
training. The same command again goes on where it stopped; when all is there, it
only writes. `--size=smoke` takes minutes.
"""

from __future__ import annotations

import pathlib
import sys

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

_RUNS = flags.DEFINE_string("runs", "runs/what_matters", "The trainings.")
_OUT = flags.DEFINE_string(
  "out",
  str(startup.ROOT / "docs" / "results" / "what_matters"),
  "The folder of the page.",
)
_DATA = flags.DEFINE_string("data_dir", None, "Where Fashion-MNIST lies.")
_SIZE = flags.DEFINE_enum("size", "full", ["full", "smoke"], "How much.")
_PROCESSES = flags.DEFINE_integer("processes", 1, "Replicates at a time.")


def main(argv: list[str]) -> None:
  """Trains what is not there yet, then writes the page."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import what_matters_page
  from scripts import what_matters_tasks as tasks
  from tf_lottery import experiments
  from tf_lottery import report

  declared = tasks.declare(_DATA.value)
  if _SIZE.value == "smoke":
    declared = {name: tasks.smaller(one) for name, one in declared.items()}
  found = {}
  for name, experiment in declared.items():
    proof = experiments.prove(
      experiment, _RUNS.value, processes=_PROCESSES.value
    )
    (found[name],) = report.gather([proof.directory])
  what_matters_page.write(found, tasks.SHAPES, pathlib.Path(_OUT.value))


if __name__ == "__main__":
  startup.run(main)
