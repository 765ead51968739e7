"""Compares search methods by what they find and what they cost.

    python scripts/search_cost.py --data_dir=~/data

It trains the tasks of `search_cost_tasks.py` with each of their methods and
rivals, below `--runs`. Then it writes the page and the figures of
docs/results/search_cost. The same command again goes on where it stopped; when
all is there, it only writes. Several processes may share the work: give each
its own replicates, as `--only=lenet:0-2`. All of it takes about an hour on two
quiet cores.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import sys
import typing

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

if typing.TYPE_CHECKING:
  from scripts import search_cost_tasks

_RUNS = flags.DEFINE_string("runs", "runs/search_cost", "The trainings.")
_OUT = flags.DEFINE_string(
  "out",
  str(startup.ROOT / "docs" / "results" / "search_cost"),
  "The folder of the page.",
)
_DATA = flags.DEFINE_string("data_dir", None, "Where Fashion-MNIST lies.")
_ONLY = flags.DEFINE_list(
  "only", None, "Only these replicates, such as lenet:0-4. Default: all."
)
_METHODS = flags.DEFINE_list("methods", None, "Only these. Default: all.")

REPLICATES = {"lenet": 5, "mnist_1d": 10, "cnn": 5, "table": 5}


def main(argv: list[str]) -> None:
  """Trains what is not there yet, then writes the page."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import search_cost_tasks

  tasks = search_cost_tasks.tasks(_DATA.value)
  for name, numbers in _wanted(_ONLY.value).items():
    for replicate in numbers:
      train(name, tasks[name], replicate)
  if _ONLY.value is None:
    from scripts import search_cost_page

    search_cost_page.write(tasks, REPLICATES, _RUNS.value, _OUT.value)


def _wanted(only: list[str] | None) -> dict[str, range]:
  """Returns the replicates of each task to be trained."""
  if only is None:
    return {name: range(count) for name, count in REPLICATES.items()}
  wanted = {}
  for text in only:
    match = re.fullmatch(r"(\w+):(\d+)-(\d+)", text)
    if not match or match[1] not in REPLICATES:
      raise app.UsageError(
        f"--only takes {', '.join(REPLICATES)} with replicates, such as"
        f" lenet:0-4; got {text!r}."
      )
    wanted[match[1]] = range(int(match[2]), int(match[3]) + 1)
  return wanted


def train(name: str, task: search_cost_tasks.Task, replicate: int) -> None:
  """Trains one replicate by each method; one compile serves them all."""
  from tf_lottery.experiments import running

  made = task.experiments(name, REPLICATES[name])
  trainer = data = dense = None
  for method, experiment in made.items():
    if _METHODS.value and method not in _METHODS.value:
      continue
    directory = running.run_dir(experiment, replicate, _RUNS.value)
    if not running.is_done(experiment, replicate, _RUNS.value):
      trainer = trainer or experiment.make_trainer()
      data = data or experiment.load(replicate)
      if dense and not directory.exists():
        # All methods have the same dense network: it is trained once.
        shutil.copytree(dense, directory / dense.name)
      running.run(
        experiment, replicate, _RUNS.value, trainer=trainer, data=data
      )
      print(name, method, replicate, flush=True)
    if (directory / "level_00" / "round.json").is_file():
      dense = directory / "level_00"


if __name__ == "__main__":
  startup.run(main)
