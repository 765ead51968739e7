"""Tries the tickets of one experiment on another: do they travel?

    pip install '.[all,test]'
    python scripts/transfer_study.py --data_dir=~/data

It finds tickets with the sources of `transfer_study_tasks.py`, and trains them
on the targets beside the targets' own tickets and controls, below `--runs`.
Then it writes docs/results/transfer/README.md and trainings.csv. The same
command again goes on where it stopped; when all is there, it only writes.
"""

from __future__ import annotations

import pathlib
import sys

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

_RUNS = flags.DEFINE_string("runs", "runs/transfer", "The trainings.")
_OUT = flags.DEFINE_string(
  "out",
  str(startup.ROOT / "docs" / "results" / "transfer"),
  "The folder of the page.",
)
_DATA = flags.DEFINE_string("data_dir", None, "Where Fashion-MNIST lies.")
_TASKS = flags.DEFINE_list("tasks", None, "Only these tasks. Default: all.")
_PROCESSES = flags.DEFINE_integer(
  "processes", 1, "How many replicates run at a time."
)


def main(argv: list[str]) -> None:
  """Trains what is not there yet, then writes the page."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import transfer_study_page
  from scripts import transfer_study_tasks
  from tf_lottery.experiments import prove

  tasks = transfer_study_tasks.tasks(_DATA.value)
  wanted = _TASKS.value or list(tasks)
  if unknown := sorted(set(wanted) - tasks.keys()):
    raise app.UsageError(
      f"--tasks takes {', '.join(tasks)}; got {', '.join(unknown)}."
    )
  proofs = {}
  for name in wanted:
    proofs[name] = prove(tasks[name], _RUNS.value, processes=_PROCESSES.value)
    print(f"{name}\n\n{proofs[name]}\n", flush=True)
  transfer_study_page.write(proofs, pathlib.Path(_OUT.value))


if __name__ == "__main__":
  startup.run(main)
