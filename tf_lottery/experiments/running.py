"""Runs the replicates of an experiment, with their controls.

```
ROOT/
  lenet_300_100-fashion_mnist-init-1f0c9a52/   one directory for an experiment
    experiment.json                              its declaration
    replicate_00/ replicate_01/ ...              one run directory each
```
"""

import os
import pathlib
from collections.abc import Callable

from tf_lottery import schedules
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.papers import datasets
from tf_lottery.search.finding import find_ticket
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round
from tf_lottery.storage.run_directory import RunDirectory
from tf_lottery.storage.run_directory import replicate_directory
from tf_lottery.training import augmentation
from tf_lottery.training.distribution import is_chief
from tf_lottery.training.trainer import Trainer


def find(
  experiment: Experiment,
  replicate: int,
  splits: datasets.Splits,
  run_dir: str | os.PathLike,
  *,
  trainer: Trainer | None = None,
  progress: bool | None = None,
  on_round: Callable[[Round], None] | None = None,
) -> Search:
  """Searches for the tickets of one replicate, without controls.

  Args:
    experiment: the declaration.
    replicate: which replicate, from 0; its seed is the experiment's plus this.
    splits: the data, split by the replicate's seed.
    run_dir: the run directory.
    trainer: a trainer of the experiment, to share its compiled program.
    progress: see `find_ticket`.
    on_round: see `find_ticket`.
  """
  recipe = experiment.make_recipe()
  train = splits.train_data
  if recipe.augment and len(splits.input_shape) == 3:
    train = train.with_augment(augmentation.crop_and_flip)
  return find_ticket(
    trainer or experiment.make_trainer(splits),
    train,
    validation_data=splits.validation_data,
    test_data=splits.test_data,
    steps=recipe.steps,
    search_steps=experiment.search_steps,
    batch_size=recipe.batch_size,
    schedule=schedules.geometric(experiment.levels, recipe.rate),
    criterion=experiment.criterion,
    pattern=experiment.pattern,
    scope=recipe.scope,
    rewind=experiment.make_rewind(),
    evaluate_every=experiment.evaluate_every,
    seed=experiment.seed + replicate,
    run_dir=run_dir,
    progress=progress,
    on_round=on_round,
  )


def run(
  experiment: Experiment,
  replicate: int,
  root: str | os.PathLike,
  *,
  data_dir: str | os.PathLike | None = None,
  trainer: Trainer | None = None,
  progress: bool | None = None,
  on_round: Callable[[Round], None] | None = None,
) -> Search:
  """Runs one replicate with its controls; reads back what is done.

  Args:
    experiment: the declaration.
    replicate: which replicate, from 0.
    root: the directory that holds the experiment's directory.
    data_dir: see `datasets.load_data`.
    trainer: a trainer of the experiment, to share its compiled program.
    progress: see `find_ticket`.
    on_round: called with each `Round`, also with those of controls.
  """
  seed = experiment.seed + replicate
  splits = datasets.load_data(experiment.data, seed=seed, data_dir=data_dir)
  trainer = trainer or experiment.make_trainer(splits)
  if is_chief(trainer.strategy):
    experiment.declare(pathlib.Path(root) / experiment.id)
  search = find(
    experiment,
    replicate,
    splits,
    run_dir(experiment, replicate, root),
    trainer=trainer,
    progress=progress,
    on_round=on_round,
  )
  for level, name, draw in experiment.branches():
    round_ = experiment.control(name, splits)(search, level, draw)
    if on_round:
      on_round(round_)
  return search


def is_done(
  experiment: Experiment, replicate: int, root: str | os.PathLike
) -> bool:
  """Whether every Round of a replicate is trained to its end."""
  directory = RunDirectory(run_dir(experiment, replicate, root))
  rounds = [directory.level(level) for level in range(experiment.levels + 1)]
  rounds += [directory.control(*branch) for branch in experiment.branches()]
  return all(round_.is_done for round_ in rounds)


def run_dir(
  experiment: Experiment, replicate: int, root: str | os.PathLike
) -> pathlib.Path:
  """The run directory of a replicate."""
  return replicate_directory(pathlib.Path(root) / experiment.id, replicate)
