"""The page and the figures of `what_matters.py`, from the runs' evidence."""

import csv
import pathlib
import statistics
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from scripts import what_matters_masks
from tf_lottery.report import drawing
from tf_lottery.report import gallery
from tf_lottery.report import summaries
from tf_lottery.report import verdicts
from tf_lottery.report import wording
from tf_lottery.report.comparisons import Comparison
from tf_lottery.report.evidence import Evidence

# Replicate -> a value.
Values = Mapping[int, float]

# Control -> the beginning of its sentence; and with what it is compared besides
# the ticket.
CONTROLS = {
  "random_reinit": ("New initial weights under the ticket's mask are", ""),
  "signs": ("The signs of the start weights alone are", "random_reinit"),
  "magnitudes": (
    "The magnitudes of the start weights alone are",
    "random_reinit",
  ),
  "permuted": ("The start weights at other places are", "random_reinit"),
  "shuffled_mask": ("As many weights at other places of each layer are", ""),
  "shuffled_labels": ("The mask of shuffled labels is", "shuffled_mask"),
  "half_data": ("The mask of half the data is", "shuffled_mask"),
  "other_order": ("The mask of another order is", "shuffled_mask"),
  "supermask": ("The ticket's mask without training is", "untrained"),
  "weight_average": ("The average of trained Levels is", ""),
}
_NAMES = {"untrained": "the untrained dense network", "ticket": "the ticket"}
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
    parts.append("\n".join(f"- {line}" for line in sentences(evidence)) + "\n")
    parts += [table(evidence, when) for when in summaries.MOMENTS]
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


def sentences(evidence: Evidence) -> Iterator[str]:
  """Yields a sentence for each control: at which densities it does how."""
  values = _values(evidence, summaries.HEADLINE)
  densities = summaries.level_densities(evidence.compared)
  sign = evidence.sign or 1
  for control, (subject, baseline) in CONTROLS.items():
    levels = [n for n in densities if (control, n) in values]
    said = []
    for other in filter(None, ["ticket", baseline]):
      by_outcome: dict[str, list[str]] = {}
      for level in levels:
        compared = values.get((other, level), {})
        outcome = _outcome(values[control, level], compared, sign)
        density = wording.density(densities[level])
        by_outcome.setdefault(outcome, []).append(density)
      name = _NAMES.get(other, drawing.style(other).label)
      said += [
        f"{outcome} {name} at {wording.listed(at)}"
        for outcome, at in by_outcome.items()
      ]
    if said:
      yield f"{subject} {'; '.join(said)} of the weights."


def table(evidence: Evidence, when: str) -> str:
  """Returns the table of all controls at one moment, as Markdown."""
  values = _values(evidence, when)
  densities = summaries.level_densities(evidence.compared)
  unit = ", points" if evidence.percent else ""
  lines = [
    f"{wording.capital(evidence.metric)} {wording.WHEN[when]}. Differences are"
    " the control's value minus the ticket's; then minus that of the control"
    ' which "against" names.',
    "",
    f"| weights | control | mean | ticket | difference{unit} | p better |"
    f" p worse | against | difference{unit} | p better | p worse |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
  ]
  for level, density in densities.items():
    for control, (_, baseline) in CONTROLS.items():
      if (control, level) not in values:
        continue
      label = drawing.style(control).label
      cells = [wording.density(density), label]
      for shown in (control, "ticket"):
        cells.append(_mean(values[shown, level], evidence))
      cells += _compared(values, control, "ticket", level, evidence)
      cells.append(_NAMES.get(baseline) or drawing.style(baseline).label)
      cells += _compared(values, control, baseline, level, evidence)
      lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines) + "\n"


def _values(evidence: Evidence, when: str) -> dict[tuple[str, int], Values]:
  """Returns (method, Level) -> values, with those of the untrained network."""
  measure = evidence.fields[when]
  found: dict[tuple[str, int], Values] = dict(
    summaries.values_by_replicate(evidence.compared, measure)
  )
  start = f"{measure.split('_')[0]}_start"
  untrained = {
    r.replicate: getattr(r, start) for r in evidence.compared if not r.level
  }
  levels = {level for _, level in found}
  return found | {("untrained", level): untrained for level in levels}


def _mean(values: Values, evidence: Evidence) -> str:
  return wording.value(statistics.mean(values.values()), evidence.percent)


def _compared(
  values: Mapping[tuple[str, int], Values],
  control: str,
  other: str,
  level: int,
  evidence: Evidence,
) -> list[str]:
  """Returns three cells: the difference, and the p values of both tests."""
  if not other:
    return [""] * 3
  first, second = values[control, level], values.get((other, level), {})
  difference = Comparison.of(first, second).difference
  return [
    wording.difference(difference, evidence.percent),
    *map(wording.p_value, _tests(first, second, evidence.sign or 1)),
  ]


def _outcome(first: Values, second: Values, sign: int) -> str:
  """Says how the first does against the second."""
  better, worse = _tests(first, second, sign)
  if better is not None and better < verdicts.SIGNIFICANCE:
    return "better than"
  if worse is not None and worse < verdicts.SIGNIFICANCE:
    return "worse than"
  return "not shown to differ from"


def _tests(
  first: Values, second: Values, sign: int
) -> tuple[float | None, float | None]:
  """Returns the p values of the tests that the first is better, and worse."""
  compared = Comparison.of(first, second)
  higher, lower = compared.p_greater(), compared.p_less()
  return (higher, lower) if sign > 0 else (lower, higher)
