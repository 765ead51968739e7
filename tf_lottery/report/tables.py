"""Tables of one experiment, as text for a page, and for Markdown."""

import dataclasses
import json
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery import trials as trials_lib
from tf_lottery.report import drawing
from tf_lottery.report import evidence as evidence_lib
from tf_lottery.report import figures
from tf_lottery.report import summaries
from tf_lottery.report import wording

_WHEN = {
  summaries.EARLY: "at early stop",
  summaries.END: "at the end",
}
# Long, or told elsewhere on the page.
_LEFT_OUT = ("initial", "layers", "schedule", "seed", "weights")


@dataclasses.dataclass(frozen=True)
class Table:
  """Cells as text.

  Attributes:
    caption: what the table shows.
    columns: the head.
    rows: as many cells in each; the first names the row.
    numeric: whether cells after the first are numbers, to align them.
  """

  caption: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  numeric: bool = False

  def markdown(self) -> str:
    """The table as Markdown."""
    align = "---:" if self.numeric else "---"
    lines = [
      self.columns,
      ("---", *[align] * (len(self.columns) - 1)),
      *([_escaped(cell) for cell in row] for row in self.rows),
    ]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{self.caption}\n\n{body}\n"


def summary(evidence: evidence_lib.Evidence, when: str) -> Table:
  """Mean, minimum and maximum of each method, Level by Level."""
  rows = evidence.summary(evidence.fields[when])
  return _by_level(
    f"{_capital(evidence.metric)} {_WHEN[when]}: mean (minimum to maximum).",
    rows,
    lambda row: _cell(row, lambda x: wording.value(x, evidence.percent)),
  )


def steps(evidence: evidence_lib.Evidence) -> Table:
  """The step of the early stop of each method, Level by Level."""
  return _by_level(
    "Step of the early stop, the minimum of the validation loss: mean"
    " (minimum to maximum).",
    evidence.summary(summaries.STEP),
    lambda row: _cell(row, lambda x: f"{x:,.0f}"),
  )


def verdicts(evidence: evidence_lib.Evidence, when: str) -> Table:
  """The verdict on each Level, with its numbers."""
  percent = evidence.percent
  unit = ", points" if percent else ""
  rows = [
    (
      wording.density(v.density),
      v.word,
      wording.difference(v.difference, percent),
      wording.p_value(v.p_matching),
      wording.p_value(v.p_below),
      wording.difference(v.reinit_difference, percent),
      wording.p_value(v.p_reinit),
      f"{v.n_ticket} / {v.n_dense} / {v.n_reinit}",
      v.reason,
    )
    for v in evidence.verdicts(when)
  ]
  return Table(
    f"Verdicts by {evidence.metric} {_WHEN[when]}. Differences are those of"
    " means; n counts replicates of ticket, dense and reinit.",
    (
      "weights left",
      "verdict",
      f"ticket {wording.MINUS} dense{unit}",
      "p matching",
      "p below",
      f"ticket {wording.MINUS} reinit{unit}",
      "p above reinit",
      "n",
      "because",
    ),
    tuple(rows),
  )


def claims(evidence: evidence_lib.Evidence) -> Table:
  """The paper's claims, and whether they hold here."""
  rows = []
  for f in evidence.findings():
    early = f.measure == evidence.fields[summaries.EARLY]
    sooner = f.measure == summaries.STEP
    numbers = [
      f"{drawing.style(method).label}"
      f" {f'{x:,.0f}' if sooner else wording.value(x, evidence.percent)}"
      for method, x in ((f.claim.first, f.first), (f.claim.second, f.second))
    ]
    when = summaries.EARLY if early else summaries.END
    rows.append(
      (
        f.claim.sentence,
        "by step" if sooner else _WHEN[when],
        f.word,
        wording.density(f.density),
        "; ".join(numbers),
        f"{wording.p_value(f.p)} / {wording.p_value(f.p_against)}",
        str(f.n),
      )
    )
  return Table(
    "Claims of Frankle and Carbin (arXiv 1803.03635), tested here. One cannot"
    " tell where n replicates vary too much, or are too few.",
    (
      "claim",
      "compared",
      "here",
      "weights left",
      "means",
      "p for / against",
      "n",
    ),
    tuple(rows),
  )


def declaration(evidence: evidence_lib.Evidence) -> Table:
  """How the runs were made."""
  declared = [run.declaration for run in evidence.runs]
  records = [
    trials_lib.read_record(leg)
    for run in evidence.runs
    for *_, leg in run.directory.legs()
  ]
  versions = _merged(record.get("versions", {}) for record in records)
  seconds = sum(trial.seconds for trial in evidence.trials)
  facts = {
    "runs": wording.count(len(evidence.runs), "run")
    + f", {wording.count(evidence.replicates, 'replicate')} of dense done",
    "seeds": _joined(d.get("seed") for d in declared),
    "trainings": f"{sum(t.done for t in evidence.trials):,} done"
    + f", {evidence.unfinished:,} to do" * bool(evidence.unfinished),
    "time": f"{seconds:,.0f} s of training and evaluation",
    "weights": _joined(_weights(d.get("weights", ())) for d in declared),
    "schedule": _joined(_schedule(d.get("schedule", ())) for d in declared),
    **{
      name.replace("_", " "): _joined(d.get(name) for d in declared)
      for name in sorted({name for d in declared for name in d})
      if name not in _LEFT_OUT
    },
    **{f"version of {name}": text for name, text in versions.items()},
  }
  if machine := facts.pop("version of machine", ""):
    facts["machine"] = machine
  facts |= {
    f"declared {name}": _plain(item)
    for name, item in evidence.runs[0].declared.items()
    if name != "id"
  }
  rows = tuple((name, text) for name, text in facts.items() if text)
  return Table("How the runs were made.", ("what", "value"), rows)


def _by_level(caption: str, rows: Sequence[summaries.Summary], text) -> Table:
  """The dense network is a row, among the tickets: it has no other Level."""
  names = {"dense": "ticket"}
  cells = {
    (row.level, names.get(row.method, row.method)): text(row) for row in rows
  }
  methods = list(dict.fromkeys(names.get(m, m) for m in figures.in_order(rows)))
  densities = {
    row.level: wording.density(row.density) + ", dense" * (not row.level)
    for row in rows
  }
  return Table(
    caption,
    ("weights left", *(drawing.style(method).label for method in methods)),
    tuple(
      (densities[level], *(cells.get((level, m), "") for m in methods))
      for level in sorted(densities)
    ),
    numeric=True,
  )


def _cell(row: summaries.Summary, text) -> str:
  if row.draws == 1:
    return text(row.mean)
  low, high = (text(x).removesuffix(" %") for x in (row.low, row.high))
  return f"{text(row.mean)} ({low}{wording.TO}{high})"


def _merged(mappings: Iterable[Mapping[str, Any]]) -> dict[str, str]:
  values: dict[str, list[Any]] = {}
  for mapping in mappings:
    for name, value in mapping.items():
      values.setdefault(str(name), []).append(value)
  return {name: _joined(items) for name, items in values.items()}


def _joined(values: Iterable[Any]) -> str:
  """The values that differ, each once."""
  return ", ".join(dict.fromkeys(_plain(v) for v in values if v is not None))


def _plain(value: Any) -> str:
  text = value if isinstance(value, str) else json.dumps(value)
  return text if len(text) <= 300 else text[:300] + " ..."


def _weights(
  weights: Sequence[tuple[str, Sequence[int], bool]],
) -> str | None:
  """Which weights can be pruned, by shape."""
  if not weights:
    return None
  shapes = [shape for _, shape, prunable in weights if prunable]
  return ", ".join(wording.TIMES.join(map(str, shape)) for shape in shapes)


def _schedule(schedule: Sequence[float]) -> str | None:
  """From the first to the last density."""
  if not schedule:
    return None
  first, last = wording.density(schedule[0]), wording.density(schedule[-1])
  return f"{wording.count(len(schedule), 'Level')} from {first} to {last}"


def _escaped(cell: str) -> str:
  return cell.replace("|", "\\|").replace("\n", " ")


def _capital(text: str) -> str:
  return text[:1].upper() + text[1:]
