"""The outcome of an experiment: its verdict, and the ticket to take."""

import dataclasses
import datetime
import pathlib
from collections.abc import Sequence

from tf_lottery.report import methods
from tf_lottery.report import summaries
from tf_lottery.report import verdicts
from tf_lottery.report import wording
from tf_lottery.report.evidence import Evidence
from tf_lottery.storage import run_directory

# Fields that every experiment has of its own, or that grow.
_NOT_IN_TITLES = (
  *("id", "name", "title", "heading"),
  *("trainings", "replicates", "controls", "control_levels", "tolerance"),
  *("method", "choose", "budget"),
)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The verdict on an experiment, and the values of the Level it is about.

  Attributes:
    word: `"winning"`, `"matching"`, `"below"` or `"cannot tell"`; `""` before
      there is a verdict.
    dense: The values of the dense network; None before it is trained.
    ticket: The values of the tickets of the Level; None without a Level.
    control: The values of the best control at the Level; None without one.
  """

  word: str
  dense: summaries.Summary | None
  ticket: summaries.Summary | None = None
  control: summaries.Summary | None = None

  @classmethod
  def of(cls, evidence: Evidence) -> "Outcome":
    """Finds the smallest winning ticket, else the smallest matching one.

    Without either, the Level is the smallest one whose mean is within the
    tolerance; else the one with the best mean.
    """
    rows = evidence.summary(evidence.fields[summaries.HEADLINE])
    dense = next((row for row in rows if row.method == "dense"), None)
    found = evidence.verdicts()
    tickets = {row.level: row for row in rows if row.method == "ticket"}
    judged = [v for v in found if v.level in tickets and v.to_test]
    if not judged or dense is None:
      return cls("", dense)
    chosen = _chosen(judged, evidence)
    sign = evidence.sign or 1
    controls = [
      row
      for row in rows
      if row.level == chosen.level and row.method not in ("dense", "ticket")
    ]
    best = max(controls, key=lambda row: sign * row.mean, default=None)
    words = {verdict.word for verdict in judged}
    word = chosen.word if chosen.word in ("winning", "matching") else ""
    word = word or ("below" if words == {"below"} else "cannot tell")
    return cls(word, dense, tickets[chosen.level], best)


@dataclasses.dataclass(frozen=True)
class Taken:
  """The ticket of the best replicate, to train on or to export.

  Attributes:
    path: The ticket file.
    run: The run directory of the replicate.
    level: The Level.
    replicate: The number of the replicate.
    is_declared: Whether `scripts/export_ticket.py` can build its model.
  """

  path: pathlib.Path
  run: pathlib.Path
  level: int
  replicate: int
  is_declared: bool


def take(evidence: Evidence, outcome: Outcome) -> Taken | None:
  """Returns the ticket to take; None if there is no winning or matching one.

  The best replicate is the one whose validation value is best. Its test value
  would no longer be an honest estimate had it been chosen by that.
  """
  if outcome.ticket is None or outcome.word not in ("winning", "matching"):
    return None
  sign = evidence.sign or 1
  rounds = [
    r
    for r in evidence.compared
    if (r.method, r.level) == ("ticket", outcome.ticket.level) and r.done
  ]
  measure = f"val_{summaries.HEADLINE}"
  for best in sorted(rounds, key=lambda r: -sign * (getattr(r, measure) or 0)):
    directory = run_directory.RunDirectory(best.run, writes=False)
    path = directory.level(best.level).ticket
    if path.is_file():
      declared = bool(evidence.runs[0].experiment_declaration)
      return Taken(path, directory.path, best.level, best.replicate, declared)
  return None


def titles(found: Sequence[Evidence]) -> list[str]:
  """Names experiments in words, each with what makes it differ from others."""
  plain = [_title(evidence) for evidence in found]
  named = []
  for title, evidence in zip(plain, found, strict=True):
    same = [
      other.runs[0].experiment_declaration
      for other, theirs in zip(found, plain, strict=True)
      if theirs == title
    ]
    own = evidence.runs[0].experiment_declaration
    how = methods.with_choice(evidence.runs[0])
    differing = [how] * any(
      methods.with_choice(other.runs[0]) != how
      for other, theirs in zip(found, plain, strict=True)
      if theirs == title
    )
    differing += [
      f"{name.replace('_', ' ')} {_plain(value)}"
      for name, value in own.items()
      if name not in _NOT_IN_TITLES
      and isinstance(value, str | int | float | None)
      and any(other.get(name) != value for other in same)
    ]
    named.append(", ".join([title, *differing]))
  return [
    title
    if named.count(title) == 1 or evidence.experiment in title
    else f"{title} ({evidence.experiment})"
    for title, evidence in zip(named, found, strict=True)
  ]


def facts(evidence: Evidence) -> list[str]:
  """Returns what the heading does not say: date, replicates and size."""
  known = []
  ended = [r.ended for r in evidence.rounds if r.ended is not None]
  if ended:
    day = datetime.date.fromtimestamp(max(ended))
    known.append(f"{day.day} {day:%B %Y}")
  seeds = [run.declaration.get("seed") for run in evidence.runs]
  text = wording.count(len(evidence.runs), "replicate")
  if all(isinstance(seed, int) for seed in seeds):
    listed = ", ".join(map(str, seeds[:10])) + ", \u2026" * (len(seeds) > 10)
    text += f" (seed{'s' * (len(seeds) > 1)} {listed})"
  known.append(text)
  sizes = [
    (key, shape)
    for key, shape, prunable in evidence.runs[0].declaration.get("weights", ())
    if prunable
  ]
  if sizes:
    total = 0
    for _, shape in sizes:
      size = 1
      for side in shape:
        size *= side
      total += size
    text = f"{total:,} prunable weights in {len(sizes)} layer"
    known.append(text + "s" * (len(sizes) != 1))
  return known


def _chosen(
  judged: Sequence[verdicts.Verdict], evidence: Evidence
) -> verdicts.Verdict:
  """Returns the verdict that speaks for the experiment."""
  for word in ("winning", "matching"):
    if shown := [verdict for verdict in judged if verdict.word == word]:
      return shown[-1]
  sign = evidence.sign or 1
  losses = [-sign * (verdict.difference or 0.0) for verdict in judged]
  near = [
    verdict
    for verdict, loss in zip(judged, losses, strict=True)
    if loss <= verdict.tolerance and verdict.word != "below"
  ]
  return near[-1] if near else judged[losses.index(min(losses))]


def _title(evidence: Evidence) -> str:
  declared = evidence.runs[0].experiment_declaration
  for field in ("heading", "title", "name"):
    text = declared.get(field)
    if isinstance(text, str) and text.strip():
      return text.strip()
  # Early versions declared a recipe and a data set.
  recipe, data = declared.get("recipe"), declared.get("data")
  if isinstance(recipe, str) and isinstance(data, str):
    return f"{recipe} on {data}"
  return evidence.experiment


def _plain(value: str | float | None) -> str:
  return "default" if value is None else str(value)
