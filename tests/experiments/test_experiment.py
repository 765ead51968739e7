import dataclasses
import functools

import numpy as np
import pytest

import tf_lottery
from tests.experiments import mine
from tf_lottery import experiments
from tf_lottery import patterns
from tf_lottery.experiments import Experiment
from tf_lottery.storage import files
from tf_lottery.storage import run_directory

SMALL = Experiment(
  make_model=mine.make_model,
  load_data=mine.load_data,
  steps=16,
  batch_size=12,
  schedule=(0.5, 0.25),
  controls=("random_reinit", "one_shot", "small_dense"),
  control_levels=(2,),
  reinits=2,
  replicates=2,
  tolerance=0.02,
)
change = functools.partial(dataclasses.replace, SMALL)


def test_the_name_of_its_directory_never_changes():
  assert SMALL.id == "model-on-data-787a09ca"
  assert SMALL.heading == "model on data"


def test_a_function_and_its_reference_are_the_same_experiment():
  named = change(
    make_model="tests.experiments.mine:make_model",
    load_data="tests.experiments.mine:load_data",
  )
  assert named.id == SMALL.id
  assert named.to_json() == SMALL.to_json()


def test_a_field_that_comes_later_does_not_change_the_name():
  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Later(Experiment):
    new: float = 0.5

  fields = {f.name: getattr(SMALL, f.name) for f in dataclasses.fields(SMALL)}
  assert Later(**fields).id == SMALL.id
  assert Later(**fields, new=0.25).id != SMALL.id


@pytest.mark.parametrize(
  "more",
  [
    {"controls": ("one_shot",)},
    {"replicates": 9},
    {"reinits": 3},
    {"schedule": (0.5, 0.25, 0.1)},
    {"control_levels": "chosen"},
    {"retrain": {"slowly": {"steps": 90}}},
    {"tolerance": 0.1},
  ],
  ids=str,
)
def test_more_may_be_asked_of_an_experiment(more):
  assert change(**more).id == SMALL.id


@pytest.mark.parametrize(
  "other",
  [
    {"steps": 17},
    {"model_args": {"units": 9}},
    {"load_data": mine.load_targets},
    {"schedule": (0.6, 0.25)},
    {"scope": "layerwise"},
    {"scope": tf_lottery.layerwise({"output": 0.1})},
    {"pattern": patterns.block(1, 2)},
    {"rewind": "4it"},
    {"seed": 1},
  ],
  ids="-".join,
)
def test_other_fields_make_another_experiment(other):
  assert change(**other).id != SMALL.id


def test_a_name_and_a_title_are_taken():
  named = change(name="mine", title="My model")
  assert (named.id, named.heading) == ("mine", "My model")
  assert change(title="My model!").id.startswith("my-model-")


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"controls": ("reinit",)}, "controls may name random_reinit.*got reinit"),
    ({"control_levels": (3,)}, r"the 2 Levels of the schedule.*got \[3\]"),
    ({"control_levels": "all"}, "or 'chosen'; got 'all'"),
    ({"replicates": 0}, "replicates must be at least 1, got 0"),
    ({"epochs": 3}, "either epochs or steps, got epochs=3 and steps=16"),
    ({"steps": None}, "either epochs or steps, got epochs=None"),
    ({"rewind": "soon"}, "rewind must be one of init.*got 'soon'"),
    ({"pattern": "stripes"}, "pattern must be unstructured.*got 'stripes'"),
    ({"scope": "widthwise"}, "scope must be .* got 'widthwise'"),
    ({"schedule": (0.5, 0.6)}, "must fall from Level to Level"),
    ({"controls": ("rewind_to_init",)}, "needs a rewind to a later step"),
    (
      {"controls": ("rewind_to_init",), "rewind": "auto"},
      "a later step that is declared.*'auto'",
    ),
    ({"retrain": {"Slow!": {}}}, "got 'Slow!'"),
    ({"retrain": {"one_shot": {}}}, "not that of a control"),
    ({"retrain": {"a": {"scope": "global"}}}, "got scope for 'a'"),
    ({"retrain": {"a": {"steps": 0}}}, "steps must be at least 1, got 0"),
  ],
)
def test_bad_fields_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    change(**fields)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"make_model": mine.make_model()}, "without parentheses.*got a model"),
    ({"load_data": mine.load_data(0)}, "load_data must be.*got a tuple"),
    ({"controls": "one_shot"}, "a list of names.*got 'one_shot'"),
  ],
  ids=str,
)
def test_other_types_are_refused(fields, message):
  with pytest.raises(TypeError, match=message):
    change(**fields)


@pytest.mark.parametrize(
  ("reference", "message"),
  [
    ("mine", "or as 'package.module:function', got 'mine'"),
    ("no.such.module:make", "cannot be imported: No module named 'no'"),
    ("tests.experiments.mine:made", "has no callable 'made'"),
  ],
)
def test_references_to_nothing_are_refused(reference, message):
  with pytest.raises(ValueError, match=message):
    change(make_model=reference).make()


def test_data_of_every_replicate_come_from_its_seed():
  train, validation, test = mine.load_data(SMALL.seed + 1)
  loaded = SMALL.load(1)
  assert loaded["train_data"][0].tolist() == train[0].tolist()
  assert loaded["validation_data"][0].tolist() == validation[0].tolist()
  assert loaded["test_data"][0].tolist() == test[0].tolist()
  fixed = change(load_data=mine.load_twice)
  assert sorted(fixed.load(0)) == ["train_data", "validation_data"]


@pytest.mark.parametrize(
  "loaded", [mine.load_nonsense, lambda: None, lambda: {"train": 1}]
)
def test_what_is_no_data_is_refused(loaded):
  with pytest.raises(ValueError, match="load_data must return"):
    change(load_data=loaded).load(0)


def test_it_is_read_from_its_directory(tmp_path):
  declared = change(
    scope=tf_lottery.layerwise({"output": 0.1}),
    pattern=patterns.block(1, 2),
    rewind=tf_lottery.to_step("2it"),
    objective=tf_lottery.Objective("loss", "min"),
    class_weight={0: 1.5},
    model_args={"units": 12},
    retrain={"longer": {"steps": 30}},
  )
  declared.declare(tmp_path / "home")
  replicate = tmp_path / "home" / "replicate_12"
  found, number = experiments.of_run(replicate)
  assert number == 12
  assert found.to_json() == declared.to_json()
  assert found.id == declared.id
  with pytest.raises(FileNotFoundError, match=r"No experiment\.json says how"):
    experiments.of_run(tmp_path / "other")


@pytest.mark.parametrize(
  ("changed", "why"),
  [
    ({"levels": "2"}, "Expected `int`, got `str`"),
    ({"replicates": 0}, "replicates must be at least 1, got 0"),
    ({"controls": ["three"]}, "got three"),
    ({"planet": 1}, "unknown fields: planet"),
    ({"make_model": "mars:make"}, "cannot be imported"),
    ({"scope": {"@class": "tests.experiments.mine:fail"}}, "no class of"),
    ({"scope": {"@class": "tf_lottery.scopes:Layerwise", "x": 1}}, "'x'"),
  ],
  ids=str,
)
def test_a_damaged_declaration_is_refused(tmp_path, changed, why):
  SMALL.declare(tmp_path)
  path = tmp_path / "experiment.json"
  files.write_json(path, {**files.read_json(path), **changed})
  with pytest.raises((files.FileFormatError, ValueError), match=why):
    experiments.of_run(tmp_path)[0].make()


def test_what_no_process_can_import_is_said():
  local = change(make_model=lambda: mine.make_model())
  with pytest.raises(ValueError, match="cannot be imported by another process"):
    local.to_json()
  with pytest.raises(ValueError, match="cannot be passed to another process"):
    change(model_args={"units": object()}).to_json()


def test_arguments_are_part_of_the_name():
  names = {
    change(model_args={"units": np.int64(units)}).id for units in (4, 8)
  } | {
    change(make_model=functools.partial(mine.make_model, units)).id
    for units in (4, 8)
  }
  assert len(names) == 4


def test_lists_stay_lists(tmp_path):
  change(model_args={"units": [4, (8,)]}).declare(tmp_path)
  found, _ = experiments.of_run(tmp_path)
  assert found.model_args == {"units": [4, [8]]}


def test_controls_that_a_model_cannot_have_are_refused_before(tmp_path):
  with pytest.raises(ValueError, match="gradual_tfmot needs a model of tf_k"):
    other = {"make_model": mine.make_without_width}
    experiments.run(change(**other, controls=["gradual_tfmot"]), 0, tmp_path)
  assert not list(tmp_path.iterdir())


def test_retraining_adds_arguments_and_changes_the_length(tmp_path):
  slow = change(
    model_args={"units": 6},
    retrain={"slow": {"model_args": {"learning_rate": 0.001}, "steps": 24}},
    controls=(),
  )
  experiments.run(slow, 0, tmp_path)
  run = run_directory.RunDirectory(experiments.run_dir(slow, 0, tmp_path))
  for level in (0, 2):
    assert run.control(level, "slow").read_record()["steps"] == 24
  other = {"slow": {"model_args": {"learning_rate": 0.1}, "steps": 24}}
  with pytest.raises(ValueError, match="another recipe"):
    experiments.run(dataclasses.replace(slow, retrain=other), 0, tmp_path)


def test_small_dense_is_left_out_where_a_model_has_one_width():
  fixed = change(make_model=mine.make_without_width)
  names = {name for _, name, _ in fixed.branches()}
  assert names == {"random_reinit", "one_shot"}
  assert {name for _, name, _ in SMALL.branches()} == set(SMALL.controls)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """Replicate 1, trained."""
  root = tmp_path_factory.mktemp("runs")
  experiments.run(SMALL, 1, root)
  return root


def test_a_replicate_is_a_run_with_its_controls(root):
  run = run_directory.RunDirectory(root / SMALL.id / "replicate_01")
  rounds = [(level, name, draw) for level, name, draw, _ in run.rounds()]
  assert rounds == [
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
  assert small_dense["density"] == pytest.approx(ticket["density"], rel=0.3)


def test_what_is_done_is_known_without_training(root):
  assert experiments.is_done(SMALL, 1, root)
  assert not experiments.is_done(SMALL, 0, root)
  assert not experiments.is_done(change(control_levels=(1, 2)), 1, root)


def test_it_is_read_back(root):
  seen = []
  experiments.run(SMALL, 1, root, on_round=seen.append)
  assert len(seen) == 7
  assert all(round_.steps == 16 for round_ in seen)


def test_a_finished_experiment_is_deepened(root):
  deeper = change(schedule=(0.5, 0.25, 0.1), controls=())
  result = experiments.run(deeper, 1, root)
  assert [round_.level for round_ in result.rounds] == [0, 1, 2, 3]


def test_controls_are_trained_around_the_level_that_is_chosen(tmp_path):
  chosen = change(control_levels="chosen", tolerance=9.0, reinits=1)
  assert experiments.chosen_levels(chosen, tmp_path) == ()
  seen = []
  experiments.run(chosen, 0, tmp_path, on_round=seen.append)
  assert experiments.chosen_levels(chosen, tmp_path) == (1, 2)
  assert [r.level for r in seen] == [0, 1, 2, *[1] * 3, *[2] * 3]


@pytest.mark.parametrize(
  "fields",
  [
    {"load_data": mine.load_pipelines},
    {"load_data": mine.load_twice},
    {"make_model": mine.make_regression, "load_data": mine.load_targets},
    {"model_args": {"keras": "tf_keras"}},
    {"model_args": {"units": 12}, "scope": "layerwise", "rewind": "4it"},
  ],
  ids="-".join,
)
def test_any_model_on_any_data(fields, tmp_path):
  controls = ("random_reinit", "shuffled_mask", "gradual")
  mine_too = change(**fields, controls=controls, reinits=1)
  result = experiments.run(mine_too, 0, tmp_path)
  assert len(result.rounds) == 3
  assert experiments.is_done(mine_too, 0, tmp_path)
