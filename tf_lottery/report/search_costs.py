"""Comparisons of search methods by what their searches cost."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_lottery.report import cost_figures
from tf_lottery.report import costs
from tf_lottery.report import drawing
from tf_lottery.report import gallery
from tf_lottery.report import methods
from tf_lottery.report import shared_densities
from tf_lottery.report import summaries
from tf_lottery.report import tables
from tf_lottery.report import wording
from tf_lottery.report.evidence import Evidence
from tf_lottery.report.evidence import gather

# The panels at most.
_MOST = 6
# Fields of a run's declaration that differ between searches of one network on
# the same data, or between replicates.
_OF_THE_SEARCH = (
  *("method", "schedule", "search_steps", "evaluate_every", "jit"),
  *("seed", "initial", "tolerance"),
)


@dataclasses.dataclass(frozen=True)
class Row:
  """The tickets of one method at one density.

  Costs are means over replicates, in trainings of the dense network.

  Attributes:
    method: The name of the method, with how much it trains.
    density: The density at which methods are compared.
    level: The Level of this method's schedule with that density, within 2 %.
    measure: The field of `RoundRecord` that is compared.
    mean: The mean over replicates.
    sd: The standard deviation over replicates; None of a single one.
    low: The minimum over replicates.
    high: The maximum over replicates.
    n: The number of replicates.
    search: What the search took until it drew the mask.
    sparse_search: The same for hardware that skips multiplications by zeros;
      None if the FLOPs are unknown.
    final: What the training of the ticket took.
    price: What the whole answer took, which ticket is the smallest that
      matches; see `costs.Price`. It is the same for all densities; None if it
      is not known.
    dense: The mean of the dense network.
  """

  method: str
  density: float
  level: int
  measure: str
  mean: float
  sd: float | None
  low: float
  high: float
  n: int
  search: float
  sparse_search: float | None
  final: float | None
  price: float | None
  dense: float | None


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Searches of one network on the same data, by several methods.

  Attributes:
    title: The name of the network and the data.
    by_label: The name of each method, and its runs.
    densities: The densities to compare at; None for those that most methods
      have.
  """

  title: str
  by_label: Mapping[str, Evidence]
  densities: Sequence[float] | None = None

  @functools.cached_property
  def rows(self) -> list[Row]:
    """One row for each density and method, by falling density and by cost."""
    return [row for row, _ in self._compared]

  @functools.cached_property
  def _compared(self) -> list[tuple[Row, cost_figures.Point]]:
    shared = shared_densities.choose(
      {label: _levels(found) for label, found in self.by_label.items()},
      self.densities,
    )
    prices = {k: costs.Price.of(found) for k, found in self.by_label.items()}
    compared = [
      one
      for density in shared
      for label, found in self.by_label.items()
      if (one := _compare(label, found, density, prices[label]))
    ]
    return sorted(compared, key=lambda one: (-one[0].density, one[0].search))

  def draw(self, folder: pathlib.Path, name: str) -> gallery.Picture | None:
    """Draws the figure, and writes it as SVG and as PNG.

    Args:
      folder: The folder of the files.
      name: Their name without its end.

    Returns:
      The figure for a page; None if there is nothing to compare.
    """
    if not self.rows:
      return None
    evidence = next(iter(self.by_label.values()))
    label = f"{evidence.metric}, %" if evidence.percent else evidence.metric
    dense = [row.dense for row in self.rows if row.dense is not None]
    figure = functools.partial(
      cost_figures.against_cost,
      [point for _, point in self._compared],
      float(np.mean(dense)) if dense else None,
      label,
      percent=evidence.percent,
    )
    svg = drawing.draw(figure, name, folder / name)
    if svg is None:
      return None
    return gallery.Picture(name, self._caption, self._alt, svg, wide=True)

  @property
  def _caption(self) -> str:
    evidence = next(iter(self.by_label.values()))
    text = (
      f"{self.title}: {evidence.metric} of tickets against the cost of the"
      " search that drew them, at fixed densities. Costs are in trainings of"
      " the dense network, without the training of the ticket itself. Large"
      " points are means over replicates, which are small points; bars go from"
      " minimum to maximum. Points of the same cost stand a little apart. The"
      " dashed line is the dense network."
    )
    if any(row.search == 0 for row in self.rows):
      text += " A search that cost nothing stands at the left edge."
    return text

  @property
  def _alt(self) -> str:
    evidence = next(iter(self.by_label.values()))
    parts = [
      f"{row.method} {wording.value(row.mean, evidence.percent)} for"
      f" {costs.in_trainings(row.search)} at {wording.density(row.density)}"
      for row in self.rows
    ]
    return f"Scatter chart of values by cost: {'; '.join(parts)}."

  @property
  def table(self) -> tables.Table:
    """The rows as a table of text."""
    percent = next(iter(self.by_label.values())).percent

    def cell(number: float | None) -> str:
      return wording.UNKNOWN if number is None else costs.in_trainings(number)

    return tables.Table(
      f"{self.title}: what methods reach, and what they cost in trainings of"
      " the dense network. In parentheses stands what hardware that skips zeros"
      " would spend. The price of the answer counts everything that it took to"
      " know the smallest ticket that matches.",
      (
        "method",
        "weights left",
        next(iter(self.by_label.values())).metric,
        "SD",
        "n",
        "search",
        "ticket",
        "price of the answer",
      ),
      tuple(
        (
          row.method,
          wording.density(row.density),
          wording.value(row.mean, percent),
          _deviation(row.sd, percent),
          str(row.n),
          cell(row.search)
          + f" ({cell(row.sparse_search)})" * (row.sparse_search is not None),
          cell(row.final),
          cell(row.price),
        )
        for row in self.rows
      ),
      numeric=True,
    )


def search_cost(
  experiments: Mapping[str, str | os.PathLike],
  out: str | os.PathLike,
  *,
  densities: Sequence[float] | None = None,
  title: str = "",
) -> list[Row]:
  """Compares search methods by their cost, and draws the figure.

  Args:
    experiments: The name of each method, and the directory of its experiment,
      or the run directory of its search. All must be of the same model, data
      and metric.
    out: The files to write, without `.svg` and `.png`.
    densities: The densities to compare at, at most 6; each stands for the
      nearest one that is searched, if that is within 10 %. Defaults to `None`:
      four of those that most methods have.
    title: What the model and its data are called. Defaults to the heading of
      the first experiment.

  Returns:
    One row for each density and method. Only Levels that are trained to the
    end count; where the search chose which, only those that it trained in all
    replicates.

  Raises:
    FileNotFoundError: A path has no run.
    ValueError: A path has several experiments, metrics differ, or too many
      densities are given.

  Example:
  ```python
  rows = report.search_cost(
    {"iterative": "runs/mine-1f0c", "gradual": "runs/mine-77ab"}, "figures/cost"
  )
  ```
  """
  if not experiments:
    raise ValueError("experiments must name at least one, got none.")
  if densities is not None and len(densities) > _MOST:
    raise ValueError(
      f"densities must be at most {_MOST}, one for each panel; got"
      f" {len(densities)}."
    )
  found = {}
  for label, path in experiments.items():
    of_path = gather([path])
    if len(of_path) != 1:
      raise ValueError(
        f"Each method must have one experiment; {path} has {len(of_path)}."
        " Give the directory of one."
      )
    found[label] = of_path[0]
  metrics = {label: evidence.metric for label, evidence in found.items()}
  if len(set(metrics.values())) > 1:
    raise ValueError(f"Experiments must have one metric, got {metrics}.")
  title = title or heading(next(iter(found.values())))
  compared = Comparison(title, found, densities)
  path = pathlib.Path(out)
  compared.draw(path.parent, path.name)
  return compared.rows


def comparisons(found: Iterable[Evidence]) -> list[Comparison]:
  """Finds experiments of one network on the same data, by several methods."""
  groups: dict[str, list[Evidence]] = {}
  for evidence in found:
    if key := _key(evidence):
      groups.setdefault(key, []).append(evidence)
  made = []
  for group in groups.values():
    if len({methods.words(evidence.runs[0]) for evidence in group}) > 1:
      by_label = dict(zip(_labels(group), group, strict=True))
      made.append(Comparison(heading(group[0]), by_label))
  return [one for one in made if one.rows]


def heading(evidence: Evidence) -> str:
  """Returns what an experiment is called, without its method."""
  declared = evidence.runs[0].experiment_declaration
  return str(declared.get("heading") or evidence.experiment)


def _key(evidence: Evidence) -> str:
  """Returns what experiments that can be compared have in common, as text."""
  declared: Mapping[str, Any] = evidence.runs[0].declaration
  if not declared:
    return ""
  same = {k: v for k, v in declared.items() if k not in _OF_THE_SEARCH}
  return json.dumps([same, evidence.metric], sort_keys=True)


def _labels(group: Sequence[Evidence]) -> list[str]:
  """Names the method of each experiment, as shortly as tells them apart."""
  short = [methods.words(evidence.runs[0]) for evidence in group]
  long = [methods.with_choice(evidence.runs[0]) for evidence in group]
  labels = []
  for words, longer, evidence in zip(short, long, group, strict=True):
    label = words if short.count(words) == 1 else longer
    taken = long.count(longer) > 1
    labels.append(f"{label} ({evidence.experiment})" if taken else label)
  return labels


def _levels(evidence: Evidence) -> dict[int, float]:
  """Returns the Levels that can be compared, with their densities."""
  judged = None if evidence.trains_all else evidence.judged_levels
  rows = evidence.summary(evidence.fields[summaries.HEADLINE])
  return {
    row.level: row.density
    for row in rows
    if row.method == "ticket" and (judged is None or row.level in judged)
  }


def _compare(
  label: str, evidence: Evidence, density: float, price: costs.Price | None
) -> tuple[Row, cost_figures.Point] | None:
  """Returns what a method reached at a density; None if it has no Level."""
  level = shared_densities.level_at(_levels(evidence), density)
  search = None if level is None else costs.search(evidence, level)
  if level is None or search is None:
    return None
  measure = evidence.fields[summaries.HEADLINE]
  by_method = summaries.values_by_replicate(evidence.compared, measure)
  values = by_method["ticket", level]
  dense = list(by_method.get(("dense", 0), {}).values())
  final = costs.training(evidence, level)
  spent = costs.search_costs(evidence, level)
  units = costs.dense_costs(evidence)
  known = [n for n in values if n in spent and n in units]
  reached = list(values.values())
  row = Row(
    label,
    density,
    level,
    measure,
    float(np.mean(reached)),
    float(np.std(reached, ddof=1)) if len(reached) > 1 else None,
    min(reached),
    max(reached),
    len(reached),
    search.trainings,
    search.sparse,
    None if final is None else final.trainings,
    None if price is None else price.total.trainings,
    float(np.mean(dense)) if dense else None,
  )
  point = cost_figures.Point(
    label,
    methods.family(evidence.runs[0]),
    density,
    [spent[n].trainings(units[n]) for n in known],
    [values[n] for n in known],
  )
  return (row, point) if known else None


def _deviation(number: float | None, percent: bool) -> str:
  if number is None:
    return ""
  return f"{100 * number:.2f}" if percent else f"{number:.3g}"
