import gc
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tf_lottery
from tests import children
from tests import small
from tf_lottery import export
from tf_lottery import rewinding
from tf_lottery.experiments import controls
from tf_lottery.storage import run_directory

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}


@pytest.fixture(scope="module", params=LIBRARIES)
def found(request, tmp_path_factory):
  """One search, looked at by many tests."""
  run_dir = tmp_path_factory.mktemp(request.param)
  return small.search(run_dir, library=LIBRARIES[request.param])


def test_densities_follow_the_schedule_exactly(found):
  sizes = [w.size for w in found.trainer.binding.report.prunable]
  for level, round_ in enumerate(found.rounds):
    expected = round(0.5**level * sum(sizes)) / sum(sizes)
    assert round_.level == level
    assert round_.density == expected
    assert round_.ticket.density == expected


def test_masks_shrink_and_never_return(found):
  masks = [round_.ticket.mask for round_ in found.rounds]
  for sparser, denser in zip(masks[1:], masks, strict=False):
    assert sparser.issubset(denser)


def test_all_tickets_start_from_the_same_initial_weights(found):
  dense = found.rounds[0].ticket
  for round_ in found.rounds[1:]:
    ticket = round_.ticket
    for key, value in ticket.start.items():
      kept = ticket.mask.get(key, np.True_)
      expected = np.where(kept, dense.start[key], 0)
      np.testing.assert_array_equal(value, expected)


def test_the_smallest_magnitudes_are_pruned(found):
  before, after = found.rounds[1], found.rounds[2]
  final = before.final.weights
  for key, mask in after.ticket.mask.items():
    magnitudes = np.abs(final[key])
    gone = magnitudes[before.ticket.mask[key] & ~mask]
    assert magnitudes[mask].min() >= gone.max(initial=0)


def test_final_weights_are_zero_where_pruned_and_trained_elsewhere(found):
  round_ = found.rounds[1]
  for key, mask in round_.ticket.mask.items():
    assert not round_.final.weights[key][~mask].any()
    moved = round_.final.weights[key][mask] != round_.ticket.start[key][mask]
    assert moved.any()


def test_every_round_is_on_disk(found):
  for round_ in found.rounds:
    record = round_.directory.read_record()
    assert record["seed"] == 3
    assert record["versions"]["tensorflow"]
    assert record["metrics"] == dict(round_.metrics)
    assert [row["step"] for row in round_.history] == [0, 8, 16, 20]
    assert round_.history[-1]["seconds"] == round_.seconds
    assert list(round_.directory.tensorboard.glob("events*"))
    assert not round_.directory.checkpoint.exists()


def test_one_trace_serves_the_whole_search(found):
  assert found.trainer.traces == 1


def test_the_same_call_reads_back_what_is_done(found):
  path = found.rounds[0].directory.path.parent
  library = LIBRARIES[type(found.trainer.model).__module__.split(".")[0]]
  again = small.search(path, library=library)
  assert again.trainer.traces == 0
  assert [r.metrics for r in again.rounds] == [r.metrics for r in found.rounds]


def test_a_run_of_before_there_were_directions_goes_on(tmp_path):
  small.search(tmp_path, levels=1)
  path = tmp_path / "declaration.json"
  declared = json.loads(path.read_text())
  assert declared.pop("direction") == "max"
  assert declared["monitor"] == "accuracy"
  path.write_text(json.dumps(declared))
  again = small.search(tmp_path, levels=1)
  assert again.trainer.traces == 0
  assert json.loads(path.read_text())["direction"] == "max"
  other = tf_lottery.Objective("accuracy", "min")
  with pytest.raises(ValueError, match='direction: it was "max", now "min"'):
    small.search(tmp_path, levels=1, objective=other)


def test_a_replicate_shares_the_compiled_program(found, tmp_path):
  replicate = small.search(tmp_path, trainer=found.trainer, seed=4)
  assert found.trainer.traces == 1
  key = next(iter(replicate.rounds[0].ticket.mask))
  first, second = (r.rounds[0].ticket.start[key] for r in (found, replicate))
  assert np.any(first != second)


def movement(binding, mask, batches, seed):
  now, initial = binding.read(), binding.initial()
  return {key: abs(now[key] - initial[key]) for key in mask}


def test_searches_that_share_a_trainer_keep_their_own_initial_weights(
  tmp_path,
):
  alone = small.search(tmp_path / "alone", library=keras, criterion=movement)
  trainer = tf_lottery.Trainer(lambda: small.make_model(keras), seed=3)
  first = small.search(tmp_path / "first", trainer=trainer, criterion=movement)
  small.search(tmp_path / "second", trainer=trainer, criterion=movement, seed=4)
  expected = controls.one_shot(alone, 2).ticket
  assert controls.one_shot(first, 2).ticket.equals(expected)
  assert controls.random_reinit(first, 1).metrics == (
    controls.random_reinit(alone, 1).metrics
  )
  again = small.search(tmp_path / "first", trainer=trainer, criterion=movement)
  assert [r.metrics for r in again.rounds] == [r.metrics for r in alone.rounds]


def test_smallest_matching_chooses_by_validation(found):
  values = [r.metrics["val_accuracy"] for r in found.rounds]
  for tolerance in (0.0, 0.05, 1.0):
    level = found.smallest_matching_level(tolerance)
    assert values[level] >= values[0] - tolerance
    assert all(value < values[0] - tolerance for value in values[level + 1 :])
    ticket = found.smallest_matching(tolerance)
    assert ticket.provenance["level"] == level
  assert found.smallest_matching_level(1.0) == len(values) - 1
  assert found.smallest_matching_level(-1.0) == 0


def test_it_builds_the_trained_sparse_model_of_a_level(found):
  round_ = found.rounds[2]
  model = found.model(2)
  assert model is not found.trainer.model
  binding = tf_lottery.bind(model)
  assert binding.mask == round_.ticket.mask
  for key, value in binding.read().items():
    np.testing.assert_array_equal(value, round_.final.weights[key])
  reached = model.evaluate(*small.examples(40, 1), verbose=0, return_dict=True)
  assert reached["loss"] == pytest.approx(round_.metrics["val_loss"], rel=1e-4)
  model.fit(*small.examples(96), verbose=0)
  binding.check_held()
  smallest = found.smallest_matching()
  assert tf_lottery.bind(found.model()).mask == smallest.mask


def test_it_builds_models_under_a_strategy_too(strategy, tmp_path):
  trainer = tf_lottery.Trainer(
    lambda: small.make_model(keras), strategy=strategy, seed=3
  )
  search = small.search(tmp_path, trainer=trainer, levels=1)
  model = search.model(1)
  assert tf_lottery.bind(model).mask == search.rounds[1].ticket.mask
  variable = tf_lottery.bind(model).variables["0/kernel"]
  assert trainer.strategy.extended.variable_created_in_scope(variable)


def test_a_function_that_returns_one_model_builds_no_other(tmp_path):
  one = small.make_model(keras)
  trainer = tf_lottery.Trainer(lambda: one)
  with pytest.raises(ValueError, match="must build a new model at each call"):
    trainer.make_model()


def test_a_search_names_its_objective(found):
  assert found.objective == tf_lottery.Objective("accuracy", "max")
  assert found.monitor == "accuracy"
  assert "val accuracy" in str(found)


@pytest.mark.parametrize("name", ["", "..", "../x", "level_03", "level_1-x-0"])
def test_a_name_that_is_no_folder_or_a_rounds_own_is_refused(found, name):
  with pytest.raises(ValueError, match="name must have letters"):
    found.train(found.rounds[1].ticket, name)


def test_a_training_has_steps(found):
  with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
    found.train(found.rounds[1].ticket, "none", steps=0)


def test_slots_that_were_not_kept_cannot_be_restored(found):
  rewind = tf_lottery.to_step(0, keep_optimizer=True)
  with pytest.raises(ValueError, match="kept no optimizer variables"):
    found.train(found.rounds[1].ticket, "slots", rewind=rewind)


def test_steps_of_a_rewind_are_compared_in_iterations(tmp_path):
  search = small.search(tmp_path, levels=1, rewind=tf_lottery.to_step("8it"))
  ticket = search.rounds[1].ticket
  again = search.train(ticket, "again", rewind=tf_lottery.to_step("1ep"))
  assert again.metrics == search.rounds[1].metrics
  with pytest.raises(ValueError, match="no weights of step 3it"):
    search.train(ticket, "other", rewind=tf_lottery.to_step(3))


def test_a_search_may_train_in_its_own_callback(tmp_path):
  found = []

  def on_round(round_):
    with round_.directory.run.locked():
      found.append(round_.level)

  small.search(tmp_path, levels=1, on_round=on_round)
  assert found == [0, 1]


def test_a_second_run_reads_the_same_rounds(found):
  before = [round_.metrics for round_ in found.rounds]
  found.run(lambda round_: None)
  assert [round_.metrics for round_ in found.rounds] == before


def test_training_a_ticket_again_repeats_its_round(found):
  round_ = found.rounds[2]
  again = found.train(round_.ticket, "again", steps=20)
  assert again.metrics == round_.metrics
  for key, value in round_.final.weights.items():
    np.testing.assert_array_equal(again.final.weights[key], value)


def test_training_a_ticket_again_repeats_late_rewinding_too(tmp_path):
  rewind = tf_lottery.to_step(6, keep_optimizer=True)
  result = small.search(tmp_path, rewind=rewind, levels=1, dropout=0.3)
  round_ = result.rounds[1]
  again = result.train(round_.ticket, "again")
  assert again.steps == round_.steps == 14
  for key, value in round_.final.weights.items():
    np.testing.assert_array_equal(again.final.weights[key], value)


def test_a_fine_tuned_ticket_can_be_trained_again(tmp_path):
  result = small.search(tmp_path, rewind=rewinding.finetune(), levels=1)
  again = result.train(result.rounds[1].ticket, "again")
  assert again.metrics == result.rounds[1].metrics


def test_a_criterion_can_ask_for_the_initial_weights(found, tmp_path):
  def movement(binding, mask, batches, seed):
    now, then = binding.read(), binding.initial()
    return {key: np.abs(now[key] - then[key]) for key in mask}

  result = small.search(
    tmp_path, trainer=found.trainer, seed=5, criterion=movement, levels=1
  )
  before, after = result.rounds
  moved = {
    key: np.abs(before.final.weights[key] - before.ticket.start[key])
    for key in after.ticket.mask
  }
  kept = [moved[key][mask] for key, mask in after.ticket.mask.items()]
  gone = [moved[key][~mask] for key, mask in after.ticket.mask.items()]
  assert np.concatenate(kept).min() >= np.concatenate(gone).max()


def test_a_name_stands_for_one_ticket(found):
  found.train(found.rounds[1].ticket, "mine", steps=4)
  with pytest.raises(ValueError, match="mine holds the training of another"):
    found.train(found.rounds[2].ticket, "mine", steps=4)
  with pytest.raises(ValueError, match="steps 0 to 4, and 0 to 5 are asked"):
    found.train(found.rounds[1].ticket, "mine", steps=5)


def test_the_result_prints_a_table(found):
  lines = str(found).splitlines()
  assert lines[0].split()[:2] == ["level", "density"]
  assert len(lines) == 1 + len(found.rounds) + 2
  assert lines[-1].startswith("This cost 4.00 trainings of the dense network")
  assert "25.00%" in lines[3]
  if level := found.smallest_matching_level():
    assert f"The smallest matching ticket is Level {level}, " in lines[-2]
  else:
    assert lines[-2].startswith("No ticket matches the dense network")


def test_without_a_run_dir_files_go_with_the_result():
  result = small.search(None, levels=1)
  directory = result.rounds[0].directory.path.parent
  round_ = result.rounds[1]
  del result
  assert round_.ticket.density == 0.5
  assert directory.exists()
  del round_
  gc.collect()
  assert not directory.exists()


@pytest.mark.parametrize("keep", [False, True])
def test_late_rewinding_starts_from_step_k(tmp_path, keep):
  rewind = tf_lottery.to_step("6it", keep_optimizer=keep)
  result = small.search(tmp_path, rewind=rewind)
  snapshot = tf_lottery.Snapshot.load(tmp_path / "rewind.safetensors")
  assert snapshot.step == 6
  assert (snapshot.optimizer is not None) == keep
  first = result.rounds[1]
  assert first.steps == 20 - 6
  assert [row["step"] for row in first.history[:2]] == [6, 8]
  for key, value in first.ticket.start.items():
    kept = first.ticket.mask.get(key, np.True_)
    expected = np.where(kept, snapshot.weights[key], 0)
    np.testing.assert_array_equal(value, expected)
  dense = result.rounds[0].ticket.start
  assert any(np.any(first.ticket.start[k] != v) for k, v in dense.items())


def test_rewinding_to_step_k_repeats_the_dense_training(tmp_path):
  """At density 1, a Round from step k ends where the dense training ends."""
  rewind = tf_lottery.to_step(6, keep_optimizer=True)
  result = small.search(tmp_path, rewind=rewind, schedule=(1.0,), dropout=0.2)
  dense, again = (round_.final.weights for round_ in result.rounds)
  for key, value in dense.items():
    np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize("method", ["learning_rate", "finetune"])
def test_methods_that_keep_the_trained_weights(method):
  result = small.search(None, rewind=getattr(rewinding, method)())
  trained = result.rounds[0].final.weights
  start = result.rounds[1].ticket
  for key, mask in start.mask.items():
    np.testing.assert_array_equal(
      start.start[key], np.where(mask, trained[key], 0)
    )
  steps = [row["step"] for row in result.rounds[1].history]
  assert steps[-1] == (20 if method == "learning_rate" else 40)


def test_a_short_search_is_followed_by_a_full_training(tmp_path):
  result = small.search(tmp_path, search_steps=8)
  assert [round_.steps for round_ in result.rounds] == [8, 8, 8, 8]
  final = result.train(result.smallest_matching(), "final")
  assert final.steps == 20


def test_one_shot_and_scopes(tmp_path):
  result = small.search(
    tmp_path,
    schedule=tf_lottery.one_shot(0.25),
    scope=tf_lottery.layerwise({"output": 0.1}),
  )
  assert len(result.rounds) == 2
  table = {row.key: row for row in result.rounds[1].ticket.mask.table()}
  output = result.trainer.binding.report.prunable[-1]
  rate = 0.25 ** (np.log(0.9) / np.log(0.8))
  assert table[output.key].kept == round(rate * output.size)


def test_random_criterion_and_a_function_of_ones_own(tmp_path):
  seen = []

  def last_first(binding, mask, batches, seed):
    seen.append((seed, next(iter(batches))[0].shape))
    return {k: np.arange(a.size).reshape(a.shape) for k, a in mask.items()}

  result = small.search(tmp_path / "a", criterion=last_first, levels=1)
  assert seen == [(3, (12, 6))]
  first = next(iter(result.rounds[1].ticket.mask.values()))
  assert not first.ravel()[0]
  random = small.search(tmp_path / "b", criterion="random", levels=1)
  magnitude = small.search(tmp_path / "c", levels=1)
  masks = [r.rounds[1].ticket.mask for r in (random, magnitude)]
  assert masks[0] != masks[1]


@pytest.mark.parametrize(
  ("change", "field"),
  [
    ({"seed": 4}, "seed"),
    ({"schedule": (0.5, 0.3)}, "schedule"),
    ({"batch_size": 6}, "batch_size"),
    ({"scope": tf_lottery.erdos_renyi()}, "scope"),
    ({"rewind": tf_lottery.to_step(2)}, "rewind"),
    ({"learning_rate": 0.5}, "optimizer"),
    ({"activation": "tanh"}, "layers"),
    ({"data_seed": 1}, "train_data"),
    ({"jit": False}, "jit"),
    ({"objective": "loss"}, "monitor"),
    ({"objective": tf_lottery.Objective("accuracy", "min")}, "direction"),
  ],
)
def test_another_declaration_is_refused(found, change, field):
  path = found.rounds[0].directory.path.parent
  library = LIBRARIES[type(found.trainer.model).__module__.split(".")[0]]
  with pytest.raises(ValueError, match=rf"holds another run:[\s\S]*{field}: "):
    small.search(path, library=library, **change)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"steps": 0}, "steps must be greater than 0, got 0"),
    ({"search_steps": 0}, "search_steps must be .* got 0"),
    ({"search_steps": 21}, "search_steps must be .* 20 steps, got 21"),
    ({"epochs": 1}, "either epochs or steps, got epochs=1 and steps=20"),
    ({"batch_size": 1000}, "batch_size must be at least 1 .* got 1000"),
    ({"schedule": (0.5, 0.6)}, "must fall .* got 0.6 after 0.5"),
    ({"rewind": tf_lottery.to_step("9ep")}, "before the end .* got 9ep"),
    ({"scope": tf_lottery.global_(["fc9"])}, "'fc9', which matches no"),
    ({"criterion": "gradient"}, "got 'gradient'"),
    ({"evaluate_every": 0}, "evaluate_every must be greater than 0"),
    ({"schedule": np.array([0.5, 0.0])}, "density must be .* got 0.0"),
    ({"objective": "f1"}, "objective must name a metric .* got 'f1'"),
    ({"monitor": "f1"}, "objective must name a metric .* got 'f1'"),
  ],
)
def test_bad_arguments_are_refused_at_once(change, message):
  with pytest.raises(ValueError, match=message):
    small.search(None, **change)


X, Y = small.examples(24)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"validation_data": None}, "needs validation_data, .*Keep some training"),
    ({"callbacks": []}, "no argument 'callbacks': give on_round=function"),
    ({"validation_split": 0.1}, "no argument 'validation_split': split the"),
    ({"bach_size": 4}, "no argument 'bach_size': did you mean batch_size"),
    ({"train_data": X}, r"Data must be a tuple \(x, y\) .* got ndarray"),
    ({"make_model": "model.keras"}, "must be a function, got 'model.keras'"),
    ({"make_model": 3}, "make_model must be a function, got int"),
    ({"make_model": lambda: None}, "got None. It may lack a return"),
    ({"make_model": small.make_model}, "missing a required argument: 'librar"),
    ({"make_model": lambda: small}, "Expected a model or layer of keras"),
  ],
)
def test_wrong_arguments_get_a_sentence(change, message):
  arguments = {
    "make_model": lambda: small.make_model(keras),
    "train_data": (X, Y),
    "validation_data": (X, Y),
    "steps": 4,
    "batch_size": 12,
    **change,
  }
  with pytest.raises(TypeError, match=message):
    tf_lottery.find_ticket(**arguments)


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_a_model_is_no_function(library):
  model = small.make_model(library)
  with pytest.raises(TypeError, match=rf"got the model '?{model.name}"):
    tf_lottery.Trainer(model)
  trainer = tf_lottery.Trainer(lambda: model)
  with pytest.raises(ValueError, match=r"got the same model .* again"):
    trainer.draw(1)


def test_values_are_looked_at_before_anything_is_trained(tmp_path):
  with pytest.raises(
    ValueError, match=r"validation_data: x\[2, 1\] must be fin"
  ):
    x = X.copy()
    x[2, 1] = np.nan
    tf_lottery.find_ticket(
      lambda: small.make_model(keras),
      (X, Y),
      validation_data=(x, Y),
      steps=4,
      batch_size=12,
      run_dir=tmp_path / "run",
    )
  assert not (tmp_path / "run").exists()


def test_a_search_is_short_in_a_console(found):
  text = repr(found)
  assert "\n" not in text
  assert len(text) < 200
  assert text.startswith("Search(4 of 4 Levels done, down to density 0.125")
  assert "objective accuracy (max)" in text


def test_a_trainer_brings_its_own_strategy(found):
  with pytest.raises(ValueError, match="are the Trainer's"):
    small.search(None, trainer=found.trainer, jit=False)


def test_a_model_without_prunable_weights_is_refused():
  with pytest.raises(ValueError, match=r"no prunable weight:[\s\S]*kernel"):
    small.search(None, prunable=lambda weight: False)


def export_slowly(pause, path):
  save = tf.saved_model.save

  def save_and_pause(*arguments):
    save(*arguments)
    pause()

  tf.saved_model.save = save_and_pause
  model = small.make_model(keras)
  export.to_saved_model(model, path, inputs=small.examples(4)[0])


@pytest.mark.slow
def test_an_export_into_the_run_directory_does_not_stop_a_search(tmp_path):
  path = tmp_path / "level_00" / "saved"
  with children.paused(export_slowly, path) as child:
    small.search(tmp_path, levels=1)
    child.finish()
  assert (path / "saved_model.pb").is_file()
  with children.paused(export_slowly, path) as child:
    child.kill()
  assert list(path.parent.glob(".*"))
  small.search(tmp_path, levels=1)
  assert not list(path.parent.glob(".*"))
  assert (path / "saved_model.pb").is_file()


def test_a_second_process_is_refused(tmp_path):
  with (
    run_directory.RunDirectory(tmp_path).locked(),
    pytest.raises(RuntimeError, match="Another process works in"),
  ):
    small.search(tmp_path)


def contents(run_dir: pathlib.Path) -> dict[str, bytes]:
  return {
    str(path.relative_to(run_dir)): path.read_bytes()
    for path in sorted(run_dir.rglob("*.safetensors"))
  }


def without_seconds(run_dir: pathlib.Path) -> list[dict]:
  rows = []
  for path in sorted(run_dir.rglob("metrics.jsonl")):
    for line in path.read_text().splitlines():
      rows.append({k: v for k, v in json.loads(line).items() if k != "seconds"})
  return rows


def run_child(run_dir, kill_when=None) -> bool:
  """Runs a search in a child; kills it when a condition holds."""
  command = [sys.executable, "-m", "tests.small", str(run_dir)]
  environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  with subprocess.Popen(
    command,
    cwd=pathlib.Path(__file__).parents[2],
    env=environment,
    stderr=subprocess.PIPE,
  ) as child:
    while child.poll() is None:
      if kill_when is not None and kill_when(run_dir):
        child.send_signal(signal.SIGKILL)
        child.wait()
        return False
      time.sleep(0.001)
    assert child.returncode == 0, child.stderr.read().decode()
  return True


# Each is a moment that a run passes: while it declares, in the middle of a
# Level, between the files of a Round, before its record.
MOMENTS = {
  "declared": lambda run: (run / "declaration.json").exists(),
  "ticket": lambda run: (run / "level_00/ticket.safetensors").exists(),
  "first checkpoint": lambda run: any(run.glob("level_00/check*")),
  "half-written file": lambda run: any(run.glob("level_01/.*.tmp")),
  "rewind captured": lambda run: (run / "rewind.safetensors").exists(),
  "level 1 begun": lambda run: any(run.glob("level_01/metrics*")),
  "level 1 final": lambda run: any(run.glob("level_01/final*")),
  "level 2 checkpoint": lambda run: any(run.glob("level_02/check*")),
}


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_ticket(tmp_path):
  expected = tmp_path / "expected"
  run_child(expected)
  killed = tmp_path / "killed"
  kills = 0
  for moment in MOMENTS.values():
    kills += not run_child(killed, moment)
  run_child(killed)
  assert kills >= 5
  assert contents(killed) == contents(expected)
  assert without_seconds(killed) == without_seconds(expected)


def test_a_damaged_checkpoint_starts_the_leg_again(tmp_path):
  expected = small.search(tmp_path / "expected", levels=1)
  directory = tmp_path / "damaged"
  small.search(directory, levels=1)
  for name in ("round.json", "final.safetensors"):
    (directory / "level_01" / name).unlink()
  (directory / "level_01" / "checkpoint.safetensors").write_bytes(b"half a f")
  again = small.search(directory, levels=1)
  assert again.rounds[1].metrics == expected.rounds[1].metrics
  for key, value in expected.rounds[1].final.weights.items():
    np.testing.assert_array_equal(again.rounds[1].final.weights[key], value)
