"""Asks whether tickets still win against a tuned dense network.

    python scripts/tuned_dense.py --data_dir=~/data

It tunes the dense LeNet-300-100 on Fashion-MNIST over `GRID`, proves the
original experiment and the tuned one from the same seeds, below `--runs`, and
writes docs/results/tuned_dense/: candidates.csv, levels.csv, and the page that
is made of them. The same command again goes on where it stopped; when all is
there, it only writes. `--steps=300 --levels=2 --replicates=2` tries it out in
minutes: give it another `--out`.
"""

from __future__ import annotations

import itertools
import pathlib
import sys
import typing
from typing import Any

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import csv_rows
from scripts import startup

if typing.TYPE_CHECKING:
  from tf_lottery import experiments
  from tf_lottery.report import tuned

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

# The second learning rate is that of the paper, which has no decay.
RATES = (6e-4, 1.2e-3, 2.4e-3)
DECAYS = (None, "cosine")
REGULARISERS = ({}, {"weight_decay": 0.1}, {"label_smoothing": 0.1})
GRID = (
  *(
    {"learning_rate": rate, "decay": decay, **regulariser}
    for rate, decay, regulariser in itertools.product(
      RATES, DECAYS, REGULARISERS
    )
  ),
  # At one rate alone: XLA makes dropout many times slower on a CPU.
  *(
    {"learning_rate": 1.2e-3, "decay": decay, "dropout": 0.2}
    for decay in DECAYS
  ),
)
# The Levels that have random reinits, and are tested.
TESTED = (3, 7, 9, 12, 15)

ARGUMENTS = (
  *("learning_rate", "decay", "weight_decay", "dropout", "label_smoothing"),
)
CANDIDATE_FIELDS = (
  *ARGUMENTS,
  "early",  # validation accuracy at the lowest validation loss
  "end",  # validation accuracy at the end of training
  "chosen",  # early or end: the moment for which the candidate is chosen
  "steps",
  "replicates",
  "trainings",  # what the whole grid cost, in trainings of the dense network
)
_JUDGED = ("mean", "word", "p_matching", "p_better", "p_reinit")
LEVEL_FIELDS = (
  "level",
  "density",
  "replicates",
  "tolerance",
  "dense",
  "tuned_dense",
  *(f"original_{name}" for name in _JUDGED),
  *(f"tuned_{name}" for name in _JUDGED),
)


def main(argv: list[str]) -> None:
  """Trains what is not there yet, then writes the tables and the page."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import tuned_dense_page
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
    control_levels=tested(_LEVELS.value),
    replicates=_REPLICATES.value,
  )
  tuning = experiments.tune(original, GRID, _RUNS.value)
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
    ("candidates", CANDIDATE_FIELDS, candidate_rows(tuning)),
    ("levels", LEVEL_FIELDS, level_rows(compared)),
  ):
    csv_rows.write(out / f"{name}.csv", fields, rows)
  tuned_dense_page.write(out)


def tested(levels: int) -> tuple[int, ...]:
  """Returns the Levels of `TESTED` that there are; the last one without any."""
  return tuple(n for n in TESTED if n <= levels) or (levels,)


def candidate_rows(tuning: experiments.Tuning) -> list[dict[str, Any]]:
  """Returns a row for each candidate."""
  return [
    {
      **{name: csv_rows.cell(one.arguments.get(name)) for name in ARGUMENTS},
      "early": csv_rows.cell(one.values["early"]),
      "end": csv_rows.cell(one.values["end"]),
      "chosen": tuning.when if one is tuning.chosen else "",
      "steps": one.rounds[0].steps,
      "replicates": len(one.rounds),
      "trainings": csv_rows.cell(tuning.trainings),
    }
    for one in tuning.candidates
  ]


def level_rows(compared: tuned.AgainstTuned) -> list[dict[str, Any]]:
  """Returns a row for each Level."""
  return [
    {
      "level": row.level,
      "density": csv_rows.cell(row.density),
      "replicates": compared.plain.replicates,
      "tolerance": csv_rows.cell(compared.tuned.tolerance_at()),
      "dense": csv_rows.cell(row.dense),
      "tuned_dense": csv_rows.cell(row.tuned_dense),
      **{
        f"{recipe}_{name}": csv_rows.cell(getattr(judged, name, None))
        for recipe, judged in (("original", row.original), ("tuned", row.tuned))
        for name in _JUDGED
      },
    }
    for row in compared.rows
  ]


if __name__ == "__main__":
  startup.run(main)
