"""The papers' experiments: a recipe, a data set, and their protocol.

They are examples: `tf_lottery.experiments.Experiment` takes any model.
"""

import dataclasses
import hashlib
import json
import os
from typing import Any

from tf_lottery import rewinding
from tf_lottery import schedules
from tf_lottery.experiments import Experiment
from tf_lottery.papers import datasets
from tf_lottery.papers import recipes
from tf_lottery.search import methods

# The fields with their defaults that decide what the experiment is, by the
# names under which the first versions hashed them into directories' names.
_DEFAULTS = {
  "data": "fashion_mnist",
  "recipe": "lenet_300_100",
  "keras": "keras",
  "steps": None,
  "search_steps": None,
  "learning_rate": None,
  "batch_size": None,
  "evaluate_every": "100it",
  "criterion": "magnitude",
  "pattern": "unstructured",
  "levels": 24,
  "rate": None,
  "rewind": None,
  "seed": 0,
  "strategy": "none",
  "method": "iterative",
  "budget": False,
}
_CROP = "tf_lottery.training.augmentation:crop_and_flip"


def experiment(
  *,
  data: str = "fashion_mnist",
  recipe: str = "lenet_300_100",
  keras: str = "keras",
  steps: int | None = None,
  learning_rate: float | None = None,
  batch_size: int | None = None,
  levels: int = 24,
  rate: float | None = None,
  rewind: str | None = None,
  data_dir: str | os.PathLike | None = None,
  evaluate_every: str = "100it",
  criterion: str = "magnitude",
  pattern: str = "unstructured",
  method: str | methods.Method = "iterative",
  choose: str = "all",
  budget: float | None = None,
  search_steps: int | None = None,
  scope: Any = None,
  controls: tuple[str, ...] = (),
  control_levels: tuple[int, ...] | str = (),
  reinits: int = 1,
  replicates: int = 1,
  seed: int = 0,
  strategy: str = "none",
  tolerance: float | None = None,
) -> Experiment:
  """Returns the experiment of a paper's recipe on a data set.

  A field that is `None` is the recipe's. For the other fields see
  `Experiment`.

  Args:
    data: Name of the data set; see `datasets.load_data`.
    recipe: Name of the network and of its training; see `recipes.recipe`.
    keras: `"keras"` (Keras 3) or `"tf_keras"`.
    steps: Optimizer updates of each training. Warm-up and drops of the
      learning rate are scaled with them.
    learning_rate: The highest learning rate.
    batch_size: Examples in a step.
    levels: How often to prune, at least 1.
    rate: The fraction of the remaining weights that each Level prunes, where
      the recipe has no other.
    rewind: See `rewinding.get`.
    data_dir: See `datasets.load_data`.
    evaluate_every: Distance between evaluations.
    criterion: See `Experiment`.
    pattern: Which weights are pruned together; see `patterns.get`.
    method: Where masks come from; see `Experiment`.
    choose: Which Levels are trained; see `Experiment`.
    budget: See `Experiment`.
    search_steps: See `Experiment`.
    scope: Which weights compete with each other.
    controls: Names of controls.
    control_levels: The Levels that have controls. Empty means all of them, or
      the chosen ones where the search leaves out Levels.
    reinits: See `Experiment`.
    replicates: Number of seeds.
    seed: Seed of the first replicate.
    strategy: See `Trainer`.
    tolerance: See `Experiment`.

  Raises:
    ValueError: A field is out of range, or names nothing that is known.

  Example:
  ```python
  experiment = papers.experiment(data="digits", steps=800, levels=5)
  prove(experiment, "runs")
  ```
  """
  fields = dict(locals())
  if data not in datasets.INPUT_SHAPES:
    raise ValueError(
      f"data must be one of {', '.join(datasets.INPUT_SHAPES)}; got {data!r}."
    )
  _check_numbers(levels=levels, batch_size=batch_size, steps=steps)
  made = _recipe(
    recipe,
    steps,
    learning_rate=learning_rate,
    batch_size=batch_size,
    rate=rate,
  )
  model_args = {
    "recipe": recipe,
    "data": data,
    "keras": keras,
    "steps": steps,
    "learning_rate": learning_rate,
  }
  leaves_out = choose != "all" or budget is not None
  augments = made.augment and len(datasets.INPUT_SHAPES[data]) == 3
  return Experiment(
    make_model="tf_lottery.papers.experiments:make_model",
    load_data="tf_lottery.papers.datasets:load",
    model_args={k: v for k, v in model_args.items() if v is not None},
    data_args={"name": data}
    | ({"data_dir": str(data_dir)} if data_dir else {}),
    steps=made.steps,
    method=method,
    choose=choose,
    budget=budget,
    search_steps=search_steps,
    batch_size=made.batch_size,
    schedule=schedules.geometric(levels, made.rate),
    criterion=criterion,
    scope=made.scope if scope is None else scope,
    pattern=pattern,
    rewind=rewind or made.rewind,
    evaluate_every=evaluate_every,
    augment=_CROP if augments else None,
    strategy=strategy,
    controls=controls,
    control_levels=control_levels or ("chosen" if leaves_out else ()),
    reinits=reinits,
    replicates=replicates,
    seed=seed,
    tolerance=tolerance,
    title=f"{recipe} on {data}" + ", tf_keras" * (keras == "tf_keras"),
    name=_name(fields),
  )


def make_model(
  recipe: str,
  data: str,
  *,
  keras: str = "keras",
  steps: int | None = None,
  learning_rate: float | None = None,
  decay: str | None = None,
  weight_decay: float | None = None,
  dropout: float | None = None,
  label_smoothing: float | None = None,
  width: float = 1.0,
) -> Any:
  """Returns the compiled network of a recipe for a data set.

  An argument that is `None`, the default, is the recipe's.

  Args:
    recipe: See `recipes.recipe`.
    data: Name of the data set.
    keras: `"keras"` (Keras 3) or `"tf_keras"`. Defaults to `"keras"`.
    steps: Optimizer updates of a training.
    learning_rate: The highest learning rate.
    decay: `"cosine"` for a learning rate that falls to 0; see `recipes.Recipe`,
      also for the next three.
    weight_decay: Factor of the weight decay.
    dropout: Fraction of units that a step leaves out, in [0, 1).
    label_smoothing: In [0, 1).
    width: Factor for the size of hidden layers. Defaults to `1.0`.
  """
  made = _recipe(
    recipe,
    steps,
    learning_rate=learning_rate,
    decay=decay,
    weight_decay=weight_decay,
    dropout=dropout,
    label_smoothing=label_smoothing,
  )
  return made.make_model(
    datasets.INPUT_SHAPES[data], datasets.CLASSES, keras=keras, width=width
  )


def _recipe(name: str, steps: int | None, **given: Any) -> recipes.Recipe:
  """Returns a recipe with the settings that are given, and are not None."""
  recipe = recipes.recipe(name)
  if steps is not None:
    recipe = recipe.scaled(steps)
  settings = {key: value for key, value in given.items() if value is not None}
  return dataclasses.replace(recipe, **settings)


def _name(fields: dict[str, Any]) -> str:
  """Returns the name of the directory, which has never changed.

  It has a hash of the fields that are not the defaults.
  """
  known = {name: fields[name] for name in (*_DEFAULTS, "scope")}
  # A budget may grow.
  known |= {"method": fields["method"], "budget": fields["budget"] is not None}
  own = {
    name: value for name, value in known.items() if value != _DEFAULTS.get(name)
  }
  text = json.dumps(own, sort_keys=True, default=repr).encode()
  digest = hashlib.blake2b(text, digest_size=4).hexdigest()
  rewind = fields["rewind"] or recipes.recipe(fields["recipe"]).rewind
  at_init = rewinding.get(rewind) == rewinding.to_init()
  words = [fields["recipe"], fields["data"], "init" if at_init else rewind]
  if fields["criterion"] != "magnitude":
    words.append(fields["criterion"])
  if fields["pattern"] != "unstructured":
    words.append(fields["pattern"])
  return "-".join([*words, digest])


def _check_numbers(**numbers: int | None) -> None:
  for name, value in numbers.items():
    if value is not None and value < 1:
      raise ValueError(f"{name} must be at least 1, got {value}.")
