"""Prepares a data set for tfds, from local IDX files or by download.

    python scripts/prepare_data.py --dataset=fashion_mnist --from=DIR

DIR holds the four IDX files under their usual names, gzipped or not, as
Debian's package `dataset-fashion-mnist` lays them down
(`dpkg -L dataset-fashion-mnist` says where). Afterwards
`tfds.load("fashion_mnist", data_dir=...)` reads them without a network.
"""

import gzip
import pathlib
import shutil
import tempfile

import tensorflow_datasets as tfds
from absl import app
from absl import flags

from tf_lottery.papers import datasets

_DATASET = flags.DEFINE_enum(
  "dataset",
  "fashion_mnist",
  ["mnist", "fashion_mnist", "cifar10"],
  "What to prepare.",
)
_FROM = flags.DEFINE_string(
  "from", None, "Directory of the IDX files (mnist and fashion_mnist)."
)
_DOWNLOAD = flags.DEFINE_bool(
  "download", False, "Whether to let tfds download instead."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where tfds keeps its data. Defaults to tfds's default."
)

# Examples in each part of the published sets.
COUNTS = {"train": 60_000, "t10k": 10_000}
_FILES = (
  "train-images-idx3-ubyte",
  "train-labels-idx1-ubyte",
  "t10k-images-idx3-ubyte",
  "t10k-labels-idx1-ubyte",
)


def unpack(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies the four IDX files, unzipped.

  Raises:
    FileNotFoundError: one of them is missing; the message names it.
  """
  for name in _FILES:
    plain, packed = source / name, source / f"{name}.gz"
    if packed.is_file():
      with gzip.open(packed, "rb") as file, open(target / name, "wb") as copy:
        shutil.copyfileobj(file, copy)
    elif plain.is_file():
      shutil.copyfile(plain, target / name)
    else:
      raise FileNotFoundError(
        f"There is neither {name}.gz nor {name} in {source}. Give the"
        " directory of the four IDX files with --from=DIR."
      )


def idx_builder(
  name: str, files: pathlib.Path, data_dir: str | None
) -> tfds.core.DatasetBuilder:
  """Tfds's own builder of the data set, reading local files."""
  published = {
    "mnist": tfds.image_classification.MNIST,
    "fashion_mnist": tfds.image_classification.FashionMNIST,
  }[name]

  class FromFiles(published, skip_registration=True):
    """Takes the files from the directory instead of the network."""

    def _split_generators(self, dl_manager):
      del dl_manager
      return {
        split: self._generate_examples(
          COUNTS[part],
          files / f"{part}-images-idx3-ubyte",
          files / f"{part}-labels-idx1-ubyte",
        )
        for split, part in (("train", "train"), ("test", "t10k"))
      }

  FromFiles.name = name
  return FromFiles(data_dir=data_dir)


def main(argv: list[str]) -> None:
  """Prepares the data set that the flags name."""
  del argv
  data_dir = _DATA_DIR.value or str(datasets.default_data_dir())
  if _DOWNLOAD.value:
    tfds.builder(_DATASET.value, data_dir=data_dir).download_and_prepare()
  elif _FROM.value is None or _DATASET.value == "cifar10":
    raise app.UsageError(
      f"Give --download, or --from=DIR with local IDX files (not for cifar10);"
      f" got --dataset={_DATASET.value} --from={_FROM.value}."
    )
  else:
    with tempfile.TemporaryDirectory() as directory:
      unpacked = pathlib.Path(directory)
      unpack(pathlib.Path(_FROM.value), unpacked)
      idx_builder(_DATASET.value, unpacked, data_dir).download_and_prepare()
  print(f"{_DATASET.value} is ready in {data_dir}.")


if __name__ == "__main__":
  app.run(main)
