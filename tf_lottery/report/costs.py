"""Costs and prices, in units of one full training of the dense network.

Each replicate's costs are in units of its own dense training; see
`cost.Cost.trainings`. Where FLOPs are unknown, as in runs of earlier versions,
steps are compared.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tf_lottery.cost import Cost
from tf_lottery.objective import default_tolerance
from tf_lottery.report import run_folders
from tf_lottery.report.evidence import Evidence
from tf_lottery.report.records import RoundRecord
from tf_lottery.search import prices

# The parts of the price of an answer, in words.
PARTS = {
  "dense": "for the dense network",
  "search": "for drawing masks",
  "choosing": "for choosing the Level",
  "final": "for the ticket",
}


@dataclasses.dataclass(frozen=True)
class Spent:
  """A cost, as the mean over replicates.

  Attributes:
    trainings: In trainings of the dense network.
    sparse: The same for hardware that skips multiplications by zeros; None if
      the FLOPs are unknown.
    low: The minimum of `trainings` over replicates.
    high: The maximum.
    n: The number of replicates.
  """

  trainings: float
  sparse: float | None
  low: float
  high: float
  n: int

  @classmethod
  def mean(
    cls, costs: Mapping[int, Cost], evidence: Evidence
  ) -> "Spent | None":
    """Averages the costs of replicates; None if none can be told.

    Args:
      costs: Replicate -> cost.
      evidence: The runs, of which the dense networks give the unit.
    """
    dense = dense_costs(evidence)
    pairs = [(cost, dense[n]) for n, cost in costs.items() if n in dense]
    if not pairs:
      return None
    values = [cost.trainings(unit) for cost, unit in pairs]
    known = all(
      unit.dense_flops and (cost.dense_flops or not cost.steps)
      for cost, unit in pairs
    )
    sparse = [cost.sparse_trainings(unit) for cost, unit in pairs]
    return cls(
      float(np.mean(values)),
      float(np.mean(sparse)) if known else None,
      min(values),
      max(values),
      len(values),
    )

  def __str__(self) -> str:
    """Writes both numbers: `"1.00 (0.14)"`."""
    text = in_trainings(self.trainings)
    return (
      text if self.sparse is None else f"{text} ({in_trainings(self.sparse)})"
    )


def in_trainings(number: float) -> str:
  """Writes a number of trainings: `"17.0"`, `"1.25"`, `"0.0042"`.

  >>> [in_trainings(x) for x in (17.04, 1.25, 0.1, 0.00417, 0.0)]
  ['17.0', '1.25', '0.10', '0.0042', '0']
  """
  if not number:
    return "0"
  if number >= 10:
    return f"{number:,.1f}"
  return f"{number:.2f}" if number >= 0.1 else f"{number:.2g}"


def dense_costs(evidence: Evidence) -> dict[int, Cost]:
  """Returns replicate -> the cost of its dense network's whole training."""
  return {
    r.replicate: r.cost
    for r in evidence.rounds
    if r.method == "dense" and r.done and r.cost.steps
  }


def training(evidence: Evidence, level: int) -> Spent | None:
  """Returns what it takes to train the ticket of a Level to its end.

  None if no replicate has.
  """
  costs = {r.replicate: r.cost for r in _tickets(evidence, level) if r.done}
  return Spent.mean(costs, evidence)


def search(evidence: Evidence, level: int) -> Spent | None:
  """Returns what all training took that was needed to draw a Level's mask.

  None if that is not known, and for the dense network, which needs none.
  """
  return Spent.mean(search_costs(evidence, level), evidence)


def search_costs(evidence: Evidence, level: int) -> dict[int, Cost]:
  """Returns replicate -> the cost of the search until it drew a Level's mask.

  Replicates of which it is not known, or that did not train the Level, are left
  out.
  """
  found = {
    r.replicate: _search_cost(evidence, r) for r in _tickets(evidence, level)
  }
  return {number: cost for number, cost in found.items() if cost is not None}


def _tickets(evidence: Evidence, level: int) -> list[RoundRecord]:
  return [
    r
    for r in evidence.rounds
    if (r.method, r.level) == ("ticket", level) and (r.done or r.stopped)
  ]


def _search_cost(evidence: Evidence, round_: RoundRecord) -> Cost | None:
  if round_.search_cost is not None:
    return round_.search_cost
  (run,) = (r for r in evidence.runs if r.replicate == round_.replicate)
  if not _is_iterative(run):
    return None
  # Earlier versions recorded none: it is that of the Levels before.
  before = [
    r.cost
    for r in evidence.rounds
    if r.replicate == round_.replicate
    and r.method in ("dense", "ticket")
    and r.level < round_.level
    and r.done
  ]
  return sum(before, Cost()) if len(before) == round_.level else None


def _is_iterative(run: run_folders.Run) -> bool:
  """Whether masks come from the Levels' trainings, which is not declared."""
  return bool(run.declaration) and not run.declaration.get("method")


@dataclasses.dataclass(frozen=True)
class Price:
  """What it cost to find the smallest ticket that matches, and to train it.

  Attributes:
    parts: The name of each part, such as `"search"`, and what it took.
    total: All parts together.
    besides: All other training: of controls, and of Levels that were trained
      to compare replicates.
    matched: In how many replicates a ticket matched, on validation data.
  """

  parts: Mapping[str, Spent]
  total: Spent
  besides: Spent | None
  matched: int

  @classmethod
  def of(cls, evidence: Evidence) -> "Price | None":
    """Adds up the price of each replicate; None before one has its answer."""
    answers = {
      run.replicate: found
      for run in evidence.runs
      if (found := _answer(evidence, run))
    }
    costs = {number: parts for number, (_, parts) in answers.items()}
    totals = {number: prices.total(parts) for number, parts in costs.items()}
    total = Spent.mean(totals, evidence)
    if total is None:
      return None
    parts = {
      name: spent
      for name in PARTS
      if any(one[name] != Cost() for one in costs.values())
      and (
        spent := Spent.mean(
          {number: one[name] for number, one in costs.items()}, evidence
        )
      )
    }
    every = {
      number: sum(
        (r.cost for r in evidence.trainings if r.replicate == number), Cost()
      )
      for number in totals
    }
    besides = {
      number: _difference(cost, totals[number])
      for number, cost in every.items()
    }
    matched = sum(bool(level) for level, _ in answers.values())
    return cls(parts, total, Spent.mean(besides, evidence), matched)

  def __str__(self) -> str:
    """Says in sentences what the answer cost."""
    n = self.total.n
    over = ""
    if n > 1:
      low, high = map(in_trainings, (self.total.low, self.total.high))
      over = f" (mean over {n} replicates, {low} to {high})"
    parts = ", ".join(
      f"{in_trainings(self.parts[name].trainings)} {words}"
      for name, words in PARTS.items()
      if name in self.parts
    )
    text = (
      "The answer, which ticket is the smallest that matches on validation"
      f" data, cost {in_trainings(self.total.trainings)} trainings of the dense"
      f" network{over}: {parts}."
    )
    if not self.matched:
      text += " No ticket matched."
    elif self.matched < n:
      text += f" A ticket matched in {self.matched} of {n} replicates."
    if self.total.sparse is not None:
      sparse = in_trainings(self.total.sparse)
      text += f" Hardware that skips zeros would spend {sparse}."
    if self.besides and self.besides.trainings > 0.005:
      text += (
        " Controls, and Levels that were trained to compare replicates, took"
        f" {in_trainings(self.besides.trainings)} more"
        f"{' in each replicate, on average' if n > 1 else ''}."
      )
    return text


def _answer(
  evidence: Evidence, run: run_folders.Run
) -> tuple[int, prices.Price] | None:
  """Returns the Level that a run found, and what that cost, in parts."""
  written = run.outcome.get("price")
  if written is not None:
    parts = {name: Cost.from_json(written.get(name)) for name in prices.PARTS}
    return run.outcome.get("level", 0), parts
  level = _smallest_matching(evidence, run)
  if level is None:
    return None
  iterative = _is_iterative(run)
  found = run_folders.read_or_note(
    lambda: prices.price(run.directory, level, iterative), []
  )
  return None if found is None else (level, found)


def _smallest_matching(evidence: Evidence, run: run_folders.Run) -> int | None:
  """Returns the Level that a finished search of an earlier version found."""
  ours = {
    r.level: r
    for r in evidence.compared
    if r.replicate == run.replicate and r.method in ("dense", "ticket")
  }
  schedule = run.declaration.get("schedule")
  wanted = range(1 + len(schedule or ()))
  values = {n: ours[n].val_end for n in wanted if n in ours and ours[n].done}
  known = {n: value for n, value in values.items() if value is not None}
  if schedule is None or len(known) < len(wanted) or evidence.sign is None:
    return None
  tolerance = default_tolerance(known[0], ours[0].val_start)
  least = evidence.sign * known[0] - tolerance
  matching = [n for n, v in known.items() if n and evidence.sign * v >= least]
  return max(matching, default=0)


def _difference(whole: Cost, part: Cost) -> Cost:
  """Returns what is left of a cost without a part of it."""
  names = [field.name for field in dataclasses.fields(Cost)]
  return Cost(
    *(max(getattr(whole, name) - getattr(part, name), 0) for name in names)
  )
