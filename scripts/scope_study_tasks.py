"""The models and data of `scope_study.py`: small ones of many kinds.

Each trains to its end in about a second on a CPU. They are meant to be as
different as the models of strangers: initial scales, layer sizes, losses.
"""

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

Split = tuple[Any, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Task:
  """A model with its data.

  Attributes:
    make_model: A function that returns the compiled model.
    load: A function that returns training and validation data.
    steps: Number of optimizer updates of each training.
    batch_size: Number of examples in a step.
    objective: The metric to compare, `"accuracy"` or `"loss"`.
    pattern: What is pruned together.
    says: The model and its data in words.
  """

  make_model: Callable[[], Any]
  load: Callable[[], tuple[Split, Split]]
  steps: int
  batch_size: int
  says: str
  objective: str = "accuracy"
  pattern: str = "unstructured"

  def chance(self, train: Split, validation: Split) -> float:
    """The objective of a constant prediction, fitted to the training data."""
    y, yv = train[1], validation[1]
    if self.objective == "loss":
      return float(np.mean(np.square(yv - y.mean(0))))
    return float(np.mean(yv == np.bincount(y).argmax()))


def _classifier(inputs: Any, outputs: Any, rate: float = 2e-3) -> Any:
  model = keras.Model(inputs, outputs)
  model.compile(
    keras.optimizers.Adam(rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return model


def _regression(inputs: Any, outputs: Any, rate: float = 2e-3) -> Any:
  model = keras.Model(inputs, outputs)
  model.compile(keras.optimizers.Adam(rate), "mse")
  return model


def _mlp() -> Any:
  inputs = keras.Input((64,))
  x = layers.Dense(128, "relu")(inputs)
  x = layers.Dense(64, "relu")(x)
  return _classifier(inputs, layers.Dense(10)(x))


def _conv_bn(x: Any, filters: int, size: int, strides: int = 1) -> Any:
  x = layers.Conv2D(filters, size, strides, "same", use_bias=False)(x)
  return layers.ReLU()(_normalised(x))


def _normalised(x: Any) -> Any:
  # Its statistics must follow a training of a few hundred steps.
  return layers.BatchNormalization(momentum=0.9)(x)


def _cnn() -> Any:
  inputs = keras.Input((8, 8, 1))
  x = _conv_bn(inputs, 16, 3)
  x = _conv_bn(x, 32, 3, 2)
  x = _conv_bn(x, 32, 3, 2)
  return _classifier(inputs, layers.Dense(10)(layers.Flatten()(x)))


def _mobilenet() -> Any:
  """A stem, then inverted residuals: expand, depthwise, project."""
  inputs = keras.Input((8, 8, 1))
  x = _conv_bn(inputs, 16, 3, 2)
  for filters, strides in ((16, 1), (24, 2), (24, 1)):
    y = _conv_bn(x, 3 * x.shape[-1], 1)
    y = layers.DepthwiseConv2D(3, strides, "same", use_bias=False)(y)
    y = layers.ReLU()(_normalised(y))
    y = _normalised(layers.Conv2D(filters, 1, use_bias=False)(y))
    x = layers.Add()([x, y]) if y.shape == x.shape else y
  x = layers.GlobalAveragePooling2D()(x)
  return _classifier(inputs, layers.Dense(10)(x), 5e-3)


def _lstm() -> Any:
  inputs = keras.Input((12,), dtype="int32")
  x = layers.Embedding(40, 16)(inputs)
  return _classifier(inputs, layers.Dense(4)(layers.LSTM(32)(x)), 1e-2)


_CONTEXT = 12
_LETTERS = " abcdefghijklmnopqrstuvwxyz.,"


def _transformer() -> Any:
  inputs = keras.Input((_CONTEXT,), dtype="int32")
  x = layers.Embedding(len(_LETTERS) + 1, 32)(inputs)
  places = layers.Embedding(_CONTEXT, 32)(keras.ops.arange(_CONTEXT))
  x = x + places
  y = layers.LayerNormalization()(x)
  x = x + layers.MultiHeadAttention(4, 8)(y, y)
  y = layers.LayerNormalization()(x)
  y = layers.Dense(64, "gelu")(y)
  x = x + layers.Dense(32)(y)
  x = layers.LayerNormalization()(x)
  x = layers.Flatten()(x)
  return _classifier(inputs, layers.Dense(len(_LETTERS) + 1)(x))


def _tabular() -> Any:
  inputs = keras.Input((10,))
  x = layers.Dense(64, "relu")(inputs)
  x = layers.Dense(64, "relu")(x)
  return _regression(inputs, layers.Dense(1)(x), 5e-3)


def _autoencoder() -> Any:
  inputs = keras.Input((64,))
  x = layers.Dense(128, "relu")(inputs)
  x = layers.Dense(12)(x)
  x = layers.Dense(128, "relu")(x)
  return _regression(inputs, layers.Dense(64)(x))


_USERS, _ITEMS = 100, 60


def _recommender() -> Any:
  user = keras.Input((1,), dtype="int32")
  item = keras.Input((1,), dtype="int32")
  numbers = keras.Input((3,))
  parts = [
    layers.Flatten()(layers.Embedding(_USERS, 8)(user)),
    layers.Flatten()(layers.Embedding(_ITEMS, 8)(item)),
    numbers,
  ]
  x = layers.Dense(64, "relu")(layers.Concatenate()(parts))
  x = layers.Dense(32, "relu")(x)
  return _regression([user, item, numbers], layers.Dense(1)(x), 5e-3)


def _digits(shape: tuple[int, ...]) -> tuple[Split, Split]:
  from sklearn import datasets

  x, y = datasets.load_digits(return_X_y=True)
  x = (x / 16).astype(np.float32).reshape(-1, *shape)
  order = np.random.default_rng(0).permutation(len(x))
  x, y = x[order], y[order].astype(np.int32)
  return (x[:1300], y[:1300]), (x[1300:], y[1300:])


def _autoencoded() -> tuple[Split, Split]:
  (x, _), (xv, _) = _digits((64,))
  return (x, x), (xv, xv)


def _sequences() -> tuple[Split, Split]:
  """The class of a sequence is that of the token after its only marker, 0."""

  def draw(count: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 40, (count, 12)).astype(np.int32)
    at = rng.integers(0, 11, count)
    x[np.arange(count), at] = 0
    return x, (x[np.arange(count), at + 1] % 4).astype(np.int32)

  return draw(4000, 1), draw(1000, 2)


def _text() -> tuple[Split, Split]:
  """The next character of the English text that comes with Python."""
  import pydoc_data.topics

  text = " ".join(" ".join(pydoc_data.topics.topics.values()).split()).lower()
  place = {letter: index for index, letter in enumerate(_LETTERS, start=1)}
  codes = np.array([place.get(letter, 0) for letter in text], np.int32)
  windows = np.lib.stride_tricks.sliding_window_view(codes, _CONTEXT + 1)
  rng = np.random.default_rng(0)
  cut = len(windows) * 4 // 5
  train = windows[rng.integers(0, cut, 20_000)]
  valid = windows[rng.integers(cut + _CONTEXT, len(windows), 2_000)]
  return (train[:, :-1], train[:, -1]), (valid[:, :-1], valid[:, -1])


def _friedman() -> tuple[Split, Split]:
  from sklearn import datasets

  x, y = datasets.make_friedman1(4000, noise=0.5, random_state=0)
  x = x.astype(np.float32)
  y = ((y - y.mean()) / y.std()).astype(np.float32)[:, None]
  return (x[:3000], y[:3000]), (x[3000:], y[3000:])


def _ratings() -> tuple[Split, Split]:
  """Ratings of rank 3 in user and item, plus an effect of three numbers."""
  rng = np.random.default_rng(0)
  users, items = rng.normal(size=(_USERS, 3)), rng.normal(size=(_ITEMS, 3))
  u, i = rng.integers(0, _USERS, 9000), rng.integers(0, _ITEMS, 9000)
  numbers = rng.normal(size=(9000, 3)).astype(np.float32)
  y = (users[u] * items[i]).sum(-1) + numbers[:, 0] * numbers[:, 1]
  y = ((y - y.mean()) / y.std()).astype(np.float32)[:, None]
  x = [u[:, None].astype(np.int32), i[:, None].astype(np.int32), numbers]
  return (
    (tuple(one[:7000] for one in x), y[:7000]),
    (tuple(one[7000:] for one in x), y[7000:]),
  )


def _images() -> tuple[Split, Split]:
  return _digits((8, 8, 1))


_FLAT_DIGITS = (64,)

TASKS: Mapping[str, Task] = {
  "mlp": Task(
    _mlp,
    lambda: _digits(_FLAT_DIGITS),
    300,
    64,
    "three dense layers on scikit-learn's digits",
  ),
  "cnn": Task(
    _cnn,
    _images,
    150,
    64,
    "three convolutions with batch normalisation on digits",
  ),
  "mobilenet": Task(
    _mobilenet,
    _images,
    120,
    64,
    "inverted residual blocks with depthwise convolutions on digits",
  ),
  "lstm": Task(
    _lstm,
    _sequences,
    400,
    64,
    "Embedding, LSTM and Dense on a sequence task that can be solved",
  ),
  "transformer": Task(
    _transformer,
    _text,
    400,
    64,
    "one block of attention on the characters of Python's documentation",
  ),
  "tabular": Task(
    _tabular,
    _friedman,
    500,
    64,
    "three dense layers on scikit-learn's friedman1, by mean squared error",
    "loss",
  ),
  "autoencoder": Task(
    _autoencoder,
    _autoencoded,
    500,
    64,
    "64-128-12-128-64 on digits, by mean squared error",
    "loss",
  ),
  "recommender": Task(
    _recommender,
    _ratings,
    600,
    64,
    "embeddings of users and items beside three numbers, by mean squared error",
    "loss",
  ),
}
for _name in ("cnn", "mobilenet"):
  TASKS = {
    **TASKS,
    f"{_name}, channels": dataclasses.replace(
      TASKS[_name],
      pattern="channel",
      says=f'the same as {_name}, with pattern="channel"',
    ),
  }
