import dataclasses
import json

import numpy as np
import pytest

import tf_lottery
from tf_lottery import experiments
from tf_lottery import papers
from tf_lottery import patterns
from tf_lottery.papers import datasets
from tf_lottery.storage import files

SMALL = dict(
  data="digits",
  steps=40,
  evaluate_every="20it",
  levels=2,
  controls=("random_reinit", "small_dense"),
  control_levels=(2,),
)


@pytest.mark.parametrize(
  ("fields", "expected"),
  [
    ({}, "lenet_300_100-fashion_mnist-init-d905e156"),
    (
      {"data": "digits", "steps": 800, "rewind": "100it"},
      "lenet_300_100-digits-100it-dad002ad",
    ),
    (
      {"recipe": "resnet20", "data": "cifar10", "criterion": "random"},
      "resnet20-cifar10-init-random-ae311187",
    ),
    (
      {"pattern": "unstructured", "replicates": 9, "data_dir": "/data"},
      "lenet_300_100-fashion_mnist-init-d905e156",
    ),
  ],
)
def test_directories_keep_their_names(fields, expected):
  assert papers.experiment(**fields).id == expected


def test_fields_change_the_recipe():
  made = papers.experiment(
    recipe="resnet20_rewind",
    data="cifar10",
    steps=630,
    learning_rate=0.05,
    batch_size=32,
  )
  assert (made.steps, made.batch_size, made.rewind) == (630, 32, "1000it")
  rate = made.make().optimizer.learning_rate
  assert float(made.make().optimizer.learning_rate) == pytest.approx(0.05), rate
  assert made.augment.endswith(":crop_and_flip")
  assert papers.experiment(data="digits", recipe="resnet20").augment is None


def test_a_paper_may_be_pruned_by_another_scope():
  made = papers.experiment(data="digits", scope=tf_lottery.global_())
  assert made.scope == tf_lottery.global_()
  assert made.id != papers.experiment(data="digits").id


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"recipe": "lenet_5"}, "recipe must be one of"),
    ({"data": "mars"}, "data must be one of .* got 'mars'"),
    ({"levels": 0}, "levels must be at least 1, got 0"),
    ({"control_levels": (25,)}, "the 24 Levels"),
  ],
)
def test_bad_fields_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    papers.experiment(**fields)


@pytest.mark.parametrize("name", ["digits", "mnist_5k"])
def test_shapes_are_those_of_the_data(name):
  splits = datasets.load_data(name)
  assert splits.input_shape == datasets.INPUT_SHAPES[name]
  assert splits.classes == datasets.CLASSES


def test_an_experiment_of_an_earlier_version_is_read(tmp_path):
  fields = {"data": "digits", "recipe": "lenet_300_100", "levels": 3}
  declared = {"id": "lenet_300_100-digits-init-0", "trainings": 4, **fields}
  files.write_json(tmp_path / "experiment.json", declared)
  made, replicate = experiments.of_run(tmp_path)
  assert (made, replicate) == (papers.experiment(**fields), 0)
  made.declare(tmp_path)  # as this version writes it
  again, _ = experiments.of_run(tmp_path)
  assert again.to_json() == made.to_json()
  files.write_json(tmp_path / "experiment.json", {**declared, "planet": 1})
  with pytest.raises(tf_lottery.FileFormatError, match="'planet'"):
    experiments.of_run(tmp_path)


@pytest.mark.slow
def test_it_runs_with_its_small_dense_network(tmp_path):
  small = papers.experiment(**SMALL)
  experiments.run(small, 0, tmp_path)
  run = experiments.run_dir(small, 0, tmp_path)
  records = {
    path.parent.name: json.loads(path.read_text())
    for path in run.glob("level_02*/round.json")
  }
  dense = records["level_02-small_dense-0"]["density"]
  assert dense == pytest.approx(records["level_02"]["density"], rel=0.05)


def test_an_experiment_prunes_by_its_pattern(tmp_path):
  striped = papers.experiment(**{**SMALL, "controls": ()}, pattern="block_1x4")
  assert "-block_1x4-" in striped.id
  result = experiments.run(
    dataclasses.replace(striped, controls=()), 0, tmp_path
  )
  pattern = patterns.block(1, 4)
  mask = result.rounds[-1].ticket.mask
  for weight in result.trainer.binding.report.prunable:
    values = mask[weight.key].astype(float)
    _, left = pattern.pool(weight, values, mask[weight.key])
    assert np.array_equal(pattern.expand(weight, left), mask[weight.key])
