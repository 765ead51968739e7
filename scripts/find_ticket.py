"""Finds a winning ticket, and shows it beside its controls.

    python scripts/find_ticket.py --config=scripts/configs/digits.py

Any field of the config can be set, `--config.replicates=5`; a config may name a
model and data of your own, see `scripts/configs/__init__.py`. The same command
again goes on where it stopped, or shows what is there. Controls are trained
for the chosen ticket, or at `--config.control_levels="(3, 7)"`. It trains the
first replicate; for more, and for a report, see `run_sweep.py`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
import sys
import typing
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

# So that the library is found, from whatever folder this is run.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

if typing.TYPE_CHECKING:
  import tf_lottery
  from tf_lottery import experiments
  from tf_lottery.search.rounds import Round

_CONFIG = startup.define_config("scripts/configs/digits.py")
_PROGRESS = flags.DEFINE_bool(
  "progress", None, "Whether to show a progress bar. Default: on a terminal."
)


def main(argv: list[str]) -> None:
  """Runs the search that the config declares, and prints it as it goes."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import configs

  config = _CONFIG.value
  try:
    _find(configs.experiment_of(config), config.run_dir)
  except (ImportError, OSError, ValueError, RuntimeError) as error:
    # For example, another run is in the directory.
    sys.exit(str(error))


def _find(experiment: experiments.Experiment, run_dir: str) -> None:
  from tf_lottery import experiments

  data = experiment.load(0)
  print(f"{experiment.heading}: {_sizes(data)}.\n")
  result = experiments.find(
    experiment,
    0,
    run_dir,
    data=data,
    progress=_PROGRESS.value,
    on_round=lambda round_: _print_round(round_, run_dir),
  )
  level = result.smallest_matching_level(experiment.tolerance)
  path = pathlib.Path(run_dir) / "ticket.safetensors"
  if result.directory.writes:  # of a cluster, only the chief
    result.round(level).ticket.save(path)
    # There is one replicate here, and no more are to come.
    dataclasses.replace(experiment, replicates=1).declare(run_dir)
  _print_choice(result, level)
  print("\n".join(result.notes()))
  if experiment.search_steps is not None:
    _print_full_training(result, level)
  if level:
    print(
      f"Its mask and start weights are in {path}. To ship it:\n"
      f"  python scripts/export_ticket.py --run={run_dir} --level={level}\n"
    )
  _print_controls(experiment, result, level)
  print(_next_step(experiment, run_dir))


def _sizes(data: Mapping[str, Any]) -> str:
  """Says how many examples each part of the data has, as far as it is known."""
  from tf_lottery.training.data import ArrayData
  from tf_lottery.training.data import as_data

  parts = []
  for name, part in data.items():
    part, name = as_data(part), name.removesuffix("_data")
    if isinstance(part, ArrayData):
      parts.append(f"{part.size:,} {name} examples")
    else:
      parts.append(f"a stream of {name} examples")
  return ", ".join(parts)


def _print_round(round_: Round, run_dir: str) -> None:
  from tf_lottery import Objective
  from tf_lottery.search import rounds
  from tf_lottery.storage.run_directory import RunDirectory

  directory = RunDirectory(run_dir, writes=False)
  objective = Objective.from_declaration(directory.read_declaration())
  if not round_.level:
    print(rounds.table_header(objective))
  dense = rounds.Round.read(directory.level(0))
  print(rounds.table_row(round_, objective, dense), flush=True)


def _value(result: tf_lottery.Search, round_: Round) -> float:
  """The value of the objective on test data, or on validation data."""
  name = result.objective.name
  return round_.metrics.get(f"test_{name}", round_.metrics[f"val_{name}"])


def _print_choice(result: tf_lottery.Search, level: int) -> None:
  dense, chosen = result.round(0), result.round(level)
  split = "test" if result.protocol.test else "validation"
  metric = f"{split} {result.objective.name.replace('_', ' ')}"
  if not level:
    print(
      "\nNo ticket matches the dense network on the validation data. The dense"
      f" network's {metric} is {_value(result, dense):.4g}. Train longer, prune"
      " less at each Level, or rewind to a later step."
    )
    return
  print(
    "\nThe smallest ticket that matches the dense network on the validation"
    f" data is that of level {level}: {chosen.density:.1%} of the weights,"
    f" {metric} {_value(result, chosen):.4g}; dense"
    f" {_value(result, dense):.4g}."
  )


def _print_full_training(result: tf_lottery.Search, level: int) -> None:
  """After a short search: the dense network and the ticket, trained fully."""
  names = {0: "dense", level: "ticket"}
  for number, name in sorted(names.items()):
    full = result.train(result.round(number).ticket, f"full_{number:02d}")
    print(
      f"Trained for {full.steps:,} steps, {name}: {_value(result, full):.4g}."
    )


def _print_controls(
  experiment: experiments.Experiment, result: tf_lottery.Search, level: int
) -> None:
  """Trains the controls, and prints their values beside the ticket's."""
  from tf_lottery import experiments

  levels = experiment.control_levels
  if levels == "chosen" or not levels:
    levels = (level,) if level else ()
  trained = {r.level for r in result.rounds if not r.stopped}
  if left := [n for n in levels if n not in trained]:
    print(f"Without controls, as the search did not train them: Levels {left}.")
  levels = tuple(n for n in levels if n in trained)
  here = dataclasses.replace(experiment, control_levels="chosen", reinits=1)
  branches = list(here.branches(levels))
  if not branches:
    return
  print(
    f"The {result.objective.name} of the ticket, and of the same with one thing"
    "\nchanged (other initial weights, the mask shuffled in each layer, ...)."
  )
  names = ["ticket", *dict.fromkeys(name for _, name, _ in branches)]
  print("level  density  " + "  ".join(f"{name:>13}" for name in names))
  rounds = experiments.train_controls(here, 0, result, levels)
  for chosen in dict.fromkeys(number for number, *_ in branches):
    ticket = result.round(chosen)
    row = {
      name: round_
      for (number, name, _), round_ in zip(branches, rounds, strict=True)
      if number == chosen
    }
    print(_control_row(result, ticket, [row.get(name) for name in names[1:]]))


def _control_row(
  result: tf_lottery.Search, ticket: Round, controls: Iterable[Round | None]
) -> str:
  cells = [
    f"{'':13}" if one is None else f"{_value(result, one):13.4g}"
    for one in (ticket, *controls)
  ]
  return f"{ticket.level:5d}  {ticket.density:7.2%}  " + "  ".join(cells)


def _next_step(experiment: experiments.Experiment, run_dir: str) -> str:
  """Says that one replicate is no proof, and how to get one."""
  given = [a for a in sys.argv[1:] if a.startswith(("--config", "-config"))]
  given = [a for a in given if "config.run_dir" not in a]
  if experiment.looks[-1] < 3:
    given.append("--config.replicates=3")
  root = f"{str(run_dir).rstrip('/')}_proof"
  command = shlex.join(
    ["scripts/run_sweep.py", *given, f"--config.run_dir={root}"]
  )
  return (
    "\nOne replicate cannot give a verdict: another seed may show something"
    " else. This\ntrains replicates with their controls, and prints the"
    f" verdict:\n  python {command}"
  )


if __name__ == "__main__":
  startup.run(main)
