"""The trainings of `stability_study.py`: lines of its CSV."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

from scripts import csv_rows
from scripts.stability_tasks import Task
from tf_lottery import analysis
from tf_lottery import experiments
from tf_lottery.search.loop import Search
from tf_lottery.training.data import ArrayData

# From so many examples, moving statistics are computed anew.
_EXAMPLES = 1000

FIELDS = (
  *("task", "replicate", "rewind", "what", "level", "density", "step"),
  *("value", "recomputed", "threshold"),
)


def train(
  task: Task,
  name: str,
  replicate: int,
  runs: str | os.PathLike,
  path: pathlib.Path,
) -> None:
  """Trains one replicate of a task, and adds its lines unless they are there.

  Args:
    task: The task.
    name: Its name.
    replicate: Which replicate, from 0.
    runs: The folder of the run directories.
    path: The CSV.
  """
  mine = {"task": name, "replicate": replicate}
  for rewind, experiment in task.experiments(name).items():
    here = {**mine, "rewind": rewind}
    wanted = {key: str(value) for key, value in here.items()}
    if any(wanted.items() <= row.items() for row in csv_rows.read(path)):
      continue
    search = experiments.run(experiment, replicate, runs)
    lines = [*_trained(search), *_between_levels(search)]
    if rewind == "auto":
      lines += [_found(search), *_between_orders(search, task)]
    csv_rows.append(path, FIELDS, [{**here, **line} for line in lines])


def _trained(search: Search) -> Iterator[dict[str, Any]]:
  """The test value of every Round, and the step to which they rewind."""
  name = f"test_{search.objective.name}"
  step = search.rewind.weights.iterations(search.protocol.steps_per_epoch)
  for level, control, _, directory in search.directory.rounds():
    record = directory.read_record()
    yield {
      "what": control or ("ticket" if level else "dense"),
      "level": level,
      "density": record["density"],
      "step": step if level else 0,
      "value": record["metrics"][name],
    }


def _found(search: Search) -> dict[str, Any]:
  """The step that was found, and 1 if training is stable from there, else 0."""
  found = search.directory.read_stable_step()
  return {
    "what": "found",
    "level": 0,
    "density": 1.0,
    "step": found["step"],
    "value": int(found["is_stable"]),
    "threshold": found["threshold"],
  }


def _between_levels(search: Search) -> Iterator[dict[str, Any]]:
  """The barriers between successive Levels on the test data."""
  statistics = _statistics(search)
  both = (
    analysis.level_barriers(search),
    analysis.level_barriers(search, statistics_data=statistics),
  )
  for (one, other), barrier in both[0].items():
    yield {
      "what": "levels",
      "level": other,
      "density": search.round(other).density,
      "value": barrier,
      "recomputed": both[1][one, other],
    }


def _between_orders(search: Search, task: Task) -> Iterator[dict[str, Any]]:
  """The barriers between two orders of the data on the test data."""
  plain, recomputed = (
    [
      one
      for steps, levels in ((task.steps, (0,)), (task.steps[:1], task.tickets))
      for one in analysis.instability(
        search, steps, levels, statistics_data=statistics
      )
    ]
    for statistics in (None, _statistics(search))
  )
  for one, again in zip(plain, recomputed, strict=True):
    yield {
      "what": "orders",
      "level": one.level,
      "density": one.density,
      "step": one.step,
      "value": one.barrier,
      "recomputed": again.barrier,
      "threshold": one.threshold,
    }


def _statistics(search: Search) -> ArrayData:
  """The first training examples, for new moving statistics on a line."""
  x, y, _ = search.protocol.train.first(_EXAMPLES)
  return ArrayData((x, y))
