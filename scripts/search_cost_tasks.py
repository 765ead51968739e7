"""The models, data and search methods that `search_cost.py` compares."""

import dataclasses
import os

import keras
from keras import layers

import tf_lottery
from examples import mnist_1d
from examples import tabular
from tf_lottery import papers
from tf_lottery.experiments import Experiment

# What the tickets of one method are compared with.
RIVALS = (
  *("random_reinit", "shuffled_mask", "random_mask", "random_erk", "one_shot"),
  *("rigl", "set", "gradual"),
  *("rigl_equal_cost", "gradual_equal_cost", "small_dense_equal_cost"),
)
METHODS = {
  "gradual_0.1": tf_lottery.gradual(0.1),
  "gradual_1": tf_lottery.gradual(),
  "cycles_8x0.25": tf_lottery.cycles(8, 0.25),
  "cycles_8x0.5": tf_lottery.cycles(8, 0.5),
}
# Those that leave enough of four trainings for the dense network and a ticket.
CHEAP = ("gradual_0.1", "gradual_1", "cycles_8x0.25")
WITH_RIVALS = "cycles_8x0.25"
# Scopes other than a task's own, of tickets of `WITH_RIVALS`.
SCOPES = {"erk": "erdos_renyi", "lamp": "lamp"}
# Scores of the untrained network, and random ones.
AT_INIT = {
  "snip": tf_lottery.at_init("snip"),
  "grasp": tf_lottery.at_init("grasp"),
  "synflow": tf_lottery.at_init("synflow", rounds=100),
  "force": tf_lottery.at_init("force", rounds=60),
  "random": tf_lottery.at_init("random"),
}
BUDGET = "budget_4"


@dataclasses.dataclass(frozen=True)
class Task:
  """A model with its data, and how its search methods are compared.

  Attributes:
    base: The experiment of iterative pruning.
    densities: The densities at which methods are compared. They are in the
      schedule of `base`.
    ladder: The schedule of searches for the smallest matching ticket.
    rivals: The numbers of the densities, from 1, at which the tickets of
      `WITH_RIVALS` have rivals.
    at_init: Whether masks of the untrained network are compared, too, at the
      first and the third density.
    scopes: Whether tickets are drawn in the `SCOPES`, too.
    matching: What a search may cost that finds a matching ticket at the first
      density, in trainings; None if nothing was set out.
    equal: For each density, what a search may cost whose ticket is as good as
      that of iterative pruning; None where nothing was set out.
    margin: By how much a method may be worse than iterative pruning and still
      count as equal, in units of the objective.
    says: The model and its data in words.
  """

  base: Experiment
  densities: tuple[float, ...]
  ladder: tuple[float, ...]
  says: str
  margin: float
  rivals: tuple[int, ...] = ()
  at_init: bool = False
  scopes: bool = False
  matching: float | None = None
  equal: tuple[float | None, ...] = ()

  def experiments(self, name: str, replicates: int) -> dict[str, Experiment]:
    """Returns one experiment for each method, by the name of the method."""
    base = dataclasses.replace(
      self.base,
      title=self.says,
      controls=(),
      control_levels=(),
      replicates=replicates,
    )
    made = {"iterative": base}
    for method, value in METHODS.items():
      made[method] = dataclasses.replace(
        base, method=value, schedule=self.densities
      )
    made[BUDGET] = dataclasses.replace(base, schedule=self.ladder, budget=4.0)
    for method in CHEAP:
      made[f"{method}_bisect"] = dataclasses.replace(
        made[method], schedule=self.ladder, choose="bisect"
      )
    if self.rivals:
      made[WITH_RIVALS] = dataclasses.replace(
        made[WITH_RIVALS], controls=RIVALS, control_levels=self.rivals
      )
    if self.scopes:
      for scope, value in SCOPES.items():
        made[f"{WITH_RIVALS}_{scope}"] = dataclasses.replace(
          made[WITH_RIVALS], scope=value, controls=(), control_levels=()
        )
    if self.at_init:
      short = dataclasses.replace(base, schedule=self.densities[:3:2])
      made["early_bird"] = dataclasses.replace(
        short, method=tf_lottery.early_bird()
      )
      for method, value in AT_INIT.items():
        controls = () if method == "random" else ("shuffled_mask",)
        made[method] = dataclasses.replace(
          short, method=value, scope="global", controls=controls
        )
    return {
      method: dataclasses.replace(experiment, name=f"{name}-{method}")
      for method, experiment in made.items()
    }


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
      ladder=lenet.schedule,
      rivals=(3,),
      at_init=True,
      matching=0.1,
      equal=(1.0, 2.0, 2.0, 4.0),
      margin=0.001,
      says="LeNet-300-100 on Fashion-MNIST",
    ),
    "mnist_1d": Task(
      base=mnist_1d.EXPERIMENT,
      densities=(0.14, 0.05, 0.02),
      ladder=tf_lottery.geometric(20),
      rivals=(2,),
      scopes=True,
      equal=(None, 5.0, None),
      margin=0.01,
      says="Residual MLP on MNIST-1D",
    ),
    "cnn": Task(
      base=cnn,
      densities=tuple(cnn.schedule[level - 1] for level in (9, 12, 16)),
      ladder=cnn.schedule,
      at_init=True,
      margin=0.001,
      says="Convolutional network on Fashion-MNIST",
    ),
    "table": Task(
      base=table,
      densities=tuple(table.schedule[level - 1] for level in (6, 10, 16)),
      ladder=table.schedule,
      margin=0.005,
      says="MLP on Friedman regression",
    ),
  }
