import gzip
import struct
import time

import numpy as np
import pytest

import tf_lottery
from tf_lottery import workloads


def test_digits_are_split_by_seed_without_overlap():
  splits = workloads.load_data("digits", seed=1)
  parts = (splits.train, splits.validation, splits.test)
  assert [len(y) for _, y in parts] == [1200, 300, 297]
  assert splits.input_shape == (8, 8)
  assert splits.classes == 10
  for x, y in parts:
    assert x.dtype == np.float32
    assert 0 <= x.min() < x.max() <= 1
    assert set(y) == set(range(10))
  again, other = (workloads.load_data("digits", seed=s) for s in (1, 2))
  np.testing.assert_array_equal(again.train[0], splits.train[0])
  assert np.any(other.train[1] != splits.train[1])
  total = sum(x.sum(dtype=np.float64) for x, _ in parts)
  other_total = sum(
    x.sum(dtype=np.float64)
    for x, _ in (other.train, other.validation, other.test)
  )
  assert total == pytest.approx(other_total)


def test_data_that_is_not_prepared_says_how_to_at_once(tmp_path):
  began = time.monotonic()
  with pytest.raises(FileNotFoundError) as error:
    workloads.load_data("cifar10", data_dir=tmp_path)
  assert time.monotonic() - began < 1
  lines = str(error.value).splitlines()
  assert len(lines) == 2
  assert str(tmp_path) in lines[0]
  assert f"--dataset=cifar10 --data_dir={tmp_path} --download" in lines[1]


def test_unknown_data_is_refused():
  with pytest.raises(ValueError, match=r"'digits', 'mnist'.*got 'imagenet'"):
    workloads.load_data("imagenet")


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

  monkeypatch.setitem(workloads._HELD_OUT, "fashion_mnist", 10)
  splits = workloads.load_data("fashion_mnist", data_dir=data_dir)
  assert splits.train[0].shape == (30, 28, 28)
  assert splits.validation[0].shape == (10, 28, 28)
  assert splits.test[0].max() == 1.0


def test_a_missing_idx_file_is_named(tmp_path):
  from scripts import prepare_data

  with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz"):
    prepare_data.unpack(tmp_path, tmp_path)


def test_unknown_recipes_are_refused():
  with pytest.raises(ValueError, match=r"'conv2', 'lenet_300_100'.*'vgg'"):
    workloads.recipe("vgg")


@pytest.mark.parametrize("keras", ["keras", "tf_keras"])
@pytest.mark.parametrize(
  ("name", "shape", "prunable"),
  [
    ("lenet_300_100", (28, 28), 266_200),
    ("lenet_300_100", (8, 8), 50_200),
    ("conv2", (32, 32, 3), 4_300_992),
    ("conv2", (28, 28), 576 + 36_864 + 12_544 * 256 + 65_536 + 2560),
  ],
)
def test_the_models_have_the_papers_sizes(keras, name, shape, prunable):
  recipe = workloads.recipe(name)
  model = recipe.make_model(shape, keras=keras)
  weights = tf_lottery.bind(model).report.prunable
  assert sum(weight.size for weight in weights) == prunable
  assert type(model).__module__.split(".")[0] == keras
  assert float(model.optimizer.learning_rate) == pytest.approx(
    recipe.learning_rate
  )
  initial = tf_lottery.bind(model).read()
  assert all(not v.any() for k, v in initial.items() if k.endswith("bias"))


@pytest.mark.parametrize(
  ("name", "shape", "ladder"),
  [
    ("lenet_300_100", (28, 28), {3: 51.28, 9: 13.52, 15: 3.58}),
    ("conv2", (32, 32, 3), {6: 26.47, 11: 8.81, 14: 4.57}),
  ],
)
def test_the_recipes_prune_as_the_paper(name, shape, ladder):
  """Density in percent at some Levels, from the paper's figures."""
  recipe = workloads.recipe(name)
  weights = tf_lottery.bind(recipe.make_model(shape)).report.prunable
  total = sum(weight.size for weight in weights)
  for level, expected in ladder.items():
    groups = recipe.scope(weights, 0.8**level)
    density = 100 * sum(group.keep for group in groups) / total
    assert density == pytest.approx(expected, abs=0.005)
