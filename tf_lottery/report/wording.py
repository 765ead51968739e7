"""Numbers, and how they were tested, in words."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

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


def listed(words: Sequence[str]) -> str:
  """Writes words in a row: `"80 %"`, `"80 % and 20 %"`, `"a, b and c"`."""
  *others, last = words
  return f"{', '.join(others)} and {last}" if others else last


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
    f" each larger {tested(evidence)}ticket, is worse"
    f" than the dense network by at most {tolerance(evidence)}."
    f"{_default_tolerance(evidence)} It wins if it matches, and a test shows"
    " that it is better than its random reinits. All that is said to match and"
    f" to win holds as a whole at {significance(evidence)}: tickets are tested"
    " from the largest down until one fails, and those that match against their"
    " reinits from the smallest up until one fails; the two share the"
    f" {at}. {_how_often(evidence)}"
    f" A ticket is below if a test of it alone{_alone_at(evidence, at)} shows"
    " that it is worse than the tolerance allows. The"
    f" tests are one-sided{by}. They compare trainings of the same replicate,"
    " which have the seed in common; the draws of a control are first averaged"
    " within their replicate."
  )


def _how_often(evidence: Evidence) -> str:
  """Says what the number of replicates has to do with the significance."""
  if evidence.in_looks:
    return looks(evidence)
  return (
    "This is so if the number of replicates was fixed before: who adds some"
    " until a word appears is wrong more often."
  )


def _alone_at(evidence: Evidence, at: str) -> str:
  return (
    ", at the significance of the look," if evidence.in_looks else f", at {at},"
  )


def looks(evidence: Evidence) -> str:
  """Says after how many replicates the verdicts were looked at, and how.

  It is empty if the number of replicates was fixed before.
  """
  plan = evidence.runs[0].looks
  if not evidence.in_looks:
    return ""
  if plan is None or not evidence.taken:
    first = f"{plan['planned'][0]} " if plan and plan["planned"] else ""
    return (
      f"There is no verdict yet: the first {first}replicates are not finished."
    )
  numbers = [str(number) for number, _ in evidence.taken]
  last, (full, half) = evidence.taken[-1]
  text = (
    f"Verdicts were looked at after {listed(numbers)} replicates;"
    f" at most {plan['planned'][-1]} were planned. The looks share the"
    f" {100 * verdicts.SIGNIFICANCE:g} % by a {plan['spending']} spending"
    f" function: the last one tested at {100 * full:.3g} %, or at"
    f" {100 * half:.3g} % where two sequences of tests have half each. What a"
    " look has shown stays."
  )
  if evidence.replicates > last:
    more = count(evidence.replicates - last, "replicate")
    text += f" Verdicts leave out {more} that the last look did not see."
  if plan["fixed_before"]:
    text += (
      f" Before, {count(plan['fixed_before'], 'replicate')} had been declared"
      " as a fixed number: if verdicts were read then, these words were at a"
      " full significance of their own."
    )
  return text


def significance(evidence: Evidence) -> str:
  """Writes the significance of all verdicts together."""
  about = "about " if evidence.in_looks else ""
  return f"{about}{100 * verdicts.SIGNIFICANCE:g} %"


def beside_looks(evidence: Evidence) -> str:
  """Says that tests beside the verdicts do not share the 5 % of the looks.

  It is empty if the number of replicates was fixed before.
  """
  if not evidence.in_looks:
    return ""
  return (
    f" These tests are at {100 * verdicts.SIGNIFICANCE:g} % each, and are not"
    " corrected for the looks at the verdicts."
  )


def tested(evidence: Evidence) -> str:
  """Returns `"tested "` if some Levels are not to be tested, else `""`."""
  return "tested " * (
    not evidence.trains_all or any(not v.to_test for v in evidence.verdicts())
  )


def _which_tested(evidence: Evidence) -> str:
  """Says which Levels are to be tested; empty if all are."""
  if not tested(evidence):
    return ""
  found = evidence.verdicts()
  which = listed([density(v.density) for v in found if v.to_test] or ["none"])
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
