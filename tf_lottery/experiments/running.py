"""Runs the replicates of an experiment, with their controls.

```
ROOT/
  my-model-on-my-data-1f0c9a52/   one directory for an experiment
    experiment.json                 its declaration
    replicate_00/ replicate_01/ ... one run directory each
```
"""

import functools
import logging
import os
import pathlib
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

from tf_lottery.experiments import controls
from tf_lottery.experiments import declared
from tf_lottery.experiments import trained
from tf_lottery.experiments.controls import damaged_data
from tf_lottery.experiments.controls import transfer
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.experiments.retraining import retrain
from tf_lottery.search.finding import find_ticket
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round
from tf_lottery.training.data import ArrayData
from tf_lottery.training.data import as_data
from tf_lottery.training.distribution import is_chief
from tf_lottery.training.trainer import Trainer

_log = logging.getLogger("tf_lottery")

# The fields that decide on which data a ticket is trained again.
_OF_DATA = ("load_data", "data_args", "augment", "class_weight")

# Called with each Round as it ends, also with those that are read back.
OnRound = Callable[[Round], None]


def find(
  experiment: Experiment,
  replicate: int,
  run_dir: str | os.PathLike | None = None,
  *,
  trainer: Trainer | None = None,
  data: Mapping[str, Any] | None = None,
  progress: bool | None = None,
  on_round: OnRound | None = None,
) -> Search:
  """Searches for the tickets of one replicate, without controls.

  Args:
    experiment: the declaration.
    replicate: which replicate, from 0; its seed is the experiment's plus this.
    run_dir: the run directory; see `find_ticket`.
    trainer: a trainer of the experiment, to share its compiled program.
    data: what `experiment.load(replicate)` returned, if it is at hand.
    progress: see `find_ticket`.
    on_round: see `find_ticket`.
  """
  return find_ticket(
    trainer or experiment.make_trainer(),
    **(data or experiment.load(replicate)),
    epochs=experiment.epochs,
    steps=experiment.steps,
    search_steps=experiment.search_steps,
    batch_size=experiment.batch_size,
    schedule=experiment.schedule,
    **experiment.search_arguments(),
    # `at_init` has a criterion of its own, and refuses another one.
    criterion=None
    if experiment.criterion == "magnitude"
    else experiment.criterion,
    pattern=experiment.pattern,
    scope=experiment.scope,
    rewind=experiment.rewind,
    evaluate_every=experiment.evaluate_every,
    objective=experiment.objective,
    tolerance=experiment.tolerance,
    augment=experiment.make_augment(),
    class_weight=experiment.class_weight,
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
  with_controls: bool = True,
  only: Collection[str] | None = None,
  trainer: Trainer | None = None,
  source_trainer: Trainer | None = None,
  data: Mapping[str, Any] | None = None,
  progress: bool | None = None,
  on_round: OnRound | None = None,
) -> Search:
  """Runs one replicate with its controls; reads back what is done.

  If controls take the tickets of another experiment, the search of the same
  replicate of that experiment runs before them, in the same root.

  Args:
    experiment: the declaration.
    replicate: which replicate, from 0.
    root: the directory that holds the experiment's directory.
    with_controls: whether to train the controls too. With
      `control_levels="chosen"` the Levels are chosen by the replicates that
      are found so far, so find all of them before. Defaults to `True`.
    only: the controls to train now; the others come in a later call. Defaults
      to `None`: all, and what `retrain` declares.
    trainer: a trainer of the experiment, to share its compiled program.
    source_trainer: a trainer of the experiment's source, likewise.
    data: what `experiment.load(replicate)` returned, if it is at hand.
    progress: see `find_ticket`.
    on_round: called with each `Round`, also with those of controls.
  """
  trainer = trainer or experiment.make_trainer()
  data = data or experiment.load(replicate)
  check_controls(experiment, trainer, data)
  home = pathlib.Path(root) / experiment.id
  declared.check_source(experiment, home)
  if experiment.source and needs_source(experiment):
    source_trainer = source_trainer or experiment.source.make_trainer()
    transfer.check(experiment, trainer, source_trainer)
  writes = is_chief(trainer.strategy)
  if writes and declared.may_declare(experiment, home):
    # Before the search, so that a report knows what is going on.
    experiment.declare(home, trained.chosen_levels(experiment, root))
  search = find(
    experiment,
    replicate,
    trained.run_dir(experiment, replicate, root),
    trainer=trainer,
    data=data,
    progress=progress,
    on_round=on_round,
  )
  if with_controls:
    chosen = trained.chosen_levels(experiment, root)
    if writes:
      experiment.declare(home, chosen)
    _warn_of_undrawn(experiment, chosen)
    train_chosen(experiment, search, chosen)
    part = trained.with_some_controls(experiment, only)
    source = None
    if experiment.source and needs_source(part):
      source = run(
        experiment.source,
        replicate,
        root,
        with_controls=False,
        trainer=source_trainer,
        progress=False,
      )
    train_controls(
      part, replicate, search, chosen, source=source, on_round=on_round
    )
  return search


def needs_source(experiment: Experiment) -> bool:
  """Whether an experiment has controls that take the tickets of its source."""
  return not controls.WITH_SOURCE.keys().isdisjoint(experiment.controls)


def train_chosen(
  experiment: Experiment, search: Search, chosen: tuple[int, ...]
) -> None:
  """Trains the chosen Levels to their ends, where a search left them out.

  Each replicate chooses for itself which Levels it needs. To compare
  replicates, all need the same ones.
  """
  if experiment.trains_all:
    return
  for level in experiment.controlled(chosen):
    done = {round_.level: round_ for round_ in search.rounds}
    if level not in done or done[level].stopped:
      search.train_level(level)


def _warn_of_undrawn(experiment: Experiment, chosen: tuple[int, ...]) -> None:
  """Says which Levels have no controls, as a budget did not reach them."""
  if experiment.budget is None or isinstance(experiment.control_levels, str):
    return
  if left := sorted(set(experiment.control_levels) - set(chosen)):
    _log.warning(
      "control_levels names Levels that the searches have not drawn in all"
      " replicates, %s: they are left out. A larger budget may reach them.",
      left,
    )


def check_controls(
  experiment: Experiment, trainer: Trainer, data: Mapping[str, Any]
) -> None:
  """Refuses controls that the model cannot have, before anything is trained.

  Raises:
    ValueError: `gradual_tfmot` needs a model of tf_keras and arrays, controls
      that damage the data need arrays, or the model cannot be made at another
      width.
  """
  library = trainer.binding.generation.library.__name__
  is_tf_keras = library == "tf_keras" or experiment.has_keras
  train = as_data(data["train_data"])
  is_arrays = isinstance(train, ArrayData)
  if "gradual_tfmot" in experiment.controls and not (is_tf_keras and is_arrays):
    raise ValueError(
      "The control gradual_tfmot needs a model of tf_keras, or a make_model"
      " that takes keras='tf_keras', and training data as arrays. Take the"
      " control gradual."
    )
  for name in damaged_data.NAMES:
    if name in experiment.controls:
      damaged_data.arrays(name, train)
  for name in controls.WITH_WIDTH:
    if name not in experiment.controls:
      continue
    if experiment.has_width:
      experiment.make(width=0.01)
    else:
      _log.warning(
        "The control %s is left out: make_model has no parameter width, a"
        " factor for the size of hidden layers.",
        name,
      )


def train_controls(
  experiment: Experiment,
  replicate: int,
  search: Search,
  chosen: tuple[int, ...] | None = None,
  *,
  source: Search | None = None,
  on_round: OnRound | None = None,
) -> list[Round]:
  """Trains the controls of a replicate, and what `retrain` declares.

  Args:
    experiment: the declaration.
    replicate: which replicate, from 0.
    search: what `find` returned for it.
    chosen: what `chosen_levels` returned.
    source: what `find` returned for the same replicate of the experiment's
      source. Needed for controls that take its tickets.
    on_round: called with each `Round`.

  Raises:
    ValueError: controls take the tickets of a source, and there is none.
  """
  if source is None and needs_source(experiment):
    raise ValueError(
      "Some controls take the tickets of another search: give source=."
    )
  if source is not None:
    transfer.warn_of_steps(search, source)
    if "transferred_mask" in experiment.controls:
      transfer.warn_of_weights(search, source)
  again: dict[str, controls.Control] = {
    name: _retraining(experiment, name, replicate)
    for name in experiment.retrain
  }
  made = []
  for level, name, draw in experiment.branches(chosen):
    control = again.get(name) or _control(experiment, name, source)
    made.append(control(search, level, draw))
    if on_round:
      on_round(made[-1])
  return made


def _control(
  experiment: Experiment, name: str, source: Search | None
) -> controls.Control:
  """Returns a control by its name, for this model and this source."""
  if name in controls.WITH_SOURCE:
    return functools.partial(controls.WITH_SOURCE[name], source=source)
  if name not in controls.WITH_MODEL:
    return controls.BY_NAME[name]
  make_model: Callable[..., Any] = experiment.make
  if name == "gradual_tfmot" and experiment.has_keras:
    make_model = functools.partial(experiment.make, keras="tf_keras")
  return functools.partial(controls.WITH_MODEL[name], make_model=make_model)


def _retraining(
  experiment: Experiment, name: str, replicate: int
) -> controls.Control:
  """Returns the function that trains a ticket as `retrain[name]` declares."""
  changes = experiment.retrain[name]
  again = experiment.retrained(name)

  @functools.cache
  def trainer() -> Trainer | None:
    is_same = changes.keys().isdisjoint(("make_model", "model_args"))
    return None if is_same else again.make_trainer()

  @functools.cache
  def data() -> dict[str, Any]:
    if changes.keys().isdisjoint(_OF_DATA):
      return {}
    return prepared(again, again.load(replicate))

  def control(search: Search, level: int, draw: int) -> Round:
    train = data().get("train_data", search.protocol.train)
    epochs = again.epochs or 0
    steps = round(epochs * train.steps_per_epoch(again.batch_size))
    return retrain(
      search,
      level,
      draw,
      name=name,
      trainer=trainer(),
      **data(),
      batch_size=again.batch_size,
      steps=again.steps or max(1, steps),
    )

  return control


def prepared(experiment: Experiment, data: dict[str, Any]) -> dict[str, Any]:
  """Returns the data with the augmentation and the weights of classes."""
  train = as_data(data["train_data"])
  if augment := experiment.make_augment():
    train = train.with_augment(augment)
  if experiment.class_weight:
    train = train.with_class_weight(experiment.class_weight)
  return {**data, "train_data": train}
