"""The report: tables, figures and one HTML page about some runs.

It reads the files of the runs and never trains. The runs may still be going on.
"""

import csv
import dataclasses
import io
import os
import pathlib
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery import _optional
from tf_lottery.storage import files

with _optional.needs("report", "The report"):
  import jinja2
  import markupsafe

  from tf_lottery.report import claims
  from tf_lottery.report import gallery
  from tf_lottery.report import summaries
  from tf_lottery.report import tables
  from tf_lottery.report import verdicts
  from tf_lottery.report import wording
  from tf_lottery.report.evidence import Evidence
  from tf_lottery.report.evidence import gather

_TEMPLATE = pathlib.Path(__file__).with_name("report.html.jinja")


@dataclasses.dataclass(frozen=True)
class Section:
  """The part of a report that is about one experiment.

  Attributes:
    anchor: The id of the section in the page.
    evidence: The runs of the experiment and their statistics.
    headline: The result in one or two sentences.
    tables: The tables that have rows, by name.
    pictures: The figures.
  """

  anchor: str
  evidence: Evidence
  headline: str
  tables: Mapping[str, tables.Table]
  pictures: Sequence[gallery.Picture] = ()


@dataclasses.dataclass(frozen=True)
class Report:
  """A report that was written.

  Attributes:
    sections: One section for each experiment.
    paths: The files of the report, the page first.
  """

  sections: tuple[Section, ...]
  paths: tuple[pathlib.Path, ...]


def write(
  runs: Iterable[str | os.PathLike],
  out: str | os.PathLike,
  tolerance: float | None = None,
  claims_by_recipe: Mapping[str, Sequence[claims.Claim]] | None = None,
) -> Report:
  """Writes the report of some runs: `report.html`, tables and figures.

  Args:
    runs: Run directories, or folders that contain some at any depth. All
      replicates of an experiment go into one section.
    out: The folder to write into. It is made if it does not exist.
    tolerance: How much worse than the dense network a ticket may be and still
      match it, in units of the metric. At least 0. Defaults to `None`: it may
      lose 1 % of what training gained; see `objective.default_tolerance`.
    claims_by_recipe: The claims to test on the experiments of a recipe, by the
      name of the recipe. `papers.claims.BY_RECIPE` holds the papers' claims.
      Defaults to `None`: no claims.

  Returns:
    The sections and the paths of the report.

  Raises:
    FileNotFoundError: A path has no run.
    ValueError: The tolerance is negative.

  Example:
  ```python
  report.write(["runs/lenet_300_100_mnist"], "reports/lenet")
  ```
  """
  out = pathlib.Path(out)
  found = gather(runs, tolerance, claims_by_recipe)
  anchors = _anchors([evidence.experiment for evidence in found])
  sections = [
    _section(anchor, evidence, out / "figures", alone=len(found) == 1)
    for anchor, evidence in zip(anchors, found, strict=True)
  ]
  contents = {
    "summary.csv": _csv(found, _summaries),
    "verdicts.csv": _csv(found, _verdicts),
    "summary.md": _markdown(sections),
    "report.html": _page(sections),
  }
  for name, text in contents.items():
    files.write_bytes(out / name, text.encode(), durable=False)
  paths = [out / name for name in reversed(contents)]
  for section in sections:
    for picture in section.pictures:
      base = out / "figures" / picture.name
      paths += [base.with_name(f"{base.name}.{e}") for e in ("svg", "png")]
  return Report(tuple(sections), tuple(paths))


def _section(
  anchor: str,
  evidence: Evidence,
  folder: pathlib.Path,
  *,
  alone: bool,
) -> Section:
  return Section(
    anchor,
    evidence,
    wording.headline(evidence),
    _tables(evidence),
    gallery.pictures(evidence, folder, "" if alone else f"{anchor}-"),
  )


def _tables(evidence: Evidence) -> dict[str, tables.Table]:
  """Returns the tables of an experiment that have rows, by name."""
  every = {
    "verdicts": tables.verdicts(evidence, summaries.EARLY),
    "verdicts_end": tables.verdicts(evidence, summaries.END),
    "claims": tables.claims(evidence),
    "summary": tables.summary(evidence, summaries.EARLY),
    "summary_end": tables.summary(evidence, summaries.END),
    "steps": tables.steps(evidence),
    "declaration": tables.declaration(evidence),
  }
  return {name: table for name, table in every.items() if table.rows}


def _page(sections: Sequence[Section]) -> str:
  environment = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters["svg"] = _svg
  environment.filters["unbroken"] = _unbroken
  template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
  return template.render(
    sections=sections,
    how_tested=wording.how_tested,
    counted=wording.count,
  )


def _svg(element: str, alt: str) -> markupsafe.Markup:
  """Marks an SVG element as an image with an alternative text."""
  label = markupsafe.escape(alt)
  return markupsafe.Markup(
    element.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
  )


def _unbroken(text: str) -> str:
  """Keeps each number on one line with its percent sign."""
  return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)


def _anchors(names: Sequence[str]) -> list[str]:
  """Turns names into distinct ids that are also valid in file names."""
  anchors: list[str] = []
  for name in names:
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[-60:] or "run"
    taken = sum(a == base or a.startswith(f"{base}--") for a in anchors)
    anchors.append(f"{base}--{taken + 1}" if taken else base)
  return anchors


def _summaries(evidence: Evidence) -> list[summaries.Summary]:
  measures = (*evidence.fields.values(), summaries.STEP)
  return [row for measure in measures for row in evidence.summary(measure)]


def _verdicts(evidence: Evidence) -> list[verdicts.Verdict]:
  return [row for when in evidence.fields for row in evidence.verdicts(when)]


def _csv(
  found: Iterable[Evidence], rows_of: Callable[[Evidence], Iterable[Any]]
) -> str:
  """Writes rows of each experiment, which are dataclasses, as CSV."""
  rows = [
    {"experiment": evidence.experiment, **dataclasses.asdict(row)}
    for evidence in found
    for row in rows_of(evidence)
  ]
  file = io.StringIO()
  if rows:
    writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
  return file.getvalue()


def _markdown(sections: Sequence[Section]) -> str:
  parts = ["# Lottery tickets"]
  for section in sections:
    parts += [f"## {section.evidence.experiment}", section.headline]
    if damage := section.evidence.damage:
      lines = "\n".join(f"- {text}" for text in damage)
      parts.append(f"Some files are damaged. Left out:\n\n{lines}")
    for picture in section.pictures:
      image = f"![{picture.alt}](figures/{picture.name}.png)"
      parts += [image, f"*{picture.caption}*"]
    parts += [table.markdown() for table in section.tables.values()]
  return "\n\n".join(part.strip() for part in parts) + "\n"
