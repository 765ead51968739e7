"""Configs: one file for each reproduced figure.

A config has the fields of `Experiment`, and where to read and write.
"""

import dataclasses
from typing import get_args

import ml_collections

from tf_lottery import experiments


def config_of(
  experiment: experiments.Experiment, run_dir: str, tolerance: float = 0.005
) -> ml_collections.ConfigDict:
  """The experiment as flags can change it.

  Args:
    experiment: what to do.
    run_dir: where; `find_ticket.py` writes into it, `run_sweep.py` into
      directories below it.
    tolerance: how much less accurate than the dense network a ticket may be.
  """
  config = ml_collections.ConfigDict({"run_dir": run_dir})
  config.tolerance = tolerance
  config.data_dir = ml_collections.config_dict.placeholder(str)
  for field in dataclasses.fields(experiment):
    value = getattr(experiment, field.name)
    if value is None:
      value = ml_collections.config_dict.placeholder(get_args(field.type)[0])
    config[field.name] = value
  return config


def experiment_of(
  config: ml_collections.ConfigDict,
) -> experiments.Experiment:
  """What a config declares."""
  fields = dataclasses.fields(experiments.Experiment)
  return experiments.Experiment(
    **{field.name: config[field.name] for field in fields}
  )
