"""Finds a winning ticket, and shows it beside its controls.

    python scripts/find_ticket.py --config=scripts/configs/digits.py

Any field of the config can be set, `--config.levels=5`. The same command
again goes on where it stopped, or shows what is there. Controls are trained
for the chosen ticket, or at `--config.control_levels="(3, 7)"`. It trains the
first replicate; for more, and for a report, see `run_sweep.py`.
"""

from __future__ import annotations

import pathlib
import sys
import typing

# So that the library is found, from whatever folder this is run.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

if typing.TYPE_CHECKING:
  import tf_lottery
  from tf_lottery import experiments
  from tf_lottery.papers import datasets

_CONFIG = startup.define_config("scripts/configs/digits.py")
_PROGRESS = flags.DEFINE_bool(
  "progress", None, "Whether to show a progress bar. Default: on a terminal."
)


def main(argv: list[str]) -> None:
  """Runs the search that the config declares, and prints it as it goes."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  import tf_lottery
  from scripts import configs
  from tf_lottery import experiments
  from tf_lottery.papers import datasets
  from tf_lottery.search import rounds

  config = _CONFIG.value
  try:
    experiment = configs.experiment_of(config)
    splits = datasets.load_data(
      experiment.data, seed=experiment.seed, data_dir=config.data_dir
    )
  except (FileNotFoundError, ImportError, ValueError) as error:
    sys.exit(str(error))
  _print_head(experiment, splits)
  # Every recipe compiles its model with this metric.
  accuracy = tf_lottery.Objective("accuracy", "max")
  print(rounds.table_header(accuracy))
  try:
    result = experiments.find(
      experiment,
      0,
      splits,
      config.run_dir,
      progress=_PROGRESS.value,
      on_round=lambda round_: print(
        rounds.table_row(round_, accuracy), flush=True
      ),
    )
  except (OSError, ValueError, RuntimeError) as error:
    # For example, another run is in the directory.
    sys.exit(str(error))
  level = result.smallest_matching_level(config.tolerance)
  path = pathlib.Path(config.run_dir) / "ticket.safetensors"
  if result.directory.writes:  # of a cluster, only the chief
    result.rounds[level].ticket.save(path)
    experiment.declare(config.run_dir)
  _print_choice(config.tolerance, result, level)
  if experiment.search_steps is not None:
    _print_full_training(result, level)
  print(
    f"Its mask and start weights are in {path}. To ship it:\n"
    f"  python scripts/export_ticket.py --run={config.run_dir}"
    f" --level={level}\n"
  )
  if experiment.controls:
    _print_controls(experiment, splits, result, level)


def _print_head(
  experiment: experiments.Experiment, splits: datasets.Splits
) -> None:
  print(
    f"{experiment.recipe} ({experiment.keras}) on {experiment.data}:"
    f" {splits.train_data.size:,} training,"
    f" {splits.validation_data.size:,} validation, {splits.test_data.size:,}"
    " test images;"
    f" {experiment.make_recipe().steps:,} steps a Level.\n"
  )


def _print_choice(
  tolerance: float, result: tf_lottery.Search, level: int
) -> None:
  dense, chosen = result.rounds[0], result.rounds[level]
  print(
    f"\nThe smallest ticket within {tolerance:.1%} of the dense network"
    f" (validation): level {level},\n{chosen.density:.1%} of the weights, test"
    f" accuracy {chosen.metrics['test_accuracy']:.1%}; dense"
    f" {dense.metrics['test_accuracy']:.1%}."
  )


def _print_full_training(result: tf_lottery.Search, level: int) -> None:
  """After a short search: the dense network and the ticket, trained fully."""
  names = {0: "dense", level: "ticket"}
  for number, name in sorted(names.items()):
    full = result.train(result.rounds[number].ticket, f"full_{number:02d}")
    accuracy = full.metrics["test_accuracy"]
    print(f"Trained for {full.steps:,} steps, {name}: {accuracy:.1%}.")


def _print_controls(
  experiment: experiments.Experiment,
  splits: datasets.Splits,
  result: tf_lottery.Search,
  level: int,
) -> None:
  """Trains the controls, and prints their test accuracy beside the ticket's."""
  if not level and not experiment.control_levels:
    print("The dense network is no ticket: it has no controls.")
    return
  print("Test accuracy of the ticket, and of the same with one thing changed")
  print("(other initial weights, the mask shuffled in each layer, ...).")
  columns = ["ticket", *experiment.controls]
  print("level  density  " + "  ".join(f"{name:>13}" for name in columns))
  for chosen in experiment.control_levels or (level,):
    rounds = [result.rounds[chosen]]
    rounds += [
      experiment.control(name, splits)(result, chosen, 0)
      for name in experiment.controls
    ]
    cells = [f"{r.metrics['test_accuracy']:13.4f}" for r in rounds]
    print(
      f"{chosen:5d}  {rounds[0].density:7.2%}  " + "  ".join(cells), flush=True
    )


if __name__ == "__main__":
  startup.run(main)
