"""What a run is to do, as JSON can hold it, and what it depends on besides."""

import dataclasses
import functools
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery import training
from tf_lottery import wrappers


def of_model(trainer: training.Trainer) -> dict[str, Any]:
  """The model, its optimizer and its loss."""
  model = trainer.model
  try:
    optimizer = model.optimizer.get_config()
  except NotImplementedError:  # a schedule of the user's own, say
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
  """What the results depend on besides the declaration."""
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
  """What JSON can hold, without the addresses that a repr may show."""
  if value is None or isinstance(value, bool | int | str):
    return value
  if isinstance(value, float | np.floating):
    return float(value)
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if dataclasses.is_dataclass(value):
    return {"name": type(value).__name__, **plain(dataclasses.asdict(value))}
  if isinstance(value, functools.partial):
    return [plain(value.func), plain(value.args), plain(value.keywords)]
  if hasattr(value, "__qualname__"):
    return f"{value.__module__}.{value.__qualname__}"
  if hasattr(value, "get_config"):
    return {"class": type(value).__name__, **plain(value.get_config())}
  return type(value).__name__


def _of_layer(layer: Any) -> Any:
  """A layer's class and settings; of a composite one, only the class."""
  name = type(layer).__name__
  try:
    config = {} if hasattr(layer, "compile") else wrappers.config_of(layer)
  except NotImplementedError:
    config = {}
  return {"class": name, **_without_numbers(plain(config))}


def _without_numbers(value: Any) -> Any:
  """Automatic names count on at each rebuild: `dense_2` means `dense`."""
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
