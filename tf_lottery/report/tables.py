"""The tables of one experiment, with cells of text."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery import text_table
from tf_lottery.report import costs
from tf_lottery.report import drawing
from tf_lottery.report import figures
from tf_lottery.report import methods
from tf_lottery.report import summaries
from tf_lottery.report import wording
from tf_lottery.report.evidence import Evidence
from tf_lottery.report.records import RoundRecord
from tf_lottery.report.verdicts import Verdict

# Fields of a declaration that are long or stand elsewhere on the page.
_LEFT_OUT = ("initial", "layers", "schedule", "seed", "weights")
# Fields of an experiment that the row "method" tells in words.
_IN_METHOD = ("method", "choose", "budget")


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of text.

  Attributes:
    caption: One or two sentences about the table.
    columns: The head of each column.
    rows: One cell for each column; the first cell names the row.
    numeric: Whether the other cells are numbers, to be aligned to the right.
  """

  caption: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  numeric: bool = False

  def markdown(self) -> str:
    """Returns the caption and the table as Markdown."""
    align = "---:" if self.numeric else "---"
    lines = [
      self.columns,
      ("---", *[align] * (len(self.columns) - 1)),
      *([_escaped(cell) for cell in row] for row in self.rows),
    ]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{self.caption}\n\n{body}\n"


def summary(evidence: Evidence, when: str) -> Table:
  """Returns the mean, minimum and maximum of each method at each Level."""
  rows = evidence.summary(evidence.fields[when])
  caption = (
    f"{wording.capital(evidence.metric)} {wording.WHEN[when]}: mean (minimum to"
    " maximum)."
  )
  table = _by_level(caption, rows, evidence.percent)
  if when != summaries.HEADLINE:
    return table
  levels = sorted({row.level for row in rows})
  if not evidence.trains_all:
    counts = {
      n: f"{of} of {evidence.replicates}" for n, of in evidence.finished.items()
    }
    table = _with_column(table, "replicates", levels, counts)
  training, search = _spent(evidence, levels)
  if training:
    table = _with_column(table, "cost until drawn", levels, search)
    table = _with_column(table, "cost of training", levels, training)
    caption += (
      " Costs are in trainings of the dense network; in parentheses, what"
      " hardware that skips zeros would spend. The cost until drawn is that of"
      " all training until the ticket's mask was drawn, with the dense network"
      " if the mask comes from it; the other is the ticket's own training."
    )
  if emptiest := _emptiest(evidence):
    table = _with_column(table, "emptiest layer", levels, emptiest)
    caption += " The emptiest layer is that of the first replicate's ticket."
  return dataclasses.replace(table, caption=caption)


def _with_column(
  table: Table, name: str, levels: Sequence[int], cells: Mapping[int, str]
) -> Table:
  """Adds a column with a cell for each Level, empty where there is none."""
  return dataclasses.replace(
    table,
    columns=(*table.columns, name),
    rows=tuple(
      (*row, cells.get(level, ""))
      for level, row in zip(levels, table.rows, strict=True)
    ),
  )


def _spent(
  evidence: Evidence, levels: Sequence[int]
) -> tuple[dict[int, str], dict[int, str]]:
  """Writes what each Level's training took, and its search, by Level."""
  training, search = (
    {
      level: str(spent)
      for level in levels
      if level and (spent := cost(evidence, level))
    }
    for cost in (costs.training, costs.search)
  )
  return training, search


def _emptiest(evidence: Evidence) -> dict[int, str]:
  """Returns the density and the name of the emptiest layer, by Level."""
  found = {}
  for level, (mask, names) in evidence.masks.items():
    layers = zip(mask.table(), names, strict=True)
    sized = [(row.density, name) for row, name in layers if row.size]
    if level and sized:
      least, name = min(sized)
      found[level] = f"{wording.density(least)} {name}"
  return found


def steps(evidence: Evidence) -> Table:
  """Returns the step of the early stop of each method at each Level."""
  return _by_level(
    "Step of the early stop, the minimum of the validation loss: mean"
    " (minimum to maximum).",
    evidence.summary(summaries.STEP),
    percent=False,
  )


def verdicts(evidence: Evidence, when: str) -> Table:
  """Returns the verdict on each Level, with its numbers."""
  percent = evidence.percent
  unit = ", points" if percent else ""
  rows = [
    (
      wording.ends([v.density for v in group], wording.density)
      + f" ({len(group)} Levels)" * (len(group) > 1),
      group[0].word,
      _differences([v.difference for v in group], percent),
      wording.ends([v.p_matching for v in group], wording.p_value),
      wording.ends([v.p_below for v in group], wording.p_value),
      _differences([v.reinit_difference for v in group], percent),
      wording.ends([v.p_reinit for v in group], wording.p_value),
      " / ".join(
        wording.ends([getattr(v, f"n_{name}") for v in group], str)
        for name in ("ticket", "dense", "reinit")
      ),
      group[0].reason,
    )
    for group in _neighbours(evidence.verdicts(when))
  ]
  return Table(
    f"Verdicts by {evidence.metric} {wording.WHEN[when]}. Differences are"
    " between means; n is the number of replicates of ticket, dense and"
    " reinit. Neighbours of which one cannot tell for the same reason share a"
    " row, with the least and the greatest of their numbers.",
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


def _neighbours(found: Sequence[Verdict]) -> list[list[Verdict]]:
  """Draws together neighbours of which one cannot tell for the same reason."""
  groups = itertools.groupby(
    found, key=lambda v: v.reason if v.word == "cannot tell" else v.level
  )
  return [list(members) for _, members in groups]


def verdicts_as_text(evidence: Evidence) -> str:
  """Returns the verdict on each Level as lines for a terminal.

  Neighbours of which one cannot tell for the same reason share a line.
  """
  means = {
    (row.method, row.level): row.mean
    for row in evidence.summary(evidence.fields[summaries.HEADLINE])
  }

  def mean(method: str, group: Sequence[Verdict], missing: str = "") -> str:
    values = [means.get((method, v.level)) for v in group]
    if all(value is None for value in values):
      return missing
    return wording.ends(values, lambda x: wording.value(x, evidence.percent))

  def cost(
    of: Callable[[Evidence, int], costs.Spent | None], group: Sequence[Verdict]
  ) -> str:
    spent = [of(evidence, v.level) for v in group]
    values = [None if one is None else one.trainings for one in spent]
    return wording.ends(values, costs.in_trainings)

  rows = [
    (
      wording.ends([v.level for v in group], str),
      wording.ends([v.density for v in group], wording.density),
      mean("ticket", group, wording.UNKNOWN),
      wording.value(means.get(("dense", 0)), evidence.percent),
      mean("random_reinit", group),
      cost(costs.search, group),
      cost(costs.training, group),
      group[0].word,
      group[0].reason,
    )
    for group in _neighbours(evidence.verdicts())
  ]
  if not rows:
    return ""
  header = ("level", "weights left", "ticket", "dense", "reinit")
  costs_and_verdict = ("until drawn", "training", "verdict", "because")
  lines = text_table.render((*header, *costs_and_verdict), rows, ">>>>>>><<")
  when = wording.WHEN[summaries.HEADLINE]
  what = f"{wording.capital(evidence.metric)} {when}"
  return (
    f"{what}, mean over {_replicates(evidence)}. Costs are in trainings of the"
    " dense\nnetwork: all until the ticket's mask was drawn, with the dense"
    " network if the mask\ncomes from it; and the ticket's own training."
    f"\n{lines}"
  )


def _replicates(evidence: Evidence) -> str:
  return wording.count(evidence.replicates, "replicate")


def _differences(values: Sequence[float | None], percent: bool) -> str:
  return wording.ends(values, lambda v: wording.difference(v, percent))


def claims(evidence: Evidence) -> Table:
  """Returns the claims that were tested, and whether they hold here."""
  findings = evidence.findings()
  moments = {evidence.fields[when]: text for when, text in wording.WHEN.items()}
  rows = []
  for f in findings:
    means = [
      f"{drawing.style(method).label}"
      f" {wording.value(mean, evidence.percent, f.measure)}"
      for method, mean in (
        (f.claim.first, f.first),
        (f.claim.second, f.second),
      )
    ]
    rows.append(
      (
        f.claim.sentence,
        moments.get(f.measure, "by step"),
        f.word,
        wording.density(f.density),
        "; ".join(means),
        f"{wording.p_value(f.p)} / {wording.p_value(f.p_against)}",
        str(f.n),
      )
    )
  sources = _joined(f.claim.source or None for f in findings)
  return Table(
    f"Claims{f' of {sources}' if sources else ''}, tested here. In a row that"
    " cannot tell, the n replicates are too few or vary too much.",
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


def declaration(evidence: Evidence) -> Table:
  """Returns the declared settings, the trainings and the versions used."""
  declared = [run.declaration for run in evidence.runs]
  versions = _versions(evidence.rounds)
  machine = versions.pop("machine", "")
  facts = {
    "runs": wording.count(len(evidence.runs), "run")
    + f", {wording.count(evidence.replicates, 'finished dense network')}",
    "seeds": _joined(d.get("seed") for d in declared),
    "trainings": f"{len(evidence.trainings):,} done"
    + f", {evidence.unfinished:,} to do" * bool(evidence.unfinished),
    "time": f"{evidence.seconds:,.0f} s of training and evaluation",
    "weights": _joined(_weights(d.get("weights", ())) for d in declared),
    "schedule": _joined(_schedule(d.get("schedule", ())) for d in declared),
    **{
      name.replace("_", " "): _joined(_setting(name, d) for d in declared)
      for name in sorted({name for d in declared for name in d})
      if name not in _LEFT_OUT
    },
    "method": _joined(methods.with_choice(run) for run in evidence.runs),
    **{f"version of {name}": text for name, text in versions.items()},
    "machine": machine,
    **{
      f"declared {name}": _plain(item)
      for name, item in evidence.runs[0].experiment_declaration.items()
      if name not in ("id", "source", *_IN_METHOD)
    },
  }
  rows = tuple((name, text) for name, text in facts.items() if text)
  return Table("How the runs were made.", ("what", "value"), rows)


def _by_level(
  caption: str,
  rows: Sequence[summaries.Summary],
  percent: bool,
) -> Table:
  """Makes a table with a row for each Level and a column for each method.

  The dense network has no column. It is the first row of the tickets' column.
  """
  names = {"dense": "ticket"}
  cells = {
    (row.level, names.get(row.method, row.method)): wording.spread(row, percent)
    for row in rows
  }
  columns = list(dict.fromkeys(names.get(m, m) for m in figures.in_order(rows)))
  densities = {
    row.level: wording.density(row.density) + ", dense" * (not row.level)
    for row in rows
  }
  return Table(
    caption,
    ("weights left", *(drawing.style(method).label for method in columns)),
    tuple(
      (densities[level], *(cells.get((level, m), "") for m in columns))
      for level in sorted(densities)
    ),
    numeric=True,
  )


def _versions(rounds: Iterable[RoundRecord]) -> dict[str, str]:
  """Returns the versions and the machine that Rounds recorded, by name.

  If they differ between Rounds, all of them are listed.
  """
  found: dict[str, list[str]] = {}
  for round_ in rounds:
    for name, version in round_.versions.items():
      found.setdefault(name, []).append(version)
  return {name: _joined(versions) for name, versions in found.items()}


def _joined(values: Iterable[Any]) -> str:
  """Writes the different values, separated by commas."""
  return ", ".join(dict.fromkeys(_plain(v) for v in values if v is not None))


def _setting(name: str, declaration: Mapping[str, Any]) -> Any:
  """Returns a setting; a step that the search finds has no number here."""
  value = declaration.get(name)
  if name == "rewind" and isinstance(value, dict):
    return "auto" if value.get("name") == "Auto" else value
  return value


def _plain(value: Any) -> str:
  text = value if isinstance(value, str) else json.dumps(value)
  return text if len(text) <= 300 else text[:300] + " ..."


def _weights(
  weights: Sequence[tuple[str, Sequence[int], bool]],
) -> str | None:
  """Writes the shapes of the weights that can be pruned."""
  if not weights:
    return None
  shapes = [shape for _, shape, prunable in weights if prunable]
  return ", ".join(wording.TIMES.join(map(str, shape)) for shape in shapes)


def _schedule(schedule: Sequence[float]) -> str | None:
  """Writes the number of Levels, and the first and the last density."""
  if not schedule:
    return None
  first, last = wording.density(schedule[0]), wording.density(schedule[-1])
  return f"{wording.count(len(schedule), 'Level')} from {first} to {last}"


def _escaped(cell: str) -> str:
  return cell.replace("|", "\\|").replace("\n", " ")
