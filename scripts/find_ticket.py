"""Finds a winning ticket, and shows it beside its controls.

    python scripts/find_ticket.py --config=scripts/configs/digits.py

Any field of the config can be set, `--config.levels=5`. The same command
again goes on where it stopped, or shows what is there.
"""

import dataclasses
import logging
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# So that configs can build on each other, from whatever folder this is run.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags
from ml_collections import config_flags

import tf_lottery
from tf_lottery import results
from tf_lottery import workloads

_CONFIG = config_flags.DEFINE_config_file(
  "config", "scripts/configs/digits.py", "What to run."
)
_PROGRESS = flags.DEFINE_bool(
  "progress", None, "Whether to show a progress bar. Default: on a terminal."
)


def main(argv: list[str]) -> None:
  """Runs the search that the config declares, and prints it as it goes."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  config = _CONFIG.value
  # The table says what the library would log.
  logging.getLogger("tf_lottery").setLevel(logging.WARNING)
  try:
    data = workloads.load_data(
      config.data, seed=config.seed, data_dir=config.data_dir
    )
  except FileNotFoundError as error:
    sys.exit(str(error))
  result = _search(config, data)
  ticket = result.smallest_matching(config.tolerance)
  path = pathlib.Path(config.run_dir) / "ticket.safetensors"
  ticket.save(path)
  _print_choice(config, result)
  _print_full_training(config, result)
  print(f"Its mask and start weights are in {path}.\n")
  _print_controls(config, result)


def _search(config, data) -> tf_lottery.SearchResult:
  recipe = dataclasses.replace(
    workloads.recipe(config.recipe), learning_rate=config.learning_rate
  )
  print(
    f"{config.recipe} ({config.keras}) on {config.data}:"
    f" {len(data.train[1]):,} training, {len(data.validation[1]):,} validation,"
    f" {len(data.test[1]):,} test images; {config.steps:,} steps a Level.\n"
  )
  print(results.header())
  return tf_lottery.find_ticket(
    lambda: recipe.make_model(
      data.input_shape, data.classes, keras=config.keras
    ),
    data.train,
    validation_data=data.validation,
    test_data=data.test,
    steps=config.steps,
    search_steps=config.search_steps,
    batch_size=config.batch_size,
    schedule=tf_lottery.geometric(config.levels, config.rate),
    scope=tf_lottery.layerwise(recipe.rates, rate=config.rate),
    rewind=tf_lottery.to_step(config.rewind_to),
    evaluate_every=config.evaluate_every,
    strategy=config.strategy,
    seed=config.seed,
    run_dir=config.run_dir,
    progress=_PROGRESS.value,
    on_round=lambda round_: print(results.row(round_), flush=True),
  )


def _print_choice(config, result: tf_lottery.SearchResult) -> None:
  level = result.smallest_matching_level(config.tolerance)
  dense, chosen = result.rounds[0], result.rounds[level]
  print(
    f"\nThe smallest ticket within {config.tolerance:.1%} of the dense network"
    f" (validation): level {level},\n{chosen.density:.1%} of the weights, test"
    f" accuracy {chosen.metrics['test_accuracy']:.1%}; dense"
    f" {dense.metrics['test_accuracy']:.1%}."
  )


def _print_full_training(config, result: tf_lottery.SearchResult) -> None:
  """After a short search: the dense network and the ticket, trained fully."""
  if config.search_steps is None:
    return
  level = result.smallest_matching_level(config.tolerance)
  names = {0: "dense", level: "ticket"}
  for number, name in sorted(names.items()):
    full = result.train(result.rounds[number].ticket, f"full_{number:02d}")
    accuracy = full.metrics["test_accuracy"]
    print(f"Trained for {full.steps:,} steps, {name}: {accuracy:.1%}.")


def _print_controls(config, result: tf_lottery.SearchResult) -> None:
  """Trains the controls, and prints their test accuracy beside the ticket's."""
  if not config.controls:
    return
  levels = [result.smallest_matching_level(config.tolerance)]
  if config.controls_on_all_levels:
    levels = range(1, len(result.rounds))
  print("Test accuracy of the tickets, and of the same networks with one thing")
  print("destroyed: other initial weights, or the mask shuffled in each layer.")
  columns = ["ticket", *config.controls]
  print("level  density  " + "  ".join(f"{name:>13}" for name in columns))
  for level in levels:
    rounds = [result.rounds[level]]
    rounds += [_control(config, result, level, c) for c in config.controls]
    cells = [f"{r.metrics['test_accuracy']:13.4f}" for r in rounds]
    print(
      f"{level:5d}  {rounds[0].density:7.2%}  " + "  ".join(cells), flush=True
    )


def _control(config, result, level: int, control: str) -> tf_lottery.Round:
  ticket = result.rounds[level].ticket
  seed = config.seed + 1
  if control == "random_reinit":
    changed = ticket.reinitialised(result.trainer.draw(seed), seed)
  elif control == "shuffled_mask":
    changed = ticket.shuffled(result.rounds[0].ticket.start, seed)
  else:
    raise app.UsageError(
      "config.controls may name random_reinit and shuffled_mask, got"
      f" {control!r}."
    )
  return result.train(changed, f"level_{level:02d}-{control}")


if __name__ == "__main__":
  app.run(main)
