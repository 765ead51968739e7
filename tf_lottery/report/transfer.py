"""Does the ticket travel? Tickets of another experiment, compared by tests."""

import dataclasses

from tf_lottery.report import drawing
from tf_lottery.report import summaries
from tf_lottery.report import verdicts
from tf_lottery.report import wording
from tf_lottery.report.comparisons import Comparison
from tf_lottery.report.evidence import Evidence
from tf_lottery.report.tables import Table

_DENSE, _REINIT = "dense", "transferred_reinit"
_WHOLE, _MASK = "transferred", "transferred_mask"
# Which method is compared with which.
_PAIRS = (
  (_WHOLE, _DENSE),
  (_WHOLE, _REINIT),
  (_WHOLE, "transferred_shuffled"),
  (_WHOLE, "ticket"),
  (_MASK, _DENSE),
  (_MASK, _REINIT),
  ("transferred_permuted", _MASK),
)
_CANNOT_TELL = "cannot tell"


@dataclasses.dataclass(frozen=True)
class Finding:
  """What the replicates say about two methods at one Level.

  Attributes:
    level: The Level.
    density: The mean density of the first method's tickets. Layers that a
      source does not have are dense, so it may be above that of the Level.
    own: The mean density of the target's own tickets.
    method: The name of the first method.
    against: The name of the second one.
    mean: The mean of the first method over the replicates that have both.
    other: The same of the second one.
    p_better: If it is small, the first is better; against the dense network,
      it is not worse by more than the tolerance. None without a test.
    p_worse: If it is small, the first is worse; against the dense network, by
      more than the tolerance. None without a test.
    n: The number of replicates that are compared.
  """

  level: int
  density: float
  own: float
  method: str
  against: str
  mean: float
  other: float
  p_better: float | None
  p_worse: float | None
  n: int

  @property
  def word(self) -> str:
    """`"better"`, `"worse"` or `"cannot tell"`.

    Against the dense network, `"matching"` stands for better, and `"below"` for
    worse.
    """
    better, worse = "better", "worse"
    if self.against == _DENSE:
      better, worse = "matching", "below"
    if self.p_better is not None and self.p_better < verdicts.SIGNIFICANCE:
      return better
    if self.p_worse is not None and self.p_worse < verdicts.SIGNIFICANCE:
      return worse
    return _CANNOT_TELL


def findings(evidence: Evidence) -> list[Finding]:
  """Returns what is compared at each Level that has transferred tickets.

  The list is empty if there are none, or if the direction of the metric is not
  known. Each comparison is tested by itself at 5 %.

  Args:
    evidence: The runs of the target of the transfer.
  """
  if not evidence.has_direction:
    return []
  measure = evidence.fields[summaries.HEADLINE]
  judged = evidence.judged.compared
  values = summaries.values_by_replicate(judged, measure)
  densities = summaries.level_densities(judged)
  sign = evidence.sign or 1
  found = []
  for level, density in sorted(densities.items()):
    for method, against in _PAIRS:
      first = values.get((method, level))
      second = values.get((against, level if against != _DENSE else 0))
      if not first or not second:
        continue
      margin = evidence.tolerance_at() if against == _DENSE else 0.0
      compared = Comparison.of(
        {replicate: sign * value for replicate, value in first.items()},
        {replicate: sign * value for replicate, value in second.items()},
      )
      found.append(
        Finding(
          level,
          _density(evidence, method, level) or density,
          density,
          method,
          against,
          sign * float(compared.first.mean()),
          sign * float(compared.second.mean()),
          compared.p_greater(-margin),
          compared.p_less(-margin),
          compared.n,
        )
      )
  return found


def _density(evidence: Evidence, method: str, level: int) -> float | None:
  """Returns the mean density of a method's Rounds; None if it is not known."""
  found = [
    r.density
    for r in evidence.compared
    if (r.method, r.level) == (method, level) and r.density is not None
  ]
  return sum(found) / len(found) if found else None


def answer(evidence: Evidence) -> str:
  """Says in a few sentences whether the tickets of the source travel.

  They travel at a Level if they are shown to match the target's dense network,
  and to be better than their mask with new weights. The mask travels alone if
  it is shown to match with the target's own start weights. The text is empty
  without transferred tickets.

  Args:
    evidence: The runs of the target of the transfer.
  """
  found = findings(evidence)
  said: dict[str, list[str]] = {}
  for method, sentence_of in (
    (_WHOLE, _sentence_of_ticket),
    (_MASK, _sentence_of_mask),
  ):
    for level in dict.fromkeys(one.level for one in found):
      words = {
        one.against: one
        for one in found
        if one.level == level and one.method == method
      }
      if _DENSE in words:
        text = wording.density(words[_DENSE].density)
        said.setdefault(sentence_of(words), []).append(text)
  if not said:
    return ""
  sentences = [
    sentence.format(wording.listed(densities))
    for sentence, densities in said.items()
  ]
  denser = {one.level: one for one in found if one.density > 1.1 * one.own}
  if denser:
    own = wording.listed([wording.density(one.own) for one in denser.values()])
    sentences.append(
      f"The target's own tickets have {own} of the weights; transferred tickets"
      " have more, as layers that the source does not have are drawn anew and"
      " stay dense."
    )
  source = evidence.runs[0].experiment_declaration.get("source_heading")
  of = f' of "{source}"' if source else ""
  beside = wording.beside_looks(evidence)
  return f"Does the ticket{of} travel? {' '.join(sentences)}{beside}"


def _sentence_of_mask(words: dict[str, Finding]) -> str:
  """Returns the sentence about the mask at a Level, with {} for densities."""
  if words[_DENSE].word == "matching":
    return (
      "With {} of the weights its mask travels alone: with the target's own"
      " start weights it matches the dense network."
    )
  if words[_DENSE].word == "below":
    return (
      "With {} of the weights its mask does not travel alone: with the target's"
      " own start weights it is worse than the dense network by more than the"
      " tolerance."
    )
  return (
    "With {} of the weights one cannot tell whether its mask travels alone: it"
    " is not shown that the mask with the target's own start weights matches"
    " the dense network, nor that it is worse."
  )


def _sentence_of_ticket(words: dict[str, Finding]) -> str:
  """Returns the sentence about the ticket at a Level, with {} for densities."""
  dense = words[_DENSE].word
  reinit = words[_REINIT].word if _REINIT in words else None
  if dense == "below":
    return (
      "With {} of the weights it does not: the transferred ticket is worse than"
      " the dense network by more than the tolerance."
    )
  if dense == _CANNOT_TELL:
    return (
      "With {} of the weights one cannot tell: it is not shown that the"
      " transferred ticket matches the dense network, nor that it is worse."
    )
  if reinit is None:
    return (
      "With {} of the weights the transferred ticket matches the dense network."
      " Only the control transferred_reinit can tell whether its weights"
      " matter, and it is not trained."
    )
  if reinit == "better":
    return (
      "With {} of the weights it does: the transferred ticket matches the dense"
      " network, and is better than its mask with new weights."
    )
  if reinit == "worse":
    return (
      "With {} of the weights its weights do not travel: the transferred ticket"
      " matches the dense network, and is worse than its mask with new weights."
    )
  return (
    "With {} of the weights one cannot tell whether its weights matter: the"
    " transferred ticket matches the dense network, and is not shown to be"
    " better than its mask with new weights."
  )


def table(evidence: Evidence) -> Table:
  """Returns the comparisons as a table, below the answer."""
  percent = evidence.percent
  rows = [
    (
      wording.density(one.density),
      drawing.style(one.method).label,
      wording.value(one.mean, percent),
      drawing.style(one.against).label,
      wording.value(one.other, percent),
      wording.difference(one.mean - one.other, percent),
      wording.p_value(one.p_better),
      wording.p_value(one.p_worse),
      str(one.n),
      one.word,
    )
    for one in findings(evidence)
  ]
  caption = (
    f"{answer(evidence)} The table compares the {evidence.metric}"
    f" {wording.WHEN[summaries.HEADLINE]}, by one-sided tests over n"
    " replicates, each by itself at 5 %. Against the dense network, better"
    f" means not worse by more than {wording.tolerance(evidence)}, and worse"
    " means worse by more than that."
    if rows
    else ""
  )
  head = ("weights left", "method", "mean", "against", "its mean", "difference")
  return Table(
    caption, (*head, "p better", "p worse", "n", "shown"), tuple(rows)
  )
