"""The recipes by which the papers trained and pruned their networks."""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_lottery import scopes
from tf_lottery.papers import networks

_PAPER = "Frankle and Carbin, arXiv 1803.03635, figure 2"
_LATE = "Frankle et al., arXiv 1912.05671, and Renda et al., arXiv 2003.02389"


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a network was trained and pruned in a paper.

  Attributes:
    network: a function of `networks`.
    learning_rate: at its highest.
    batch_size: examples in a step.
    steps: length of each Level's training.
    optimizer: `"adam"`, or `"sgd"` with a momentum of 0.9.
    warmup: over how many steps the learning rate rises from 0.
    drops: the steps from which on it is divided by 10, once for each.
    weight_decay: times a kernel's weight is added to its gradient.
    augment: whether images are shifted and mirrored, see `augmentation`.
    pruning: `"layerwise"` or `"global"`.
    rate: the fraction pruned at each Level.
    rates: of a layerwise pruning: what departs from `rate`.
    exempt: of a global pruning: what is never pruned.
    rewind: where each Level starts.
    source: where the numbers stand.
  """

  network: networks.Network
  learning_rate: float
  batch_size: int
  steps: int
  optimizer: str = "adam"
  warmup: int = 0
  drops: tuple[int, ...] = ()
  weight_decay: float = 0.0
  augment: bool = False
  pruning: str = "layerwise"
  rate: float = 0.2
  rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
  exempt: tuple[str, ...] = ()
  rewind: str = "0it"
  source: str = _PAPER

  def __post_init__(self):
    if self.optimizer not in ("adam", "sgd"):
      raise ValueError(
        f"optimizer must be 'adam' or 'sgd', got {self.optimizer!r}."
      )
    if self.pruning not in ("layerwise", "global"):
      raise ValueError(
        f"pruning must be 'layerwise' or 'global', got {self.pruning!r}."
      )

  @property
  def scope(self) -> scopes.Scope:
    """The scope that prunes at these rates."""
    if self.pruning == "global":
      return scopes.global_(self.exempt)
    return scopes.layerwise(self.rates, rate=self.rate)

  def scaled(self, steps: int) -> "Recipe":
    """The same in another number of steps: warm-up and drops keep their place.

    What it does not scale is `rewind`, a number of steps after initialisation.
    """
    factor = steps / self.steps
    return dataclasses.replace(
      self,
      steps=steps,
      warmup=round(factor * self.warmup),
      drops=tuple(round(factor * step) for step in self.drops),
    )

  def make_model(
    self,
    input_shape: tuple[int, ...],
    classes: int = 10,
    *,
    keras: str = "keras",
    width: float = 1.0,
  ) -> Any:
    """The model, compiled with its optimizer, cross-entropy and accuracy.

    Args:
      input_shape: of one example.
      classes: how many there are.
      keras: `"keras"` (Keras 3) or `"tf_keras"`.
      width: multiplies the units or filters of hidden layers.
    """
    decay = {"weight_decay": self.weight_decay} if self.weight_decay else {}
    model = self.network(
      input_shape, classes, keras=keras, width=width, **decay
    )
    model.compile(
      optimizer=self._make_optimizer(keras),
      loss="sparse_categorical_crossentropy",
      metrics=["accuracy"],
    )
    return model

  def _make_optimizer(self, keras: str) -> Any:
    optimizers = importlib.import_module(keras).optimizers
    rate = learning_rate(
      self.learning_rate, warmup=self.warmup, drops=self.drops, keras=keras
    )
    if self.optimizer == "adam":
      return optimizers.Adam(rate)
    return optimizers.SGD(rate, momentum=0.9)


def learning_rate(
  highest: float,
  *,
  warmup: int = 0,
  drops: tuple[int, ...] = (),
  keras: str = "keras",
) -> Any:
  """A learning rate that rises at first, and drops by steps of ten.

  At step t it is `highest * min(1, t / warmup) / 10 ** d`, where d is the
  number of drops that are not after t.

  Args:
    highest: the learning rate between warm-up and the first drop.
    warmup: over how many steps it rises from 0.
    drops: the steps from which on it is divided by 10.
    keras: `"keras"` (Keras 3) or `"tf_keras"`.

  Returns:
    What an optimizer takes: a number where it is constant, or a schedule.
  """
  if warmup:
    return _warmup_class(keras)(highest, warmup, drops)
  if drops:
    schedules = importlib.import_module(keras).optimizers.schedules
    return schedules.PiecewiseConstantDecay(
      # Theirs holds the old value at the boundary itself.
      [step - 1 for step in drops],
      [highest / 10**passed for passed in range(len(drops) + 1)],
    )
  return highest


@functools.cache
def _warmup_class(keras: str) -> Any:
  """The class of schedules with a warm-up; it loads once it is made."""
  library = importlib.import_module(keras)

  @library.saving.register_keras_serializable("tf_lottery")
  class LinearWarmup(library.optimizers.schedules.LearningRateSchedule):
    """See `learning_rate`."""

    def __init__(self, highest, warmup, drops):
      self.highest = highest
      self.warmup = warmup
      self.drops = tuple(drops)

    def __call__(self, step):
      step = tf.cast(step, tf.float32)
      rate = self.highest * tf.minimum(1.0, step / self.warmup)
      for drop in self.drops:
        rate = tf.where(step < drop, rate, rate / 10)
      return rate

    def get_config(self):
      return {
        "highest": self.highest,
        "warmup": self.warmup,
        "drops": self.drops,
      }

  return LinearWarmup


def _conv_dense(
  network: networks.Network, rate: float, steps: int, *, conv: float
) -> Recipe:
  rates = {"output": 0.1, "conv": conv}
  return Recipe(network, rate, 60, steps, rates=rates)


_RESNET20 = Recipe(
  networks.resnet20,
  learning_rate=0.03,
  batch_size=128,
  steps=30_000,
  optimizer="sgd",
  warmup=20_000,
  drops=(20_000, 25_000),
  weight_decay=1e-4,
  augment=True,
  pruning="global",
  exempt=("shortcut_*", "output"),
)

_VGG19 = Recipe(
  networks.vgg19,
  learning_rate=0.1,
  batch_size=64,
  steps=112_000,
  optimizer="sgd",
  warmup=10_000,
  drops=(56_000, 84_000),
  weight_decay=1e-4,
  augment=True,
  pruning="global",
  exempt=("output",),
)

_RECIPES: Mapping[str, Recipe] = {
  "lenet_300_100": Recipe(
    networks.lenet_300_100, 1.2e-3, 60, 50_000, rates={"output": 0.1}
  ),
  "conv2": _conv_dense(networks.conv2, 2e-4, 20_000, conv=0.1),
  "conv4": _conv_dense(networks.conv4, 3e-4, 25_000, conv=0.1),
  "conv6": _conv_dense(networks.conv6, 3e-4, 30_000, conv=0.15),
  "resnet20": _RESNET20,
  "resnet20_low": dataclasses.replace(_RESNET20, learning_rate=0.01, warmup=0),
  "resnet20_rewind": dataclasses.replace(
    _RESNET20,
    learning_rate=0.1,
    steps=63_000,
    warmup=0,
    drops=(31_500, 47_250),
    exempt=(),
    rewind="1000it",
    source=_LATE,
  ),
  "vgg19": _VGG19,
  "vgg19_low": dataclasses.replace(_VGG19, learning_rate=0.01, warmup=0),
}


def recipe(name: str) -> Recipe:
  """The recipe of a network of the papers, by the name of its preset.

  Raises:
    ValueError: there is no recipe of that name.
  """
  if name not in _RECIPES:
    raise ValueError(f"recipe must be one of {sorted(_RECIPES)}, got {name!r}.")
  return _RECIPES[name]
