"""Experiments: what to run, declared; its name; and its replicates.

```
ROOT/
  lenet_300_100-fashion_mnist-init-1f0c9a52/   one directory an experiment
    experiment.json                              what was declared
    replicate_00/ replicate_01/ ...              one run directory each
```
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from tf_lottery import augmentation
from tf_lottery import controls as controls_lib
from tf_lottery import datasets
from tf_lottery import files
from tf_lottery import levels as levels_lib
from tf_lottery import networks
from tf_lottery import patterns
from tf_lottery import rewinding
from tf_lottery import rounds
from tf_lottery import rundir
from tf_lottery import schedules
from tf_lottery import search
from tf_lottery import training
from tf_lottery import workloads

_DECLARED = "experiment.json"
CONTROLS = (*controls_lib.BY_NAME, "gradual", "small_dense")

# What may be asked of an experiment later, without making it another one.
GROWING = ("controls", "control_levels", "reinits", "replicates")
_KNOWN = {
  "data": datasets.NAMES,
  "keras": ("keras", "tf_keras"),
  "criterion": ("magnitude", "random"),
  "strategy": ("none", "mirrored", "multi_worker_mirrored", "tpu"),
}
_REWINDS = {
  "init": rewinding.to_init,
  "learning_rate": rewinding.learning_rate,
  "finetune": rewinding.finetune,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """The full declaration of what to do. `None` takes what the recipe says.

  Attributes:
    data: see `datasets.load_data`.
    recipe: see `workloads.recipe`: the network, and how it is trained.
    keras: `"keras"` (Keras 3) or `"tf_keras"`.
    steps: optimizer updates of each training; warm-up and drops of the
      learning rate are scaled with them.
    search_steps: of the Levels' trainings, when shorter than the final one.
    learning_rate: at its highest.
    batch_size: examples in a step.
    evaluate_every: distance of evaluations, `"100it"` or `"1ep"`.
    criterion: `"magnitude"` or `"random"`.
    pattern: what is pruned together, see `patterns.get`.
    levels: how often to prune.
    rate: the fraction pruned at each Level, where the recipe has no other.
    rewind: `"init"`, a step such as `"500it"`, `"learning_rate"` or
      `"finetune"`.
    controls: some of `CONTROLS`.
    control_levels: which Levels have controls. Empty: all of them.
    reinits: random reinitialisations of each ticket; three in the paper.
    replicates: how many seeds.
    seed: of the first replicate; the next one's is one higher. It draws the
      initial weights, the order of the data and the split into training and
      validation examples.
    strategy: see `Trainer`.

  Raises:
    ValueError: a field is out of range.

  Example:
  ```python
  experiment = Experiment(data="digits", steps=800, levels=5, replicates=3)
  for replicate in range(experiment.replicates):
    run(experiment, replicate, "runs")
  ```
  """

  data: str = "fashion_mnist"
  recipe: str = "lenet_300_100"
  keras: str = "keras"
  steps: int | None = None
  search_steps: int | None = None
  learning_rate: float | None = None
  batch_size: int | None = None
  evaluate_every: str = "100it"
  criterion: str = "magnitude"
  pattern: str = "unstructured"
  levels: int = 24
  rate: float | None = None
  rewind: str | None = None
  controls: tuple[str, ...] = ()
  control_levels: tuple[int, ...] = ()
  reinits: int = 1
  replicates: int = 1
  seed: int = 0
  strategy: str = "none"

  def __post_init__(self):
    for name in ("controls", "control_levels"):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    unknown = sorted(set(self.controls) - set(CONTROLS))
    if unknown:
      raise ValueError(
        f"controls may name {', '.join(CONTROLS)}; got {', '.join(unknown)}."
      )
    outside = [n for n in self.control_levels if not 0 < n <= self.levels]
    if outside:
      raise ValueError(
        f"control_levels must be from 1 to levels = {self.levels}, got"
        f" {outside}."
      )
    for name in ("levels", "reinits", "replicates", "steps", "batch_size"):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
    for name, known in _KNOWN.items():
      if getattr(self, name) not in known:
        raise ValueError(
          f"{name} must be one of {', '.join(known)}; got"
          f" {getattr(self, name)!r}."
        )
    schedules.Step.parse(self.evaluate_every)
    patterns.get(self.pattern)
    self.make_recipe()
    if (
      self.make_rewind() == rewinding.to_init()
      and "rewind_to_init" in self.controls
    ):
      raise ValueError(
        "The control rewind_to_init needs a rewind to a later step, got"
        f" rewind={self.rewind!r}."
      )

  @property
  def id(self) -> str:
    """A readable name, and a hash of every field that is not its default.

    Fields that come later do not change it while they have their defaults;
    nor do controls and replicates, of which more may be asked later.
    """
    own = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in GROWING
      and getattr(self, field.name) != field.default
    }
    digest = hashlib.blake2b(
      json.dumps(own, sort_keys=True).encode(), digest_size=4
    ).hexdigest()
    rewind = self.rewind or self.make_recipe().rewind
    at_init = self.make_rewind() == rewinding.to_init()
    words = [self.recipe, self.data, "init" if at_init else rewind]
    if self.criterion != "magnitude":
      words.append(self.criterion)
    if self.pattern != "unstructured":
      words.append(self.pattern)
    return "-".join([*words, digest])

  def make_recipe(self) -> workloads.Recipe:
    """The recipe, with the fields that are declared here."""
    recipe = workloads.recipe(self.recipe)
    if self.steps is not None:
      recipe = recipe.scaled(self.steps)
    declared = {
      name: getattr(self, name)
      for name in ("learning_rate", "batch_size", "rate")
      if getattr(self, name) is not None
    }
    return dataclasses.replace(recipe, **declared)

  def make_rewind(self) -> rewinding.Rewind:
    """Where Rounds start."""
    name = self.rewind or self.make_recipe().rewind
    if name in _REWINDS:
      return _REWINDS[name]()
    return rewinding.to_step(name)

  def make_trainer(self, splits: datasets.Splits) -> training.Trainer:
    """What trains all replicates; `find` initialises it for each."""
    make_model = functools.partial(
      self.make_recipe().make_model,
      splits.input_shape,
      splits.classes,
      keras=self.keras,
    )
    return training.Trainer(make_model, strategy=self.strategy, seed=self.seed)

  def control(self, name: str, splits: datasets.Splits) -> controls_lib.Control:
    """A control by its name, for this network."""
    make_model = functools.partial(
      self.make_recipe().make_model, splits.input_shape, splits.classes
    )
    if name == "gradual":
      return functools.partial(
        controls_lib.gradual,
        make_model=functools.partial(make_model, keras="tf_keras"),
      )
    if name == "small_dense":

      def make_small(size: int) -> Any:
        width = networks.width_for(
          self.make_recipe().network, splits.input_shape, splits.classes, size
        )
        return make_model(keras=self.keras, width=width)

      return functools.partial(controls_lib.small_dense, make_model=make_small)
    return controls_lib.BY_NAME[name]


def find(
  experiment: Experiment,
  replicate: int,
  splits: datasets.Splits,
  run_dir: str | os.PathLike,
  *,
  trainer: training.Trainer | None = None,
  progress: bool | None = None,
  on_round: Callable[[rounds.Round], None] | None = None,
) -> levels_lib.SearchResult:
  """The search of one replicate: its Levels, without controls.

  Args:
    experiment: what to do.
    replicate: which seed.
    splits: the data, split by this replicate's seed.
    run_dir: where.
    trainer: of the experiment, when it is there already.
    progress: see `find_ticket`.
    on_round: see `find_ticket`.
  """
  recipe = experiment.make_recipe()
  train = splits.train_data
  if recipe.augment and len(splits.input_shape) == 3:
    train = train.with_augment(augmentation.crop_and_flip)
  rate = recipe.rate
  return search.find_ticket(
    trainer or experiment.make_trainer(splits),
    train,
    validation_data=splits.validation_data,
    test_data=splits.test_data,
    steps=recipe.steps,
    search_steps=experiment.search_steps,
    batch_size=recipe.batch_size,
    schedule=schedules.geometric(experiment.levels, rate),
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
  trainer: training.Trainer | None = None,
  progress: bool | None = None,
  on_round: Callable[[rounds.Round], None] | None = None,
) -> levels_lib.SearchResult:
  """One replicate with its controls; done parts are read back.

  Args:
    experiment: what to do.
    replicate: which seed, from 0.
    root: the directory above that of the experiment.
    data_dir: see `datasets.load_data`.
    trainer: of the experiment, when it is there already.
    progress: see `find_ticket`.
    on_round: called with each `Round`, those of controls too.
  """
  seed = experiment.seed + replicate
  splits = datasets.load_data(experiment.data, seed=seed, data_dir=data_dir)
  declare(experiment, root)
  result = find(
    experiment,
    replicate,
    splits,
    run_dir(experiment, replicate, root),
    trainer=trainer,
    progress=progress,
    on_round=on_round,
  )
  for level, name, draw in _branches(experiment):
    round_ = experiment.control(name, splits)(result, level, draw)
    if on_round:
      on_round(round_)
  return result


def is_done(
  experiment: Experiment, replicate: int, root: str | os.PathLike
) -> bool:
  """Whether all that a replicate trains is there."""
  directory = rundir.RunDirectory(run_dir(experiment, replicate, root))
  legs = [directory.level(level) for level in range(experiment.levels + 1)]
  legs += [directory.control(*branch) for branch in _branches(experiment)]
  return all(leg.is_done for leg in legs)


def run_dir(
  experiment: Experiment, replicate: int, root: str | os.PathLike
) -> pathlib.Path:
  """The run directory of a replicate."""
  return pathlib.Path(root) / experiment.id / f"replicate_{replicate:02d}"


def declare(experiment: Experiment, root: str | os.PathLike) -> None:
  """Writes `experiment.json` into the directory of an experiment."""
  record(experiment, pathlib.Path(root) / experiment.id)


def record(experiment: Experiment, directory: str | os.PathLike) -> None:
  """Writes `experiment.json` into a directory; `of_run` reads it."""
  declaration = {"id": experiment.id, **dataclasses.asdict(experiment)}
  files.write_json(pathlib.Path(directory) / _DECLARED, declaration)


def of_run(run_dir: str | os.PathLike) -> tuple[Experiment, int]:
  """The experiment of a run directory, and which replicate of it that is.

  Raises:
    FileNotFoundError: nothing says which experiment it was.
    FileFormatError: what says so is damaged, or of a newer version.
  """
  path = pathlib.Path(run_dir).resolve()
  match = re.fullmatch(r"replicate_(\d+)", path.name)
  home = path.parent if match else path
  if not (home / _DECLARED).is_file():
    raise FileNotFoundError(
      f"No {_DECLARED} says how {run_dir} was found. Give the run directory of"
      " find_ticket.py or of a replicate of run_sweep.py; a model of your own"
      " is exported by tf_lottery.export."
    )
  declared = files.read_json(home / _DECLARED)
  declared.pop("id", None)
  try:
    return Experiment(**declared), int(match[1]) if match else 0
  except (TypeError, ValueError) as error:
    raise files.FileFormatError(
      f"{home / _DECLARED} declares no experiment of this version: {error}"
    ) from error


def _branches(experiment: Experiment) -> Iterator[tuple[int, str, int]]:
  """Level, control and draw of all that a replicate trains besides Levels."""
  levels = experiment.control_levels or range(1, experiment.levels + 1)
  for level in levels:
    for name in experiment.controls:
      for draw in range(experiment.reinits if name == "random_reinit" else 1):
        yield level, name, draw
