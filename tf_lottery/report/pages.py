"""The pages of a report: an overview, and one page for each experiment."""

import dataclasses
import json
import pathlib
import re
import shlex
from collections.abc import Sequence

import jinja2
import markupsafe

from tf_lottery.report import costs
from tf_lottery.report import drawing
from tf_lottery.report import gallery
from tf_lottery.report import outcomes
from tf_lottery.report import summaries
from tf_lottery.report import tables
from tf_lottery.report import wording
from tf_lottery.report.sections import FIRST_PAGE
from tf_lottery.report.sections import Section

_COLUMNS = (
  "experiment",
  "verdict",
  "ticket",
  "dense",
  "best control",
  "price",
)
# The tables that are folded, and the lines that unfold them.
_FOLDED = {
  "summary": f"Values {wording.WHEN[summaries.HEADLINE]}",
  "summary_early": "Values at the early stop",
  "steps": "Steps of the early stop",
}


@dataclasses.dataclass(frozen=True)
class Row:
  """An experiment in the overview, in words.

  Attributes:
    facts: The date, and the number of replicates.
    word: The verdict; `""` before there is one.
    density: The density that the verdict is about, else `""`.
    metric: The metric.
    ticket: Its value for the tickets of that density.
    dense: Its value for the dense network.
    control: Its value for the best control at that density.
    control_name: The name of that control, else `""`.
    trainings: The number of trainings that are done.
    time: How long they took.
    answer: What it took to know the smallest ticket that matches; `""` if that
      is not known.
  """

  facts: str
  word: str
  density: str
  metric: str
  ticket: str
  dense: str
  control: str
  control_name: str
  trainings: str
  time: str
  answer: str

  @classmethod
  def of(cls, section: Section) -> "Row":
    """Writes what the overview says about an experiment."""
    evidence, outcome = section.evidence, section.outcome
    ticket, dense, control = (
      wording.value(row.mean if row else None, evidence.percent)
      for row in (outcome.ticket, outcome.dense, outcome.control)
    )
    chosen = outcome.ticket
    price = costs.Price.of(evidence)
    named = outcome.control and drawing.style(outcome.control.method).label
    return cls(
      facts=", ".join(outcomes.facts(evidence)[:2]),
      word=outcome.word,
      density=wording.density(chosen.density) if chosen else "",
      metric=evidence.metric,
      ticket=ticket,
      dense=dense,
      control=control,
      control_name=named or "",
      trainings=wording.count(len(evidence.trainings), "training"),
      time=wording.duration(evidence.seconds),
      answer=f"answer: {costs.in_trainings(price.total.trainings)}"
      if price
      else "",
    )


def write(
  sections: Sequence[Section],
  compared: Sequence[tuple[gallery.Picture, tables.Table]] = (),
) -> dict[str, str]:
  """Returns the text of each page by its path; the first page is the first.

  Args:
    sections: The sections of the experiments.
    compared: Figures and tables of comparisons between experiments, for the
      overview.
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters |= {"svg": _svg, "unbroken": _unbroken}
  environment.globals |= {
    "counted": wording.count,
    "capital": wording.capital,
    "density": wording.density,
    "how_tested": wording.how_tested,
  }
  pages = {}
  if len(sections) != 1:
    done = sum(len(section.evidence.trainings) for section in sections)
    template = environment.get_template("overview.html.jinja")
    pages[FIRST_PAGE] = template.render(
      sections=sections,
      rows=[(section, Row.of(section)) for section in sections],
      columns=_COLUMNS,
      compared=compared,
      trainings=wording.count(done, "training"),
    )
  template = environment.get_template("experiment.html.jinja")
  for section in sections:
    taken = outcomes.take(section.evidence, section.outcome)
    pages[section.page] = template.render(
      section=section,
      alone=len(sections) == 1,
      facts=outcomes.facts(section.evidence),
      folded=_FOLDED,
      folders=", ".join(run.path.name for run in section.evidence.runs),
      taken=taken,
      path_literal=taken and json.dumps(str(taken.path)),
      run_argument=taken and shlex.quote(str(taken.run)),
    )
  return pages


def _svg(element: str, alt: str) -> markupsafe.Markup:
  """Marks an SVG element as an image with an alternative text."""
  label = markupsafe.escape(alt)
  return markupsafe.Markup(
    element.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
  )


def _unbroken(text: str) -> str:
  """Keeps each number on one line with its percent sign."""
  return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)
