"""The headline: what an experiment shows, in a few sentences."""

from collections.abc import Mapping
from collections.abc import Sequence

from tf_lottery.report import comparisons
from tf_lottery.report import rivals
from tf_lottery.report import summaries
from tf_lottery.report import verdicts
from tf_lottery.report import wording
from tf_lottery.report.evidence import Evidence


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
    for row in evidence.judged.summary(evidence.fields[summaries.HEADLINE])
  }
  if ("dense", 0) not in rows:
    return "The dense network is not trained to its end yet."
  reached = wording.value(rows["dense", 0].mean, evidence.percent)
  dense = f"Dense {evidence.metric} is {reached}"
  if not evidence.has_direction:
    return (
      f"{so_far}{dense}. Which tickets match it cannot be told: it is not known"
      f" whether more or less of {evidence.monitor} is better."
    )
  if evidence.in_looks and not evidence.taken:
    return f"{so_far}{dense}. {wording.looks(evidence)}"
  found = [v for v in evidence.verdicts() if v.to_test]
  if not found:
    return (
      f"{so_far}{dense}; no {wording.tested(evidence)}ticket is trained yet."
    )
  if all(v.word == "below" for v in found):
    return (
      f"{so_far}No {wording.tested(evidence)}ticket matches the dense network:"
      f" all are below it by more than {wording.tolerance(evidence)}. {dense}."
      f" {rivals.without_ticket(evidence)}"
    ).rstrip()
  matching = [v for v in found if v.word in ("winning", "matching")]
  if matching:
    smallest = wording.density(matching[-1].density)
    numbers = _numbers(evidence, matching[-1], rows)
    parts = [_whole(evidence, matching), f"At {smallest}: {numbers}"]
  else:
    parts = [_nothing_shown(evidence, found), _nearest(evidence, found, rows)]
  parts.append(_next_step(evidence, found))
  return so_far + " ".join(filter(None, parts))


def _whole(evidence: Evidence, matching: Sequence[verdicts.Verdict]) -> str:
  """Says which tickets match and which win: what holds as a whole."""
  several = len(matching) > 1
  every = f"All {wording.tested(evidence)}tickets down to"
  who = every if several else "The ticket with"
  text = (
    f"{who} {wording.density(matching[-1].density)} of the weights"
    f" {'match' if several else 'matches'} the dense network within"
    f" {wording.tolerance(evidence)}"
  )
  return (
    f"{text}{_winners(matching)}. This holds as a whole at a significance of"
    f" {wording.significance(evidence)}."
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
  *others, last = [wording.density(v.density) for v in winning]
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
  who = f"{wording.tested(evidence)}ticket"
  largest = (
    f"the largest {who}, with {wording.density(first.density)} of the weights"
  )
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
    f"{evidence.metric}"
    f" {wording.spread(ticket, evidence.percent, in_words=True)} against"
    f" {wording.value(rows['dense', 0].mean, evidence.percent)} dense"
  )
  if reinit := rows.get(("random_reinit", verdict.level)):
    text += f"; reinitialised {wording.value(reinit.mean, evidence.percent)}"
  rivalry = rivals.sentence(
    evidence, verdict.level, lambda mean: wording.value(mean, evidence.percent)
  )
  return f"{text}. {rivalry}".rstrip()


def _nearest(
  evidence: Evidence,
  found: Sequence[verdicts.Verdict],
  rows: Mapping[tuple[str, int], summaries.Summary],
) -> str:
  """Names the smallest ticket whose mean is within the tolerance."""
  sign = verdicts.direction(evidence.compared)
  who = f"{wording.tested(evidence)}ticket"
  near = [
    v
    for v in found
    if v.difference is not None
    and sign * v.difference >= -v.tolerance
    and v.word != "below"
  ]
  if not near:
    return (
      f"The mean of no {who} is within {wording.tolerance(evidence)} of dense,"
      f" whose {evidence.metric} is"
      f" {wording.value(rows['dense', 0].mean, evidence.percent)}."
      f" {rivals.without_ticket(evidence)}"
    ).rstrip()
  return (
    f"The smallest {who} whose mean is within {wording.tolerance(evidence)} of"
    f" dense keeps {wording.density(near[-1].density)} of the weights:"
    f" {_numbers(evidence, near[-1], rows)}"
  )


def _next_step(evidence: Evidence, found: Sequence[verdicts.Verdict]) -> str:
  """Says what would show more; empty if that is not known."""
  shown = [v for v in found if v.word in ("winning", "matching")]
  rest = [v for v in found if v not in shown]
  if shown and shown[-1].needed and all(v.word == "matching" for v in shown):
    which = f"the ticket with {wording.density(shown[-1].density)}"
    have = min(shown[-1].n_ticket, shown[-1].n_reinit)
    what = f"{which} is better than its random reinits"
    return _more(evidence, have, shown[-1].needed, what)
  if not rest:
    done = wording.tested(evidence).strip() or "searched"
    return f"Smaller tickets were not {done}."
  stop = rest[0]
  which = f"the ticket with {wording.density(stop.density)}"
  if stop.word == "below":
    return (
      "" if stop is found[0] else f"{wording.capital(which)} is below dense."
    )
  have = min(stop.n_ticket, stop.n_dense)
  return _more(evidence, have, stop.needed, f"{which} matches")


def _more(evidence: Evidence, have: int, needed: int | None, what: str) -> str:
  """Says how many more replicates are likely to show something.

  It is empty if the looks at the verdicts decide about that.
  """
  if evidence.in_looks:
    return ""
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
      f"About {wording.count(more, 'more replicate')}"
      f" {'is' if more == 1 else 'are'} likely to be enough to show that {what}"
    )
  declared = evidence.runs[0].experiment_declaration.get("replicates", 0)
  if isinstance(declared, int) and declared >= needed:
    return "Further replicates are declared: run the same command again."
  return f"{text}: {wording.more_replicates(evidence, needed)}."
