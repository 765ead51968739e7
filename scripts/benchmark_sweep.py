"""The competitors of `benchmark.py --suite=sweep`.

Two replicates of a short search: in as many processes as there are cores, of
one thread each, and one after the other in a process that has all threads.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

Pause = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Task:
  """What both are given.

  Attributes:
    fields: of the `Experiment`.
    data_dir: where tfds keeps its data.
    directory: a place for runs.
  """

  fields: Mapping[str, Any]
  data_dir: str | None
  directory: pathlib.Path

  @classmethod
  def load(cls, directory: pathlib.Path, repeats: int) -> "Task":
    """Reads what `prepare` wrote."""
    del repeats
    return cls(
      directory=directory, **json.loads((directory / "task.json").read_text())
    )


def prepare(
  directory: pathlib.Path, data_dir: str | None, smoke: bool
) -> tuple[str, dict[str, Any]]:
  """Writes what to run; says what it is."""
  from tf_lottery.papers import datasets

  fields = {
    "data": "fashion_mnist",
    "steps": 20 if smoke else 2000,
    "levels": 1 if smoke else 3,
    "replicates": os.cpu_count(),
  }
  try:
    datasets.load_data("fashion_mnist", data_dir=data_dir)
  except FileNotFoundError:
    fields["data"] = "digits"
  text = json.dumps({"fields": fields, "data_dir": data_dir})
  (directory / "task.json").write_text(text)
  text = (
    f"{fields['replicates']} replicates of {fields['levels']} Levels of"
    f" {fields['steps']} steps on {fields['data']}"
  )
  return text, {}


def sweep(task: Task, pause: Pause, processes: int) -> None:
  """All replicates, so many at a time, with the cores divided among them."""
  from tf_lottery import papers
  from tf_lottery.experiments import sweeps

  experiment = papers.experiment(**task.fields, data_dir=task.data_dir)
  index = 0
  while True:
    todo = sweeps.tasks(
      [experiment],
      task.directory / f"{processes}-{index}",
      threads=max(1, os.cpu_count() // processes),
    )
    failed = sweeps.run_local(todo, processes=processes)
    if failed:
      raise RuntimeError(str(failed))
    index += 1
    pause()


FLOOR = "one process of n threads"
MANY = "n processes of one thread"
GROUPS = (
  {
    FLOOR: functools.partial(sweep, processes=1),
    MANY: functools.partial(sweep, processes=os.cpu_count()),
  },
)
OPTIONAL = ()


def targets(
  results: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[tuple[str, str, bool]]:
  """Yields whether the default of `run_sweep.py` is the faster of the two."""
  del facts
  ratio = results[MANY].over(results[FLOOR])
  text = "n processes of one thread take no longer than one of n threads"
  yield text, f"{ratio:.2f} x", ratio <= 1
