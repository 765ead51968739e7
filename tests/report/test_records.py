import json
import math

import pytest

from tests import runs
from tf_lottery import cost
from tf_lottery import masks
from tf_lottery.report import records
from tf_lottery.report import run_folders


def only(path):
  (record,) = records.read_rounds(path)
  return record


def test_a_round_is_read_at_its_early_stop_and_at_its_end(tmp_path):
  runs.write_run(tmp_path / "mine", {"dense": [0.9]})
  assert only(tmp_path / "mine") == records.RoundRecord(
    run=str(tmp_path / "mine"),
    experiment="mine",
    replicate=0,
    method="dense",
    draw=0,
    level=0,
    density=1.0,
    steps=30,
    seconds=3.5,
    done=True,
    monitor="accuracy",
    direction="max",
    early_stop_step=20,
    val_early=pytest.approx(0.901),
    test_early=0.9,
    val_end=pytest.approx(0.891),
    test_end=0.89,
    versions=runs.VERSIONS,
    cost=cost.Cost(30),
  )


@pytest.mark.parametrize(
  ("monitor", "declared", "direction"),
  [
    ("accuracy", {}, "max"),
    ("mae", {}, "min"),
    ("leaf1_mae", {}, None),
    ("leaf1_mae", {"direction": "min"}, "min"),
    ("accuracy", {"direction": "min"}, "min"),
  ],
)
def test_the_direction_is_the_declared_one(
  tmp_path, monitor, declared, direction
):
  run = runs.write_run(tmp_path, {"dense": [0.9]}, monitor=monitor)
  run.write_declaration({**run.read_declaration(), **declared})
  assert (only(tmp_path).monitor, only(tmp_path).direction) == (
    monitor,
    direction,
  )


def test_methods_levels_and_draws_are_told_apart(tmp_path):
  runs.write_run(
    tmp_path, {"ticket": [0.8, 0.7], "random_reinit": [[0.6, 0.5], [0.4]]}
  )
  found = [
    (r.method, r.level, r.draw, r.density)
    for r in records.read_rounds(tmp_path)
  ]
  assert found == [
    ("ticket", 1, 0, 0.5),
    ("random_reinit", 1, 0, 0.5),
    ("random_reinit", 1, 1, 0.5),
    ("ticket", 2, 0, 0.2),
    ("random_reinit", 2, 0, 0.2),
  ]


def test_a_loss_that_is_no_number_is_never_the_minimum(tmp_path):
  directory = runs.write_run(tmp_path, {})
  round_ = directory.level(0)
  for step, loss in enumerate([math.nan, 0.5, 0.4, math.nan, -math.inf]):
    round_.append_metrics(runs.row(step, loss, val_accuracy=0.5))
  record = only(tmp_path)
  assert record.early_stop_step == 2
  assert (record.steps, record.val_end, record.test_end) == (4, 0.5, None)


def test_the_evaluation_before_training_is_no_early_stop(tmp_path):
  round_ = runs.write_run(tmp_path, {}).level(0)
  before = runs.row(0, 0.1, val_accuracy=0.12, test_accuracy=0.11)
  del before["loss"]
  round_.append_metrics(before)
  record = only(tmp_path)
  assert (record.val_start, record.test_start) == (0.12, 0.11)
  assert (record.steps, record.early_stop_step) == (0, None)
  assert record.val_end is record.val_early is record.test_end is None
  for step, loss in ((10, 0.5), (20, 0.6)):
    round_.append_metrics(runs.row(step, loss, val_accuracy=step / 40))
  record = only(tmp_path)
  assert (record.val_start, record.test_start) == (0.12, 0.11)
  assert (record.early_stop_step, record.val_early) == (10, 0.25)
  assert (record.val_end, record.steps) == (0.5, 20)


def test_rounds_that_rewind_begin_with_the_evaluation_of_their_start(tmp_path):
  round_ = runs.write_run(tmp_path, {}).level(1)
  before = runs.row(6, 0.1, val_accuracy=0.4)
  del before["loss"]
  round_.append_metrics(before)
  runs.write_round(round_, 0.9, 0.5, start=6)
  record = only(tmp_path)
  assert (record.start, record.steps, record.val_start) == (6, 30, 0.4)
  assert record.early_stop_step == 20


def test_runs_of_before_have_no_evaluation_before_training(tmp_path):
  runs.write_run(tmp_path, {"dense": [0.9]})
  record = only(tmp_path)
  assert record.val_start is record.test_start is None


def test_a_diverged_training_has_no_early_stop(tmp_path):
  round_ = runs.write_run(tmp_path, {}).level(0)
  round_.append_metrics(runs.row(5, math.nan, val_accuracy=0.1))
  record = only(tmp_path)
  assert (record.early_stop_step, record.val_early, record.val_end) == (
    None,
    None,
    0.1,
  )


def test_only_some_rows_have_test_values(tmp_path):
  round_ = runs.write_run(tmp_path, {}).level(0)
  round_.append_metrics(runs.row(1, 2.0, test_accuracy=0.25))
  round_.append_metrics(runs.row(2, 3.0))
  round_.append_metrics(runs.row(3, 4.0, test_accuracy=0.5))
  record = only(tmp_path)
  assert (record.test_early, record.test_end) == (0.25, 0.5)


def test_a_run_in_the_folder_of_another_is_found_too(tmp_path):
  runs.write_run(tmp_path / "outer", {"dense": [0.9]})
  runs.write_run(
    tmp_path / "outer" / "sweep" / "replicate_00", {"dense": [0.8]}
  )
  found = run_folders.find_runs([tmp_path])
  assert len(found) == 2


def test_a_training_that_goes_on_is_not_done(tmp_path):
  round_ = runs.write_run(tmp_path, {}).level(2)
  runs.write_round(round_, 0.8, 0.2, done=False)
  record = only(tmp_path)
  assert (record.done, record.method, record.steps, record.seconds) == (
    False,
    "ticket",
    30,
    3.0,
  )
  assert record.density == pytest.approx(0.2, abs=0.01)  # of the ticket's mask
  round_.ticket.unlink()
  assert only(tmp_path).density == 0.2  # of the schedule


def test_replicates_belong_to_an_experiment(tmp_path):
  home = runs.write_experiment(tmp_path, "small-1a2b", replicates=2)
  runs.write_run(tmp_path / "alone", {"dense": [0.9]})
  found = run_folders.find_runs([tmp_path, home / "replicate_01"])
  assert [(r.experiment, r.replicate, r.home.name) for r in found] == [
    ("alone", 0, "alone"),
    ("small-1a2b", 0, "small-1a2b"),
    ("small-1a2b", 1, "small-1a2b"),
  ]
  assert found[1].experiment_declaration["steps"] == 30
  assert found[0].experiment_declaration == {}


def test_a_replicate_without_an_experiment_stands_alone(tmp_path):
  runs.write_run(tmp_path / "replicate_03", {"dense": [0.9]})
  (run,) = run_folders.find_runs([tmp_path])
  assert (run.experiment, run.replicate) == ("replicate_03", 0)


@pytest.mark.parametrize(
  ("name", "message"),
  [("missing", "must be a directory, got"), ("empty", "There is no run in")],
)
def test_what_has_no_run_is_refused(tmp_path, name, message):
  (tmp_path / "empty").mkdir()
  with pytest.raises(FileNotFoundError, match=message):
    run_folders.find_runs([tmp_path / name])


@pytest.mark.parametrize("density", [0.5, 0.03])
def test_the_mask_of_a_ticket_with_its_names(tmp_path, density):
  """Above and below the density at which masks change their code."""
  round_ = runs.write_run(tmp_path, {"dense": [0.9]}).level(1)
  mask = masks.Mask.random(runs.SHAPES, density, seed=0)
  runs.write_ticket(round_, mask)
  file = records.read_ticket(round_)
  assert file.mask == mask
  assert file.names == ["dense/kernel", "dense_1/kernel"]


def test_a_ticket_that_cannot_be_read_is_none(tmp_path):
  directory = runs.write_run(tmp_path, {"ticket": [0.9]})
  damage = []
  assert records.read_ticket(directory.level(7), damage) is None
  assert not damage
  directory.level(1).ticket.write_bytes(b"damaged")
  assert records.read_ticket(directory.level(1), damage) is None
  assert str(directory.level(1).ticket) in damage[0]


def test_the_density_of_an_unfinished_training_is_that_of_its_mask(tmp_path):
  round_ = runs.write_run(tmp_path, {}).level(2)
  runs.write_round(round_, 0.8, 0.03, done=False)
  assert only(tmp_path).density == round(0.03 * 402) / 402


def test_an_experiment_is_named_by_its_declaration(tmp_path):
  home = runs.write_experiment(tmp_path, "folder", replicates=1)
  (home / "experiment.json").write_text(json.dumps({"id": "declared-1234"}))
  (run,) = run_folders.find_runs([home])
  assert run.experiment == "declared-1234"
