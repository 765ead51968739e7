"""Experiments: the declaration of what to search, and how to prove it."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_lottery import criteria
from tf_lottery import patterns
from tf_lottery import rewinding
from tf_lottery import schedules
from tf_lottery import scopes
from tf_lottery.experiments import checking
from tf_lottery.experiments import loading
from tf_lottery.experiments import looks
from tf_lottery.experiments import references
from tf_lottery.experiments import values
from tf_lottery.experiments.checking import CHOSEN
from tf_lottery.experiments.controls import WITH_WIDTH
from tf_lottery.objective import Objective
from tf_lottery.search import methods
from tf_lottery.storage import files
from tf_lottery.storage import run_directory
from tf_lottery.training.trainer import Trainer
from tf_lottery.weights import Override

# Fields that may grow later without making it another experiment.
GROWING = (
  *("controls", "control_levels", "reinits", "replicates", "retrain"),
  *("choose", "budget"),
)
# Fields that say what it is called, and by which rule it is judged.
BESIDE = ("name", "title", "tolerance")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """The declaration of an experiment: a model, its data, a search, its proof.

  Functions may be given as they are, or as references
  `"package.module:function"`. Those that other processes cannot import (lambdas
  and functions inside of functions) run in this process only.

  Attributes:
    make_model: Takes `model_args`, and returns a compiled Keras model of either
      generation. Its optimizer and its loss train every Round. If it also
      takes `width`, a factor for the size of its hidden layers, the control
      `small_dense` can be trained.
    load_data: Takes `data_args`, and `seed` if it has such a parameter: the
      seed of the replicate, for the split. It returns training, validation
      and test data as a tuple of three (of two without test data), or as a
      dict with the keys `"train"`, `"validation"` and `"test"`. Each may have
      any form that `find_ticket` takes.
    model_args: Keyword arguments of `make_model`.
    data_args: Keyword arguments of `load_data`.
    epochs: See `find_ticket`, as for all fields down to `jit`.
    steps: Give either `epochs` or `steps`.
    search_steps: Optimizer updates of a Level's training, if it is shorter than
      the final training.
    batch_size: Defaults to `32`.
    schedule: The density of each Level after the dense one. Defaults to
      `geometric(10)`.
    method: Defaults to `"iterative"`.
    choose: `"all"` or `"bisect"`. With the second, or a budget, the Levels that
      `control_levels="chosen"` stands for are trained in every replicate.
    budget: In trainings of the dense network. It may grow later.
    criterion: Defaults to `"magnitude"`.
    scope: Defaults to the scope of `find_ticket`.
    pattern: Defaults to single weights.
    rewind: Also by name; see `rewinding.get`. With `"auto"`, each replicate
      finds its own step. Defaults to `"init"`.
    evaluate_every: Defaults to `"1ep"`.
    objective: Defaults to the accuracy that the model was compiled with, else
      its loss.
    augment: See `ArrayData`.
    class_weight: Class -> its weight in the loss.
    prunable: See `lottery_prune`.
    strategy: The name of a strategy; see `Trainer`.
    jit: See `Trainer`.
    controls: Names of controls, from `CONTROLS`. Defaults to
      `("random_reinit",)`, without which no ticket is winning.
    control_levels: The Levels that have controls; `()` means all of them, and
      `"chosen"`, the default, the smallest Level that matches the dense network
      in the mean over replicates, and its neighbours.
    reinits: Random reinitialisations of each ticket, also of a transferred one.
      The paper has three.
    retrain: Name -> fields that differ, of `make_model`, `load_data`, `epochs`,
      `steps`, `batch_size`, `augment` and `class_weight`, and arguments that
      are added, as `model_args` and `data_args`. At the Levels that have
      controls, and for the dense network, the ticket is also trained so.
    replicates: Number of seeds, at least 1; or `"auto"`, with which `prove`
      trains 4 replicates, judges them, and trains more only as long as they may
      show more: it looks at 4, 6, 8 and 12 replicates, and stops when the
      verdicts are settled; see `report.looks.is_settled`. The looks share the
      5 %, and what a look has shown stays; see `report.spending`. `"auto:8"`
      trains at most 8. Defaults to `3`.
    seed: Seed of the first replicate; each further one's is one higher.
    tolerance: By how much a ticket may be worse than the dense network and
      still match it, in units of the metric. Defaults to `None`: see
      `objective.default_tolerance`.
    title: What it is, for people: `"ResNet on plants"`. Defaults to the names
      of the functions.
    source: Another experiment, whose tickets are tried here by the controls
      that begin with `transferred`: on other data, from another seed, or in a
      network of another depth. It has the same schedule. Its searches run
      before these controls, in the same root and without its own controls.
    name: The name of its directory. Defaults to the title and a hash of the
      fields that make it another experiment.

  Raises:
    ValueError: A field is out of range.

  Example:
  ```python
  experiment = Experiment(
    make_model="plants.models:make_resnet",
    load_data="plants.data:load",
    epochs=20,
    controls=("random_reinit", "shuffled_mask"),
  )
  print(prove(experiment, "runs"))
  ```
  """

  make_model: Callable[..., Any] | str
  load_data: Callable[..., Any] | str
  model_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  data_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  epochs: float | None = None
  steps: int | None = None
  search_steps: int | None = None
  batch_size: int = 32
  schedule: Sequence[float] = schedules.geometric(10)
  method: str | methods.Method = "iterative"
  choose: str = "all"
  budget: float | None = None
  criterion: str | criteria.Criterion = "magnitude"
  scope: str | scopes.Scope | None = None
  pattern: str | patterns.Pattern | None = None
  rewind: str | rewinding.Rewind = "init"
  evaluate_every: str | int | rewinding.Step = "1ep"
  objective: str | Objective | None = None
  augment: Callable[..., Any] | str | None = None
  class_weight: Mapping[int, float] | None = None
  prunable: Override | None = None
  strategy: str | tf.distribute.Strategy | None = None
  jit: bool | None = None
  controls: Sequence[str] = ("random_reinit",)
  control_levels: Sequence[int] | str = CHOSEN
  reinits: int = 1
  retrain: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  replicates: int | str = 3
  seed: int = 0
  tolerance: float | None = None
  title: str | None = None
  name: str | None = None
  source: "Experiment | None" = None

  def __post_init__(self):
    checking.check_functions(self)
    schedule = schedules.check_schedule(self.schedule)
    object.__setattr__(self, "schedule", schedule)
    object.__setattr__(self, "controls", tuple(self.controls))
    if not isinstance(self.control_levels, str):
      object.__setattr__(self, "control_levels", tuple(self.control_levels))
    elif self.control_levels != CHOSEN:
      raise ValueError(
        f"control_levels must be Levels, such as (3, 7), or {CHOSEN!r}; got"
        f" {self.control_levels!r}."
      )
    checking.check_numbers(self)
    checking.check_controls(self)
    self._set_method()
    checking.check_method(self)
    checking.check_source(self)
    rewinding.Step.parse(self.evaluate_every)
    rewinding.get(self.rewind)
    criteria.get(self.criterion)
    if isinstance(self.scope, str):
      scopes.get(self.scope)
    if self.pattern is not None:
      patterns.get(self.pattern)

  def _set_method(self) -> None:
    """Keeps a method as what it is, however it was written.

    Its default stays a name, as in declarations of earlier versions.
    """
    method = methods.get(self.method)
    is_default = method == methods.iterative()
    object.__setattr__(self, "method", "iterative" if is_default else method)

  # What it is called.

  @property
  def trains_all(self) -> bool:
    """Whether every Level is trained, in every replicate."""
    return self.choose == "all" and self.budget is None

  @property
  def levels(self) -> int:
    """How often to prune."""
    return len(self.schedule)

  @property
  def looks(self) -> tuple[int, ...]:
    """The numbers of replicates after which it is judged: one, or several."""
    return looks.planned(self.replicates)

  @property
  def heading(self) -> str:
    """What it is, for people: the title, or the names of the functions."""
    if self.title:
      return self.title
    model, data = (
      references.words(function).rpartition(":")[2].rpartition(".")[2]
      for function in (self.make_model, self.load_data)
    )
    model, data = model.removeprefix("make_"), data.removeprefix("load_")
    return f"{model} on {data}".replace("_", " ")

  @property
  def id(self) -> str:
    """The name of its directory: readable, with a hash of its fields.

    A field that a later version adds does not change the hash while it has its
    default. Controls, replicates and further Levels do not change it either,
    because more of them may be asked for later.
    """
    if self.name:
      return self.name
    written = self.to_json(strict=False)
    own = {
      field.name: written[field.name]
      for field in dataclasses.fields(self)
      if field.name not in (*GROWING, *BESIDE, "schedule")
      and getattr(self, field.name) != field.default
    }
    if self.budget is not None:
      own["budget"] = True  # it may grow
      if self.tolerance is not None:  # it decides which masks are drawn
        own["tolerance"] = self.tolerance
    if self.source is not None:
      own["source"] = self.source.id  # its controls may grow
    if self.schedule[0] != schedules.geometric(1)[0]:
      own["schedule"] = self.schedule[0]
    text = json.dumps(own, sort_keys=True).encode()
    digest = hashlib.blake2b(text, digest_size=4).hexdigest()
    slug = re.sub(r"[^a-z0-9]+", "-", self.heading.lower()).strip("-")
    return f"{slug[:60] or 'experiment'}-{digest}"

  # What it makes.

  def search_arguments(self) -> dict[str, Any]:
    """Returns how it searches, as arguments of `find_ticket`."""
    if self.budget is not None:
      return {"budget": self.budget}
    return {"method": self.method, "choose": self.choose}

  def make(self, **more: Any) -> Any:
    """Returns the compiled model, from `model_args` and further arguments."""
    function = references.resolve(self.make_model)
    return function(**{**self.model_args, **more})

  def make_trainer(self) -> Trainer:
    """Returns a trainer, which all replicates can share."""
    return Trainer(
      self.make,
      strategy=self.strategy,
      seed=self.seed,
      prunable=self.prunable,
      jit=self.jit,
    )

  def make_augment(self) -> Callable[..., Any] | None:
    """Returns the augmentation of the training data; None if there is none."""
    return None if self.augment is None else references.resolve(self.augment)

  def load(self, replicate: int) -> dict[str, Any]:
    """Returns the data of a replicate, as arguments of `find_ticket`.

    Raises:
      ValueError: `load_data` returns something else than it must.
    """
    function = references.resolve(self.load_data)
    arguments = dict(self.data_args)
    if references.takes(function, "seed"):
      arguments["seed"] = self.seed + replicate
    return loading.parts(function(**arguments))

  @functools.cached_property
  def has_width(self) -> bool:
    """Whether the model can be made in other widths, for `small_dense`."""
    return references.takes(references.resolve(self.make_model), "width")

  @functools.cached_property
  def has_keras(self) -> bool:
    """Whether the model can be made of either generation, by `keras=`."""
    return references.takes(references.resolve(self.make_model), "keras")

  def controlled(self, chosen: Iterable[int] | None = None) -> tuple[int, ...]:
    """Returns the Levels that have controls.

    Args:
      chosen: What `chosen_levels` returned: the Levels that
        `control_levels="chosen"` stands for. With a budget, those of the named
        Levels that are drawn; `None` for all of them.
    """
    if isinstance(self.control_levels, str):
      return tuple(chosen or ())
    if self.budget is not None and chosen is not None:
      return tuple(chosen)
    if not self.control_levels and self.trains_all:
      return tuple(range(1, self.levels + 1))
    return tuple(self.control_levels)

  def branches(
    self, chosen: Iterable[int] | None = None
  ) -> Iterator[tuple[int, str, int]]:
    """Yields the Level, name and draw of each Round that is not a Level's.

    Args:
      chosen: See `controlled`.
    """
    levels = self.controlled(chosen)
    for level in levels:
      for name in self.controls:
        if name in WITH_WIDTH and not self.has_width:
          continue
        draws = self.reinits if name.endswith("_reinit") else 1
        for draw in range(draws):
          yield level, name, draw
    for name in self.retrain if levels else ():
      for level in (0, *levels):
        yield level, name, 0

  def rounds(
    self, chosen: Iterable[int] | None = None
  ) -> list[tuple[int, str, int]]:
    """Returns the Level, control and draw of each Round of a replicate.

    For the Round of a Level itself, the control is `""`.

    Args:
      chosen: See `controlled`. As long as there are none that
        `control_levels="chosen"` stands for, the first ones stand for them.
    """
    if self.control_levels == CHOSEN and not chosen:
      chosen = range(1, min(3, self.levels) + 1)
    asked = self.controlled(chosen)
    trained = range(self.levels + 1) if self.trains_all else (0, *asked)
    levels = [(level, "", 0) for level in trained]
    return [*levels, *self.branches(chosen)]

  def retrained(self, name: str) -> "Experiment":
    """Returns this experiment with the fields of `retrain[name]`.

    Arguments of functions are added to those that are there.
    """
    changes = dict(self.retrain[name])
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
      if given in self.retrain[name]:
        changes.setdefault(other, None)
    for field in ("model_args", "data_args"):
      if field in changes:
        changes[field] = {**getattr(self, field), **changes[field]}
    return dataclasses.replace(self, retrain={}, **changes)

  # On disk.

  def to_json(self, *, strict: bool = True) -> dict[str, Any]:
    """Returns its fields as JSON can hold them; see `values.to_json`."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, Experiment):
        found[field.name] = value.to_json(strict=strict)
        continue
      # A plain text where it can be: it is what people look for in the file.
      found[field.name] = (
        callable(value) and references.reference(value)
      ) or values.to_json(value, strict=strict)
    return found

  @classmethod
  def from_json(cls, fields: Mapping[str, Any]) -> "Experiment":
    """Returns the experiment of `to_json`.

    Raises:
      ValueError: A field is unknown or out of range.
    """
    known = {field.name for field in dataclasses.fields(cls)}
    if unknown := sorted(set(fields) - known):
      raise ValueError(f"unknown fields: {', '.join(unknown)}")
    source = fields.get("source")
    made = {
      name: values.from_json(value)
      for name, value in fields.items()
      if name != "source"
    }
    return cls(**made, source=source and cls.from_json(source))

  def declare(
    self, directory: str | os.PathLike, chosen: Iterable[int] = ()
  ) -> None:
    """Writes `experiment.json` into a directory; `of_run` reads it."""
    derived = {
      "id": self.id,
      "heading": self.heading,
      "levels": self.levels,
      "rounds": self.rounds(chosen),
    }
    if self.source is not None:
      derived["source_heading"] = self.source.heading
    declaration = {**derived, **self.to_json(strict=False)}
    path = pathlib.Path(directory) / run_directory.EXPERIMENT
    files.write_json(path, declaration)
