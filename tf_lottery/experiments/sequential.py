"""Replicates in stages: train some, look at the verdicts, and go on or stop.

```
ROOT/my-model-on-my-data-1f0c9a52/
  experiment.json    declares replicates="auto"
  looks.json         the looks that are planned, and those that were taken
```
"""

import contextlib
import importlib
import json
import logging
import os
import pathlib
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from tf_lottery.experiments import declared
from tf_lottery.experiments import trained
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.search.divergence import DivergedError
from tf_lottery.storage import run_directory
from tf_lottery.storage.schemas import Looks

_log = logging.getLogger("tf_lottery")

# The control on which the verdicts depend.
_DECIDING = "random_reinit"
# The fields on which they depend besides.
_JUDGED_BY = (
  *("schedule", "choose", "budget", "control_levels", "reinits"),
  "tolerance",
)

# Trains some replicates, with the named controls or all, and returns the errors
# of those that failed.
Train = Callable[[Sequence[int], Collection[str] | None], dict[str, str]]


def check_looks(experiment: Experiment, root: str | os.PathLike) -> None:
  """Refuses to change what verdicts depend on, once a look is taken.

  Raises:
    ValueError: Looks were taken, and they were planned otherwise: tests that
      share the 5 % among some looks do not hold if others are added. Or another
      field has changed on which the verdicts depend.
  """
  home = pathlib.Path(root) / experiment.id
  try:
    found = run_directory.read_looks(home)
  except FileNotFoundError:
    return
  if not found["taken"]:
    return
  numbers, most = ", ".join(map(str, found["taken"])), found["planned"][-1]
  if found["planned"] != list(experiment.looks):
    raise ValueError(
      f"The verdicts of {home} were looked at after {numbers} replicates, of at"
      f" most {most}, and that plan cannot change any more: set"
      f" replicates='auto:{most}', got {experiment.replicates!r}; or declare"
      " another experiment, with another name and other seeds."
    )
  now = _judged_by(experiment)
  for name, before in found.get("declared", now).items():
    if now.get(name) != before:
      raise ValueError(
        f"The verdicts of {home} were looked at after {numbers} replicates, and"
        f" {_words(name, before)} then. That cannot change any more, got"
        f" {now.get(name)!r}: set it back, or declare another experiment, with"
        " another name and other seeds."
      )


def _words(name: str, value: Any) -> str:
  """Says what a field was at the first look."""
  if name != _DECIDING:
    return f"{name} was {value!r}"
  return f"{name} was {'' if value else 'not '}one of the controls"


def _judged_by(experiment: Experiment) -> dict[str, Any]:
  """Returns what the verdicts depend on, as JSON holds it."""
  fields = experiment.to_json(strict=False)
  found = {name: fields[name] for name in _JUDGED_BY}
  found[_DECIDING] = _DECIDING in experiment.controls
  return json.loads(json.dumps(found))


def train_in_looks(
  experiment: Experiment, root: str | os.PathLike, train: Train
) -> dict[str, str]:
  """Trains replicates until the verdicts are settled; see `is_settled`.

  It goes on at the last look that was taken. Before a look only those Rounds
  are trained that verdicts depend on: the searches, and random reinits. Other
  controls follow at the end, for as many replicates as the verdicts needed.

  A replicate that diverged has no values at the looks, and its ticket that
  diverged cannot match. If a replicate failed for another reason, no look is
  taken: the next call trains it again.

  Args:
    experiment: An experiment with `replicates="auto"`.
    root: The directory that holds the experiment's directory.
    train: Trains some replicates, and reads back what is done.

  Returns:
    Run directory -> the end of its output, for replicates that failed.
  """
  looks = _begin(experiment, root)
  failed: dict[str, str] = {}
  begun = 0
  for number in looks["planned"][max(0, len(looks["taken"]) - 1) :]:
    failed |= train(range(begun, number), (_DECIDING,))
    begun = number
    if not all(map(_has_diverged, failed.values())):
      return failed
    looks = _look(experiment, root, looks, number, failed)
    if looks["settled"]:
      break
    _log.info("Not settled after %d replicates.", number)
  if set(experiment.controls) <= {_DECIDING} and not experiment.retrain:
    return failed
  return failed | train(range(begun), None)


def _look(
  experiment: Experiment,
  root: str | os.PathLike,
  looks: Looks,
  number: int,
  failed: Iterable[str],
) -> Looks:
  """Judges the first replicates, and writes down what that has shown.

  Args:
    experiment: The experiment.
    root: The directory that holds the experiment's directory.
    looks: The looks taken so far.
    number: The number of replicates; that of the last look does not count as
      another one.
    failed: The run directories of the replicates that diverged.
  """
  evidence = importlib.import_module("tf_lottery.report.evidence")
  report_looks = importlib.import_module("tf_lottery.report.looks")
  home = pathlib.Path(root) / experiment.id
  diverged = {run_directory.replicate_of(pathlib.Path(run)) for run in failed}
  diverged |= {*looks.get("diverged", [])}
  found = looks | {
    "declared": _judged_by(experiment),
    "taken": sorted({*looks["taken"], number}),
    "diverged": sorted(n for n in diverged if n is not None),
  }
  (read,) = evidence.gather([home], experiment.tolerance)
  seen = read.with_looks(found)
  levels = experiment.controlled(trained.chosen_levels(experiment, root))
  found |= {
    "shown": [sorted(words.items()) for words in seen.shown()],
    "settled": number == looks["planned"][-1]
    or report_looks.is_settled(seen.verdicts(), levels),
  }
  run_directory.write_looks(home, found)
  return found


def _has_diverged(output: str) -> bool:
  """Whether the error at the end of an output is that a training diverged."""
  errors = (line.partition(":")[0] for line in output.splitlines())
  return any(e.rpartition(".")[2] == DivergedError.__name__ for e in errors)


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
