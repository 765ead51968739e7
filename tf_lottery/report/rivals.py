"""Rivals: other ways to a network of the ticket's size, in a sentence."""

from collections.abc import Callable

from tf_lottery.report import drawing
from tf_lottery.report import summaries
from tf_lottery.report import verdicts
from tf_lottery.report import wording
from tf_lottery.report.comparisons import Comparison
from tf_lottery.report.evidence import Evidence

# Controls that need no search, and those that get the search's time besides.
RIVALS = (
  "rigl",
  "rigl_equal_cost",
  "set",
  "random_erk",
  "gradual_equal_cost",
  "small_dense_equal_cost",
)


def sentence(
  evidence: Evidence, level: int, write: Callable[[float], str]
) -> str:
  """Says which rivals the tickets of a Level beat, and which they do not.

  A rival is beaten if a one-sided test of pairs shows at 5 % that the ticket is
  better; see `comparisons.Comparison`. Each is tested by itself, so that the
  ticket beats all of them holds at 5 % too. Where the number of replicates
  depends on the verdicts, that is not so, and the sentence says it.

  Args:
    evidence: The runs of the experiment.
    level: The Level.
    write: Writes a value of the metric.

  Returns:
    A sentence; empty if no rival was trained. If some were, and none at the
    Level, it says at which Levels.
  """
  found: dict[str, list[str]] = {}
  measure = evidence.fields[summaries.HEADLINE]
  values = summaries.values_by_replicate(evidence.judged.compared, measure)
  for method in RIVALS:
    if rival := values.get((method, level)):
      compared = Comparison.of(values["ticket", level], rival)
      mean = write(sum(rival.values()) / len(rival))
      words = f"{drawing.style(method).label} ({mean})"
      found.setdefault(_outcome(compared, evidence.sign or 1), []).append(words)
  said = [
    f"it is {outcome} {wording.listed(found[outcome])}"
    for outcome in ("better than", "not shown to be better than", "worse than")
    if outcome in found
  ]
  if said:
    beside = wording.beside_looks(evidence)
    return f"Against its rivals, {'; '.join(said)}.{beside}"
  levels = sorted({n for method, n in values if method in RIVALS})
  if not levels:
    return ""
  at = wording.listed([*map(str, levels)])
  return (
    "Rivals were not trained at this density, and are not compared here: they"
    f" were at Level{'s' * (len(levels) > 1)} {at}."
  )


def without_ticket(evidence: Evidence) -> str:
  """Says why rivals are not compared where no ticket is near the dense network.

  It is empty if no rival was trained.
  """
  if not any(r.method in RIVALS for r in evidence.judged.compared):
    return ""
  return (
    "Rivals are compared with a ticket whose mean is within the tolerance, and"
    " there is none."
  )


def _outcome(compared: Comparison, sign: int) -> str:
  higher, lower = compared.p_greater(), compared.p_less()
  better, worse = (higher, lower) if sign > 0 else (lower, higher)
  if better is not None and better < verdicts.SIGNIFICANCE:
    return "better than"
  if worse is not None and worse < verdicts.SIGNIFICANCE:
    return "worse than"
  return "not shown to be better than"
