import dataclasses
import json

import numpy as np
import pytest

import tf_lottery
from tf_lottery import experiments
from tf_lottery import patterns
from tf_lottery.storage import files
from tf_lottery.storage import run_directory

SMALL = experiments.Experiment(
  data="digits",
  steps=40,
  evaluate_every="20it",
  levels=2,
  controls=("random_reinit", "one_shot", "small_dense"),
  control_levels=(2,),
  reinits=2,
  replicates=2,
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
    ({"pattern": "unstructured"}, experiments.Experiment().id),
  ],
)
def test_ids_stay_what_they_were(fields, expected):
  assert experiments.Experiment(**fields).id == expected


def test_a_field_that_comes_later_does_not_change_an_id():
  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Later(experiments.Experiment):
    new: float = 0.5

  assert Later().id == experiments.Experiment().id
  assert Later(new=0.25).id != Later().id


@pytest.mark.parametrize(
  "change", [{"controls": ("one_shot",)}, {"replicates": 9}, {"reinits": 3}]
)
def test_more_may_be_asked_of_an_experiment(change):
  assert dataclasses.replace(SMALL, **change).id == SMALL.id


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"controls": ("reinit",)}, "controls may name random_reinit.*got reinit"),
    ({"levels": 2, "control_levels": (3,)}, r"from 1 to levels = 2, got \[3\]"),
    ({"replicates": 0}, "replicates must be at least 1, got 0"),
    ({"recipe": "lenet_5"}, "recipe must be one of"),
    ({"rewind": "soon"}, "soon"),
    ({"pattern": "stripes"}, "pattern must be unstructured.*got 'stripes'"),
  ],
)
def test_bad_fields_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    experiments.Experiment(**fields)


@pytest.mark.parametrize(
  ("name", "expected"),
  [
    (None, tf_lottery.to_init()),
    ("init", tf_lottery.to_init()),
    ("500it", tf_lottery.to_step(500)),
    ("finetune", tf_lottery.rewinding.finetune()),
    ("learning_rate", tf_lottery.rewinding.learning_rate()),
  ],
)
def test_rewinds_by_name(name, expected):
  assert experiments.Experiment(rewind=name).make_rewind() == expected


def test_fields_change_the_recipe():
  recipe = experiments.Experiment(
    recipe="resnet20_rewind", steps=630, learning_rate=0.05, batch_size=32
  ).make_recipe()
  assert (recipe.steps, recipe.batch_size) == (630, 32)
  assert recipe.drops == (315, 472)
  assert recipe.learning_rate == 0.05


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """Replicate 1, trained."""
  root = tmp_path_factory.mktemp("runs")
  experiments.run(SMALL, 1, root)
  return root


def test_a_replicate_is_a_run_with_its_controls(root):
  declared = json.loads((root / SMALL.id / "experiment.json").read_text())
  assert declared.pop("id") == SMALL.id
  assert declared.pop("trainings") == SMALL.trainings
  assert experiments.Experiment(**declared) == SMALL
  run = run_directory.RunDirectory(root / SMALL.id / "replicate_01")
  legs = [(level, name, draw) for level, name, draw, _ in run.rounds()]
  assert legs == [
    (0, "", 0),
    (1, "", 0),
    (2, "", 0),
    (2, "one_shot", 0),
    (2, "random_reinit", 0),
    (2, "random_reinit", 1),
    (2, "small_dense", 0),
  ]
  assert run.read_declaration()["seed"] == 1
  small_dense = run.control(2, "small_dense").read_record()
  ticket = run.level(2).read_record()
  assert small_dense["density"] == pytest.approx(ticket["density"], rel=0.05)


def test_an_experiment_prunes_by_its_pattern(root):
  striped = dataclasses.replace(SMALL, pattern="block_1x4", controls=())
  assert "-block_1x4-" in striped.id
  result = experiments.run(striped, 0, root)
  pattern = patterns.block(1, 4)
  mask = result.rounds[-1].ticket.mask
  for weight in result.trainer.binding.report.prunable:
    _, left = pattern.pool(
      weight, mask[weight.key].astype(float), mask[weight.key]
    )
    assert np.array_equal(pattern.expand(weight, left), mask[weight.key])


def test_what_is_done_is_known_without_training(root):
  assert experiments.is_done(SMALL, 1, root)
  assert not experiments.is_done(SMALL, 0, root)
  more = dataclasses.replace(SMALL, control_levels=(1, 2))
  assert not experiments.is_done(more, 1, root)


def test_it_is_read_back(root):
  seen = []
  experiments.run(SMALL, 1, root, on_round=seen.append)
  assert len(seen) == 7
  assert all(round_.steps == 40 for round_ in seen)


@pytest.mark.parametrize(
  ("change", "why"),
  [
    ({"levels": "2"}, "Expected `int`, got `str`"),
    ({"levels": 10**18}, "Expected `int` <= "),
    ({"replicates": 0}, "replicates must be at least 1, got 0"),
    ({"steps": 10.5}, r"Expected `int \| null`, got `float`"),
    ({"learning_rate": "fast"}, r"Expected `float \| null`, got `str`"),
    ({"controls": [3]}, "Expected `str`, got `int`"),
    ({"controls": "one_shot"}, "Expected `array`, got `str`"),
    ({"data": None}, "Expected `str`, got `null`"),
    ({"data": "mars"}, "data must be one of .* got 'mars'"),
    ({"rewind": {}}, r"Expected `str \| null`, got `object`"),
    ({"planet": 1}, "unexpected keyword argument 'planet'"),
  ],
  ids=str,
)
def test_a_declaration_of_other_types_is_refused(tmp_path, change, why):
  SMALL.declare(tmp_path)
  path = tmp_path / "experiment.json"
  declared = files.read_json(path)
  files.write_json(path, {**declared, **change})
  with pytest.raises(files.FileFormatError, match=rf"experiment\.json .*{why}"):
    experiments.of_run(tmp_path)
  files.write_json(path, [])
  with pytest.raises(files.FileFormatError, match="got `array`"):
    experiments.of_run(tmp_path)


def test_a_replicate_is_read_with_its_number(tmp_path):
  SMALL.declare(tmp_path / SMALL.id)
  home = tmp_path / SMALL.id
  assert experiments.of_run(home / "replicate_12") == (SMALL, 12)
  with pytest.raises(FileNotFoundError, match=r"No experiment\.json says how"):
    experiments.of_run(home / "other")
