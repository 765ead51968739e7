"""The sources and targets of `transfer_study.py`."""

import dataclasses
import os
from typing import Any

import numpy as np

import tf_lottery
from examples import mnist_1d
from tf_lottery import papers
from tf_lottery.experiments import Experiment
from tf_lottery.experiments import controls
from tf_lottery.papers import datasets

# About 21, 7 and 3.5 % of the weights.
LEVELS = (7, 12, 15)
SCHEDULE = tf_lottery.geometric(15)
CONTROLS = ("random_reinit", "shuffled_mask", *controls.WITH_SOURCE)
REPLICATES = 3
# The seed of the first replicate of a source: its initial weights are others
# than those of the target.
_SEED_OF_SOURCE = 100


def load_digits(seed: int) -> dict[str, Any]:
  """Returns the digits, in one split for a source and its targets.

  Otherwise a source would have trained on examples that its target is tested
  on.
  """
  splits = datasets.load_data("digits", seed=seed % _SEED_OF_SOURCE)
  return {
    "train": splits.train,
    "validation": splits.validation,
    "test": splits.test,
  }


def load_flipped_digits(seed: int) -> dict[str, Any]:
  """Returns the digits with left and right exchanged."""
  return {
    part: (x[:, :, ::-1], y) for part, (x, y) in load_digits(seed).items()
  }


def load_shuffled_digits(seed: int) -> dict[str, Any]:
  """Returns the digits with all pixels at other places.

  The places are the same in all images and for all seeds.
  """
  found = {}
  for part, (x, y) in load_digits(seed).items():
    flat = x.reshape(len(x), -1)
    order = np.random.default_rng(0).permutation(flat.shape[1])
    found[part] = flat[:, order].reshape(x.shape), y
  return found


def load_flipped_1d() -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns MNIST-1D with each signal from its end to its beginning."""
  return [(x[:, ::-1], y) for x, y in mnist_1d.load_data()]


def tasks(data_dir: str | os.PathLike | None) -> dict[str, Experiment]:
  """Returns the targets by name, each with its source.

  An experiment that is a source and a target has one name, and so one directory
  with one search.

  Args:
    data_dir: Where Fashion-MNIST lies.
  """
  fashion = _lenet("fashion_mnist", 5000, data_dir, seed=_SEED_OF_SOURCE)
  mnist = _lenet("mnist_5k", 3000)
  digits = dataclasses.replace(
    _lenet("digits", 800, seed=_SEED_OF_SOURCE),
    load_data=load_digits,
    data_args={},
  )
  signals = dataclasses.replace(
    mnist_1d.EXPERIMENT,
    name="signals",
    schedule=SCHEDULE,
    controls=(),
    control_levels=LEVELS,
    replicates=REPLICATES,
    seed=_SEED_OF_SOURCE,
  )
  flipped, shuffled, again = (
    dataclasses.replace(digits, seed=0, load_data=load, title=title, name=name)
    for load, title, name in (
      (load_flipped_digits, "LeNet-300-100 on flipped digits", "flipped"),
      (load_shuffled_digits, "LeNet-300-100 on shuffled digits", "shuffled"),
      (load_digits, "LeNet-300-100 on digits, another seed", "digits_again"),
    )
  )
  flipped_signals = dataclasses.replace(
    signals,
    title="Residual MLP on flipped MNIST-1D",
    name="flipped_signals",
    seed=0,
    load_data=load_flipped_1d,
  )
  return {
    "fashion_to_mnist": _target(mnist, fashion),
    "mnist_to_fashion": _target(fashion, mnist),
    "digits_to_flipped": _target(flipped, digits),
    "digits_to_shuffled": _target(shuffled, digits),
    "digits_to_another_seed": _target(again, digits),
    # A residual network is no chain, so its units are not matched.
    "signals_to_flipped": _target(
      flipped_signals, signals, leave_out="transferred_permuted"
    ),
  }


def _lenet(
  data: str,
  steps: int,
  data_dir: str | os.PathLike | None = None,
  seed: int = 0,
) -> Experiment:
  made = papers.experiment(
    data=data,
    data_dir=data_dir,
    steps=steps,
    levels=len(SCHEDULE),
    evaluate_every=f"{steps // 20}it",
    control_levels=LEVELS,
    replicates=REPLICATES,
    seed=seed,
  )
  title = f"LeNet-300-100 on {data.replace('_', ' ')}"
  return dataclasses.replace(made, title=title, name=data)


def _target(
  experiment: Experiment, source: Experiment, leave_out: str = ""
) -> Experiment:
  named = tuple(name for name in CONTROLS if name != leave_out)
  return dataclasses.replace(experiment, controls=named, source=source)
