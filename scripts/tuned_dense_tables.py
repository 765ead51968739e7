"""The recipes that `tuned_dense.py` tries, and the rows of its tables."""

from __future__ import annotations

import itertools
import typing
from typing import Any

from scripts import csv_rows

if typing.TYPE_CHECKING:
  from tf_lottery import experiments
  from tf_lottery.report import tuned

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
