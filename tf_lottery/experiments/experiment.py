"""Experiments: the declaration of what to run, its name and its controls."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator

from tf_lottery import criteria
from tf_lottery import patterns
from tf_lottery import rewinding
from tf_lottery.experiments.controls import BY_NAME
from tf_lottery.experiments.controls import WITH_MODEL
from tf_lottery.experiments.controls import Control
from tf_lottery.experiments.controls import gradual_tfmot
from tf_lottery.experiments.controls import small_dense
from tf_lottery.papers import datasets
from tf_lottery.papers import recipes
from tf_lottery.storage import files
from tf_lottery.storage import run_directory
from tf_lottery.storage import schemas
from tf_lottery.training.trainer import Trainer

CONTROLS = (*BY_NAME, *WITH_MODEL)

# Fields that may grow later without making it another experiment.
GROWING = ("controls", "control_levels", "reinits", "replicates")
_KNOWN = {
  "data": datasets.NAMES,
  "keras": ("keras", "tf_keras"),
  "criterion": tuple(criteria.BY_NAME),
  "strategy": ("none", "mirrored", "multi_worker_mirrored", "tpu"),
}
_REWINDS = {
  "init": rewinding.to_init,
  "learning_rate": rewinding.learning_rate,
  "finetune": rewinding.finetune,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """The declaration of an experiment. A field that is `None` is the recipe's.

  Attributes:
    data: Name of the data set; see `datasets.load_data`.
    recipe: Name of the network and of its training; see `recipes.recipe`.
    keras: `"keras"` (Keras 3) or `"tf_keras"`.
    steps: Optimizer updates of each training. Warm-up and drops of the
      learning rate are scaled with them.
    search_steps: Optimizer updates of a Level's training, if it is shorter than
      the final training.
    learning_rate: The highest learning rate.
    batch_size: Examples in a step.
    evaluate_every: Distance between evaluations, `"100it"` or `"1ep"`.
    criterion: `"magnitude"` or `"random"`.
    pattern: Which weights are pruned together; see `patterns.get`.
    levels: How often to prune, at least 1.
    rate: The fraction of the remaining weights that each Level prunes, where
      the recipe has no other.
    rewind: `"init"`, a step such as `"500it"`, `"learning_rate"` or
      `"finetune"`.
    controls: Names of controls, from `CONTROLS`.
    control_levels: The Levels that have controls. Empty means all of them.
    reinits: Random reinitialisations of each ticket. The paper has three.
    replicates: Number of seeds, at least 1.
    seed: Seed of the first replicate; each further one's is one higher. It
      draws the initial weights, the order of the data and the split into
      training and validation examples.
    strategy: See `Trainer`.

  Raises:
    ValueError: A field is out of range.

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
    rewinding.Step.parse(self.evaluate_every)
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
    """A readable name with a hash of the fields that are not the defaults.

    A field that a later version adds does not change the id while it has its
    default. Controls and replicates do not change it either, because more of
    them may be asked for later.
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

  def make_recipe(self) -> recipes.Recipe:
    """Returns the recipe with the fields that are declared here."""
    recipe = recipes.recipe(self.recipe)
    if self.steps is not None:
      recipe = recipe.scaled(self.steps)
    declared = {
      name: getattr(self, name)
      for name in ("learning_rate", "batch_size", "rate")
      if getattr(self, name) is not None
    }
    return dataclasses.replace(recipe, **declared)

  def make_rewind(self) -> rewinding.Rewind:
    """Returns where the Rounds after the dense one start."""
    name = self.rewind or self.make_recipe().rewind
    if name in _REWINDS:
      return _REWINDS[name]()
    return rewinding.to_step(name)

  def make_trainer(self, splits: datasets.Splits) -> Trainer:
    """Returns a trainer, which all replicates can share."""
    make_model = functools.partial(
      self.make_recipe().make_model,
      splits.input_shape,
      splits.classes,
      keras=self.keras,
    )
    return Trainer(make_model, strategy=self.strategy, seed=self.seed)

  def control(self, name: str, splits: datasets.Splits) -> Control:
    """Returns a control by its name, for this network."""
    make_model = functools.partial(
      self.make_recipe().make_model, splits.input_shape, splits.classes
    )
    if name == "gradual_tfmot":
      return functools.partial(
        gradual_tfmot,
        make_model=functools.partial(make_model, keras="tf_keras"),
      )
    if name == "small_dense":
      return functools.partial(
        small_dense,
        make_model=functools.partial(make_model, keras=self.keras),
      )
    return BY_NAME[name]

  @property
  def trainings(self) -> int:
    """How many Rounds all replicates have together."""
    return self.replicates * (1 + self.levels + len(list(self.branches())))

  def branches(self) -> Iterator[tuple[int, str, int]]:
    """Yields the Level, name and draw of each control of a replicate."""
    levels = self.control_levels or range(1, self.levels + 1)
    for level in levels:
      for name in self.controls:
        for draw in range(self.reinits if name == "random_reinit" else 1):
          yield level, name, draw

  def declare(self, directory: str | os.PathLike) -> None:
    """Writes `experiment.json` into a directory; `of_run` reads it."""
    derived = {"id": self.id, "trainings": self.trainings}
    declaration = {**derived, **dataclasses.asdict(self)}
    path = pathlib.Path(directory) / run_directory.EXPERIMENT
    files.write_json(path, declaration)


def of_run(run_dir: str | os.PathLike) -> tuple[Experiment, int]:
  """Returns the experiment of a run directory, and which replicate it is.

  Raises:
    FileNotFoundError: no `experiment.json` says which experiment it was.
    FileFormatError: the declaration is damaged, or of a newer version.
  """
  path = pathlib.Path(run_dir).resolve()
  replicate = run_directory.replicate_of(path)
  home = path if replicate is None else path.parent
  try:
    declared = run_directory.read_experiment(home)
  except FileNotFoundError:
    raise FileNotFoundError(
      f"No {run_directory.EXPERIMENT} says how {run_dir} was found. Give the"
      " run directory of find_ticket.py or of a replicate of run_sweep.py; a"
      " model of your own is exported by tf_lottery.export."
    ) from None
  for derived in ("id", "trainings"):
    declared.pop(derived, None)
  try:
    schemas.check(declared, Experiment)
    return Experiment(**declared), replicate or 0
  except (TypeError, ValueError) as error:
    raise files.FileFormatError(
      f"{home / run_directory.EXPERIMENT} declares no experiment of this"
      f" version: {error}"
    ) from error
