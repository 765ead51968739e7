"""Tickets against the tuned dense network: do they still win?"""

import dataclasses
import functools
import os
from collections.abc import Mapping

from tf_lottery import text_table
from tf_lottery.report import headlines
from tf_lottery.report import summaries
from tf_lottery.report import wording
from tf_lottery.report.comparisons import Comparison
from tf_lottery.report.evidence import Evidence
from tf_lottery.report.evidence import gather
from tf_lottery.report.records import RoundRecord


@dataclasses.dataclass(frozen=True)
class Judged:
  """The tickets of one recipe at a Level, judged against the tuned network.

  Attributes:
    mean: The mean of the tickets over replicates.
    n: The number of replicates.
    word: The verdict, `"winning"`, `"matching"`, `"below"` or `"cannot tell"`,
      with the tuned network as the dense one; see `verdicts.verdicts`.
    p_matching: If it is small, the ticket is not worse than the tuned network
      by more than the tolerance; None without a test.
    p_better: If it is small, the ticket is better than the tuned network. It is
      a test of this Level by itself.
    p_reinit: If it is small, the ticket is better than its random reinits.
  """

  mean: float
  n: int
  word: str
  p_matching: float | None
  p_better: float | None
  p_reinit: float | None


@dataclasses.dataclass(frozen=True)
class Row:
  """The tickets of one Level, beside the dense networks.

  Attributes:
    level: The Level.
    density: The density of its tickets.
    dense: The mean of the dense network by the original recipe.
    tuned_dense: The mean of the tuned dense network.
    original: The tickets of the original recipe; None without any.
    tuned: The tickets of the tuned recipe; None without any.
  """

  level: int
  density: float
  dense: float | None
  tuned_dense: float
  original: Judged | None
  tuned: Judged | None


@dataclasses.dataclass(frozen=True, repr=False)
class AgainstTuned:
  """The tickets of two recipes, judged against the tuned dense network.

  Each recipe is compared where it stops: the original one at the end of
  training, the tuned one where `tune` chose it to stop. Printing it shows a
  table, and the answer for either recipe.

  Attributes:
    plain: The original experiment, with its own dense network.
    original: The same experiment with the tuned dense network in place of its
      own.
    tuned: The experiment by the tuned recipe.
    when: When the tuned recipe stops, `"end"` or `"early"`.
  """

  plain: Evidence
  original: Evidence
  tuned: Evidence
  when: str = summaries.END

  @functools.cached_property
  def rows(self) -> list[Row]:
    """One row for each Level that has tickets of either recipe."""
    original, tuned = _judged(self.original), _judged(self.tuned)
    densities = {
      v.level: v.density
      for one in (self.tuned, self.original)
      for v in one.verdicts()
    }
    dense, tuned_dense = (
      _mean(_values(one).get(("dense", 0), {}))
      for one in (self.plain, self.tuned)
    )
    if tuned_dense is None:
      return []
    return [
      Row(
        level,
        density,
        dense,
        tuned_dense,
        original.get(level),
        tuned.get(level),
      )
      for level, density in sorted(densities.items())
    ]

  @property
  def answers(self) -> dict[str, str]:
    """`"original"` and `"tuned"` -> what its tickets show, in sentences."""
    return {
      "original": headlines.headline(self.original),
      "tuned": headlines.headline(self.tuned),
    }

  @property
  def _beside_looks(self) -> str:
    """Says that p values beside the verdicts are not corrected for looks."""
    said = map(wording.beside_looks, (self.original, self.tuned))
    sentence = next(filter(None, said), "").strip()
    return sentence and f"\n\nP better: {sentence}"

  def __str__(self) -> str:
    percent = self.plain.percent

    def cells(one: Judged | None) -> tuple[str, ...]:
      if one is None:
        return ("",) * 4
      return (
        wording.value(one.mean, percent),
        one.word,
        wording.p_value(one.p_matching),
        wording.p_value(one.p_better),
      )

    header = ("level", "weights left", "dense", "tuned_dense")
    each = ("verdict", "p matching", "p better")
    lines = text_table.render(
      (*header, "ticket", *each, "tuned ticket", *each),
      [
        (
          str(row.level),
          wording.density(row.density),
          wording.value(row.dense, percent),
          wording.value(row.tuned_dense, percent),
          *cells(row.original),
          *cells(row.tuned),
        )
        for row in self.rows
      ],
      ">>>>><>>><>>",
    )
    return (
      f"{wording.capital(self.plain.metric)} against the tuned dense network,"
      " means over replicates. Those of the original recipe, dense and ticket,"
      " are at the end of training, and those of the tuned one"
      f" {wording.WHEN[self.when]}."
      f"\n{lines}\n\nTickets of the original recipe, with the tuned dense"
      f" network as the dense one: {self.answers['original']}\n\nTickets of the"
      f" tuned recipe: {self.answers['tuned']}{self._beside_looks}"
    )


def against_tuned(
  original: str | os.PathLike,
  tuned: str | os.PathLike,
  *,
  when: str = summaries.END,
) -> AgainstTuned:
  """Judges tickets against the tuned dense network.

  The verdicts on the tickets of the original recipe are made again with the
  tuned dense network in place of their own. Replicates of one number are
  compared, and must have one seed. A ticket wins if it matches the tuned
  network and is better than its own random reinits.

  Args:
    original: The directory of the original experiment, once it is proved.
    tuned: The directory of the tuned experiment, once it is proved.
    when: When the tuned recipe stops, `Tuning.when`: `"end"`, or `"early"` at
      the lowest validation loss. Defaults to `"end"`.

  Raises:
    FileNotFoundError: A path has no run.
    ValueError: `when` is neither, a path has several experiments, or their
      metrics, the losses that are compared, their seeds, or the data on which
      networks are evaluated differ.

  Example:
  ```python
  compared = report.against_tuned(
    "runs/mine-1f0c", "runs/mine-tuned-77ab", when=tuning.when
  )
  print(compared)
  ```

  Reference: Ma et al., arXiv 2107.00166.
  """
  if when not in summaries.MOMENTS:
    raise ValueError(f"when must be 'early' or 'end', got {when!r}.")
  plain, by_tuned = (_one(path) for path in (original, tuned))
  if plain.metric != by_tuned.metric:
    raise ValueError(
      f"Experiments must have one metric, got {plain.metric} and"
      f" {by_tuned.metric}."
    )
  _check_declarations(plain, by_tuned)
  if when == summaries.EARLY:
    stopped = tuple(map(_stopped_early, by_tuned.rounds))
    by_tuned = _with_rounds(by_tuned, stopped)
  return AgainstTuned(plain, _with_dense(plain, by_tuned), by_tuned, when)


def _one(path: str | os.PathLike) -> Evidence:
  found = gather([path])
  if len(found) != 1:
    raise ValueError(
      f"{path} must have one experiment, got {len(found)}. Give the directory"
      " of one."
    )
  return found[0]


def _check_declarations(plain: Evidence, by_tuned: Evidence) -> None:
  """Refuses replicates of one number whose values cannot be compared."""
  same_data = "Give both experiments the same data."
  ways_out = {
    "seed": "Give both experiments the same seed.",
    "validation_data": same_data,
    "test_data": same_data,
  }
  if plain.monitor == "loss":
    ways_out["loss"] = "Give both an objective that is not the loss."
  runs = {run.replicate: run.declaration for run in plain.runs}
  for run in by_tuned.runs:
    before = runs.get(run.replicate, {})
    for field, way_out in ways_out.items():
      one, other = before.get(field), run.declaration.get(field)
      # A declaration that cannot be read has neither.
      if None not in (one, other) and one != other:
        raise ValueError(
          "Replicates are compared by their number, and must have one"
          f" {field.replace('_', ' ')};"
          f" of replicate {run.replicate}, the original one has {one} and the"
          f" tuned one {other}. {way_out}"
        )


def _stopped_early(round_: RoundRecord) -> RoundRecord:
  """Returns the Round as if it had ended at its early stop."""
  return dataclasses.replace(
    round_, val_end=round_.val_early, test_end=round_.test_early
  )


def _with_dense(evidence: Evidence, other: Evidence) -> Evidence:
  """Returns the evidence with the dense networks of another experiment."""
  paths = {run.replicate: str(run.path) for run in evidence.runs}
  dense = [
    dataclasses.replace(r, run=paths.get(r.replicate, r.run))
    for r in other.rounds
    if r.method == "dense"
  ]
  rest = [r for r in evidence.rounds if r.method != "dense"]
  return _with_rounds(evidence, (*dense, *rest))


def _with_rounds(
  evidence: Evidence, rounds: tuple[RoundRecord, ...]
) -> Evidence:
  """Returns the evidence with other Rounds, which all looks judge anew."""
  changed = dataclasses.replace(evidence, rounds=rounds)
  plan = evidence.runs[0].looks
  return changed.with_looks({**plan, "shown": []}) if plan else changed


def _values(evidence: Evidence) -> dict[tuple[str, int], dict[int, float]]:
  measure = evidence.fields[summaries.HEADLINE]
  return summaries.values_by_replicate(evidence.judged.compared, measure)


def _mean(values: Mapping[int, float]) -> float | None:
  return sum(values.values()) / len(values) if values else None


def _judged(evidence: Evidence) -> dict[int, Judged]:
  """Returns what is shown of the tickets of each Level."""
  sign = evidence.sign or 1
  values = {
    key: {replicate: sign * value for replicate, value in found.items()}
    for key, found in _values(evidence).items()
  }
  dense = values.get(("dense", 0), {})
  found = {}
  for v in evidence.verdicts():
    ticket = values.get(("ticket", v.level), {})
    mean = _mean(ticket)
    if mean is not None:
      better = Comparison.of(ticket, dense).p_greater()
      found[v.level] = Judged(
        sign * mean, len(ticket), v.word, v.p_matching, better, v.p_reinit
      )
  return found
