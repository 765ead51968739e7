"""The page and the CSV of `transfer_study.py`, from the run directories."""

import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from scripts import csv_rows
from tf_lottery.experiments import Proof
from tf_lottery.report import drawing
from tf_lottery.report import summaries
from tf_lottery.report import tables
from tf_lottery.report import transfer
from tf_lottery.report import wording
from tf_lottery.storage import files

FIELDS = ("task", "source", "target", "replicate", "method", "level")
FIELDS += ("draw", "density", "validation", "test")

_HEAD = """\
# Does a ticket travel?

`scripts/transfer_study.py` wrote this page and `trainings.csv`, which has a
line for each of {trainings:,} trainings of the targets; nothing is typed by
hand:

```shell
python scripts/transfer_study.py --data_dir=~/data
```

In each task, tickets are found by iterative pruning with one experiment, the
source, and then trained on another, the target. The two start from different
initial weights. A transferred ticket *travels* if it matches the target's own
dense network, and is better than its mask with new weights; see
[the guide](../../transfer.md). Each comparison is a one-sided test over the
replicates, by itself at 5 %: no p value is corrected for the number of
comparisons on this page.
"""


def write(proofs: Mapping[str, Proof], out: pathlib.Path) -> None:
  """Writes `README.md` and `trainings.csv`.

  Args:
    proofs: The proof of each target, by the name of the task.
    out: The folder to write into.
  """
  rows = [row for name, proof in proofs.items() for row in _rows(name, proof)]
  csv_rows.write(out / "trainings.csv", FIELDS, rows)
  parts = [_HEAD.format(trainings=len(rows)), "## All tasks", _overview(proofs)]
  for proof in proofs.values():
    parts += [f"## {_title(proof)}", *_task(proof)]
  page = "\n\n".join(part.strip() for part in parts) + "\n"
  files.write_bytes(out / "README.md", page.encode())


def _title(proof: Proof) -> str:
  source = proof.experiment.source
  return f"From {source.heading} to {proof.experiment.heading}"


def _rows(name: str, proof: Proof) -> Iterator[dict[str, Any]]:
  for one in proof.evidence.compared:
    if one.done:
      yield {
        "task": name,
        "source": proof.experiment.source.id,
        "target": proof.experiment.id,
        "replicate": one.replicate,
        "method": one.method,
        "level": one.level,
        "draw": one.draw,
        "density": csv_rows.cell(one.density),
        "validation": csv_rows.cell(one.val_end),
        "test": csv_rows.cell(one.test_end),
      }


def _overview(proofs: Mapping[str, Proof]) -> str:
  """Returns one row for each task and density, with what is shown."""
  pairs: dict[tuple[str, str], None] = {}
  cells: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
  for proof in proofs.values():
    for one in transfer.findings(proof.evidence):
      pair = (one.method, one.against)
      place = (_title(proof), wording.density(one.density))
      points = wording.difference(one.mean - one.other, proof.evidence.percent)
      cells.setdefault(place, {})[pair] = f"{one.word} ({points})"
      pairs[pair] = None
  heads = [
    f"{drawing.style(method).label} against {drawing.style(against).label}"
    for method, against in pairs
  ]
  table = tables.Table(
    "What the tests show, and the difference of the means in points.",
    ("task", "weights left", *heads),
    tuple(
      (*place, *(found.get(pair, "") for pair in pairs))
      for place, found in cells.items()
    ),
  )
  return table.markdown()


def _task(proof: Proof) -> Iterator[str]:
  evidence = proof.evidence
  yield (
    f"The {len(evidence.trainings):,} Rounds of the target took"
    f" {wording.duration(evidence.seconds)}."
  )
  yield transfer.table(proof.evidence).markdown()
  yield _values(proof)


def _values(proof: Proof) -> str:
  """Returns the values of all methods at the Levels that have controls."""
  evidence = proof.evidence
  whole = tables.summary(evidence, summaries.HEADLINE)
  levels = sorted(
    {row.level for row in evidence.summary(evidence.fields["end"])}
  )
  shown = {0, *proof.experiment.controlled()}
  rows = tuple(
    row for level, row in zip(levels, whole.rows, strict=True) if level in shown
  )
  kept = [n for n, name in enumerate(whole.columns) if not _is_beside(name)]
  return tables.Table(
    f"{wording.capital(evidence.metric)} at the end of training: mean (minimum"
    f" to maximum) over {wording.count(evidence.replicates, 'replicate')}.",
    tuple(whole.columns[n] for n in kept),
    tuple(tuple(row[n] for n in kept) for row in rows),
    numeric=True,
  ).markdown()


def _is_beside(column: str) -> bool:
  return column.startswith(("cost", "emptiest", "replicates"))
