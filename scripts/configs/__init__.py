"""Configs: one file for each experiment.

A config has the fields of an experiment, as flags can change them, and the
directory to write into. A config for a model of one's own is a file of a few
lines, wherever it lies:

    from scripts import configs

    def get_config():
      fields = dict(
        make_model="plants.models:make_resnet",
        load_data="plants.data:load",
        epochs=20,
        replicates=5,
      )
      return configs.config_of(fields, "runs/plants")

Importing a config does not import TensorFlow; calling its `get_config()` does.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import ml_collections
from absl import flags

if typing.TYPE_CHECKING:
  from tf_lottery import experiments

# Fields of a config that are not the experiment's.
_OWN = ("run_dir",)


class Config(ml_collections.ConfigDict):
  """Fields that flags can change; a flag for any other field is refused."""

  def get_type(self, key: str) -> type:
    """Returns the type of a field, which a flag's value must have."""
    if key not in self:
      raise flags.IllegalFlagValueError(
        f"--config.{key} is unknown. The fields are {', '.join(sorted(self))}."
      )
    return super().get_type(key)


def config_of(fields: Mapping[str, Any], run_dir: str) -> Config:
  """Returns an experiment of any model as flags can change it.

  Args:
    fields: The fields of `Experiment` that are not its defaults.
    run_dir: The directory to write into: `find_ticket.py` writes into it,
      `run_sweep.py` into directories below it.

  Raises:
    ValueError: A field is unknown or out of range.
  """
  from tf_lottery import experiments

  return _config(experiments.Experiment, fields, run_dir)


def paper_config_of(fields: Mapping[str, Any], run_dir: str) -> Config:
  """Returns an experiment of a paper's recipe as flags can change it.

  Args:
    fields: The arguments of `papers.experiment` that are not its defaults.
    run_dir: See `config_of`.

  Raises:
    ValueError: A field is unknown or out of range.
  """
  from tf_lottery import papers

  return _config(papers.experiment, fields, run_dir)


def maker_of(config: Config) -> Callable[..., experiments.Experiment]:
  """Returns the function that makes a config's experiment of its fields."""
  from tf_lottery import experiments
  from tf_lottery import papers

  return papers.experiment if "recipe" in config else experiments.Experiment


def fields_of(config: Config) -> dict[str, Any]:
  """Returns the fields of a config's experiment."""
  return {
    name: _plain(name, config[name])
    # Not items(), which returns the placeholders themselves.
    for name in config
    if name not in _OWN
  }


def _plain(name: str, value: Any) -> Any:
  if isinstance(value, ml_collections.ConfigDict):
    return value.to_dict()
  if name == "control_levels" and str(value)[:1] in "([":
    return ast.literal_eval(value) if isinstance(value, str) else value
  return value


def experiment_of(config: Config) -> experiments.Experiment:
  """Returns the experiment that a config declares.

  Raises:
    ValueError: A field is out of range.
  """
  return maker_of(config)(**fields_of(config))


def choose(
  variants: Mapping[str, Mapping[str, Any]], name: str
) -> Mapping[str, Any]:
  """Returns the fields that a flag names after the path of the config.

  Args:
    variants: Name -> fields.
    name: One of the names.

  Raises:
    flags.IllegalFlagValueError: There is none of that name.
  """
  if name not in variants:
    raise flags.IllegalFlagValueError(
      f"--config=FILE:NAME must have one of {', '.join(variants)}; got"
      f" {name!r}."
    )
  return variants[name]


def _config(
  make: Callable[..., Any], fields: Mapping[str, Any], run_dir: str
) -> Config:
  parameters = inspect.signature(make).parameters
  if unknown := sorted(set(fields) - set(parameters)):
    raise ValueError(
      f"The fields of an experiment are {', '.join(parameters)}; got"
      f" {', '.join(unknown)}."
    )
  make(**fields)  # refuses what is out of range
  config = Config({"run_dir": run_dir})
  for name, parameter in parameters.items():
    value = fields.get(name, parameter.default)
    if value is dataclasses.MISSING or _is_factory(value):
      value = {}
    config[name] = _placeholder(parameter) if value is None else value
  return config


def _is_factory(value: Any) -> bool:
  """Whether a default is that of a field with a default factory."""
  return type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS"


def _placeholder(parameter: inspect.Parameter) -> Any:
  """Returns the absence of a value that flags may give, of the first type."""
  kinds = typing.get_args(parameter.annotation)
  kind = next((k for k in kinds if k in (bool, int, float, str)), str)
  return ml_collections.config_dict.placeholder(kind)
