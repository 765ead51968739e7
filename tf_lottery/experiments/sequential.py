"""Replicates in stages: train some, look at the verdicts, and go on or stop.

```
ROOT/my-model-on-my-data-1f0c9a52/
  experiment.json    declares replicates="auto"
  looks.json         the looks that are planned, and those that were taken
```
"""

import contextlib
import dataclasses
import importlib
import logging
import os
import pathlib
from collections.abc import Callable
from collections.abc import Sequence

from tf_lottery.experiments import declared
from tf_lottery.experiments import trained
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.search.divergence import DivergedError
from tf_lottery.storage import run_directory
from tf_lottery.storage.schemas import Looks

_log = logging.getLogger("tf_lottery")

# The control on which the verdicts depend.
_DECIDING = "random_reinit"

# Trains some replicates of an experiment, and returns the errors of those that
# failed.
Train = Callable[[Experiment, Sequence[int]], dict[str, str]]


def check_looks(experiment: Experiment, root: str | os.PathLike) -> None:
  """Refuses another number of replicates than that of the looks taken.

  Raises:
    ValueError: Looks were taken, and they were planned otherwise: tests that
      share the 5 % among some looks do not hold if others are added.
  """
  home = pathlib.Path(root) / experiment.id
  try:
    found = run_directory.read_looks(home)
  except FileNotFoundError:
    return
  if found["taken"] and found["planned"] != list(experiment.looks):
    numbers, most = ", ".join(map(str, found["taken"])), found["planned"][-1]
    raise ValueError(
      f"The verdicts of {home} were looked at after {numbers} replicates, of at"
      f" most {most}, and that plan cannot change any more: set"
      f" replicates='auto:{most}', got {experiment.replicates!r}; or declare"
      " another experiment, with another name and other seeds."
    )


def train_in_looks(
  experiment: Experiment, root: str | os.PathLike, train: Train
) -> dict[str, str]:
  """Trains replicates until the verdicts are settled; see `is_settled`.

  It goes on at the last look that was taken. Before a look only those Rounds
  are trained that verdicts depend on: the searches, and random reinits. Other
  controls follow at the end, for as many replicates as the verdicts needed.

  A replicate that diverged is left out of the looks. If one failed for another
  reason, no look is taken: the next call trains it again.

  Args:
    experiment: An experiment with `replicates="auto"`.
    root: The directory that holds the experiment's directory.
    train: Trains some replicates, and reads back what is done.

  Returns:
    Run directory -> the end of its output, for replicates that failed.
  """
  evidence = importlib.import_module("tf_lottery.report.evidence")
  report_looks = importlib.import_module("tf_lottery.report.looks")
  home = pathlib.Path(root) / experiment.id
  looks = _begin(experiment, root)
  controls = tuple(n for n in experiment.controls if n == _DECIDING)
  part = dataclasses.replace(experiment, controls=controls, retrain={})
  failed: dict[str, str] = {}
  begun = 0
  for number in looks["planned"][max(0, len(looks["taken"]) - 1) :]:
    failed |= train(part, range(begun, number))
    begun = number
    if any(DivergedError.__name__ not in text for text in failed.values()):
      return failed
    if number not in looks["taken"]:
      looks["taken"].append(number)
      run_directory.write_looks(home, looks)
    (found,) = evidence.gather([home], experiment.tolerance)
    levels = experiment.controlled(trained.chosen_levels(experiment, root))
    if report_looks.is_settled(found.verdicts(), levels):
      break
    _log.info("Not settled after %d replicates.", number)
  if part == experiment:
    return failed
  return failed | train(experiment, range(begun))


def _begin(experiment: Experiment, root: str | os.PathLike) -> Looks:
  """Returns the looks taken so far; writes down the plan before the first."""
  home = pathlib.Path(root) / experiment.id
  planned = list(experiment.looks)
  fixed_before = _fixed_before(home)
  with contextlib.suppress(FileNotFoundError):
    found = run_directory.read_looks(home)
    if found["taken"]:
      return found
    fixed_before = max(fixed_before, found["fixed_before"])
  spending = importlib.import_module("tf_lottery.report.spending")
  looks = Looks(
    planned=planned,
    significances=spending.significances(planned),
    spending=spending.NAME,
    taken=[],
    fixed_before=fixed_before,
  )
  if declared.may_declare(experiment, home):
    run_directory.write_looks(home, looks)
  return looks


def _fixed_before(home: pathlib.Path) -> int:
  """Returns the number of replicates that was fixed before; 0 if none was."""
  try:
    before = run_directory.read_experiment(home).get("replicates", 0)
  except FileNotFoundError:
    return 0
  return before if isinstance(before, int) else 0
