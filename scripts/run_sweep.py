"""Runs experiments with their controls and replicates, many at a time.

    python scripts/run_sweep.py --config=scripts/configs/lenet_mnist_5k.py \
        --grid=rewind=init,100it --grid=steps=1000,3000

A config may name a model and data of your own, see `scripts/configs`. Every
combination of the grid is an experiment; every replicate of it runs in a
process of its own, below the config's `run_dir`. At the end it prints what
each experiment shows. The same command again goes on with what is not done.
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys
import typing
from collections.abc import Sequence

# So that the library is found, from whatever folder this is run.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

if typing.TYPE_CHECKING:
  from tf_lottery import experiments
  from tf_lottery.experiments import sweeps

_CONFIG = startup.define_config("scripts/configs/lenet_mnist_5k.py")
_GRID = flags.DEFINE_multi_string(
  "grid", [], "field=value,value: a field of the config, and its values."
)
_PROCESSES = flags.DEFINE_integer(
  "processes", os.cpu_count(), "Replicates at a time.", lower_bound=1
)
_THREADS = flags.DEFINE_integer(
  "threads",
  None,
  "Threads of each process. Default: the cores, divided among processes.",
  lower_bound=1,
)
_RETRIES = flags.DEFINE_integer(
  "retries", 1, "How often to try a failed replicate again.", lower_bound=0
)
_RAY = flags.DEFINE_bool(
  "ray", False, "Whether to run on a Ray cluster instead of in --processes."
)


def main(argv: list[str]) -> None:
  """Runs what is not done yet, and says what it shows and what failed."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import configs
  from tf_lottery.experiments import sweeps

  config = _CONFIG.value
  try:
    declared = sweeps.grid(
      configs.maker_of(config), configs.fields_of(config), _axes(config)
    )
    todo = sweeps.tasks(
      declared,
      config.run_dir,
      threads=_THREADS.value or max(1, os.cpu_count() // _PROCESSES.value),
      retries=_RETRIES.value,
    )
    done = sum(task.is_done for task in todo)
    print(
      f"Experiments: {len(declared)}, replicates: {len(todo)}, of them done:"
      f" {done}; in {config.run_dir}.",
      flush=True,
    )
    failed = _run(todo)
  except (ImportError, OSError, ValueError) as error:
    sys.exit(str(error))
  _print_proofs(declared, config.run_dir)
  if failed:
    sys.exit("\n\n".join(f"{task}:\n{error}" for task, error in failed.items()))
  print(f"\npython scripts/make_report.py --out=report {config.run_dir}")


def _run(todo: Sequence[sweeps.Task]) -> dict[str, str]:
  """Runs tasks; returns the errors of those that failed."""
  from tf_lottery.experiments import sweeps

  def on_done(task: sweeps.Task, error: str | None) -> None:
    print(f"{'done  ' if error is None else 'FAILED'}  {task}", flush=True)

  run: sweeps.Runner = sweeps.run_ray
  if not _RAY.value:
    run = functools.partial(sweeps.run_local, processes=_PROCESSES.value)
  return sweeps.run_all(todo, run, on_done)


def _print_proofs(
  declared: Sequence[experiments.Experiment], root: str
) -> None:
  """Prints what each experiment shows, where the report's extra is there."""
  from tf_lottery import experiments

  for experiment in declared:
    proof = experiments.Proof(experiment, pathlib.Path(root))
    try:
      print(f"\n{experiment.heading}\n\n{proof}")
    except (FileNotFoundError, ImportError) as error:
      print(error)


def _axes(config) -> dict[str, list]:
  """Field -> values, read as the config's own are."""
  axes = {}
  for text in _GRID.value:
    name, _, values = text.partition("=")
    if not values:
      raise app.UsageError(f"--grid must be field=value,value; got {text!r}.")
    axes[name] = [_typed(config, name, value) for value in values.split(",")]
  return axes


def _typed(config, name: str, text: str):
  if name not in config:
    return text  # refused by sweeps.grid, which lists the fields
  kind = config.get_type(name)
  if kind is tuple:
    raise app.UsageError(f"--grid has no lists of lists: set --config.{name}.")
  try:
    return kind(text)
  except ValueError as error:
    raise app.UsageError(
      f"--grid={name}=... must have values of type {kind.__name__}, got"
      f" {text!r}."
    ) from error


if __name__ == "__main__":
  startup.run(main)
