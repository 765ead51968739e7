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

# About 21, 7, 3.5 and 1.2 % of the weights.
LEVELS = (7, 12, 15, 20)
SCHEDULE = tf_lottery.geometric(20)
CONTROLS = ("random_reinit", "shuffled_mask", *controls.WITH_SOURCE)
REPLICATES = 3
# The seed of the first replicate of another initialisation.
_OTHER_SEED = 100


def load_flipped(name: str, *, seed: int = 0) -> dict[str, Any]:
  """Returns a data set of the papers with left and right exchanged."""
  return {
    part: (x[:, :, ::-1], y) for part, (x, y) in _parts(name, seed).items()
  }


def load_shuffled(name: str, *, seed: int = 0) -> dict[str, Any]:
  """Returns a data set of the papers with all pixels at other places.

  The places are the same in all images and for all seeds.
  """
  found = {}
  for part, (x, y) in _parts(name, seed).items():
    flat = x.reshape(len(x), -1)
    order = np.random.default_rng(0).permutation(flat.shape[1])
    found[part] = flat[:, order].reshape(x.shape), y
  return found


def load_flipped_1d() -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns MNIST-1D with each signal from its end to its beginning."""
  return [(x[:, ::-1], y) for x, y in mnist_1d.load_data()]


def _parts(name: str, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  splits = datasets.load_data(name, seed=seed)
  return {
    "train": splits.train,
    "validation": splits.validation,
    "test": splits.test,
  }


def tasks(data_dir: str | os.PathLike | None) -> dict[str, Experiment]:
  """Returns the targets by name, each with its source.

  An experiment that is a source and a target has one name, and so one directory
  with one search.

  Args:
    data_dir: Where Fashion-MNIST lies.
  """
  fashion = _lenet("fashion_mnist", 10_000, data_dir)
  mnist = _lenet("mnist_5k", 3000)
  digits = _lenet("digits", 800)
  signals = dataclasses.replace(
    mnist_1d.EXPERIMENT,
    title="Residual MLP on MNIST-1D",
    name="mnist_1d",
    schedule=SCHEDULE,
    controls=(),
    control_levels=LEVELS,
    replicates=REPLICATES,
  )
  made = {
    "fashion_to_mnist": _target(mnist, fashion),
    "mnist_to_fashion": _target(fashion, mnist),
    "digits_to_flipped": _target(
      _changed(digits, "flipped digits", load_flipped), digits
    ),
    "digits_to_shuffled": _target(
      _changed(digits, "pixel-shuffled digits", load_shuffled), digits
    ),
    "digits_to_another_seed": _target(
      dataclasses.replace(
        digits,
        title="LeNet-300-100 on digits, another seed",
        name="digits_seed",
        seed=_OTHER_SEED,
      ),
      digits,
    ),
    "signals_to_flipped": _target(
      dataclasses.replace(
        signals,
        title="Residual MLP on flipped MNIST-1D",
        name="mnist_1d_flipped",
        load_data=load_flipped_1d,
      ),
      signals,
      # A residual network is no chain.
      leave_out="transferred_permuted",
    ),
  }
  return made


def _lenet(
  data: str, steps: int, data_dir: str | os.PathLike | None = None
) -> Experiment:
  made = papers.experiment(
    data=data,
    data_dir=data_dir,
    steps=steps,
    levels=len(SCHEDULE),
    evaluate_every=f"{steps // 20}it",
    control_levels=LEVELS,
    replicates=REPLICATES,
  )
  title = f"LeNet-300-100 on {data.replace('_', ' ')}"
  return dataclasses.replace(made, title=title, name=data)


def _changed(digits: Experiment, what: str, load: Any) -> Experiment:
  return dataclasses.replace(
    digits,
    title=f"LeNet-300-100 on {what}",
    name=what.replace(" ", "_").replace("-", "_"),
    load_data=load,
  )


def _target(
  experiment: Experiment, source: Experiment, leave_out: str = ""
) -> Experiment:
  named = tuple(name for name in CONTROLS if name != leave_out)
  return dataclasses.replace(experiment, controls=named, source=source)
