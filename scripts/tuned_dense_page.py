"""The page of `tuned_dense.py`, from its two tables."""

import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from scripts import csv_rows
from tf_lottery.report import wording

Row = Mapping[str, str]

_HEAD = """\
# Is the dense network a fair rival?

A ticket may beat a dense network only because that was trained badly, and
pruning regularises (Ma et al., arXiv 2107.00166). So the dense LeNet-300-100 on
Fashion-MNIST was tuned before it was compared.
`scripts/tuned_dense.py` wrote this page from `candidates.csv` and `levels.csv`;
nothing is typed by hand.

```shell
python scripts/tuned_dense.py --data_dir=~/data \\
  --steps={steps} --levels={levels} --replicates={replicates}
```
"""

_TUNED = """\
## The tuned dense network

{count} recipes for {steps} iterations, each trained from {seeds}, were
compared by the validation accuracy; together they cost {trainings} trainings of
the dense network. An early stop is at the lowest validation loss, which is
found after training. The original recipe is a constant learning rate of 0.0012
to the end. Weight decay is that of AdamW.
"""

_LEVELS = """\
## Tickets against it

Test accuracies in percent, means over {replicates} replicates. Tickets of the
original recipe, from its own searches, and tickets that were searched and
trained by the tuned recipe. The original recipe is compared at the end of
training, the tuned one {when}.

A ticket *matches* if tests show that it is at most {tolerance} points below the
tuned dense network, and each larger tested ticket too; it *wins* if it is also
shown to be better than its random reinits. Only Levels that have reinits were
tested. The verdicts on one recipe hold as a whole at 5 %; the p value of
"better" is that of a test of its Level alone. Trainings are paired by seed.
"""

_WHEN = {"early": "at its early stop", "end": "at the end of training, too"}


def write(folder: pathlib.Path) -> None:
  """Writes the page beside the tables.

  Args:
    folder: The folder of `candidates.csv` and `levels.csv`.
  """
  candidates = csv_rows.read(folder / "candidates.csv")
  levels = csv_rows.read(folder / "levels.csv")
  (chosen,) = (row for row in candidates if row["chosen"])
  seeds = int(chosen["replicates"])
  parts = [
    _HEAD.format(
      steps=chosen["steps"],
      levels=levels[-1]["level"],
      replicates=levels[0]["replicates"],
    ),
    _answer(levels),
    _TUNED.format(
      count=len(candidates),
      steps=f"{int(chosen['steps']):,}",
      seeds="one seed" if seeds == 1 else f"{seeds} seeds",
      trainings=f"{float(chosen['trainings']):.1f}",
    ),
    _candidates_table(candidates),
    _LEVELS.format(
      replicates=levels[0]["replicates"],
      when=_WHEN[chosen["chosen"]],
      tolerance=f"{100 * float(levels[0]['tolerance']):.2f}",
    ),
    _levels_table(levels),
  ]
  (folder / "README.md").write_text("\n".join(parts), "utf-8")


def _answer(levels: Sequence[Row]) -> str:
  """Says whether there are winning tickets against the tuned network."""
  tuned, dense = (_percent(levels[0][k]) for k in ("tuned_dense", "dense"))
  return (
    f"**The tuned dense network reaches {tuned} % test accuracy; by the"
    f" original recipe it reaches {dense} %. {_of_recipe(levels, 'original')}"
    f" {_of_recipe(levels, 'tuned')}**\n"
  )


def _of_recipe(levels: Sequence[Row], recipe: str) -> str:
  """Says down to which density the tickets of a recipe win or match."""

  def at(*words: str) -> list[str]:
    return [
      f"{100 * float(row['density']):.1f} %"
      for row in levels
      if row[f"{recipe}_word"] in words
    ]

  who = f"tickets of the {recipe} recipe"
  if winning := at("winning"):
    return (
      f"There are winning {who} against it, with {wording.listed(winning)} of"
      " the weights."
    )
  if matching := at("matching"):
    return (
      f"No {who} are shown to win against it; those with"
      f" {wording.listed(matching)} of the weights match it."
    )
  return f"No {who} are shown to match it."


def _candidates_table(rows: Iterable[Row]) -> str:
  arguments = {
    "learning_rate": "learning rate",
    "decay": "decay",
    "weight_decay": "weight decay",
    "dropout": "dropout",
    "label_smoothing": "label smoothing",
  }
  moments = {"early": "at the early stop", "end": "at the end"}
  lines = [
    [
      *(row[name] or "none" for name in arguments),
      *(
        f"**{_percent(row[when])}**"
        if row["chosen"] == when
        else _percent(row[when])
        for when in moments
      ),
    ]
    for row in rows
  ]
  return _table([*arguments.values(), *moments.values()], lines) + (
    "\nThe bold value is that of the chosen recipe and moment.\n"
  )


def _levels_table(rows: Iterable[Row]) -> str:
  """A row for each Level; one that was not tested has no verdict."""
  columns: dict[str, Callable[[str], str]] = {
    "mean": _percent,
    "word": str,
    "p_matching": _p_value,
    "p_better": _p_value,
    "p_reinit": _p_value,
  }
  names = ("verdict", "p matches", "p better", "p above reinit")
  lines = [
    [
      f"{100 * float(row['density']):.1f} %",
      _percent(row["dense"]),
      _percent(row["tuned_dense"]),
      *(
        "not tested"
        if name == "word" and not row[f"{recipe}_p_matching"]
        else write_cell(row[f"{recipe}_{name}"])
        for recipe in ("original", "tuned")
        for name, write_cell in columns.items()
      ),
    ]
    for row in rows
  ]
  return _table(
    [
      *("weights left", "dense", "tuned dense"),
      *("ticket", *names),
      *("ticket of the tuned recipe", *names),
    ],
    lines,
  )


def _percent(text: str) -> str:
  return f"{100 * float(text):.2f}" if text else "-"


def _p_value(text: str) -> str:
  return wording.p_value(float(text)) if text else "-"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  lines = [header, ["---"] * len(header), *rows]
  return "".join(f"| {' | '.join(line)} |\n" for line in lines)
