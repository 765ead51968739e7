"""`tune`: finds the recipe by which the dense network trains best.

```
ROOT/
  my-model-on-my-data-1f0c9a52/     the directory of the experiment
    tuned_dense/
      replicate_00/ ...               one Round for each candidate
```
"""

import dataclasses
import functools
import itertools
import math
import os
import pathlib
import statistics
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tqdm

from tf_lottery import text_table
from tf_lottery.cost import Cost
from tf_lottery.experiments import dense
from tf_lottery.experiments import grids
from tf_lottery.experiments import values
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.objective import Objective
from tf_lottery.search import arguments
from tf_lottery.search.divergence import DivergedError
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.rounds import EARLY
from tf_lottery.search.rounds import END
from tf_lottery.search.rounds import Round
from tf_lottery.search.rounds import early_stop
from tf_lottery.storage import run_directory

_WHEN = {END: "at the end", EARLY: "at the early stop"}


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One recipe for the dense network, and what it reached.

  Attributes:
    arguments: The arguments of `make_model` that make the recipe.
    rounds: The dense network's training by it, one for each replicate.
    values: Moment -> the mean over replicates of the objective on the
      validation data; not a number, at both moments, if a training diverged.
  """

  arguments: Mapping[str, Any]
  rounds: tuple[Round, ...]
  values: Mapping[str, float]

  @classmethod
  def of(
    cls,
    changed: Mapping[str, Any],
    rounds: Sequence[Round],
    objective: Objective,
  ) -> "Candidate":
    """Reads the values of a candidate from its Rounds."""
    name = f"val_{objective.name}"
    if not all(_converged(round_, name) for round_ in rounds):
      return cls(changed, tuple(rounds), {END: math.nan, EARLY: math.nan})
    ends = [round_.metrics[name] for round_ in rounds]
    stops = [
      early_stop(row for row in round_.history if "loss" in row)
      for round_ in rounds
    ]
    reached = {
      END: statistics.fmean(ends),
      EARLY: statistics.fmean(row[name] for row in stops),
    }
    return cls(changed, tuple(rounds), reached)


@dataclasses.dataclass(frozen=True, repr=False)
class Tuning:
  """The candidates of `tune`, and which of them is chosen.

  Printing it shows what each candidate reached, and what the grid cost.

  Attributes:
    original: The experiment whose dense network was tuned.
    objective: The metric that candidates are chosen by.
    candidates: The candidates, in the order of the grid.
  """

  original: Experiment
  objective: Objective
  candidates: tuple[Candidate, ...]

  @property
  def chosen(self) -> Candidate:
    """The candidate that validates best, at the better of its two moments."""
    return self._best[0]

  @property
  def when(self) -> str:
    """When the chosen recipe stops: `"early"` or `"end"`.

    The early stop is at the lowest validation loss.
    """
    return self._best[1]

  @property
  def experiment(self) -> Experiment:
    """The experiment with the arguments of the chosen candidate.

    Its search, tickets and controls train by the tuned recipe, and it has a
    directory of its own. It is the original one if its arguments are chosen.
    """
    tuned = grids.by_recipe(self.original, self.chosen.arguments)
    if grids.all_arguments(tuned) == grids.all_arguments(self.original):
      return self.original
    name = self.original.name
    return dataclasses.replace(
      tuned,
      title=f"{self.original.heading}, tuned",
      name=name and f"{name}-{tuned.id}",
    )

  @property
  def cost(self) -> Cost:
    """What all candidates cost together."""
    rounds = [round_ for one in self.candidates for round_ in one.rounds]
    return sum((round_.cost for round_ in rounds), Cost())

  @property
  def trainings(self) -> float:
    """The cost, in trainings of the dense network by the chosen recipe."""
    return self.cost.trainings(self.chosen.rounds[0].cost)

  @functools.cached_property
  def _best(self) -> tuple[Candidate, str]:
    """The candidate and the moment of the best validation value."""

    def score(one: tuple[Candidate, str]) -> float:
      value = self.objective.sign * one[0].values[one[1]]
      return -math.inf if math.isnan(value) else value

    # Of equal values, the first is chosen.
    found = max(itertools.product(self.candidates, (END, EARLY)), key=score)
    if score(found) == -math.inf:
      raise DivergedError(
        f"No candidate has a val {self.objective.name} that is a number: all"
        f" {len(self.candidates)} diverged. Give lower learning rates."
      )
    return found

  def __repr__(self) -> str:
    return (
      f"Tuning({self.original.heading!r}, {len(self.candidates)} candidates)"
    )

  def __str__(self) -> str:
    names = list(dict.fromkeys(n for c in self.candidates for n in c.arguments))
    rows = [
      (
        *(_written(one, name) for name in names),
        *(f"{one.values[when]:.4f}" for when in (EARLY, END)),
        f"chosen, {_WHEN[self.when]}" if one is self.chosen else "",
      )
      for one in self.candidates
    ]
    header = (*names, _WHEN[EARLY], _WHEN[END], "")
    table = text_table.render(header, rows, ">" * (len(header) - 1) + "<")
    replicates = len(self.chosen.rounds)
    metric = self.objective.name.replace("_", " ")
    return (
      f"tuned_dense: validation {metric} of the dense network by each recipe,"
      f" mean over {replicates} replicate{'s' * (replicates > 1)}.\nThe early"
      f" stop is at the lowest validation loss.\n{table}\nThe grid cost"
      f" {self.trainings:.1f} trainings of the dense network."
    )


def tune(
  experiment: Experiment,
  grid: grids.Grid,
  root: str | os.PathLike,
  *,
  replicates: int = 1,
  progress: bool | None = None,
) -> Tuning:
  """Trains the dense network by several recipes, and chooses the best one.

  A ticket may beat a dense network only because that was trained badly. Prove
  the tuned experiment too, and `report.against_tuned` compares the tickets of
  both with the tuned dense network.

  Each candidate trains the dense network as the experiment does, from the
  initial weights that its own model has at the seed. Each also says when to
  stop: at the end of training, or at the early stop, the lowest validation
  loss. The candidate and the moment with the best mean of the objective on the
  validation data are chosen. Test data choose nothing. The same call again
  trains what is missing.

  Args:
    experiment: The experiment.
    grid: An argument of `make_model` -> the values to try, of which all
      combinations are candidates; or a list of candidates, each a dict of
      arguments. The other arguments are those of `model_args`. Include the
      experiment's own values, so that they can be chosen.
    root: The directory that holds the experiment's directory.
    replicates: The number of seeds by which each candidate is trained, at least
      1: those of the first replicates of the experiment. Defaults to `1`.
    progress: Whether to show a progress bar. Defaults to `None`: only on a
      terminal.

  Returns:
    The `Tuning`. Print it, or prove its `experiment`.

  Raises:
    ValueError: The grid is empty, names an argument that `make_model` does not
      take, has a value that JSON cannot hold or of which `make_model` fails, or
      has candidates that are another network; or the objective is the loss,
      and a candidate has another loss than the experiment; or `replicates` is
      no number, or less than 1.
    DivergedError: All candidates diverged. One that does loses.

  Example:
  ```python
  grid = {"learning_rate": [3e-4, 1e-3, 3e-3], "dropout": [0.0, 0.3]}
  tuning = tune(experiment, grid, "runs")
  print(tuning)
  original = prove(experiment, "runs")
  tuned = prove(tuning.experiment, "runs")
  print(report.against_tuned(original.directory, tuned.directory,
                             when=tuning.when))
  ```

  Reference: Ma et al., arXiv 2107.00166.
  """
  if not isinstance(replicates, int) or replicates < 1:
    raise ValueError(
      "tune() takes replicates as a whole number, at least 1, got"
      f" {replicates!r}."
    )
  tried = grids.candidates(grid)
  losses = grids.check(experiment, tried)
  protocols = [
    dense.protocol(experiment, number) for number in range(replicates)
  ]
  recipes = [grids.by_recipe(experiment, one) for one in tried]
  objective = _objective(recipes[0], protocols[0], losses)
  home = pathlib.Path(root) / experiment.id
  total = len(recipes) * replicates
  hides = not (sys.stderr.isatty() if progress is None else progress)
  found = []
  with tqdm.tqdm(total=total, unit="Round", disable=hides) as bar:
    for changed, recipe in zip(tried, recipes, strict=True):
      trainer = recipe.make_trainer()
      rounds = []
      for replicate, protocol in enumerate(protocols):
        path = run_directory.tuned_dense_directory(home, replicate)
        rounds.append(dense.train(recipe, trainer, protocol, path))
        bar.update()
      found.append(Candidate.of(changed, rounds, objective))
  return Tuning(experiment, objective, tuple(found))


def _converged(round_: Round, name: str) -> bool:
  """Whether the losses and a metric are finite at the end of a training."""
  return all(
    math.isfinite(round_.metrics.get(key, math.nan))
    for key in ("loss", "val_loss", name)
  )


def _objective(
  recipe: Experiment, protocol: Protocol, losses: Sequence[str]
) -> Objective:
  """Returns the metric to choose by; refuses the loss if there are several."""
  found = arguments.objective_of(
    recipe.objective, None, recipe.make_trainer(), protocol.validation
  )
  if found.name == "loss" and len(set(losses)) > 1:
    raise ValueError(
      "The objective is the loss, and the experiment and its candidates have"
      " several losses, whose values cannot be compared:"
      f" {', '.join(sorted(set(losses)))}. Compile the model with a metric, and"
      " give the experiment objective='its name'."
    )
  return found


def _written(candidate: Candidate, name: str) -> str:
  """Writes the value of an argument for a table; `-` without one."""
  if name not in candidate.arguments:
    return "-"
  return str(values.to_json(candidate.arguments[name]))
