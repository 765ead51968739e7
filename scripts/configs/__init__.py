"""Configs: one file for each reproduced figure.

A config has the fields of `Experiment`, and where to read and write. Importing
a config does not import TensorFlow; calling its `get_config()` does.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections
from absl import flags

if typing.TYPE_CHECKING:
  from tf_lottery import experiments


class Config(ml_collections.ConfigDict):
  """Fields that flags can change; a flag for any other field is refused."""

  def get_type(self, key: str) -> type:
    """Returns the type of a field, which a flag's value must have."""
    if key not in self:
      raise flags.IllegalFlagValueError(
        f"--config.{key} is unknown. The fields are {', '.join(sorted(self))}."
      )
    return super().get_type(key)


def config_of(
  fields: Mapping[str, Any], run_dir: str, tolerance: float = 0.005
) -> Config:
  """Returns an experiment as flags can change it.

  Args:
    fields: The fields of `Experiment` that are not its defaults.
    run_dir: The directory to write into: `find_ticket.py` writes into it,
      `run_sweep.py` into directories below it.
    tolerance: How much less accurate than the dense network a ticket may be.
      At least 0.
  """
  from tf_lottery import experiments

  config = Config({"run_dir": run_dir, "tolerance": tolerance})
  config.data_dir = ml_collections.config_dict.placeholder(str)
  experiment = experiments.Experiment(**fields)
  for field in dataclasses.fields(experiment):
    value = getattr(experiment, field.name)
    if value is None:
      kind = typing.get_args(field.type)[0]
      value = ml_collections.config_dict.placeholder(kind)
    config[field.name] = value
  return config


def experiment_of(config: Config) -> experiments.Experiment:
  """Returns the experiment that a config declares.

  Raises:
    ValueError: A field is out of range.
  """
  from tf_lottery import experiments

  fields = dataclasses.fields(experiments.Experiment)
  return experiments.Experiment(
    **{field.name: config[field.name] for field in fields}
  )


def choose(
  sizes: Mapping[str, Mapping[str, Any]], size: str
) -> Mapping[str, Any]:
  """Returns the fields of a size, which a flag names after the config's path.

  Raises:
    flags.IllegalFlagValueError: There is no such size.
  """
  if size not in sizes:
    raise flags.IllegalFlagValueError(
      f"--config=FILE:SIZE must have a size of {', '.join(sizes)}; got"
      f" {size!r}."
    )
  return sizes[size]
