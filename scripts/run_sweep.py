"""Runs experiments with their controls and replicates, many at a time.

    python scripts/run_sweep.py --config=scripts/configs/lenet_mnist_5k.py \
        --grid=rewind=init,100it --grid=steps=1000,3000

Every combination of the grid is an experiment; every replicate of it runs in a
process of its own, below the config's `run_dir`. The same command again goes
on with what is not done.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# So that configs are found, from whatever folder this is run.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags
from ml_collections import config_flags

from scripts import configs
from tf_lottery.experiments import sweeps

_CONFIG = config_flags.DEFINE_config_file(
  "config", "scripts/configs/lenet_mnist_5k.py", "What to run."
)
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
  """Runs what is not done yet, and says what failed."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  config = _CONFIG.value
  try:
    declared = sweeps.grid(configs.experiment_of(config), _axes(config))
  except ValueError as error:
    sys.exit(str(error))
  todo = sweeps.tasks(
    declared,
    config.run_dir,
    data_dir=config.data_dir,
    threads=_THREADS.value or max(1, os.cpu_count() // _PROCESSES.value),
    retries=_RETRIES.value,
  )
  done = sum(task.is_done for task in todo)
  print(
    f"Experiments: {len(declared)}, replicates: {len(todo)}, of them done:"
    f" {done}; in {config.run_dir}.",
    flush=True,
  )

  def on_done(task: sweeps.Task, error: str | None) -> None:
    print(f"{'done  ' if error is None else 'FAILED'}  {task}", flush=True)

  if _RAY.value:
    failed = sweeps.run_ray(todo, on_done=on_done)
  else:
    failed = sweeps.run_local(todo, processes=_PROCESSES.value, on_done=on_done)
  if failed:
    sys.exit("\n\n".join(f"{task}:\n{error}" for task, error in failed.items()))
  print(
    f"\npython scripts/make_report.py --out=report"
    f" --tolerance={config.tolerance} {config.run_dir}"
  )


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
  return kind(text)


if __name__ == "__main__":
  app.run(main)
