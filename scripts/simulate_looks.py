"""Simulates what looks at the verdicts cost, and what they save.

  python scripts/simulate_looks.py --page=docs/results/sequential.md

Experiments of which the truth is known, those of simulate_verdicts.py, are
judged after 4, 6, 8 and 12 replicates by the code that stops an experiment
with `replicates="auto"`. It is counted how often any verdict is wrong, and how
many replicates a fixed number must have to find as much.
"""

import dataclasses
import functools
import math
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

from scripts import simulate_verdicts
from scripts import startup
from scripts.simulate_verdicts import Setting
from scripts.simulate_verdicts import table

if TYPE_CHECKING:
  import numpy as np

  from tf_lottery.report.records import RoundRecord
  from tf_lottery.report.verdicts import Verdict

PLANNED = (4, 6, 8, 12)
FIXED = (3, 4, 5, 6, 7, 8, 10, 12)
# A power that many studies are planned for.
USUAL = 0.95
# Means of paired differences, in units of their standard deviation.
EFFECTS = (0.0, 0.5, 1.0, 1.5, 2.5)

Words = Mapping[int, str]  # Level -> what is shown
Plan = Sequence[tuple[int, tuple[float, float]]]  # replicates, significances


def spent_like_obrien_fleming(
  alpha: float, fractions: Sequence[float]
) -> "np.ndarray":
  """Returns 2 - 2 Phi(z / sqrt(t)), which leaves most to the last look."""
  import numpy as np
  from scipy import special

  z = -special.ndtri(alpha / 2)
  return 2 * special.ndtr(-z / np.sqrt(fractions))


def spent_like_pocock(alpha: float, fractions: Sequence[float]) -> "np.ndarray":
  """Returns alpha log(1 + (e - 1) t): all looks have about the same level."""
  import numpy as np

  return alpha * np.log(1 + (math.e - 1) * np.asarray(fractions))


def plans() -> tuple[Plan, Plan]:
  """Returns the looks that share the 5 %, and those that have 5 % each."""
  from tf_lottery.report import spending
  from tf_lottery.report import verdicts

  shared = list(zip(PLANNED, spending.significances(PLANNED), strict=True))
  return shared, [(number, verdicts.ONE_LOOK) for number in PLANNED]


def judge(
  rounds: Sequence["RoundRecord"], number: int, *how: object
) -> list["Verdict"]:
  """Judges the first replicates; for `how` see `report.looks.Judge`."""
  from tf_lottery.report import verdicts

  some = [r for r in rounds if r.replicate < number]
  return verdicts.verdicts(some, None, "end", None, *how)


def in_turns(
  setting: Setting, rounds: Sequence["RoundRecord"], plan: Plan
) -> tuple[Words, int]:
  """Judges an experiment until it is settled.

  Returns:
    What is shown, and after how many replicates.
  """
  from tf_lottery.report import looks

  judged = looks.verdicts_at(plan, functools.partial(judge, rounds))
  for (number, _), found in zip(plan, judged, strict=True):
    if looks.is_settled(found, setting.reinit) or number == plan[-1][0]:
      return simulate_verdicts.in_sequence(found), number
  raise ValueError("A plan has at least one look.")


def power(setting: Setting, words: Sequence[Words]) -> float:
  """Returns how often the smallest ticket that wins is shown to win.

  Only tickets at Levels that have reinits count.
  """
  wins = [n for n in setting.matching if n in setting.reinit]
  smallest = max(n for n in wins if setting.is_true(n, "winning"))
  return sum(one.get(smallest) == "winning" for one in words) / len(words)


def as_powerful(reached: float, powers: Sequence[float]) -> float:
  """Returns the fixed number that has a power, between those that were tried.

  It is infinite if none of them has it.
  """
  above = next((i for i, one in enumerate(powers) if one >= reached), None)
  if not above:
    return FIXED[0] if above == 0 else math.inf
  low, high = powers[above - 1], powers[above]
  part = (reached - low) / (high - low)
  return FIXED[above - 1] + part * (FIXED[above] - FIXED[above - 1])


def draws(
  setting: Setting, simulations: int, seed: int
) -> Iterator[list["RoundRecord"]]:
  """Yields the Rounds of experiments with as many replicates as can be."""
  import numpy as np

  rng = np.random.default_rng(seed)
  for _ in range(simulations):
    yield simulate_verdicts.draw(setting, PLANNED[-1], rng)


def error_rows(
  settings: Sequence[Setting], simulations: int, seed: int
) -> Iterator[list[str]]:
  """Yields the rows of the table of wrong words."""
  for setting in settings:
    row = [setting.name]
    for plan in plans():
      found = [
        in_turns(setting, rounds, plan)
        for rounds in draws(setting, simulations, seed)
      ]
      rate = simulate_verdicts.wrong(setting, [words for words, _ in found])
      row += [f"{100 * rate:.1f} %", _mean([number for _, number in found])]
    yield row


def saving_rows(
  settings: Sequence[Setting], simulations: int, seed: int
) -> Iterator[list[str]]:
  """Yields the rows of the table of what looks save."""
  plan, _ = plans()
  for setting in settings:
    found = []
    fixed: dict[int, list[Words]] = {number: [] for number in FIXED}
    for rounds in draws(setting, simulations, seed):
      found.append(in_turns(setting, rounds, plan))
      for number, words in fixed.items():
        words.append(simulate_verdicts.in_sequence(judge(rounds, number)))
    reached = power(setting, [words for words, _ in found])
    powers = [power(setting, words) for words in fixed.values()]
    yield [
      setting.name,
      f"{100 * reached:.1f} %",
      _mean([number for _, number in found]),
      *map(_number, (as_powerful(p, powers) for p in (reached, USUAL))),
      *(f"{100 * one:.1f} %" for one in powers),
    ]


def spending_rows(experiments: int, seed: int) -> Iterator[list[str]]:
  """Yields the rows of the table of spending functions, by single tests."""
  import numpy as np
  from scipy import special

  from tf_lottery.report import spending
  from tf_lottery.report import verdicts

  def tests(
    rng: "np.random.Generator", effect: float
  ) -> tuple["np.ndarray", "np.ndarray"]:
    values = effect + rng.standard_normal((PLANNED[-1], experiments))
    means = np.array([values[:n].mean(0) for n in PLANNED])
    errors = [values[:n].std(0, ddof=1) / math.sqrt(n) for n in PLANNED]
    freedom = np.array(PLANNED)[:, None] - 1
    return special.stdtr(freedom, -means / np.array(errors)), means

  fractions = np.array(PLANNED) / PLANNED[-1]
  null, _ = tests(np.random.default_rng(seed), 0.0)
  for name, spent in (
    ("alpha * t", spending.spent),
    ("like Pocock's", spent_like_pocock),
    ("like O'Brien and Fleming's", spent_like_obrien_fleming),
  ):
    levels = spending.levels(null, spent(verdicts.SIGNIFICANCE, fractions))
    for stops in (False, True):
      row = [name, "yes" if stops else "no"]
      rng = np.random.default_rng(seed + 1)
      for effect in EFFECTS:
        p, means = tests(rng, effect)
        passed = p < np.array(levels)[:, None]
        ends = passed | ((means <= 0) & stops)
        ends[-1] = True
        last = ends.argmax(0)
        rate = passed[last, np.arange(experiments)].mean()
        replicates = np.array(PLANNED)[last].mean()
        row.append(f"{100 * rate:.1f} %, {replicates:.1f}")
      yield row


def _number(fixed: float) -> str:
  return f"{fixed:.1f}" if math.isfinite(fixed) else f"more than {FIXED[-1]}"


def _mean(numbers: Sequence[int]) -> str:
  return f"{sum(numbers) / len(numbers):.1f}"


def document(simulations: int, seed: int) -> str:
  """Returns the whole text."""
  fashion = simulate_verdicts.measured("lenet_fashion_mnist", 10_000)
  uncorrelated = dataclasses.replace(
    fashion, name=f"{fashion.name}, replicates share nothing", correlation=0.0
  )
  wide = dataclasses.replace(
    fashion, name=f"{fashion.name}, twice the spread", sd=2 * fashion.sd
  )
  settings = (
    fashion,
    uncorrelated,
    wide,
    simulate_verdicts.collapsed(fashion),
  )
  errors = table(
    (
      "truth",
      "looks that share 5 %: any word is wrong",
      "replicates",
      "looks at 5 % each: any word is wrong",
      "replicates",
    ),
    error_rows(simulate_verdicts.nulls(fashion), simulations, seed),
  )
  saved = table(
    (
      "truth",
      "auto shows it",
      "mean replicates of auto",
      "fixed number that shows it as often",
      f"fixed number that shows it in {100 * USUAL:g} %",
      *(f"{number} show it" for number in FIXED),
    ),
    saving_rows(settings, simulations, seed),
  )
  spent = table(
    (
      "spending",
      "stops where the mean contradicts",
      *(f"effect {effect:g}" for effect in EFFECTS),
    ),
    spending_rows(50 * simulations, seed),
  )
  levels, _ = plans()
  looks = table(
    ("replicates", "significance of a whole sequence", "of half"),
    (
      [str(number), f"{100 * full:.2f} %", f"{100 * half:.2f} %"]
      for number, (full, half) in levels
    ),
  )
  numbers = f"{', '.join(map(str, PLANNED[:-1]))} and {PLANNED[-1]}"
  chance = 100 * 1.96 * (0.05 * 0.95 / simulations) ** 0.5
  return f"""# What looks at the verdicts cost, and what they save

`python scripts/simulate_looks.py --simulations={simulations} --seed={seed}
--page=docs/results/sequential.md` wrote this page. With `replicates="auto"`,
`prove` judges an experiment after {numbers} replicates, and trains no
more once that is not likely to show more. Here experiments of which the truth
is known are judged so, by the code that `prove` uses,
`tf_lottery.report.looks`. The truths, and how the values are drawn, are those
of [how far verdicts can be trusted](verdicts.md). Each row is {simulations:,}
simulated experiments.

## How often any word is wrong

A look at 5 % has its chance to be wrong, and further looks have theirs. So the
looks must share the 5 %. The first rate must be about 5 % at most. The chance
error of {simulations:,} draws is {chance:.1f} points. The rate need not be
exactly 5 %, because the tests against reinits begin at the smallest ticket that
is shown to match, and that may change from look to look. The second rate shows
what happens to those who add replicates until a word appears, and keep it.

{errors}

These are the significances of the looks:

{looks}

## What is saved

"It" is that the smallest ticket wins which does, of those that have reinits.
Beside the mean number of replicates of `"auto"` stands the fixed number that
shows it as often, interpolated: `"auto"` needs fewer. It needs more than a
fixed number that misses it in one of twenty experiments, but nobody knows that
number before: it differs from row to row. Costs are in proportion, as each
replicate is one search with its controls.

{saved}

## Why this spending function

Single paired t tests, with the mean difference in units of its standard
deviation: how often the test is passed at any look, and the mean number of
replicates. A test may also stop where the mean contradicts what it should show,
which loses a little and saves much where there is nothing to show. Each number
is {50 * simulations:,} simulated tests.

{spent}
"""


def main(argv: list[str]) -> None:
  """Simulates, and writes or prints the text."""
  if argv[1:]:
    raise app.UsageError(f"All arguments are flags, got {argv[1]!r}.")
  startup.import_tensorflow()
  # The flags of simulate_verdicts.py.
  text = document(flags.FLAGS.simulations, flags.FLAGS.seed)
  if flags.FLAGS.page is None:
    print(text)
  else:
    pathlib.Path(flags.FLAGS.page).write_text(text, encoding="utf-8")
    print(flags.FLAGS.page)


if __name__ == "__main__":
  startup.run(main)
