"""The declaration of a run: what it is asked to do, as JSON.

A run directory belongs to one declaration, and only the same one resumes it.
"""

import dataclasses
import functools
import importlib.metadata
import json
import os
import platform
import re
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery import patterns
from tf_lottery import scopes
from tf_lottery import wrappers
from tf_lottery.search import methods
from tf_lottery.search.anytime import Anytime
from tf_lottery.search.differences import differences
from tf_lottery.storage.run_directory import RunDirectory
from tf_lottery.training.trainer import Trainer

if typing.TYPE_CHECKING:
  from tf_lottery.search.loop import Search

# Fields that early versions did not declare: their runs agree with any value.
_DECLARED_LATER = ("direction",)
# The methods that can go on to further Levels; the default is not declared.
_DEEPENED = (None, "Iterative")
# Where functions and classes of this library were when early versions
# declared them.
_MOVED = {
  f"tf_lottery.{old}": f"tf_lottery.{new}"
  for old, new in {
    "augmentation": "training.augmentation",
    "controls": "experiments.controls",
    "data": "training.data",
    "datasets": "papers.datasets",
    "experiments": "experiments.experiment",
    "files": "storage.files",
    "levels": "search.loop",
    "networks": "papers.networks",
    "prunable": "weights",
    "rounds": "search.rounds",
    "workloads": "papers.recipes",
  }.items()
}


def of_search(search: "Search") -> dict[str, Any]:
  """The declaration of a search: all that its results depend on."""
  protocol = search.protocol
  declaration = {
    **of_model(search.trainer),
    "initial": search.initial.fingerprint(),
    "train_data": protocol.train.fingerprint(),
    "validation_data": protocol.validation.fingerprint(),
    "test_data": protocol.test.fingerprint() if protocol.test else None,
    "batch_size": protocol.batch_size,
    "steps": search.steps,
    "search_steps": search.search_steps,
    "evaluate_every": protocol.evaluate_every,
    "schedule": search.schedule,
    "criterion": plain(search.criterion),
    "scope": plain(search.scope),
    "rewind": plain(search.rewind),
    **search.objective.to_declaration(),
    "jit": search.trainer.jit,
    "seed": search.seed,
  }
  if search.pattern != patterns.unstructured():
    # Left out otherwise: runs from before there were patterns go on.
    declaration["pattern"] = plain(search.pattern)
  if search.method != methods.iterative():
    declaration["method"] = plain(search.method)
  if isinstance(search.method, Anytime) and search.tolerance is not None:
    # It decides where the search goes on, with any other method only when.
    declaration["tolerance"] = search.tolerance
  return declaration


def declare(directory: RunDirectory, declaration: Mapping[str, Any]) -> None:
  """Writes a new run's declaration; of an existing run, checks the same one.

  The declaration of an early version is completed by the fields that it did
  not have, and names of this library that have moved since are replaced. A
  schedule that goes on where the declared one ends replaces it, so that a run
  can be deepened; the beginning of the declared one reads back its Levels.

  Args:
    directory: the run directory.
    declaration: what `of_search` returns.

  Raises:
    ValueError: the directory holds a run of another declaration. The message
      says what differs: layers, settings, data.
    FileFormatError: the declaration in the directory is damaged.
  """
  # Through JSON, so that tuples compare equal to the lists they become.
  declaration = json.loads(json.dumps(dict(declaration)))
  try:
    found = directory.read_declaration()
  except FileNotFoundError:
    directory.write_declaration(declaration)
    return
  before = _updated(found, declaration)
  # Other methods draw all masks on the way to the last density.
  is_iterative = declaration.get("method", {}).get("name") in _DEEPENED
  deepened = _deepened(before, declaration) if is_iterative else {}
  before, declaration = before | deepened, {**declaration, **deepened}
  if lines := differences(before, declaration):
    raise ValueError(
      f"The run directory {directory.path} holds another run:\n  "
      + "\n  ".join(lines)
      + "\nGive another run_dir (another name, for an Experiment), or the same"
      " arguments as before to resume."
      + _former_default(before, declaration)
      + ("" if is_iterative else _no_deepening(before, declaration))
    )
  if before != found:
    directory.write_declaration(before)


def _deepened(
  before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
  """The longer of two schedules, one of which is the beginning of the other."""
  schedules = [one.get("schedule") or [] for one in (before, now)]
  short, long = sorted(schedules, key=len)
  return {"schedule": long} if short and long[: len(short)] == short else {}


def _no_deepening(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """Explains a longer or shorter schedule where all masks depend on its end."""
  if not _deepened(before, now) or before["schedule"] == now["schedule"]:
    return ""
  return (
    " The masks of this search were drawn on the way to the last density of the"
    " schedule. Only iterative(...) goes on to further Levels."
  )


def _former_default(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """Explains a run of the scope that was the default in earlier versions."""
  scopes_ = before.get("scope"), now.get("scope")
  if scopes_ != (plain(scopes.global_()), plain(scopes.default())):
    return ""
  return (
    " The default scope was global_() in earlier versions: pass"
    " scope=tf_lottery.global_() to resume such a run."
  )


def _updated(
  before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
  """An early version's declaration as this version would write it."""
  later = {
    field: now[field]
    for field in _DECLARED_LATER
    if field in now and field not in before
  }
  return {**_with_moved_names(dict(before)), **later}


def _with_moved_names(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _with_moved_names(item) for key, item in value.items()}
  if isinstance(value, list):
    return [_with_moved_names(item) for item in value]
  if isinstance(value, str):
    for old, new in _MOVED.items():
      if value == old or value.startswith(f"{old}."):
        return new + value.removeprefix(old)
  return value


def of_model(trainer: Trainer) -> dict[str, Any]:
  """The model, its optimizer and its loss."""
  model = trainer.model
  try:
    optimizer = model.optimizer.get_config()
  except NotImplementedError:  # for example of a user's own schedule
    optimizer = {}
  return {
    "layers": [_of_layer(layer) for layer in wrappers.walk(model)],
    "weights": [
      [weight.key, list(weight.shape), weight.prunable]
      for weight in trainer.binding.report
    ],
    "optimizer": {
      "class": type(model.optimizer).__name__,
      **_without_numbers(plain(optimizer)),
    },
    "loss": plain(model.loss),
    "replicas": trainer.strategy.num_replicas_in_sync,
  }


def versions() -> dict[str, str]:
  """The versions and the machine on which results depend, too."""
  packages = ("tensorflow", "keras", "tf-keras", "numpy")
  return {
    "python": platform.python_version(),
    "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    **_package_versions(packages),
  }


@functools.cache
def _package_versions(packages: tuple[str, ...]) -> dict[str, str]:
  return {name: importlib.metadata.version(name) for name in packages}


def plain(value: Any) -> Any:
  """A value as JSON can hold it, the same in every process."""
  if value is None or isinstance(value, bool | int | str):
    return value
  if isinstance(value, float | np.floating):
    return float(value)
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return {"name": type(value).__name__, **plain(dataclasses.asdict(value))}
  if isinstance(value, functools.partial):
    return [plain(value.func), plain(value.args), plain(value.keywords)]
  if hasattr(value, "__qualname__"):
    return f"{value.__module__}.{value.__qualname__}"
  if hasattr(value, "get_config"):
    return {"class": type(value).__name__, **plain(value.get_config())}
  return type(value).__name__


def _of_layer(layer: Any) -> Any:
  """A layer's class and settings; of a model, only the class."""
  name = type(layer).__name__
  try:
    config = {} if hasattr(layer, "compile") else wrappers.config_of(layer)
  except NotImplementedError:
    config = {}
  return {"class": name, **_without_numbers(plain(config))}


def _without_numbers(value: Any) -> Any:
  """Drops the numbers that Keras adds to names at each rebuild."""
  if isinstance(value, dict):
    return {
      key: re.sub(r"_\d+$", "", item)
      if key == "name" and isinstance(item, str)
      else _without_numbers(item)
      for key, item in value.items()
    }
  if isinstance(value, list):
    return [_without_numbers(item) for item in value]
  return value
