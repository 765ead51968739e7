"""The experiments of `what_matters.py`."""

import dataclasses

import tf_lottery
from examples import mnist_1d
from scripts.configs import lenet_fashion_mnist
from tf_lottery import papers

# The shapes of the inputs, without channels.
SHAPES = {"lenet": (28, 28), "mnist_1d": (40,)}
CONTROLS = (
  *("random_reinit", "signs", "magnitudes", "permuted"),
  *("shuffled_mask", "shuffled_labels", "half_data", "other_order"),
  *("supermask", "weight_average"),
)


def declare(data_dir: str | None) -> dict[str, tf_lottery.Experiment]:
  """Returns the experiments by the names of their figures.

  Args:
    data_dir: Where Fashion-MNIST lies.
  """
  lenet = dict(
    lenet_fashion_mnist.SIZES["short"],
    data_dir=data_dir,
    steps=5000,
    levels=15,
    evaluate_every="500it",
    controls=CONTROLS,
    control_levels=(7, 12, 15),
    reinits=1,
    replicates=3,
  )
  return {
    "lenet": papers.experiment(**lenet),
    "mnist_1d": dataclasses.replace(
      mnist_1d.EXPERIMENT,
      schedule=tf_lottery.geometric(16),
      controls=CONTROLS,
      control_levels=(9, 13),
      replicates=3,
    ),
  }


def smaller(experiment: tf_lottery.Experiment) -> tf_lottery.Experiment:
  """Returns an experiment of seconds, in a directory of its own."""
  return dataclasses.replace(
    experiment,
    name=f"{experiment.id}-smoke",
    steps=60,
    evaluate_every="20it",
    schedule=experiment.schedule[:3],
    control_levels=(2, 3),
    replicates=2,
  )
