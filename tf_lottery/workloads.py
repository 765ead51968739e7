"""Data sets, reference models and the recipes that the papers trained with."""

import dataclasses
import importlib
import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery import scopes

Arrays = tuple[np.ndarray, np.ndarray]

# Name -> how many training examples the papers hold out for validation.
_HELD_OUT = {"mnist": 5000, "fashion_mnist": 5000, "cifar10": 5000}


@dataclasses.dataclass(frozen=True)
class Splits:
  """A data set, split.

  Attributes:
    train: `(x, y)`; x float32 in [0, 1] of shape `(n, height, width)` or
      `(n, height, width, channels)`, y integers of shape `(n,)`.
    validation: the same, held out of the training examples by seed.
    test: the same, for reporting only.
    classes: how many there are.
  """

  train: Arrays
  validation: Arrays
  test: Arrays
  classes: int

  @property
  def input_shape(self) -> tuple[int, ...]:
    """The shape of one example."""
    return self.train[0].shape[1:]


def load_data(
  name: str, *, seed: int = 0, data_dir: str | os.PathLike | None = None
) -> Splits:
  """Loads a data set and splits it; never touches the network.

  Args:
    name: `"digits"` (1,797 images of 8x8, which scikit-learn brings),
      `"mnist"`, `"fashion_mnist"` or `"cifar10"`.
    seed: of the split into training and validation (and, for `"digits"`,
      test) examples.
    data_dir: where tfds keeps its data. Defaults to tfds's own default.

  Raises:
    ValueError: there is no data set of that name.
    FileNotFoundError: it is not prepared; the message says how to.
  """
  if name == "digits":
    return _load_digits(seed)
  if name not in _HELD_OUT:
    raise ValueError(
      f"data must be one of {['digits', *_HELD_OUT]}, got {name!r}."
    )
  builder = _prepared_builder(name, data_dir)
  train, test = (_read(builder, split) for split in ("train", "test"))
  order = np.random.default_rng(seed).permutation(len(train[0]))
  held_out, rest = np.split(order, [_HELD_OUT[name]])
  return Splits(_at(train, rest), _at(train, held_out), test, 10)


def _load_digits(seed: int) -> Splits:
  datasets = importlib.import_module("sklearn.datasets")
  x, y = datasets.load_digits(return_X_y=True)
  data = (x.reshape(-1, 8, 8).astype(np.float32) / 16, y.astype(np.int32))
  order = np.random.default_rng(seed).permutation(len(y))
  train, validation, test = np.split(order, [1200, 1500])
  return Splits(_at(data, train), _at(data, validation), _at(data, test), 10)


def _at(data: Arrays, indices: np.ndarray) -> Arrays:
  return data[0][indices], data[1][indices]


def default_data_dir() -> pathlib.Path:
  """Where tfds keeps its data unless told otherwise."""
  directory = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
  return pathlib.Path(directory).expanduser()


def _prepared_builder(name: str, data_dir: str | os.PathLike | None) -> Any:
  root = pathlib.Path(data_dir or default_data_dir()) / name
  versions = sorted(root.glob("*/dataset_info.json"))
  if not versions:
    option = f" --data_dir={data_dir}" if data_dir else ""
    raise FileNotFoundError(
      f"{name} is not prepared in {root.parent}.\nPrepare it with"
      f" python scripts/prepare_data.py --dataset={name}{option}"
      " --download (or --from=DIR with local files)."
    )
  # From the directory: tfds would ask the network about a name.
  tfds = importlib.import_module("tensorflow_datasets")
  return tfds.builder_from_directory(versions[-1].parent)


def _read(builder: Any, split: str) -> Arrays:
  tfds = importlib.import_module("tensorflow_datasets")
  batch = builder.as_dataset(split=split, batch_size=-1)
  batch = tfds.as_numpy(batch)
  x = batch["image"].astype(np.float32) / 255
  if x.shape[-1] == 1:
    x = x[..., 0]
  return x, batch["label"].astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a model was trained and pruned in the paper.

  Attributes:
    model: a function of this module that makes the layers.
    learning_rate: of Adam.
    batch_size: examples in a step.
    steps: length of each Level's training.
    rates: see `layerwise`: what departs from 20 % pruned at each Level.
    source: where the numbers stand.
  """

  model: Callable[..., Any]
  learning_rate: float
  batch_size: int
  steps: int
  rates: Mapping[str, float]
  source: str

  @property
  def scope(self) -> scopes.Layerwise:
    """The scope that prunes at these rates."""
    return scopes.layerwise(self.rates)

  def make_model(
    self,
    input_shape: tuple[int, ...],
    classes: int = 10,
    *,
    keras: str = "keras",
  ) -> Any:
    """The model, compiled with Adam, cross-entropy and accuracy.

    Args:
      input_shape: of one example.
      classes: how many there are.
      keras: `"keras"` (Keras 3) or `"tf_keras"`.
    """
    library = importlib.import_module(keras)
    model = self.model(input_shape, classes, keras=keras)
    model.compile(
      optimizer=library.optimizers.Adam(self.learning_rate),
      loss="sparse_categorical_crossentropy",
      metrics=["accuracy"],
    )
    return model


def lenet_300_100(
  input_shape: tuple[int, ...] = (28, 28),
  classes: int = 10,
  *,
  keras: str = "keras",
) -> Any:
  """The paper's LeNet: dense layers of 300, 100 and `classes` units.

  266,200 prunable weights for 28x28 images and 10 classes. Kernels are Glorot
  normal, biases zero.
  """
  layers = importlib.import_module(keras).layers
  return _sequential(
    keras,
    input_shape,
    [
      layers.Flatten(),
      _dense(layers, 300, "relu"),
      _dense(layers, 100, "relu"),
      _dense(layers, classes, "softmax"),
    ],
  )


def conv2(
  input_shape: tuple[int, ...] = (32, 32, 3),
  classes: int = 10,
  *,
  keras: str = "keras",
) -> Any:
  """The paper's Conv-2: two 3x3 convolutions of 64, a pool, 256, 256, classes.

  4,300,992 prunable weights for 32x32x3 images and 10 classes. Images without
  a channel axis get one.
  """
  layers = importlib.import_module(keras).layers
  image = [] if len(input_shape) > 2 else [layers.Reshape((*input_shape, 1))]
  convolutions = [
    layers.Conv2D(
      64,
      3,
      padding="same",
      activation="relu",
      kernel_initializer="glorot_normal",
    )
    for _ in range(2)
  ]
  return _sequential(
    keras,
    input_shape,
    [
      *image,
      *convolutions,
      layers.MaxPooling2D(),
      layers.Flatten(),
      _dense(layers, 256, "relu"),
      _dense(layers, 256, "relu"),
      _dense(layers, classes, "softmax"),
    ],
  )


def _dense(layers: Any, units: int, activation: str) -> Any:
  return layers.Dense(
    units, activation=activation, kernel_initializer="glorot_normal"
  )


def _sequential(
  keras: str, input_shape: tuple[int, ...], layers: list[Any]
) -> Any:
  library = importlib.import_module(keras)
  return library.Sequential([library.Input(input_shape), *layers])


_PAPER = "Frankle and Carbin, arXiv 1803.03635, figure 2"

_RECIPES: Mapping[str, Recipe] = {
  "lenet_300_100": Recipe(
    lenet_300_100, 1.2e-3, 60, 50_000, {"output": 0.1}, _PAPER
  ),
  "conv2": Recipe(
    conv2, 2e-4, 60, 20_000, {"output": 0.1, "conv": 0.1}, _PAPER
  ),
}


def recipe(name: str) -> Recipe:
  """The recipe of a network of the paper.

  Raises:
    ValueError: there is no recipe of that name.
  """
  if name not in _RECIPES:
    raise ValueError(f"recipe must be one of {sorted(_RECIPES)}, got {name!r}.")
  return _RECIPES[name]
