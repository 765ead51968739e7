"""Simulates how often verdicts are wrong, and how much they find.

  python scripts/simulate_verdicts.py --page=docs/results/verdicts.md

Accuracies of dense networks, tickets and reinits are drawn about curves whose
truth is known, and are judged by the verdicts of the report. So it is counted
how often any verdict is wrong, and how much of the truth is found.
"""

import csv
import dataclasses
import pathlib
import sys
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

if TYPE_CHECKING:
  import numpy as np

  from tf_lottery.report.records import RoundRecord
  from tf_lottery.report.verdicts import Verdict

_PAGE = flags.DEFINE_string(
  "page", None, "The Markdown file to write. By default the text is printed."
)
_SIMULATIONS = flags.DEFINE_integer(
  "simulations", 2000, "How many experiments to draw for each row.", 1
)
_SEED = flags.DEFINE_integer("seed", 0, "The seed of the draws.")

REPLICATES = (2, 3, 5, 10)
UNTRAINED = 0.1
# The mean range of three normal values, in units of their standard deviation.
RANGE_OF_THREE = 1.693


@dataclasses.dataclass(frozen=True)
class Setting:
  """Experiments of which the truth is known.

  Attributes:
    name: What it is like, in words.
    density: Level -> density.
    dense: The true accuracy of dense networks.
    ticket: Level -> true accuracy of its tickets.
    reinit: Level -> true accuracy of its reinits.
    sd: The standard deviation of an accuracy over replicates.
    examples: The number of test examples; accuracies are multiples of its
      inverse.
    correlation: Between the trainings of one replicate, in [0, 1).
  """

  name: str
  density: Mapping[int, float]
  dense: float
  ticket: Mapping[int, float]
  reinit: Mapping[int, float]
  sd: float
  examples: int
  correlation: float = 0.5

  @property
  def tolerance(self) -> float:
    """The default tolerance at the true values."""
    from tf_lottery import objective

    return objective.default_tolerance(self.dense, UNTRAINED)

  def is_true(self, level: int, word: str) -> bool:
    """Whether a word is true of a Level."""
    matches = self.ticket[level] > self.dense - self.tolerance + 1e-9
    if word == "matching" or not matches:
      return matches
    return self.ticket[level] > self.reinit[level] + 1e-9

  @property
  def matching(self) -> list[int]:
    """The Levels that match, as do all larger tickets."""
    found = []
    for level in self.ticket:
      if not self.is_true(level, "matching"):
        break
      found.append(level)
    return found


def measured(folder: str, examples: int) -> Setting:
  """Returns a setting whose truth is what a committed result measured."""
  path = startup.ROOT / "docs" / "results" / folder / "summary.csv"
  lines = path.read_text(encoding="utf-8").splitlines()
  rows = [r for r in csv.DictReader(lines) if r["measure"] == "test_early"]
  mean: dict[str, dict[int, float]] = {}
  for row in rows:
    mean.setdefault(row["method"], {})[int(row["level"])] = float(row["mean"])
  ours = [row for row in rows if row["method"] in ("dense", "ticket")]
  ranges = [float(row["high"]) - float(row["low"]) for row in ours]
  return Setting(
    f"as in {folder}",
    {int(row["level"]): float(row["density"]) for row in ours},
    mean["dense"][0],
    mean["ticket"],
    mean["random_reinit"],
    sum(ranges) / len(ranges) / RANGE_OF_THREE,
    examples,
  )


def nulls(base: Setting) -> list[Setting]:
  """Returns settings in which words that are easily said are wrong."""
  least = base.dense - base.tolerance
  good = dict.fromkeys(base.ticket, base.dense + base.tolerance)
  half = {
    level: base.dense if number < 7 else least
    for number, level in enumerate(base.ticket)
  }

  def setting(
    name: str, ticket: Mapping[int, float], *, everywhere: bool = False
  ) -> Setting:
    levels = base.ticket if everywhere else base.reinit
    reinit = {level: ticket[level] for level in levels}
    return dataclasses.replace(base, name=name, ticket=ticket, reinit=reinit)

  return [
    setting("no ticket matches", dict.fromkeys(base.ticket, least)),
    setting("7 tickets match, the others do not", half),
    setting("all match, none wins", good),
    setting(
      "all but the smallest match, none wins",
      {**good, max(good): least},
    ),
    setting(
      "7 tickets match, none wins, reinits at every Level",
      half,
      everywhere=True,
    ),
  ]


def collapsed(base: Setting) -> Setting:
  """Returns a setting in which all tickets below the ninth learn nothing."""
  ticket = {
    level: base.dense if number < 9 else UNTRAINED
    for number, level in enumerate(base.ticket)
  }
  reinit = {
    level: value - (base.tolerance if value == base.dense else 0)
    for level, value in ticket.items()
  }
  return dataclasses.replace(
    base,
    name="9 tickets match and win, the others collapse",
    ticket=ticket,
    reinit=reinit,
  )


def draw(
  setting: Setting, n: int, rng: "np.random.Generator", *, paired: bool = True
) -> list["RoundRecord"]:
  """Draws the Rounds of an experiment.

  Args:
    setting: The truth.
    n: The number of replicates.
    rng: Draws the values.
    paired: Whether to say which trainings belong to one replicate. Without it
      the verdicts must compare them by Welch's test. Defaults to `True`.
  """
  import numpy as np

  methods = {
    "dense": {0: setting.dense},
    "ticket": setting.ticket,
    "random_reinit": setting.reinit,
  }
  shared = np.sqrt(setting.correlation) * rng.standard_normal(n)
  found = []
  for number, (method, means) in enumerate(methods.items()):
    for level, mean in means.items():
      own = np.sqrt(1 - setting.correlation) * rng.standard_normal(n)
      values = mean + setting.sd * (shared + own)
      values = np.round(values * setting.examples) / setting.examples
      first = 0 if paired else n * number
      for replicate, value in enumerate(values, first):
        density = setting.density[level]
        found.append(_record(method, level, density, replicate, float(value)))
  return found


def _record(
  method: str, level: int, density: float, replicate: int, value: float
) -> "RoundRecord":
  from tf_lottery.report import records

  return records.RoundRecord(
    run=f"run{replicate}",
    experiment="simulated",
    replicate=replicate,
    method=method,
    draw=0,
    level=level,
    density=density,
    steps=1,
    seconds=1.0,
    done=True,
    monitor="accuracy",
    direction="max",
    early_stop_step=1,
    val_early=value,
    test_early=value,
    val_end=value,
    test_end=value,
    val_start=UNTRAINED,
    test_start=UNTRAINED,
  )


def in_sequence(found: Sequence["Verdict"]) -> dict[int, str]:
  """Returns the words of the verdicts, as they are."""
  return {v.level: v.word for v in found if v.word in ("matching", "winning")}


def by_itself(found: Sequence["Verdict"]) -> dict[int, str]:
  """Returns the words if each Level were tested by itself, as it once was."""
  from tf_lottery.report import verdicts

  def shows(p: float | None) -> bool:
    return p is not None and p < verdicts.SIGNIFICANCE

  return {
    v.level: "winning" if shows(v.p_reinit) else "matching"
    for v in found
    if shows(v.p_matching)
  }


def simulate(
  setting: Setting, n: int, simulations: int, seed: int, *, paired: bool = True
) -> list[list["Verdict"]]:
  """Returns the verdicts on each simulated experiment."""
  import numpy as np

  from tf_lottery.report import verdicts

  rng = np.random.default_rng(seed)
  return [
    verdicts.verdicts(draw(setting, n, rng, paired=paired))
    for _ in range(simulations)
  ]


def wrong(setting: Setting, found: Sequence[Mapping[int, str]]) -> float:
  """Returns the fraction of experiments in which any word is wrong."""
  errors = [
    any(not setting.is_true(level, word) for level, word in words.items())
    for words in found
  ]
  return sum(errors) / len(errors)


def error_rows(
  settings: Sequence[Setting], simulations: int, seed: int
) -> Iterator[list[str]]:
  """Yields the rows of the table of wrong words."""
  for setting in settings:
    for n in REPLICATES:
      row = [setting.name, str(n)]
      for paired in (True, False):
        found = simulate(setting, n, simulations, seed, paired=paired)
        for rule in (in_sequence, by_itself):
          rate = wrong(setting, list(map(rule, found)))
          row.append(f"{100 * rate:.1f} %")
      yield row


def power_rows(
  settings: Sequence[Setting], simulations: int, seed: int
) -> Iterator[list[str]]:
  """Yields the rows of the table of what is found."""
  import numpy as np

  for setting in settings:
    true = setting.matching
    for n in REPLICATES:
      for name, paired in (("paired", True), ("Welch", False)):
        found = simulate(setting, n, simulations, seed, paired=paired)
        words = list(map(in_sequence, found))
        shown = [sum(level in one for level in true) for one in words]
        last = int(np.median(shown))
        wins = ["winning" in one.values() for one in words]
        yield [
          setting.name,
          str(n),
          name,
          f"{100 * np.mean(np.array(shown) > 0):.0f} %",
          f"{100 * setting.density[true[last - 1]]:.3g} %" if last else "none",
          f"{100 * np.mean(shown) / len(true):.0f} %",
          f"{100 * np.mean(wins):.0f} %",
          f"{100 * wrong(setting, words):.1f} %",
        ]


def table(columns: Sequence[str], rows: Iterator[list[str]]) -> str:
  """Returns a table in Markdown."""
  rule = ["---"] * len(columns)
  lines = [list(columns), rule, *rows]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def document(simulations: int, seed: int) -> str:
  """Returns the whole text."""
  fashion = measured("lenet_fashion_mnist", 10_000)
  small = measured("lenet_mnist_5k", 500)
  uncorrelated = dataclasses.replace(
    fashion, name=f"{fashion.name}, replicates share nothing", correlation=0.0
  )
  truth = " and ".join(
    f"{100 * setting.density[setting.matching[-1]]:.3g} % {setting.name}"
    for setting in (fashion, small)
  )
  errors = table(
    (
      "truth",
      "replicates",
      "sequence, paired",
      "each Level by itself, paired",
      "sequence, Welch",
      "each Level by itself, Welch",
    ),
    error_rows(nulls(fashion), simulations, seed),
  )
  found = table(
    (
      "truth",
      "replicates",
      "test",
      "any ticket is shown to match",
      "median of the smallest density shown to match",
      "matching tickets that are shown",
      "any ticket is shown to win",
      "any word is wrong",
    ),
    power_rows(
      (fashion, uncorrelated, small, collapsed(fashion)), simulations, seed
    ),
  )
  return f"""# How far verdicts can be trusted

`python scripts/simulate_verdicts.py --simulations={simulations} --seed={seed}
--page=docs/results/verdicts.md` wrote this page. It draws the accuracies of
experiments of which the truth is known, and judges them by the code that
writes the verdicts of a report, `tf_lottery.report.verdicts`, with the default
tolerance. Each row is {simulations:,} simulated experiments.

The densities, the Levels that have reinits, and the spread between replicates
(a standard deviation of {100 * fashion.sd:.2f} points) are those of
[lenet_fashion_mnist](lenet_fashion_mnist/summary.md); lenet_mnist_5k is an
example with few test examples and a wide spread ({100 * small.sd:.2f} points).
The correlation between two trainings of one replicate is assumed to be
{fashion.correlation:g}. Accuracies are rounded to whole test examples.

## How often any word is wrong

A word is wrong if a ticket is called matching which is not, or winning which
is not. Tickets that do not match are exactly as bad as the tolerance allows,
the case that is hardest to tell; where none wins, reinits are exactly as good
as tickets. The rule of the report is the column "sequence, paired". It must
stay below 5 %, but for the chance of a simulation, which is about
{100 * 1.96 * (0.05 * 0.95 / simulations) ** 0.5:.1f} points. "Each Level by
itself" is the rule that the report had before.

{errors}

## What is found

The truth is what was measured there: all tickets match down to {truth}; in the
last rows, reinits are worse than tickets by the tolerance. A
paired test counts each replicate once, Welch's test counts ticket and dense
network by themselves. So with 3 replicates it may find more than the paired
test, which finds more where replicates are many, or have much in common; but it
is exact only if they have nothing in common.

{found}
"""


def main(argv: list[str]) -> None:
  """Simulates, and writes or prints the text."""
  if argv[1:]:
    raise app.UsageError(f"All arguments are flags, got {argv[1]!r}.")
  startup.import_tensorflow()
  text = document(_SIMULATIONS.value, _SEED.value)
  if _PAGE.value is None:
    print(text)
  else:
    pathlib.Path(_PAGE.value).write_text(text, encoding="utf-8")
    print(_PAGE.value)


if __name__ == "__main__":
  startup.run(main)
