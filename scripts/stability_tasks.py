"""The models and data of `stability_study.py`."""

import dataclasses
import os

import keras
from keras import layers

import tf_lottery
from examples import mnist_1d
from tf_lottery import papers
from tf_lottery.experiments import Experiment

# Fractions of a training from which it is done in two orders of the data.
FRACTIONS = (0, 1 / 64, 1 / 16, 1 / 4)


@dataclasses.dataclass(frozen=True)
class Task:
  """A model with its data.

  Attributes:
    says: The model and its data in words.
    base: The experiment that rewinds to initialisation.
    tickets: The Levels whose instability from initialisation is measured.
    steps: The steps from which that of the dense network is measured.
    replicates: The number of seeds.
    both: Whether tickets that rewind to init are compared with those that
      rewind to the step that is found.
  """

  says: str
  base: Experiment
  tickets: tuple[int, ...]
  steps: tuple[int, ...]
  replicates: int
  both: bool = False

  def experiments(self, name: str) -> dict[str, Experiment]:
    """Returns the experiments by where they rewind to."""
    made = {"auto": dataclasses.replace(self.base, rewind="auto")}
    if self.both:
      made["init"] = self.base
    return {
      rewind: dataclasses.replace(
        experiment,
        title=self.says,
        replicates=self.replicates,
        name=f"{name}-{rewind}",
      )
      for rewind, experiment in made.items()
    }


def make_resnet(learning_rate: float = 0.1, steps: int = 600) -> keras.Model:
  """A residual network on signals, with batch normalisation.

  SGD with a momentum of 0.9 divides the learning rate by 10 after half and
  after three quarters of the steps, as He et al. (arXiv 1512.03385) do.
  """
  signal = keras.Input((40, 1))
  x = _normalised(layers.Conv1D(32, 3, padding="same", use_bias=False)(signal))
  for channels, stride in ((32, 1), (64, 2), (64, 2)):
    y = layers.Conv1D(channels, 3, stride, "same", use_bias=False)(x)
    y = layers.Conv1D(channels, 3, padding="same", use_bias=False)(
      _normalised(y)
    )
    if stride > 1:
      x = layers.Conv1D(channels, 1, stride, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(y) + x)
  classes = layers.Dense(10)(layers.GlobalAveragePooling1D()(x))
  model = keras.Model(signal, classes)
  rates = [learning_rate, learning_rate / 10, learning_rate / 100]
  schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
    [steps // 2, steps * 3 // 4], rates
  )
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  optimizer = keras.optimizers.SGD(schedule, momentum=0.9)
  model.compile(optimizer, loss, metrics=["accuracy"])
  return model


def _normalised(x: keras.KerasTensor) -> keras.KerasTensor:
  return layers.ReLU()(layers.BatchNormalization()(x))


def load_signals() -> list:
  """MNIST-1D with a channel axis."""
  return [(x[..., None], y) for x, y in mnist_1d.load_data()]


def tasks(
  data_dir: str | os.PathLike | None, steps: int | None = None
) -> dict[str, Task]:
  """Returns the tasks by name.

  Args:
    data_dir: Where Fashion-MNIST lies.
    steps: The length of every training. Defaults to each task's own.
  """

  def lenet(data: str, own: int) -> Task:
    length = steps or own
    base = papers.experiment(
      data=data,
      data_dir=data_dir,
      recipe="lenet_300_100",
      steps=length,
      levels=3,
      evaluate_every=f"{length // 10 or 1}it",
    )
    return Task(
      f"LeNet-300-100 on {data.replace('_', ' ')}",
      base,
      tickets=(3,),
      steps=_steps(length),
      replicates=3,
    )

  def resnet(rate: float, replicates: int = 3) -> Task:
    length = steps or 600
    base = Experiment(
      make_model=make_resnet,
      model_args={"steps": length, "learning_rate": rate},
      load_data=load_signals,
      steps=length,
      batch_size=100,
      schedule=tf_lottery.geometric(5, rate=0.5),
      evaluate_every=f"{length // 5}it",
      controls=(),
      control_levels=(),
    )
    return Task(
      "a residual network with batch normalisation on MNIST-1D, learning rate"
      f" {rate:g}",
      base,
      tickets=(4,),
      steps=_steps(length),
      replicates=replicates,
      both=True,
    )

  return {
    "lenet_mnist_5k": lenet("mnist_5k", 3000),
    "lenet_fashion_mnist": lenet("fashion_mnist", 10_000),
    "resnet": resnet(0.1),
    "resnet_middle_rate": resnet(0.3, replicates=5),
    "resnet_high_rate": resnet(1.0),
  }


def _steps(length: int) -> tuple[int, ...]:
  return tuple(dict.fromkeys(round(length * part) for part in FRACTIONS))
