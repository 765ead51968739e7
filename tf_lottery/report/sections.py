"""The sections of a report, one for each experiment."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from collections.abc import Sequence

from tf_lottery.report import chosen
from tf_lottery.report import costs
from tf_lottery.report import gallery
from tf_lottery.report import headlines
from tf_lottery.report import matters
from tf_lottery.report import outcomes
from tf_lottery.report import stable_steps
from tf_lottery.report import summaries
from tf_lottery.report import tables
from tf_lottery.report import transfer
from tf_lottery.report import wording
from tf_lottery.report.evidence import Evidence

# The first page. With one experiment it is the page of that experiment.
FIRST_PAGE = "report.html"


@dataclasses.dataclass(frozen=True)
class Section:
  """The part of a report that is about one experiment.

  Attributes:
    anchor: A name that is distinct in the report and valid in file names.
    title: The name of the experiment in words.
    evidence: The runs of the experiment and their statistics.
    outcome: The verdict, and the values that it is about.
    headline: The result in a few sentences.
    tables: The tables that have rows, by name.
    pictures: The figures, the main one first.
    price: What the answer cost, in sentences; empty as long as it is not known.
    chosen: Which Levels were trained, where the search chose some.
    looks: After how many replicates the verdicts were looked at, where their
      number depends on the verdicts.
    rewound: The steps that tickets rewind to, where the searches found them.
    page: The page of the experiment, relative to the first page.
  """

  anchor: str
  title: str
  evidence: Evidence
  outcome: outcomes.Outcome
  headline: str
  tables: Mapping[str, tables.Table]
  pictures: Sequence[gallery.Picture] = ()
  page: str = FIRST_PAGE
  price: str = ""
  chosen: str = ""
  looks: str = ""
  rewound: str = ""


def sections(
  found: Sequence[Evidence], folder: pathlib.Path | None
) -> list[Section]:
  """Makes the section of each experiment, and writes its figures.

  Args:
    found: The runs of each experiment and their statistics.
    folder: The folder for the files of the figures; None for no figures.
  """
  anchors = distinct([evidence.experiment for evidence in found])
  alone = len(found) == 1
  prefixes = [f"{anchor}-" * (not alone) for anchor in anchors]
  drawn: Sequence[Sequence[gallery.Picture]] = [()] * len(found)
  if folder is not None:
    drawn = gallery.pictures(found, folder, prefixes)
  return [
    Section(
      anchor,
      title,
      evidence,
      outcomes.Outcome.of(evidence),
      headlines.headline(evidence),
      _tables(evidence),
      pictures,
      FIRST_PAGE if alone else f"experiments/{anchor}.html",
      str(costs.Price.of(evidence) or ""),
      chosen.sentences(evidence),
      wording.looks(evidence),
      stable_steps.sentence(evidence),
    )
    for anchor, title, evidence, pictures in zip(
      anchors, outcomes.titles(found), found, drawn, strict=True
    )
  ]


def distinct(names: Sequence[str]) -> list[str]:
  """Turns names into distinct ids that are also valid in file names."""
  anchors: list[str] = []
  for name in names:
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[-60:] or "run"
    taken = sum(a == base or a.startswith(f"{base}--") for a in anchors)
    anchors.append(f"{base}--{taken + 1}" if taken else base)
  return anchors


def _tables(evidence: Evidence) -> dict[str, tables.Table]:
  """Returns the tables of an experiment that have rows, by name."""
  every = {
    "verdicts": tables.verdicts(evidence, summaries.HEADLINE),
    "verdicts_early": tables.verdicts(evidence, summaries.EARLY),
    "transfer": transfer.table(evidence),
    "matters": matters.table(evidence),
    "claims": tables.claims(evidence),
    "summary": tables.summary(evidence, summaries.HEADLINE),
    "summary_early": tables.summary(evidence, summaries.EARLY),
    "steps": tables.steps(evidence),
    "declaration": tables.declaration(evidence),
  }
  return {name: table for name, table in every.items() if table.rows}
