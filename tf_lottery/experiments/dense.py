"""The dense network of an experiment, trained without a search."""

import os

from tf_lottery import rewinding
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.experiments.retraining import check_recipe
from tf_lottery.experiments.retraining import recipe_of
from tf_lottery.experiments.running import prepared
from tf_lottery.masks import Mask
from tf_lottery.search import arguments
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.rounds import Round
from tf_lottery.storage import run_directory
from tf_lottery.tickets import Ticket
from tf_lottery.training.data import as_data
from tf_lottery.training.distribution import is_chief
from tf_lottery.training.trainer import Trainer


def protocol(experiment: Experiment, replicate: int) -> Protocol:
  """Returns how the dense network of a replicate is trained.

  Args:
    experiment: The experiment.
    replicate: The number of the replicate, from 0.
  """
  data = prepared(experiment, experiment.load(replicate))
  train_data, test_data = data["train_data"], data.get("test_data")
  per_epoch = train_data.steps_per_epoch(experiment.batch_size)
  every = rewinding.Step.parse(experiment.evaluate_every)
  return Protocol(
    train=train_data,
    validation=as_data(data["validation_data"]),
    test=None if test_data is None else as_data(test_data),
    batch_size=experiment.batch_size,
    evaluate_every=every.iterations(per_epoch),
    seed=experiment.seed + replicate,
  )


def train(
  recipe: Experiment,
  trainer: Trainer,
  protocol: Protocol,
  run_dir: str | os.PathLike,
) -> Round:
  """Trains the dense network of an experiment, or reads it back.

  It is the training of Level 0 in a search of that experiment. It is recorded
  as a control is, so that a recipe may diverge, and lose.

  Args:
    recipe: The experiment. Its id names the Round.
    trainer: A trainer of the experiment.
    protocol: What `protocol` returned for a replicate.
    run_dir: The run directory of the Round.

  Raises:
    ValueError: The data do not fit the model; or there is a Round of that name
      whose optimizer, loss, data or length were others.
    RuntimeError: Another process works in the run directory.
  """
  trainer.check(protocol.train, "train_data", batch_size=protocol.batch_size)
  trainer.check(protocol.validation, "validation_data")
  start = trainer.draw_snapshot(protocol.seed)
  provenance = {
    "level": 0,
    "control": run_directory.TUNED_DENSE,
    "control_seed": None,
    "recipe": recipe_of(trainer, protocol),
  }
  mask = Mask.ones(trainer.binding.shapes)
  ticket = Ticket(mask, start.without_random_states(), provenance)
  writes = is_chief(trainer.strategy)
  run = run_directory.RunDirectory(run_dir, writes=writes)
  directory = run.named(recipe.id)
  check_recipe(directory, ticket)
  whole = arguments.length(
    recipe.epochs, recipe.steps, protocol.steps_per_epoch
  )
  span = range(arguments.search_length(recipe.search_steps, whole))
  with run.locked():
    round_, _ = protocol.train_round(trainer, ticket, start, span, directory)
  return round_
