"""The page and the figures of `what_matters.py`, from the runs' evidence."""

import csv
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from scripts import what_matters_masks
from tf_lottery.report import drawing
from tf_lottery.report import gallery
from tf_lottery.report import matters
from tf_lottery.report import summaries
from tf_lottery.report import wording
from tf_lottery.report.evidence import Evidence

_FIELDS = (
  *("experiment", "method", "level", "density", "replicate", "steps"),
  *("val_end", "test_end", "val_early", "test_early", "early_stop_step"),
  "tolerance",
)
_HEAD = """\
# What of a ticket matters

    python scripts/what_matters.py --data_dir=~/data

wrote this page from the runs, whose values are in `values.csv`; nothing is
typed by hand. Each control changes one thing in the ticket, or in the search
that drew its mask, as [the guide](../../prove.md#the-controls) says. A
comparison pairs the trainings of one seed; its tests are one-sided, in each
direction, at 5 %. No p value is corrected for the number of comparisons on this
page: where nothing differs, one in twenty says "better" wrongly, and one in
twenty "worse".
"""


def write(
  found: Mapping[str, Evidence],
  shapes: Mapping[str, Sequence[int]],
  out: pathlib.Path,
) -> None:
  """Writes the page, its figures and the values.

  Args:
    found: The evidence by the name of its figure.
    shapes: The shape of the inputs, without channels, by the same name.
    out: The folder to write into.
  """
  out.mkdir(parents=True, exist_ok=True)
  parts = [_HEAD]
  for name, evidence in found.items():
    _, caption, alt, draw = gallery.sketches(evidence)[0]
    drawing.draw(draw, name, out / name)
    parts.append(f"## {heading(evidence)}\n\n{_extent(evidence)}\n")
    parts.append(f"![{alt}]({name}.svg)\n\n*{caption}*\n")
    said = [f"- {sentence}\n" for sentence in matters.sentences(evidence)]
    parts.append("".join(said))
    for when in summaries.MOMENTS:
      parts.append(matters.table(evidence, when).markdown())
    parts.append(what_matters_masks.table(evidence, shapes[name]))
    parts.append(what_matters_masks.searched(evidence))
  (out / "README.md").write_text("\n".join(parts), "utf-8")
  with (out / "values.csv").open("w", newline="") as file:
    writer = csv.DictWriter(file, _FIELDS, lineterminator="\n")
    writer.writeheader()
    for evidence in found.values():
      writer.writerows(rows(evidence))


def heading(evidence: Evidence) -> str:
  """Returns what the experiment is, for people."""
  declared = evidence.runs[0].experiment_declaration
  return str(declared.get("heading", evidence.experiment))


def _extent(evidence: Evidence) -> str:
  count = wording.count(evidence.replicates, "replicate")
  return (
    f"{wording.capital(evidence.metric)}, {count};"
    f" {len(evidence.trainings):,} Rounds took"
    f" {wording.duration(evidence.seconds)}."
  )


def rows(evidence: Evidence) -> Iterator[dict[str, object]]:
  """Yields a line of the CSV for each Round that is trained to its end."""
  same = {
    "experiment": heading(evidence),
    "tolerance": evidence.tolerance_at(),
  }
  for round_ in evidence.compared:
    if round_.done:
      own = (name for name in _FIELDS if name not in same)
      yield same | {name: getattr(round_, name) for name in own}
