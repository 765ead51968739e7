"""What of a ticket matters: the controls that change one thing of it, by tests.

A control is compared with the ticket, and most of them with a second method
too: the signs of the start weights, for example, are to be better than new
weights.
"""

from collections.abc import Iterator
from collections.abc import Mapping

from tf_lottery.report import drawing
from tf_lottery.report import summaries
from tf_lottery.report import verdicts
from tf_lottery.report import wording
from tf_lottery.report.comparisons import Comparison
from tf_lottery.report.evidence import Evidence
from tf_lottery.report.tables import Table

# Replicate -> a value.
Values = Mapping[int, float]

# The initial network, as if it were a method.
_UNTRAINED = "untrained"
# Control -> the beginning of its sentence, and the second method to compare it
# with.
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
  "supermask": ("The ticket's mask without training is", _UNTRAINED),
  "weight_average": ("The average of trained Levels is", ""),
}
# Reports have other words about these.
_USUAL = {"random_reinit", "shuffled_mask"}


def answer(evidence: Evidence) -> str:
  """Says how each control does against the ticket, a sentence on each line.

  The text is empty if no control is there but the usual ones, random reinits
  and shuffled masks, or if the direction of the metric is not known.

  Args:
    evidence: The runs of an experiment.
  """
  said = list(sentences(evidence)) if _has_controls(evidence) else []
  if not said:
    return ""
  head = (
    f"What of the ticket matters? {wording.capital(evidence.metric)}"
    f" {wording.WHEN[summaries.HEADLINE]}, by one-sided tests, each by itself"
    f" at 5 %.{wording.beside_looks(evidence)}"
  )
  return "\n".join([head, *(f"- {sentence}" for sentence in said)])


def sentences(evidence: Evidence) -> Iterator[str]:
  """Yields a sentence for each control: at which densities it does how."""
  values = _values(evidence, summaries.HEADLINE)
  densities = summaries.level_densities(evidence.judged.compared)
  sign = evidence.sign or 1
  for control, (subject, baseline) in CONTROLS.items():
    levels = [n for n in densities if (control, n) in values]
    said = []
    for other in filter(None, ["ticket", baseline]):
      by_outcome: dict[str, list[str]] = {}
      for level in levels:
        if (other, level) not in values:
          continue
        pair = values[control, level], values[other, level]
        density = wording.density(densities[level])
        by_outcome.setdefault(_outcome(*pair, sign), []).append(density)
      said += [
        f"{outcome} {_name(other)} at {wording.listed(at)}"
        for outcome, at in by_outcome.items()
      ]
    if said:
      yield f"{subject} {'; '.join(said)} of the weights."


def table(evidence: Evidence, when: str = summaries.HEADLINE) -> Table:
  """Returns the comparisons as a table.

  It has no rows if no control is there but the usual ones.

  Args:
    evidence: The runs of an experiment.
    when: `"end"` or `"early"`, the moment of training.
  """
  known = _has_controls(evidence)
  values = _values(evidence, when) if known else {}
  densities = summaries.level_densities(evidence.judged.compared)
  rows = []
  for level, density in densities.items():
    for control, (_, baseline) in CONTROLS.items():
      if (control, level) not in values or ("ticket", level) not in values:
        continue
      # Of the replicates that have both, as the difference is.
      pair = Comparison.of(values[control, level], values["ticket", level])
      cells = [wording.density(density), drawing.style(control).label]
      for shown in (pair.first, pair.second):
        cells.append(wording.value(float(shown.mean()), evidence.percent))
      cells += _compared(values, control, "ticket", level, evidence)
      has_second = (baseline, level) in values
      cells.append(_name(baseline).removeprefix("the ") if has_second else "")
      cells += _compared(values, control, baseline, level, evidence)
      rows.append(tuple(cells))
  unit = ", points" if evidence.percent else ""
  tests = (f"difference{unit}", "p better", "p worse")
  return Table(
    f"What of the ticket matters: {evidence.metric} {wording.WHEN[when]}."
    " Differences are the control's value minus the ticket's; then minus that"
    ' of the method which "against" names. The tests are one-sided, each by'
    " itself at 5 %.",
    ("weights", "control", "mean", "ticket", *tests, "against", *tests),
    tuple(rows),
  )


def _has_controls(evidence: Evidence) -> bool:
  trained = {one.method for one in evidence.judged.compared if one.done}
  return evidence.has_direction and bool(trained & {*CONTROLS} - _USUAL)


def _name(method: str) -> str:
  """Returns what stands in a sentence for a method."""
  if method == _UNTRAINED:
    return "the untrained dense network"
  label = drawing.style(method).label
  return f"the {label}" if method == "ticket" else label


def _values(evidence: Evidence, when: str) -> dict[tuple[str, int], Values]:
  """Returns (method, Level) -> values, with those of the untrained network."""
  measure = evidence.fields[when]
  judged = evidence.judged.compared
  found: dict[tuple[str, int], Values] = dict(
    summaries.values_by_replicate(judged, measure)
  )
  start = f"{measure.split('_')[0]}_start"
  untrained = {
    r.replicate: value
    for r in judged
    if not r.level and (value := getattr(r, start)) is not None
  }
  levels = {level for _, level in found if untrained}
  return found | {(_UNTRAINED, level): untrained for level in levels}


def _compared(
  values: Mapping[tuple[str, int], Values],
  control: str,
  other: str,
  level: int,
  evidence: Evidence,
) -> list[str]:
  """Returns three cells: the difference, and the p values of both tests."""
  second = values.get((other, level))
  if not second:
    return [""] * 3
  first = values[control, level]
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
