"""Numbers and results in words."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery.report import comparisons
from tf_lottery.report import rivals
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


def ends(values: Sequence[float | None], write: Callable[[Any], str]) -> str:
  """Writes the least and the greatest of some values, or the only one.

  Densities go from the greatest to the least, as everywhere.
  """
  known = sorted(value for value in values if value is not None)
  if not known:
    return UNKNOWN
  low, high = write(known[0]), write(known[-1])
  if write is density:
    low, high = high, low
  return low if low == high else f"{low} to {high}"


def count(number: int, noun: str) -> str:
  """Writes a number and its noun: `"1 replicate"`, `"3 replicates"`."""
  return f"{number:,} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
  """Writes a time in its usual unit: `"38 s"`, `"12 min"`, `"3.4 h"`."""
  if seconds < 120:
    return f"{seconds:.0f} s"
  if seconds < 7200:
    return f"{seconds / 60:.0f} min"
  return f"{seconds / 3600:,.1f} h"


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
  """Says in a few sentences what an experiment shows.

  The first sentence holds as a whole: down to which density all tickets match,
  and which of them win. If none is shown to match, the smallest ticket whose
  mean is within the tolerance is named. The last sentence says what would show
  more, such as further replicates. It is about the Levels to test alone.
  """
  so_far = "So far: " if evidence.unfinished else ""
  rows = {
    (row.method, row.level): row
    for row in evidence.summary(evidence.fields[summaries.HEADLINE])
  }
  if ("dense", 0) not in rows:
    return "The dense network is not trained to its end yet."
  reached = value(rows["dense", 0].mean, evidence.percent)
  dense = f"Dense {evidence.metric} is {reached}"
  if not evidence.has_direction:
    return (
      f"{so_far}{dense}. Which tickets match it cannot be told: it is not known"
      f" whether more or less of {evidence.monitor} is better."
    )
  found = [v for v in evidence.verdicts() if v.to_test]
  if not found:
    return f"{so_far}{dense}; no {_tested(evidence)}ticket is trained yet."
  if all(v.word == "below" for v in found):
    return (
      f"{so_far}No {_tested(evidence)}ticket matches the dense network: all are"
      f" below it by more than {tolerance(evidence)}. {dense}."
    )
  matching = [v for v in found if v.word in ("winning", "matching")]
  if matching:
    smallest = density(matching[-1].density)
    numbers = _numbers(evidence, matching[-1], rows)
    parts = [_whole(evidence, matching), f"At {smallest}: {numbers}"]
  else:
    parts = [_nothing_shown(evidence, found), _nearest(evidence, found, rows)]
  parts.append(_next_step(evidence, found))
  return so_far + " ".join(filter(None, parts))


def how_tested(evidence: Evidence) -> str:
  """Says how the verdicts on an experiment were tested."""
  at = f"{100 * verdicts.SIGNIFICANCE:g} %"
  tests = dict.fromkeys(
    name
    for v in evidence.verdicts()
    for name in (v.test, v.reinit_test)
    if name
  )
  by = f" ({', '.join(tests)})" if tests else ""
  return (
    "Verdicts compare values"
    f" {WHEN[summaries.HEADLINE]}, of the weights that are exported."
    f"{_which_tested(evidence)} A ticket matches if tests show that it, and"
    f" each larger {_tested(evidence)}ticket, is worse"
    f" than the dense network by at most {tolerance(evidence)}."
    f"{_default_tolerance(evidence)} It wins if it matches, and a test shows"
    " that it is better than its random reinits. All that is said to match and"
    f" to win holds as a whole at {at}: tickets are tested from the largest"
    " down until one fails, and those that match against their reinits from"
    " the smallest up"
    f" until one fails; the two share the {at}. This is so if the number of"
    " replicates was fixed before: who adds some until a word appears is wrong"
    " more often. A ticket is below if a test of"
    f" it alone, at {at}, shows that it is worse than the tolerance allows. The"
    f" tests are one-sided{by}. They compare trainings of the same replicate,"
    " which have the seed in common; the draws of a control are first averaged"
    " within their replicate."
  )


def _tested(evidence: Evidence) -> str:
  """Returns `"tested "` if some Levels are not to be tested, else `""`."""
  return "tested " * (
    not evidence.trains_all or any(not v.to_test for v in evidence.verdicts())
  )


def _which_tested(evidence: Evidence) -> str:
  """Says which Levels are to be tested; empty if all are."""
  if not _tested(evidence):
    return ""
  found = evidence.verdicts()
  *others, last = [density(v.density) for v in found if v.to_test] or ["none"]
  which = f"{', '.join(others)} and {last}" if others else last
  if not evidence.trains_all:
    return (
      " Each replicate chose which Levels it trains; those that all replicates"
      f" trained to their ends were tested: {which} of the weights."
    )
  return (
    f" Of {count(len(found), 'Level')}, those that the experiment declares to"
    f" have controls were tested: {which} of the weights. As the tests stop at"
    " the first that fails, they get further down where they are fewer. That"
    " is sound only if the Levels were declared before any result was known."
  )


def tolerance(evidence: Evidence) -> str:
  """Writes the tolerance with its unit: `"0.79 points"`, or `"0.0041"`."""
  number = evidence.tolerance_at()
  if not evidence.percent:
    return f"{number:.3g}"
  text = f"{100 * number:.3g}"
  return f"{text} point{'s' * (text != '1')}"


def more_replicates(evidence: Evidence, number: int) -> str:
  """Says how to train an experiment until it has a number of replicates.

  Args:
    evidence: The runs of the experiment.
    number: The number of all replicates, more than there are.
  """
  if evidence.runs[0].experiment_declaration:
    return f"set replicates={number} and run the same command again"
  seeds = [run.declaration.get("seed") for run in evidence.runs]
  unused = max((s for s in seeds if isinstance(s, int)), default=0) + 1
  last = unused + number - evidence.replicates - 1
  if last == unused:
    return f"run it again with seed={unused}, into a directory beside this one"
  return (
    f"run it again with each seed from {unused} to {last}, into directories"
    " beside this one"
  )


def _default_tolerance(evidence: Evidence) -> str:
  """Says where the tolerance comes from; empty if somebody gave it."""
  if evidence.tolerance is not None:
    return ""
  field = f"{evidence.fields[summaries.HEADLINE].split('_')[0]}_start"
  dense = [r for r in evidence.compared if not r.level]
  if any(getattr(r, field) is not None for r in dense):
    return (
      " That is 1 % of what training gained, and at most 5 % of the dense"
      " network's value."
    )
  return (
    " That is 1 % of the dense network's value, as the untrained network was"
    " not evaluated."
  )


def _whole(evidence: Evidence, matching: Sequence[verdicts.Verdict]) -> str:
  """Says which tickets match and which win: what holds as a whole."""
  several = len(matching) > 1
  every = f"All {_tested(evidence)}tickets down to"
  who = every if several else "The ticket with"
  text = (
    f"{who} {density(matching[-1].density)} of the weights"
    f" {'match' if several else 'matches'} the dense network within"
    f" {tolerance(evidence)}"
  )
  at = f"{100 * verdicts.SIGNIFICANCE:g} %"
  return (
    f"{text}{_winners(matching)}. This holds as a whole at a significance of"
    f" {at}."
  )


def _winners(matching: Sequence[verdicts.Verdict]) -> str:
  """Continues a sentence about tickets that match by those that win."""
  if not any(v.n_reinit for v in matching):
    return "; no random reinits were trained that it could win against"
  winning = [v for v in matching if v.word == "winning"]
  if not winning:
    return "; none is shown to be better than its random reinits"
  if len(matching) == 1:
    return ", and wins: it is better than its random reinits"
  *others, last = [density(v.density) for v in winning]
  if not others:
    return (
      f", and the ticket with {last} wins: it is better than its random reinits"
    )
  return (
    f", and the tickets with {', '.join(others)} and {last} win: they are"
    " better than their random reinits"
  )


def _nothing_shown(
  evidence: Evidence, found: Sequence[verdicts.Verdict]
) -> str:
  """Says why not even the largest ticket is shown to match."""
  first = found[0]
  if max(min(v.n_ticket, v.n_dense) for v in found) < 2:
    return "One replicate cannot give a verdict."
  who = f"{_tested(evidence)}ticket"
  largest = f"the largest {who}, with {density(first.density)} of the weights"
  if first.word == "below":
    return (
      f"No {who} is shown to match the dense network: the tests stop at"
      f" {largest}, which is below it."
    )
  return (
    f"No {who} is shown to match the dense network yet: the tests stop at"
    f" {largest} ({first.reason})."
  )


def _numbers(
  evidence: Evidence,
  verdict: verdicts.Verdict,
  rows: Mapping[tuple[str, int], summaries.Summary],
) -> str:
  """Writes the values of a ticket beside dense, its reinits and rivals."""
  ticket = rows["ticket", verdict.level]
  text = (
    f"{evidence.metric} {spread(ticket, evidence.percent, in_words=True)}"
    f" against {value(rows['dense', 0].mean, evidence.percent)} dense"
  )
  if reinit := rows.get(("random_reinit", verdict.level)):
    text += f"; reinitialised {value(reinit.mean, evidence.percent)}"
  rivalry = rivals.sentence(
    evidence, verdict.level, lambda mean: value(mean, evidence.percent)
  )
  return f"{text}. {rivalry}".rstrip()


def _nearest(
  evidence: Evidence,
  found: Sequence[verdicts.Verdict],
  rows: Mapping[tuple[str, int], summaries.Summary],
) -> str:
  """Names the smallest ticket whose mean is within the tolerance."""
  sign = verdicts.direction(evidence.compared)
  who = f"{_tested(evidence)}ticket"
  near = [
    v
    for v in found
    if v.difference is not None
    and sign * v.difference >= -v.tolerance
    and v.word != "below"
  ]
  if not near:
    return (
      f"The mean of no {who} is within {tolerance(evidence)} of dense, whose"
      f" {evidence.metric} is"
      f" {value(rows['dense', 0].mean, evidence.percent)}."
    )
  return (
    f"The smallest {who} whose mean is within {tolerance(evidence)} of dense"
    f" keeps {density(near[-1].density)} of the weights:"
    f" {_numbers(evidence, near[-1], rows)}"
  )


def _next_step(evidence: Evidence, found: Sequence[verdicts.Verdict]) -> str:
  """Says what would show more; empty if that is not known."""
  shown = [v for v in found if v.word in ("winning", "matching")]
  rest = [v for v in found if v not in shown]
  if shown and shown[-1].needed and all(v.word == "matching" for v in shown):
    which = f"the ticket with {density(shown[-1].density)}"
    have = min(shown[-1].n_ticket, shown[-1].n_reinit)
    what = f"{which} is better than its random reinits"
    return _more(evidence, have, shown[-1].needed, what)
  if not rest:
    return (
      f"Smaller tickets were not {_tested(evidence).strip() or 'searched'}."
    )
  stop = rest[0]
  which = f"the ticket with {density(stop.density)}"
  if stop.word == "below":
    return "" if stop is found[0] else f"{capital(which)} is below dense."
  have = min(stop.n_ticket, stop.n_dense)
  return _more(evidence, have, stop.needed, f"{which} matches")


def _more(evidence: Evidence, have: int, needed: int | None, what: str) -> str:
  """Says how many more replicates are likely to show something."""
  if have < 2:
    needed, text = 3, "Train at least 3"
  elif needed is None:
    return ""
  elif needed > comparisons.MOST:
    return (
      f"More than {comparisons.MOST} replicates are likely to be needed to show"
      f" that {what}."
    )
  else:
    needed = max(needed, have + 1)
    more = needed - have
    text = (
      f"About {count(more, 'more replicate')} {'is' if more == 1 else 'are'}"
      f" likely to be enough to show that {what}"
    )
  declared = evidence.runs[0].experiment_declaration.get("replicates", 0)
  if isinstance(declared, int) and declared >= needed:
    return "Further replicates are declared: run the same command again."
  return f"{text}: {more_replicates(evidence, needed)}."
