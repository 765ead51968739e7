"""What tickets keep and share: tables of `what_matters.py`, from the masks."""

import itertools
import statistics
from collections.abc import Sequence

from tf_lottery import analysis
from tf_lottery.masks import Mask
from tf_lottery.report import drawing
from tf_lottery.report import records
from tf_lottery.report import summaries
from tf_lottery.report import wording
from tf_lottery.report.evidence import Evidence

# Controls whose masks come from a search of their own, and a yardstick.
_SEARCHED = ("other_order", "half_data", "shuffled_labels", "shuffled_mask")


def table(evidence: Evidence, shape: Sequence[int]) -> str:
  """Returns a row for each Level that has controls, as Markdown.

  Args:
    evidence: The runs of an experiment.
    shape: The shape of the inputs, without channels.
  """
  densities = summaries.level_densities(evidence.compared)
  levels = evidence.declared_levels or tuple(densities)
  lines = [
    "What the tickets keep, as means over the replicates. *Shared* is how many"
    " weights of the first layer the tickets of two seeds both keep, divided by"
    " what chance gives. *Neighbours* is how many pairs of neighbouring inputs"
    " are kept for the same unit, divided by what chance gives: with each"
    " unit's inputs shuffled, and with each input as popular as it is. In"
    " parentheses are the least and the greatest z, the distance from chance in"
    " standard deviations.",
    "",
    "| weights | shared | neighbours, inputs shuffled | neighbours, inputs as"
    " popular |",
    "| --- | --- | --- | --- |",
  ]
  for level in levels:
    masks = list(_masks(evidence, level).values())
    first = next(iter(masks[0]))
    shared = [
      analysis.overlap(*pair).weights[first]
      for pair in itertools.combinations(masks, 2)
    ]
    found = [analysis.adjacency(mask, shape) for mask in masks]
    lines.append(
      f"| {wording.density(densities[level])} | {_cell(shared)} |"
      f" {_cell([one.inputs_shuffled for one in found])} |"
      f" {_cell([one.counts_fixed for one in found])} |"
    )
  return "\n".join(lines) + "\n"


def searched(evidence: Evidence) -> str:
  """Returns how much the masks of other searches share with the tickets'.

  Args:
    evidence: The runs of an experiment.

  Returns:
    A row for each Level that has controls, as Markdown; `""` if no mask comes
    from another search.
  """
  trained = {one.method for one in evidence.trainings if one.done}
  names = [name for name in _SEARCHED if name in trained]
  if not {*names} - {"shuffled_mask"}:
    return ""
  densities = summaries.level_densities(evidence.compared)
  lines = [
    "How many of the ticket's weights the masks of other searches keep too, as"
    " means over the replicates, and in parentheses how many random masks with"
    " as many weights in each layer would. All start from the same initial"
    " weights.",
    "",
    f"| weights | {' | '.join(drawing.style(n).label for n in names)} |",
    f"| --- |{' --- |' * len(names)}",
  ]
  for level in evidence.declared_levels or tuple(densities):
    masks = _masks(evidence, level)
    cells = []
    for name in names:
      others = _masks(evidence, level, name)
      both = [
        analysis.overlap(mask, others[replicate])
        for replicate, mask in masks.items()
        if replicate in others
      ]
      if not both:
        cells.append("")
        continue
      share, chance = (
        statistics.mean(values)
        for values in (
          [one.share for one in both],
          [one.expected_share for one in both],
        )
      )
      cells.append(f"{share:.1%} ({chance:.1%})")
    lines.append(
      f"| {wording.density(densities[level])} | {' | '.join(cells)} |"
    )
  return "\n".join(lines) + "\n"


def _masks(
  evidence: Evidence, level: int, control: str = ""
) -> dict[int, Mask]:
  """Returns replicate -> mask, of the tickets of a Level or of a control."""
  found = {}
  for run in evidence.runs:
    directory = run.directory.level(level)
    if control:
      directory = run.directory.control(level, control)
    if ticket := records.read_ticket(directory):
      found[run.replicate] = ticket.mask
  return found


def _cell(found: Sequence[analysis.AgainstChance]) -> str:
  if not found:
    return ""
  ratio = statistics.mean(one.ratio for one in found)
  scores = [one.z for one in found]
  return f"{ratio:.2f} ({min(scores):+.1f} to {max(scores):+.1f})"
