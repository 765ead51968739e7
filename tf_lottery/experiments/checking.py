"""Checks of an experiment's fields, before anything is made of them."""

import difflib
import itertools
import re
import typing

from tf_lottery import rewinding
from tf_lottery.experiments import looks
from tf_lottery.experiments.controls import BY_NAME
from tf_lottery.experiments.controls import WITH_MODEL
from tf_lottery.experiments.controls import WITH_SOURCE
from tf_lottery.experiments.controls import damaged_data
from tf_lottery.search import anytime
from tf_lottery.search import methods

if typing.TYPE_CHECKING:
  from tf_lottery.experiments.experiment import Experiment

CONTROLS = (*BY_NAME, *WITH_MODEL, *WITH_SOURCE)
CHOSEN = "chosen"

# The fields of an experiment that `retrain` may replace.
_RETRAINED = (
  *("make_model", "model_args", "load_data", "data_args"),
  *("epochs", "steps", "batch_size", "augment", "class_weight"),
)


def check_functions(experiment: "Experiment") -> None:
  """Refuses functions that are none, and controls that are no list."""
  for name in ("make_model", "load_data"):
    value = getattr(experiment, name)
    is_model = hasattr(value, "compile") and not isinstance(value, str)
    if is_model or not (callable(value) or isinstance(value, str)):
      what = "a model" if is_model else f"a {type(value).__name__}"
      raise TypeError(
        f"{name} must be a function, without parentheses after its name, or"
        f" 'package.module:function'; got {what}."
      )
  if isinstance(experiment.controls, str):
    raise TypeError(
      "controls must be a list of names, such as ('random_reinit',), got"
      f" {experiment.controls!r}."
    )


def check_numbers(experiment: "Experiment") -> None:
  """Refuses numbers that are out of range."""
  looks.planned(experiment.replicates)  # refuses what is out of range
  for name in ("reinits", "steps", "search_steps"):
    value = getattr(experiment, name)
    if value is not None and value < 1:
      raise ValueError(f"{name} must be at least 1, got {value}.")
  if experiment.batch_size < 1:
    raise ValueError(
      f"batch_size must be at least 1, got {experiment.batch_size}."
    )
  if (experiment.epochs is None) == (experiment.steps is None):
    raise ValueError(
      f"Give either epochs or steps, got epochs={experiment.epochs} and"
      f" steps={experiment.steps}."
    )


def check_controls(experiment: "Experiment") -> None:
  """Refuses controls and retrainings that there cannot be."""
  unknown = sorted(set(experiment.controls) - set(CONTROLS))
  if unknown:
    close = difflib.get_close_matches(unknown[0], CONTROLS, 1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise ValueError(
      f"controls may name {', '.join(CONTROLS)}; got {', '.join(unknown)}."
      f"{hint}"
    )
  named = (
    ()
    if isinstance(experiment.control_levels, str)
    else experiment.control_levels
  )
  outside = [n for n in named if not 0 < n <= experiment.levels]
  if outside:
    raise ValueError(
      f"control_levels must be from 1 to the {experiment.levels} Levels of the"
      f" schedule, or {CHOSEN!r}; got {outside}."
    )
  rewind = rewinding.get(experiment.rewind)
  # A replicate whose training is stable from step 0 on would repeat its ticket.
  may_be_init = rewind in (rewinding.to_init(), rewinding.auto())
  if may_be_init and "rewind_to_init" in experiment.controls:
    raise ValueError(
      "The control rewind_to_init needs a rewind to a later step that is"
      f" declared, such as '500it', got rewind={experiment.rewind!r}. Declare"
      " the step, or leave the control out."
    )
  for name, changes in experiment.retrain.items():
    if not re.fullmatch(r"[a-z]\w*", name) or name in CONTROLS:
      raise ValueError(
        "A name in retrain must be of small letters, digits and _, and not"
        f" that of a control; got {name!r}."
      )
    unknown = sorted(set(changes) - set(_RETRAINED))
    if unknown:
      raise ValueError(
        f"retrain may replace {', '.join(_RETRAINED)}; got"
        f" {', '.join(unknown)} for {name!r}."
      )
    experiment.retrained(name)  # refuses what is out of range


def check_source(experiment: "Experiment") -> None:
  """Refuses a source without the Levels of its target, and a missing one."""
  source = experiment.source
  if source is None:
    if asked := sorted(WITH_SOURCE.keys() & set(experiment.controls)):
      raise ValueError(
        f"The controls {', '.join(asked)} take the tickets of another"
        " experiment: give source=Experiment(...), or leave them out."
      )
    return
  if not hasattr(source, "trains_all"):
    raise TypeError(
      f"source must be an Experiment, got a {type(source).__name__}. To try one"
      " ticket, use Ticket.transfer."
    )
  if not source.trains_all:
    raise ValueError(
      "The source must train all of its Levels, got one with"
      f" choose={source.choose!r} and budget={source.budget}. Give it"
      " choose='all' and no budget."
    )
  there = tuple(source.schedule[: experiment.levels])
  if there != tuple(experiment.schedule):
    pairs = itertools.zip_longest(there, experiment.schedule)
    level = next(n for n, (one, two) in enumerate(pairs, 1) if one != two)
    raise ValueError(
      "The source must have the Levels of this experiment, as tickets of one"
      f" density are compared. At Level {level}, the densities are"
      f" {source.schedule[level - 1] if level <= len(there) else 'none'} and"
      f" {experiment.schedule[level - 1]}. Give both the same schedule."
    )
  if source.id == experiment.id:
    raise ValueError(
      "The source must have a directory of its own, and its name is that of"
      f" this experiment, {source.id!r}. Give it another name."
    )


def check_method(experiment: "Experiment") -> None:
  """Refuses a search method that does not go with other fields."""
  iterative = methods.get(experiment.method) == methods.iterative()
  if experiment.budget is not None:
    anytime.Within(experiment.budget)  # refuses what is out of range
    given = [f"method={experiment.method!r}"] * (not iterative)
    given += [f"choose={experiment.choose!r}"] * (experiment.choose != "all")
    if given:
      raise ValueError(
        "An experiment with a budget has no method and no choose: the search"
        f" decides. Leave out {' and '.join(given)}, or the budget."
      )
    for name in damaged_data.NAMES:
      if name in experiment.controls:
        raise damaged_data.needs_a_method(name)
  elif iterative and experiment.choose == "all":
    return
  asks = bool(experiment.controls or experiment.retrain)
  if asks and experiment.control_levels == () and not experiment.trains_all:
    raise ValueError(
      "control_levels=() means all Levels, and choose='bisect' or a budget"
      f" leaves some out. Name Levels, or give {CHOSEN!r}."
    )
  trained = {"fine_tune", "learning_rate_rewind"} & set(experiment.controls)
  if trained:
    raise ValueError(
      "These controls go on from the training of the Level before, which only"
      f" method=iterative() has: {', '.join(sorted(trained))}. Leave them"
      " out."
    )
