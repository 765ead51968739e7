"""Asks whether tickets still win against a tuned dense network.

    python scripts/tuned_dense.py --data_dir=~/data

It tunes the dense LeNet-300-100 on Fashion-MNIST over the grid of
`tuned_dense_tables.py`, proves the original experiment and the tuned one from
the same seeds, below `--runs`, and writes docs/results/tuned_dense/:
candidates.csv, levels.csv, and the page that is made of them. The same command
again goes on where it stopped; when all is there, it only writes. `--steps=300
--levels=2 --replicates=2` tries it out in minutes: give it another `--out`.
"""

from __future__ import annotations

import pathlib
import sys

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

_RUNS = flags.DEFINE_string("runs", "runs/tuned_dense", "The trainings.")
_OUT = flags.DEFINE_string(
  "out",
  str(startup.ROOT / "docs" / "results" / "tuned_dense"),
  "The folder of the page.",
)
_DATA = flags.DEFINE_string("data_dir", None, "Where Fashion-MNIST lies.")
_STEPS = flags.DEFINE_integer("steps", 10_000, "Steps of a training.", 1)
_LEVELS = flags.DEFINE_integer("levels", 15, "How often to prune.", 1)
_REPLICATES = flags.DEFINE_integer("replicates", 5, "Number of seeds.", 1)
_PROCESSES = flags.DEFINE_integer("processes", 1, "Replicates at a time.", 1)


def main(argv: list[str]) -> None:
  """Trains what is not there yet, then writes the tables and the page."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import csv_rows
  from scripts import tuned_dense_page
  from scripts import tuned_dense_tables as tables
  from tf_lottery import experiments
  from tf_lottery import papers
  from tf_lottery import report

  original = papers.experiment(
    data="fashion_mnist",
    recipe="lenet_300_100",
    data_dir=_DATA.value,
    steps=_STEPS.value,
    levels=_LEVELS.value,
    controls=("random_reinit",),
    control_levels=tables.tested(_LEVELS.value),
    replicates=_REPLICATES.value,
  )
  tuning = experiments.tune(original, tables.GRID, _RUNS.value)
  print(tuning, flush=True)
  proofs = [
    experiments.prove(one, _RUNS.value, processes=_PROCESSES.value)
    for one in (original, tuning.experiment)
  ]
  compared = report.against_tuned(
    *(proof.directory for proof in proofs), when=tuning.when
  )
  print(compared)
  out = pathlib.Path(_OUT.value)
  for name, fields, rows in (
    ("candidates", tables.CANDIDATE_FIELDS, tables.candidate_rows(tuning)),
    ("levels", tables.LEVEL_FIELDS, tables.level_rows(compared)),
  ):
    csv_rows.write(out / f"{name}.csv", fields, rows)
  tuned_dense_page.write(out)


if __name__ == "__main__":
  startup.run(main)
