"""Grids: the recipes for the dense network among which `tune` chooses."""

import dataclasses
import difflib
import inspect
import itertools
import json
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery import wrappers
from tf_lottery.experiments import references
from tf_lottery.experiments import values
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.search import declarations

# An argument of `make_model` -> the values to try; or the candidates.
Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]


def candidates(grid: Grid) -> list[dict[str, Any]]:
  """Returns the arguments of `make_model` of each candidate.

  Args:
    grid: An argument of `make_model` -> the values to try, of which all
      combinations are candidates, the last argument varying fastest; or the
      candidates themselves.

  Raises:
    ValueError: There is no candidate, or an argument has no list of values.

  Example:
  >>> candidates({"rate": [0.1, 0.2], "dropout": [0.0]})
  [{'rate': 0.1, 'dropout': 0.0}, {'rate': 0.2, 'dropout': 0.0}]
  """
  if not isinstance(grid, Mapping):
    found = [dict(one) for one in grid]
  else:
    for name, tried in grid.items():
      if isinstance(tried, str | Mapping) or not hasattr(tried, "__iter__"):
        raise ValueError(
          f"grid[{name!r}] must be a list of the values to try, got {tried!r}."
        )
    product = itertools.product(*grid.values()) if grid else ()
    found = [dict(zip(grid, one, strict=True)) for one in product]
  if not found:
    raise ValueError(
      "grid must have at least one candidate: a mapping such as"
      " {'learning_rate': [1e-3, 3e-3]}, or a list of dicts of arguments; got"
      f" {grid!r}."
    )
  return found


def by_recipe(
  experiment: Experiment, arguments: Mapping[str, Any]
) -> Experiment:
  """Returns the experiment with other arguments of `make_model`.

  Its id names the arguments, and has a hash of all that makes it an experiment.

  Args:
    experiment: The experiment.
    arguments: They replace and extend `model_args`.

  Raises:
    ValueError: A value is one that JSON cannot hold.
  """
  try:
    text = json.dumps(values.to_json(arguments))
  except values.NotPortableError as error:
    raise ValueError(
      "grid must have values that JSON can hold, such as numbers and names:"
      f" {error}"
    ) from error
  return dataclasses.replace(
    experiment,
    model_args={**experiment.model_args, **arguments},
    title=text if arguments else "as declared",
    name=None,
  )


def all_arguments(experiment: Experiment) -> dict[str, Any]:
  """Returns the arguments of `make_model`, with the defaults that it has.

  They are written as JSON holds them, so that two of them can be compared.
  """
  function = references.resolve(experiment.make_model)
  defaults = {
    name: parameter.default
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.default is not parameter.empty
  }
  return values.to_json({**defaults, **experiment.model_args}, strict=False)


def check(
  experiment: Experiment, tried: Sequence[Mapping[str, Any]]
) -> list[str]:
  """Refuses candidates that cannot be compared, before any is trained.

  Args:
    experiment: The experiment.
    tried: The arguments of each candidate.

  Returns:
    The loss of the experiment, and that of each candidate, as text.

  Raises:
    ValueError: `make_model` does not take an argument, or fails; a candidate
      is there twice, or is another network than that of the experiment.
  """
  _check_names(experiment, tried)
  original = experiment.make()
  own = _shapes(experiment, original)
  seen: set[str] = set()
  losses = [_loss(original)]
  for arguments in tried:
    recipe = by_recipe(experiment, arguments)
    if recipe.id in seen:
      raise ValueError(f"grid has a candidate twice: {dict(arguments)}.")
    seen.add(recipe.id)
    try:
      model = recipe.make()
    except (TypeError, ValueError) as error:
      raise ValueError(
        f"make_model fails for the candidate {dict(arguments)}: {error}"
      ) from error
    wrappers.optimizers.check(getattr(model, "optimizer", None))
    if (shapes := _shapes(recipe, model)) != own:
      raise ValueError(
        "grid must have recipes for the network of the experiment, whose"
        f" prunable weights have the shapes {own}; the candidate"
        f" {dict(arguments)} has {shapes}. Make another experiment for another"
        " network."
      )
    losses.append(_loss(model))
  return losses


def _check_names(
  experiment: Experiment, tried: Sequence[Mapping[str, Any]]
) -> None:
  function = references.resolve(experiment.make_model)
  parameters = inspect.signature(function).parameters
  if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
    return
  for name in dict.fromkeys(name for one in tried for name in one):
    if name not in parameters:
      close = difflib.get_close_matches(name, parameters, 1)
      instead = f"Did you mean {close[0]!r}? " if close else ""
      raise ValueError(
        f"grid names {name!r}, which make_model does not take. {instead}It"
        f" takes {', '.join(parameters) or 'no arguments'}."
      )


def _loss(model: Any) -> str:
  return json.dumps(declarations.plain(getattr(model, "loss", None)))


def _shapes(experiment: Experiment, model: Any) -> list[tuple[int, ...]]:
  report = wrappers.bind(model, prunable=experiment.prunable).report
  return [tuple(weight.shape) for weight in report.prunable]
