"""The arguments of `find_ticket`: it checks and completes them."""

import difflib
import logging
import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_lottery import criteria
from tf_lottery import rewinding
from tf_lottery import schedules
from tf_lottery.objective import Objective
from tf_lottery.objective import choose as choose_objective
from tf_lottery.search import anytime
from tf_lottery.search import choosing
from tf_lottery.search import methods
from tf_lottery.storage import run_directory
from tf_lottery.training.data import Data
from tf_lottery.training.distribution import is_chief
from tf_lottery.training.trainer import Trainer
from tf_lottery.weights import Override

_log = logging.getLogger("tf_lottery")

# In trainings of the dense network.
DEFAULT_BUDGET = 4.0

# What Keras's fit() takes and find_ticket does not -> what to do instead.
_INSTEAD = {
  "callbacks": (
    "give on_round=function, which is called after each Round; for a callback"
    " within a training, use lottery_prune(model), model.fit(...) and"
    " prune_and_rewind(model, density)"
  ),
  "validation_split": (
    "split the arrays, and give validation_data=(x[n:], y[n:])"
  ),
  "sample_weight": "give (x, y, sample_weight) as train_data",
  "loss": "compile the model with it in make_model",
  "metrics": "compile the model with them in make_model",
  "optimizer": "compile the model with it in make_model",
  "shuffle": (
    "arrays are shuffled by seed; a tf.data.Dataset keeps its own order"
  ),
  "verbose": "use progress=True or progress=False",
  "levels": "give schedule=tf_lottery.geometric(levels)",
  "density": "give schedule=tf_lottery.one_shot(density)",
  "densities": "give schedule=[0.5, 0.2], for example",
}


def check_names(
  unknown: Mapping[str, Any], known: Sequence[str], validation_data: Any
) -> None:
  """Says what to do instead of arguments that are unknown or missing."""
  for name in unknown:
    close = difflib.get_close_matches(name, known, 1)
    instead = _INSTEAD.get(
      name, f"did you mean {close[0]}" if close else "leave it out"
    )
    raise TypeError(f"find_ticket has no argument {name!r}: {instead}.")
  if validation_data is None:
    raise TypeError(
      "find_ticket needs validation_data, by which tickets are chosen. Keep"
      " some training examples for it, such as a tenth: n = len(x) * 9 // 10;"
      " find_ticket(make_model, (x[:n], y[:n]), validation_data=(x[n:], y[n:]),"
      " ...), in random order."
    )


def method_and_choice(
  method: str | methods.Method | None,
  choose: str | None,
  budget: float | None,
) -> tuple[methods.Method, choosing.Choose]:
  """Returns the method, and what decides which Levels are trained."""
  if budget is None:
    method = methods.get("iterative" if method is None else method)
    chooses = choosing.get("all" if choose is None else choose)
    if chooses is choosing.bisect and method == methods.iterative():
      raise ValueError(
        'choose="bisect" leaves out Levels, and method=iterative(), its'
        " default, draws the mask of a Level from the training of the Level"
        " before. Give iterative(steps=...), another method, or a budget."
      )
    return method, chooses
  if method is not None or choose is not None:
    raise ValueError(
      "A search with a budget decides about method and choose itself: leave"
      f" them out, or the budget; got method={method!r}, choose={choose!r} and"
      f" budget={budget}."
    )
  return anytime.Anytime(), anytime.Within(budget)


def default_budget(
  *,
  method: Any,
  choose: Any,
  search_steps: Any,
  schedule: schedules.Schedule,
  rewind: rewinding.Rewind,
) -> float | None:
  """Returns the budget of a search for which none is given.

  Returns:
    `DEFAULT_BUDGET`, if neither `method` nor `choose` nor `search_steps` is
    given. None, which means an iterative search, for a schedule of one Level;
    for tickets that start from trained weights, which only that search has; and
    where the search finds the step to rewind to, which may cost that much.
  """
  if not method is choose is search_steps is None:
    return None
  if (
    len(schedule) == 1
    or rewind.weights is None
    or isinstance(rewind, rewinding.Auto)
  ):
    return None
  return DEFAULT_BUDGET


def check_search_steps(
  search_steps: int, steps: int, method: methods.Method, choose: choosing.Choose
) -> None:
  """Refuses short Levels where a method has trainings of its own."""
  plain = (methods.iterative(), choosing.train_all)
  if search_steps < steps and (method, choose) != plain:
    raise ValueError(
      "search_steps shortens the training of every Level, which is for"
      " method=iterative() without a budget. Give iterative(steps=...) instead,"
      f" or leave it out; got search_steps={search_steps}."
    )


def criterion_of(
  criterion: str | criteria.Criterion | None, method: methods.Method
) -> criteria.Criterion:
  """Returns what scores trained weights."""
  if criterion is None:
    return criteria.magnitude
  if isinstance(method, methods.AtInit):
    raise ValueError(
      f"{method} names the criterion itself: leave out criterion="
      f"{criterion!r}, or give at_init({criterion!r})."
    )
  found = criteria.get(criterion)
  for name in criteria.AT_INITIALISATION:
    if criteria.BY_NAME[name] is found:
      _log.warning(
        "criterion=%r is meant for the untrained network, and this search"
        " scores trained weights by it. For the untrained network give"
        " method=at_init(%r).",
        name,
        name,
      )
  return found


def search_length(search_steps: int | None, steps: int) -> int:
  """Returns the length of a Level's training."""
  search_steps = steps if search_steps is None else search_steps
  if not 0 < search_steps <= steps:
    raise ValueError(
      "search_steps must be at least 1 and at most the length of the final"
      f" training, {steps} steps, got {search_steps}."
    )
  return search_steps


def check_tolerance(tolerance: float | None) -> None:
  """Refuses a tolerance below 0."""
  if tolerance is not None and not tolerance >= 0:
    raise ValueError(
      f"tolerance must be at least 0, got {tolerance}. It is in units of the"
      " metric."
    )


def trainer_and_start(
  make_model: Callable[[], Any] | Trainer,
  strategy: tf.distribute.Strategy | str | None,
  seed: int,
  prunable: Override | None,
  jit: bool | None,
) -> tuple[Trainer, rewinding.Snapshot]:
  """Returns the trainer, and the initial snapshot of this search's seed."""
  if isinstance(make_model, Trainer):
    if not strategy is prunable is jit is None:
      raise ValueError(
        "strategy, prunable and jit are the Trainer's; leave them out here."
      )
    return make_model, make_model.draw_snapshot(seed)
  trainer = Trainer(
    make_model, strategy=strategy, seed=seed, prunable=prunable, jit=jit
  )
  return trainer, trainer.initial


def directory_of(
  run_dir: str | os.PathLike | None, trainer: Trainer
) -> run_directory.RunDirectory:
  """Returns the run directory; a temporary one if none is given."""
  if run_dir is None:
    return run_directory.temporary()
  writes = is_chief(trainer.strategy)
  return run_directory.RunDirectory(run_dir, writes=writes)


def length(
  epochs: float | None, steps: int | None, steps_per_epoch: int
) -> int:
  """Returns the length of the final training in optimizer updates."""
  if epochs is not None and steps is None:
    check_positive("epochs", epochs)
    return max(1, round(epochs * steps_per_epoch))
  if steps is not None and epochs is None:
    check_positive("steps", steps)
    return steps
  raise ValueError(
    f"Give either epochs or steps, got epochs={epochs} and steps={steps}."
  )


def check_positive(name: str, value: float) -> None:
  """Refuses values of at most 0."""
  if value <= 0:
    raise ValueError(f"{name} must be greater than 0, got {value}.")


def objective_of(
  objective: str | Objective | None,
  monitor: str | None,
  trainer: Trainer,
  validation: Data,
) -> Objective:
  """Returns the metric that tickets are chosen by."""
  if objective is None:
    objective = monitor
  elif monitor is not None:
    raise ValueError(
      "monitor is another name of objective: give one of them, got"
      f" objective={objective!r} and monitor={monitor!r}."
    )
  # Keras builds its metrics when it first evaluates.
  reported = trainer.metric_names(validation)
  metrics = trainer.binding.generation.metrics(trainer.model)
  return choose_objective(objective, reported, metrics)
