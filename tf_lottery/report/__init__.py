"""The report: pages, tables and figures about some runs.

It reads the files of the runs and never trains. The runs may still be going on.
"""

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery import _optional
from tf_lottery.storage import files

with _optional.needs("report", "The report"):
  from tf_lottery.report import claims
  from tf_lottery.report import gallery
  from tf_lottery.report import pages
  from tf_lottery.report import search_costs
  from tf_lottery.report import summaries
  from tf_lottery.report import tables
  from tf_lottery.report import verdicts
  from tf_lottery.report.evidence import Evidence
  from tf_lottery.report.evidence import gather
  from tf_lottery.report.line_figures import (
    draw_instability as draw_instability,
  )
  from tf_lottery.report.line_figures import draw_lines as draw_lines
  from tf_lottery.report.mask_figures import draw_kept as draw_kept
  from tf_lottery.report.mask_figures import (
    draw_kept_inputs as draw_kept_inputs,
  )
  from tf_lottery.report.mask_figures import draw_overlap as draw_overlap
  from tf_lottery.report.search_costs import search_cost as search_cost
  from tf_lottery.report.sections import Section
  from tf_lottery.report.sections import sections
  from tf_lottery.report.tuned import against_tuned as against_tuned


@dataclasses.dataclass(frozen=True)
class Report:
  """A report that was written.

  Attributes:
    sections: One section for each experiment.
    paths: The files of the report, the page first.
  """

  sections: tuple[Section, ...]
  paths: tuple[pathlib.Path, ...]

  def __repr__(self) -> str:
    return f"Report({str(self.paths[0])!r}, {len(self.sections)} experiments)"


def write(
  runs: Iterable[str | os.PathLike],
  out: str | os.PathLike,
  tolerance: float | None = None,
  claims_by_recipe: Mapping[str, Sequence[claims.Claim]] | None = None,
) -> Report:
  """Writes the report of some runs: pages, tables and figures.

  The first page is `report.html`. It is an overview of the experiments, each
  of which has its own page; if there is one experiment, it is that page. The
  overview compares experiments of one network and the same data, by several
  search methods, by the cost of their search.

  Args:
    runs: Run directories, or folders that contain some at any depth. All
      replicates of an experiment go into one section.
    out: The folder to write into. It is made if it does not exist.
    tolerance: How much worse than the dense network a ticket may be and still
      match it, in units of the metric. At least 0. Defaults to `None`: the
      tolerance that the experiment declares; else it may lose 1 % of what
      training gained, see `objective.default_tolerance`.
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
  made = sections(found, out / "figures")
  compared = search_costs.comparisons(found)
  parts = [
    (picture, one.table)
    for number, one in enumerate(compared, 1)
    if (picture := one.draw(out / "figures", f"search-cost-{number}"))
  ]
  contents = {
    **pages.write(made, parts),
    "summary.md": markdown(made, parts),
    "verdicts.csv": _csv(found, _verdicts),
    "summary.csv": _csv(found, _summaries),
  }
  if compared:
    rows = [row for one in compared for row in _named(one.title, one.rows)]
    contents["search_cost.csv"] = _rows_as_csv(rows)
  for name, text in contents.items():
    files.write_bytes(out / name, text.encode(), durable=False)
  paths = [out / name for name in contents]
  pictures = [picture for section in made for picture in section.pictures]
  for picture in [*pictures, *(picture for picture, _ in parts)]:
    base = out / "figures" / picture.name
    paths += [base.with_name(f"{base.name}.{e}") for e in ("svg", "png")]
  return Report(tuple(made), tuple(paths))


def _summaries(evidence: Evidence) -> list[summaries.Summary]:
  measures = (*evidence.fields.values(), summaries.STEP)
  return [row for measure in measures for row in evidence.summary(measure)]


def _verdicts(evidence: Evidence) -> list[verdicts.Verdict]:
  return [row for when in evidence.fields for row in evidence.verdicts(when)]


def _csv(
  found: Iterable[Evidence], rows_of: Callable[[Evidence], Iterable[Any]]
) -> str:
  """Writes rows of each experiment, which are dataclasses, as CSV."""
  return _rows_as_csv(
    [
      row
      for evidence in found
      for row in _named(evidence.experiment, rows_of(evidence))
    ]
  )


def _named(experiment: str, rows: Iterable[Any]) -> list[dict[str, Any]]:
  """Returns dataclasses as rows that begin with a name."""
  return [{"experiment": experiment, **dataclasses.asdict(row)} for row in rows]


def _rows_as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
  file = io.StringIO()
  if rows:
    writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
  return file.getvalue()


def markdown(
  sections: Sequence[Section],
  compared: Sequence[tuple[gallery.Picture, tables.Table]] = (),
) -> str:
  """Returns a report as one Markdown text.

  Args:
    sections: The sections of the experiments.
    compared: Figures and tables of comparisons between experiments, which come
      first.
  """
  parts = ["# Lottery tickets"]
  for picture, table in compared:
    parts += [f"![{picture.alt}](figures/{picture.name}.png)"]
    parts += [f"*{picture.caption}*", table.markdown()]
  for section in sections:
    parts += [f"## {section.title}", section.headline]
    about = (section.looks, section.rewound, section.chosen, section.price)
    parts += [text for text in about if text]
    if damage := section.evidence.damage:
      lines = "\n".join(f"- {text}" for text in damage)
      parts.append(f"Some files are damaged. Left out:\n\n{lines}")
    for picture in section.pictures:
      image = f"![{picture.alt}](figures/{picture.name}.png)"
      parts += [image, f"*{picture.caption}*"]
    parts += [table.markdown() for table in section.tables.values()]
  return "\n\n".join(part.strip() for part in parts) + "\n"
