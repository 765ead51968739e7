"""The competitors of `benchmark.py --suite=report`.

The report of 10,000 Rounds: 20 experiments of 5 replicates, each with the dense
network, 20 Levels and four controls at each Level, of which one has two draws.
The files are those that a search writes, by its own writers.
"""

import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np

# The controls of the papers' configs, and how often each is drawn.
CONTROLS = {"random_reinit": 2, "shuffled_mask": 1, "one_shot": 1}
SHAPES = {"0/kernel": (64, 30), "1/kernel": (30, 20), "2/kernel": (20, 10)}
EVALUATIONS = 50

Pause = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Task:
  """What both are given.

  Attributes:
    runs: The folder of all run directories.
    out: A folder for reports.
  """

  runs: pathlib.Path
  out: pathlib.Path

  @classmethod
  def load(cls, directory: pathlib.Path, repeats: int) -> "Task":
    """Finds what `prepare` wrote."""
    del repeats
    return cls(directory / "runs", directory / "out")


def prepare(
  directory: pathlib.Path, data_dir: str | None, smoke: bool
) -> tuple[str, dict[str, Any]]:
  """Writes the runs; says how many Rounds they have."""
  del data_dir
  experiments, levels = (2, 3) if smoke else (20, 21)
  replicates = 2 if smoke else 5
  rounds = 0
  for number in range(experiments):
    home = directory / "runs" / f"network_{number}-digits-init-0000"
    each = levels + (levels - 1) * sum(CONTROLS.values())
    _write_experiment(home, number, levels, replicates, replicates * each)
    rounds += replicates * each
  text = f"{experiments} experiments of {replicates} replicates, {rounds:,}"
  return f"{text} Rounds of {EVALUATIONS} evaluations", {"rounds": rounds}


def _write_experiment(
  home: pathlib.Path, number: int, levels: int, replicates: int, trainings: int
) -> None:
  from tf_lottery.storage import files
  from tf_lottery.storage import run_directory

  name = f"network {number} on digits"
  declared = {"id": home.name, "name": name, "trainings": trainings}
  files.write_json(home / run_directory.EXPERIMENT, declared)
  schedule = [0.8**level for level in range(1, levels)]
  for replicate in range(replicates):
    run = run_directory.RunDirectory(
      run_directory.replicate_directory(home, replicate)
    )
    run.write_declaration(
      {
        "monitor": "accuracy",
        "direction": "max",
        "seed": replicate,
        "schedule": schedule,
        "weights": [[key, shape, True] for key, shape in SHAPES.items()],
      }
    )
    rng = np.random.default_rng(1000 * number + replicate)
    _write_round(run.level(0), 0, 1.0, 0.0, rng)
    for level, density in enumerate(schedule, 1):
      _write_round(run.level(level), level, density, 0.0, rng)
      for worse, (control, draws) in enumerate(CONTROLS.items(), 1):
        for draw in range(draws):
          directory = run.control(level, control, draw)
          _write_round(directory, level, density, 0.01 * worse, rng)


def _write_round(
  directory: Any,
  level: int,
  density: float,
  worse: float,
  rng: np.random.Generator,
) -> None:
  """Writes a Round whose accuracy falls with the density."""
  from tf_lottery import masks
  from tf_lottery import tickets
  from tf_lottery.search import declarations

  mask = masks.Mask.random(SHAPES, density, seed=level)
  start = {key: np.ones(shape, np.float32) for key, shape in SHAPES.items()}
  provenance = {"level": level, "weights": list(SHAPES)}
  tickets.Ticket(mask, start, provenance).save(directory.ticket)
  best = 0.95 - (1 + 20 * worse) * 0.004 / density - worse
  row: dict[str, float] = {}
  for index in range(1, EVALUATIONS + 1):
    share = index / EVALUATIONS
    value = max(0.1, best * (1 - math.exp(-6 * share)) + rng.normal(0, 0.002))
    loss = 1 - value + 0.1 * max(0.0, share - 0.6)
    row = {
      "step": 100 * index,
      "loss": loss,
      "accuracy": value,
      "val_loss": loss,
      "val_accuracy": value,
      "test_loss": loss,
      "test_accuracy": value,
      "seconds": 0.5 * index,
    }
    directory.append_metrics(row)
  directory.finish(
    {
      "level": level,
      "density": mask.density,
      "metrics": {"accuracy": row["accuracy"]},
      "seconds": 0.5 * EVALUATIONS,
      "steps": 100 * EVALUATIONS,
      "start": 0,
      "seed": level,
      "versions": declarations.versions(),
    }
  )


def read_files(task: Task, pause: Pause) -> None:
  """The bar: every record and every evaluation, parsed and left alone."""
  while True:
    for path in task.runs.rglob("round.json"):
      json.loads(path.read_text())
    for path in task.runs.rglob("metrics.jsonl"):
      for line in path.read_text().splitlines():
        json.loads(line)
    pause()


def write_report(task: Task, pause: Pause) -> None:
  """The report, with all of its pages, tables and figures."""
  from tf_lottery import report

  for number in itertools.count():
    report.write([task.runs], task.out / str(number))
    pause()


FLOOR = "reading the files"
REPORT = "report"
GROUPS = ({FLOOR: read_files, REPORT: write_report},)
OPTIONAL = ()
LIMIT = 60


def targets(
  results: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[tuple[str, str, bool]]:
  """Yields whether a report of 10,000 trainings takes a minute at most."""
  seconds = float(np.median(results[REPORT].wall))
  text = f"a report of {facts['rounds']:,} trainings takes at most {LIMIT} s"
  yield text, f"{seconds:.1f} s", seconds <= LIMIT
