"""Numbers and results in words."""

from tf_lottery.report import summaries
from tf_lottery.report import verdicts
from tf_lottery.report.evidence import Evidence

# The two moments of a training whose values are compared.
WHEN = {
  summaries.EARLY: "at the early stop",
  summaries.END: "at the end of training",
}

MINUS = "\u2212"
TIMES = "\u00d7"
TO = "\u2013"  # an en dash between two numbers
UNKNOWN = "\u2013"


def density(value: float) -> str:
  """Writes a density in percent: `"3.58 %"`, `"80.0 %"`, `"100 %"`."""
  return f"{f'{100 * value:#.3g}'.rstrip('.')} %"


def value(number: float | None, percent: bool, measure: str = "") -> str:
  """Writes a value of the metric: `"89.1 %"` in percent, else `"0.3124"`.

  If the measure is the step of the early stop, writes it as `"1,200"`.
  """
  if number is None:
    return UNKNOWN
  if measure == summaries.STEP:
    return f"{number:,.0f}"
  return f"{100 * number:.1f} %" if percent else f"{number:.4g}"


def difference(number: float | None, percent: bool) -> str:
  """Writes a difference with its sign; in percent, as points: `"+1.30"`."""
  if number is None:
    return UNKNOWN
  text = f"{100 * number:+.2f}" if percent else f"{number:+.3g}"
  return text.replace("-", MINUS)


def p_value(number: float | None) -> str:
  """Writes a p value with three digits at most: `"0.041"`, `"< 0.001"`."""
  if number is None:
    return UNKNOWN
  return "< 0.001" if number < 0.001 else f"{number:.3f}"


def count(number: int, noun: str) -> str:
  """Writes a number and its noun: `"1 replicate"`, `"3 replicates"`."""
  return f"{number:,} {noun}{'s' * (number != 1)}"


def capital(text: str) -> str:
  """Writes the first letter as a capital."""
  return text[:1].upper() + text[1:]


def spread(
  row: summaries.Summary, percent: bool, *, in_words: bool = False
) -> str:
  """Writes mean, minimum and maximum: `"89.1 % (88.9-89.3)"`.

  In words: `"89.1 % (88.9 to 89.3, 3 replicates)"`. Of a single Round it writes
  the value alone.
  """
  mean, low, high = (
    value(x, percent, row.measure) for x in (row.mean, row.low, row.high)
  )
  if row.draws == 1:
    return mean
  to = " to " if in_words else TO
  of = f", {count(row.n, 'replicate')}" if in_words else ""
  return f"{mean} ({low.removesuffix(' %')}{to}{high.removesuffix(' %')}{of})"


def headline(evidence: Evidence) -> str:
  """Says in one or two sentences what an experiment shows.

  It names the smallest ticket that wins; if none does, the smallest that
  matches; else the smallest whose mean is within the tolerance.
  """
  rows = {
    (row.method, row.level): row
    for row in evidence.summary(evidence.fields[summaries.EARLY])
  }
  dense = rows.get(("dense", 0))
  found = evidence.verdicts()
  so_far = "So far: " if evidence.unfinished else ""
  if dense is None:
    return "The dense network is not trained to its end yet."
  reached = value(dense.mean, evidence.percent)
  if not evidence.has_direction:
    return (
      f"{so_far}Dense {evidence.metric} is {reached}. Which tickets match it"
      " cannot be told: it is not known whether more or less of"
      f" {evidence.monitor} is better."
    )
  if not found:
    return (
      f"{so_far}Dense {evidence.metric} is {reached}; no ticket is trained yet."
    )
  chosen, sentence = _choice(evidence, found)
  if chosen is None:
    return f"{so_far}{sentence} Dense {evidence.metric} is {reached}."
  ticket = rows["ticket", chosen.level]
  text = (
    f"{so_far}{sentence} keeps {density(chosen.density)} of the weights:"
    f" {evidence.metric} {spread(ticket, evidence.percent, in_words=True)}"
    f" against {reached} dense"
  )
  if reinit := rows.get(("random_reinit", chosen.level)):
    text += f"; reinitialised {value(reinit.mean, evidence.percent)}"
  return f"{text}.{_caution(chosen)}"


def _choice(
  evidence: Evidence, found: list[verdicts.Verdict]
) -> tuple[verdicts.Verdict | None, str]:
  """Returns the ticket to name, and the beginning of the sentence about it.

  If there is no such ticket, the sentence says so and is complete.
  """
  for word in ("winning", "matching"):
    if shown := [v for v in found if v.word == word]:
      return shown[-1], f"The smallest {word} ticket"
  if all(v.word == "below" for v in found):
    return None, "No ticket matches the dense network: all are below it."
  sign = verdicts.direction(evidence.compared)
  near = [
    v
    for v in found
    if v.difference is not None
    and sign * v.difference >= -evidence.tolerance
    and v.word != "below"
  ]
  if not near:
    return None, "No ticket comes within the tolerance of the dense network."
  return near[-1], "The smallest ticket within the tolerance of dense"


def _caution(verdict: verdicts.Verdict) -> str:
  """Returns a warning about a ticket that was not shown to match, else `""`."""
  if verdict.word != "cannot tell":
    return ""
  if min(verdict.n_ticket, verdict.n_dense) < 2:
    return " One replicate proves nothing."
  return (
    " Its replicates vary too much, or are too few, to show that it matches."
  )
