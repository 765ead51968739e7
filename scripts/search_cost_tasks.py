"""The models, data and search methods that `search_cost.py` compares."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

import tf_lottery
from examples import mnist_1d
from examples import tabular
from tf_lottery import papers
from tf_lottery.experiments import Experiment

RIVALS = (
  *("random_reinit", "shuffled_mask", "random_mask", "random_erk", "one_shot"),
  *("rigl", "set", "gradual"),
  *("rigl_equal_cost", "gradual_equal_cost", "small_dense_equal_cost"),
)
# Without a training of their own, tested against trained magnitudes.
AT_INIT = {
  "snip": tf_lottery.at_init("snip"),
  "grasp": tf_lottery.at_init("grasp"),
  "synflow": tf_lottery.at_init("synflow", rounds=100),
  "force": tf_lottery.at_init("force", rounds=60),
}
SHORT = {
  "gradual_0.1": tf_lottery.gradual(0.1),
  "gradual_1": tf_lottery.gradual(),
  "cycles_8x0.25": tf_lottery.cycles(8, 0.25),
}
BUDGET = "budget_4"


@dataclasses.dataclass(frozen=True)
class Task:
  """A model with its data, and how its search methods are compared.

  Attributes:
    base: The experiment; its schedule is that of iterative pruning and of the
      search with a budget.
    densities: The densities at which methods are compared. They are in the
      schedule.
    methods: Name -> method, besides iterative pruning and the budget.
    rivals: Name of a method -> the controls of its tickets.
    rival_levels: Numbers of the densities, from 1, that have rivals.
    margin: By how much a method may be worse than iterative pruning and still
      count as equal, in units of the objective.
    says: The model and its data in words.
  """

  base: Experiment
  densities: tuple[float, ...]
  methods: Mapping[str, Any]
  says: str
  margin: float
  rivals: Mapping[str, tuple[str, ...]] = dataclasses.field(
    default_factory=dict
  )
  rival_levels: tuple[int, ...] = ()

  def experiments(self, name: str, replicates: int) -> dict[str, Experiment]:
    """Returns one experiment for each method, by the name of the method."""
    base = dataclasses.replace(
      self.base,
      title=self.says,
      controls=(),
      control_levels=(),
      replicates=replicates,
      name=f"{name}-iterative",
    )
    made = {"iterative": base}
    for method, value in self.methods.items():
      rivals = self.rivals.get(method, ())
      made[method] = dataclasses.replace(
        base,
        method=value,
        schedule=self.densities,
        scope="global" if method in AT_INIT else base.scope,
        controls=rivals,
        control_levels=self.rival_levels if rivals else (),
        name=f"{name}-{method}",
      )
    budget = dataclasses.replace(base, budget=4.0, name=f"{name}-{BUDGET}")
    return {**made, BUDGET: budget}


def make_cnn(width: float = 1.0) -> keras.Model:
  """A small convolutional network with strides instead of pooling."""
  units = [max(1, round(width * n)) for n in (16, 32, 64)]
  model = keras.Sequential(
    [
      keras.Input((28, 28, 1)),
      layers.Conv2D(units[0], 5, 3, "same", activation="relu"),
      layers.Conv2D(units[1], 3, 2, "same", activation="relu"),
      layers.Flatten(),
      layers.Dense(units[2], "relu"),
      layers.Dense(10),
    ]
  )
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
  return model


def tasks(data_dir: str | os.PathLike | None) -> dict[str, Task]:
  """Returns the tasks by name; `data_dir` has Fashion-MNIST."""
  lenet = papers.experiment(
    data="fashion_mnist",
    data_dir=data_dir,
    recipe="lenet_300_100",
    steps=10_000,
    levels=20,
    evaluate_every="500it",
  )
  signals = mnist_1d.EXPERIMENT
  cnn = Experiment(
    make_model=make_cnn,
    load_data="tf_lottery.papers.datasets:load",
    data_args=lenet.data_args,
    steps=3000,
    batch_size=60,
    schedule=tf_lottery.geometric(16),
    evaluate_every="250it",
  )
  table = dataclasses.replace(
    tabular.EXPERIMENT,
    schedule=tf_lottery.geometric(16),
    evaluate_every="0.5ep",
  )
  return {
    "lenet": Task(
      base=lenet,
      densities=tuple(lenet.schedule[level - 1] for level in (9, 12, 15, 20)),
      methods={
        **SHORT,
        "cycles_4x1": tf_lottery.cycles(4),
        "early_bird": tf_lottery.early_bird(),
        **AT_INIT,
      },
      rivals={"cycles_8x0.25": RIVALS},
      rival_levels=(1, 3),
      margin=0.001,
      says="LeNet-300-100 on Fashion-MNIST",
    ),
    "mnist_1d": Task(
      base=signals,
      densities=(0.14, 0.05, 0.02),
      methods={**SHORT, "cycles_10x0.5": tf_lottery.cycles(10, 0.5)},
      rivals={"cycles_8x0.25": RIVALS},
      rival_levels=(2,),
      margin=0.01,
      says="Residual MLP on MNIST-1D",
    ),
    "cnn": Task(
      base=cnn,
      densities=tuple(cnn.schedule[level - 1] for level in (9, 12, 16)),
      methods={**SHORT, **AT_INIT},
      margin=0.001,
      says="Convolutional network on Fashion-MNIST",
    ),
    "table": Task(
      base=table,
      densities=tuple(table.schedule[level - 1] for level in (6, 10, 16)),
      methods=SHORT,
      margin=0.005,
      says="MLP on Friedman regression",
    ),
  }
