"""The settings with which the papers trained and pruned their networks."""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_lottery import scopes
from tf_lottery.papers import losses
from tf_lottery.papers import networks

_PAPER = "Frankle and Carbin, arXiv 1803.03635, figure 2"
_LATE = "Frankle et al., arXiv 1912.05671, and Renda et al., arXiv 2003.02389"


@dataclasses.dataclass(frozen=True)
class Recipe:
  """The settings with which a paper trained and pruned a network.

  Attributes:
    network: The function of `networks` that builds the network.
    learning_rate: The highest learning rate.
    batch_size: Number of examples in a step.
    steps: Number of optimizer updates in the dense training.
    optimizer: `"adam"`, or `"sgd"` with a momentum of 0.9.
    warmup: Number of steps in which the learning rate rises from 0.
    drops: The steps at which the learning rate is divided by 10.
    decay: `"cosine"` if the learning rate falls to 0 along half a cosine, after
      the warm-up and instead of the drops. Defaults to `None`: the drops.
    weight_decay: Factor of the weight decay. With `"sgd"` it adds
      `weight_decay * kernel` to the gradient, see `networks.resnet20`; with
      `"adam"` it is decoupled from the gradient (AdamW; Loshchilov and Hutter,
      arXiv 1711.05101).
    dropout: Fraction of units that a step leaves out; see `networks`.
    label_smoothing: See `losses.smoothed_crossentropy`.
    augment: Whether images are shifted and mirrored, see `augmentation`.
    pruning: `"layerwise"` or `"global"`.
    rate: The fraction pruned at each Level.
    rates: For layerwise pruning, the weights with another rate than `rate`.
    exempt: For global pruning, the weights that are never pruned.
    rewind: The step to which each Level rewinds, such as `"1000it"`.
    source: The papers that state these settings.
  """

  network: networks.Network
  learning_rate: float
  batch_size: int
  steps: int
  optimizer: str = "adam"
  warmup: int = 0
  drops: tuple[int, ...] = ()
  decay: str | None = None
  weight_decay: float = 0.0
  dropout: float = 0.0
  label_smoothing: float = 0.0
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
    if self.decay not in (None, "cosine"):
      raise ValueError(f"decay must be None or 'cosine', got {self.decay!r}.")

  @property
  def scope(self) -> scopes.Scope:
    """The scope with these rates or exemptions."""
    if self.pruning == "global":
      return scopes.global_(self.exempt)
    return scopes.layerwise(self.rates, rate=self.rate)

  def scaled(self, steps: int) -> "Recipe":
    """Returns the recipe for another number of steps.

    Warm-up and drops keep their places relative to the end. `rewind`, a number
    of steps after initialisation, stays the same.
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
    """Returns the model, compiled with cross-entropy and accuracy.

    Args:
      input_shape: Shape of one example.
      classes: Number of classes.
      keras: `"keras"` (Keras 3) or `"tf_keras"`. Defaults to `"keras"`.
      width: Factor for the number of units or filters of hidden layers.
        Defaults to `1.0`.
    """
    asked = {"dropout": self.dropout}
    if self.optimizer == "sgd":
      asked["weight_decay"] = self.weight_decay
    asked = {name: value for name, value in asked.items() if value}
    model = self.network(
      input_shape, classes, keras=keras, width=width, **asked
    )
    model.compile(
      optimizer=self._make_optimizer(keras),
      loss=losses.smoothed_crossentropy(self.label_smoothing, keras=keras),
      metrics=["accuracy"],
    )
    return model

  def _make_optimizer(self, keras: str) -> Any:
    optimizers = importlib.import_module(keras).optimizers
    rate = self._make_learning_rate(keras)
    if self.optimizer == "sgd":
      return optimizers.SGD(rate, momentum=0.9)
    if self.weight_decay:
      return optimizers.AdamW(rate, weight_decay=self.weight_decay)
    return optimizers.Adam(rate)

  def _make_learning_rate(self, keras: str) -> Any:
    if self.decay == "cosine":
      return cosine(
        self.learning_rate, self.steps, warmup=self.warmup, keras=keras
      )
    return learning_rate(
      self.learning_rate, warmup=self.warmup, drops=self.drops, keras=keras
    )


def learning_rate(
  highest: float,
  *,
  warmup: int = 0,
  drops: tuple[int, ...] = (),
  keras: str = "keras",
) -> Any:
  """Returns a learning rate with a warm-up, which drops by factors of ten.

  At step t it is `highest * min(1, t / warmup) / 10 ** d`, where d is the
  number of drops up to step t.

  Args:
    highest: The learning rate between warm-up and the first drop.
    warmup: Number of steps in which the learning rate rises from 0.
    drops: The steps at which the learning rate is divided by 10.
    keras: `"keras"` (Keras 3) or `"tf_keras"`. Defaults to `"keras"`.

  Returns:
    A number if the learning rate is constant, else a schedule of Keras.
  """
  if warmup:
    return _warmup_class(keras)(highest, warmup, drops)
  if drops:
    schedules = importlib.import_module(keras).optimizers.schedules
    return schedules.PiecewiseConstantDecay(
      # At a boundary itself, Keras still has the old value.
      [step - 1 for step in drops],
      [highest / 10**passed for passed in range(len(drops) + 1)],
    )
  return highest


def cosine(
  highest: float, steps: int, *, warmup: int = 0, keras: str = "keras"
) -> Any:
  """Returns a learning rate that falls to 0 along half a cosine.

  After the warm-up, at step t, it is `highest * (1 + cos(pi * u)) / 2`, where u
  rises from 0 to 1 between the warm-up and the last step.

  Args:
    highest: The learning rate at the end of the warm-up.
    steps: Number of optimizer updates in the training.
    warmup: Number of steps in which the learning rate rises from 0. Defaults
      to `0`.
    keras: `"keras"` (Keras 3) or `"tf_keras"`. Defaults to `"keras"`.

  Returns:
    A schedule of Keras.

  Reference: Loshchilov and Hutter, arXiv 1608.03983.
  """
  schedules = importlib.import_module(keras).optimizers.schedules
  if not warmup:
    return schedules.CosineDecay(highest, steps)
  return schedules.CosineDecay(
    0.0, steps - warmup, warmup_target=highest, warmup_steps=warmup
  )


@functools.cache
def _warmup_class(keras: str) -> Any:
  """Makes and registers the class of schedules with a warm-up."""
  library = importlib.import_module(keras)
  base: Any = library.optimizers.schedules.LearningRateSchedule

  @library.saving.register_keras_serializable("tf_lottery")
  class LinearWarmup(base):
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
  """Returns the recipe of a network of the papers, by its preset's name.

  Raises:
    ValueError: There is no recipe of that name.
  """
  if name not in _RECIPES:
    raise ValueError(f"recipe must be one of {sorted(_RECIPES)}, got {name!r}.")
  return _RECIPES[name]
