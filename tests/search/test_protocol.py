import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests import small
from tf_lottery.cost import Cost
from tf_lottery.search import rounds
from tf_lottery.search.protocol import Protocol
from tf_lottery.storage import run_directory
from tf_lottery.training import data


@pytest.fixture(scope="module")
def trainer():
  return tf_lottery.Trainer(lambda: small.make_model(keras))


@pytest.fixture
def directory(tmp_path):
  return run_directory.RunDirectory(tmp_path).level(0)


def run(
  trainer,
  directory,
  start=0,
  stop=20,
  every=5,
  test=None,
  captures=None,
  density=1.0,
):
  protocol = Protocol(
    train=data.as_data(small.examples(96)),
    validation=data.as_data(small.examples(40, 1)),
    test=test,
    batch_size=12,
    evaluate_every=every,
    seed=0,
  )
  assert protocol.steps_per_epoch == 8
  mask = tf_lottery.Mask.random(trainer.binding.shapes, density, seed=0)
  ticket = tf_lottery.Ticket(mask, trainer.initial.without_random_states())
  round_, final = protocol.train_round(
    trainer,
    ticket,
    trainer.initial,
    range(start, stop),
    directory,
    captures=captures,
  )
  return round_.history, final


def test_it_evaluates_every_so_often_and_at_the_end(trainer, directory):
  history, final = run(trainer, directory, stop=18)
  assert [row["step"] for row in history] == [0, 5, 10, 15, 18]
  assert final.step == 18
  assert {"loss", "seconds", "val_loss", "val_accuracy"} <= history[1].keys()
  seconds = [row["seconds"] for row in history]
  assert seconds == sorted(seconds)
  assert directory.read_metrics() == history


def test_it_first_evaluates_the_start_weights_under_the_mask(
  trainer, directory
):
  test = data.as_data(small.examples(40, 2))
  (first, *_), _ = run(trainer, directory, test=test, density=0.5)
  assert first["step"] == 0
  assert "loss" not in first
  ticket = tf_lottery.Ticket.load(directory.ticket)
  assert ticket.density == 0.5
  trainer.binding.write(ticket.start)
  for name, seed in (("val", 1), ("test", 2)):
    expected = trainer.evaluate(data.as_data(small.examples(40, seed)))
    for metric, value in expected.items():
      assert first[f"{name}_{metric}"] == value


def test_the_start_is_not_an_early_stop(trainer, directory, monkeypatch):
  """Only steps of training are tested as one, even if all are worse."""
  evaluate = trainer.evaluate
  losses = iter(range(99))
  monkeypatch.setattr(
    trainer, "evaluate", lambda data: {**evaluate(data), "loss": next(losses)}
  )
  test = data.as_data(small.examples(40, 2))
  rows, _ = run(trainer, directory, every=3, test=test)
  assert min(rows, key=lambda row: row["val_loss"])["step"] == 0
  assert [row["step"] for row in rows if "test_loss" in row] == [0, 3, 20]


def test_it_tests_the_early_stop_of_each_epoch_and_the_end(trainer, directory):
  test = data.as_data(small.examples(40, 2))
  rows, _ = run(trainer, directory, stop=84, every=3, test=test)
  expected = {0, 84}
  for epoch_end in range(8, 88, 8):
    so_far = [row for row in rows if 0 < row["step"] <= epoch_end]
    early_stop = min(so_far, key=lambda row: row["val_loss"])["step"]
    if early_stop > epoch_end - 8:
      expected.add(early_stop)
  assert {row["step"] for row in rows if "test_loss" in row} == expected
  assert 4 < len(expected) < 13 < len(rows)
  assert directory.read_metrics() == rows
  assert all(list(row)[-1] == "seconds" for row in rows)


def test_the_early_stop_has_the_test_metrics_of_its_own_weights(
  trainer, tmp_path
):
  run_dir = run_directory.RunDirectory(tmp_path)
  test = data.as_data(small.examples(40, 2))
  rows, _ = run(trainer, run_dir.level(0), stop=24, every=3, test=test)
  tested = [row for row in rows[1:-1] if "test_loss" in row]
  assert any(row["step"] % 8 for row in tested)
  for row in tested:
    again = run_dir.level(row["step"])
    ((*_, last), _) = run(trainer, again, stop=row["step"], every=3, test=test)
    for name in ("test_loss", "test_accuracy"):
      assert last[name] == row[name]


def test_testing_changes_nothing_in_training(keras, strategy, tmp_path):
  trainer = tf_lottery.Trainer(
    lambda: small.make_model(keras, dropout=0.2), strategy=strategy
  )
  run_dir = run_directory.RunDirectory(tmp_path)
  test = data.as_data(small.examples(40, 2))
  rows, tested = run(trainer, run_dir.level(0), every=3, test=test)
  assert any("test_loss" in row and row["step"] % 8 for row in rows[:-1])
  _, alone = run(trainer, run_dir.level(1), every=3)
  assert tested.fingerprint() == alone.fingerprint()


def test_it_begins_in_the_middle(trainer, directory):
  history, _ = run(trainer, directory, start=7, stop=18)
  assert [row["step"] for row in history] == [7, 10, 15, 18]


@pytest.mark.parametrize("step", [3, 8, 10])
def test_it_captures_at_a_step(trainer, directory, step):
  captured = []
  run(trainer, directory, captures={step: captured.append})
  (snapshot,) = captured
  assert snapshot.step == step
  # With the optimizer's variables: a training may go on from here.
  assert int(snapshot.optimizer[0]) == step


def test_where_it_stops_for_evaluation_changes_nothing(trainer, tmp_path):
  run_dir = run_directory.RunDirectory(tmp_path)
  _, often = run(trainer, run_dir.level(0), every=1)
  _, seldom = run(trainer, run_dir.level(1), every=20)
  for key, value in often.weights.items():
    np.testing.assert_allclose(value, seldom.weights[key], atol=1e-6)


def test_it_goes_on_from_its_checkpoint(trainer, tmp_path):
  run_dir = run_directory.RunDirectory(tmp_path)
  expected, end = run(trainer, run_dir.level(0))

  def interrupt(snapshot):
    raise KeyboardInterrupt

  broken = run_dir.level(1)
  with pytest.raises(KeyboardInterrupt):
    run(trainer, broken, captures={18: interrupt})
  assert broken.checkpoint.is_file()  # of step 16
  kept = broken.read_metrics()
  again, same_end = run(trainer, broken)
  assert [row["step"] for row in again] == [row["step"] for row in expected]
  assert again[:4] == kept  # seconds included
  assert same_end.fingerprint() == end.fingerprint()
  assert not broken.checkpoint.exists()


@pytest.mark.parametrize("step", [3, 18])
def test_the_start_is_evaluated_once_and_changes_nothing(keras, tmp_path, step):
  """Also if layers draw numbers in evaluation, as those of a VAE do."""

  class Noise(keras.layers.Layer):
    def __init__(self):
      super().__init__()
      self.noise = keras.layers.GaussianNoise(0.1)

    def call(self, x):
      return self.noise(x, training=True)

  def make_model():
    model = keras.Sequential(
      [keras.Input((6,)), Noise(), keras.layers.Dense(2)]
    )
    model.compile(
      "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model

  trainer = tf_lottery.Trainer(make_model)
  run_dir = run_directory.RunDirectory(tmp_path)
  _, end = run(trainer, run_dir.level(0))

  def interrupt(snapshot):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    run(trainer, run_dir.level(1), captures={step: interrupt})
  again, same_end = run(trainer, run_dir.level(1))
  assert [row["step"] for row in again] == [0, 5, 10, 15, 20]
  assert same_end.fingerprint() == end.fingerprint()


def test_a_round_of_before_there_were_starts_resumes_as_it_is(
  trainer, directory
):
  def interrupt(snapshot):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    run(trainer, directory, captures={18: interrupt})
  directory.write_metrics(directory.read_metrics()[1:])
  history, _ = run(trainer, directory)
  assert [row["step"] for row in history] == [5, 10, 15, 20]


@pytest.mark.parametrize("step", [3, 8, 13, 18])
def test_an_interrupted_round_costs_as_much(trainer, tmp_path, step):
  run_dir = run_directory.RunDirectory(tmp_path)
  run(trainer, run_dir.level(0), density=0.3)

  def interrupt(snapshot):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    run(trainer, run_dir.level(1), density=0.3, captures={step: interrupt})
  run(trainer, run_dir.level(1), density=0.3)
  whole, again = (rounds.Round.read(run_dir.level(i)).cost for i in (0, 1))
  assert again == whole
  dense = 20 * 12 * 3 * 2 * 64
  assert whole == Cost(20, 240, dense, dense * round(0.3 * 64) / 64)


def test_a_checkpoint_of_before_there_were_costs_leaves_flops_unknown(
  trainer, directory
):
  def interrupt(snapshot):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    run(trainer, directory, captures={18: interrupt})
  checkpoint = tf_lottery.Snapshot.load(directory.checkpoint)
  assert checkpoint.cost.steps == 16
  dataclasses.replace(checkpoint, cost=None).save(directory.checkpoint)
  run(trainer, directory)
  assert rounds.Round.read(directory).cost == Cost(steps=20)


def test_streams_cost_the_examples_that_they_gave(trainer, directory):
  x, y = small.examples(50)
  # Batches of 12, and the last of 2.
  stream = tf.data.Dataset.from_tensor_slices((x, y)).batch(12)
  protocol = Protocol(
    train=data.as_data(stream),
    validation=data.as_data(small.examples(40, 1)),
    test=None,
    batch_size=99,
    evaluate_every=4,
    seed=0,
  )
  mask = tf_lottery.Mask.ones(trainer.binding.shapes)
  ticket = tf_lottery.Ticket(mask, trainer.initial.without_random_states())
  round_, _ = protocol.train_round(
    trainer, ticket, trainer.initial, range(10), directory
  )
  flops = 100 * 3 * 2 * 64
  assert round_.cost == Cost(10, 100, flops, flops)


def test_a_done_round_is_read_back(trainer, directory):
  history, final = run(trainer, directory)
  assert final is not None
  assert run(trainer, directory) == (history, None)
  with pytest.raises(ValueError, match="steps 0 to 20, and 0 to 24 are asked"):
    run(trainer, directory, stop=24)


def test_tensorboard_reads_the_metrics(trainer, directory):
  test = data.as_data(small.examples(40, 2))
  history, _ = run(trainer, directory, test=test)
  (path,) = directory.tensorboard.glob("events*")
  found = {}
  for record in tf.data.TFRecordDataset(str(path)):
    event = tf.compat.v1.Event.FromString(record.numpy())
    for value in event.summary.value:
      if value.tag.startswith("_hparams_"):
        continue
      assert value.metadata.plugin_data.plugin_name == "scalars"
      found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
  assert found["val_loss", 0] == pytest.approx(history[0]["val_loss"])
  assert found["val_loss", 5] == pytest.approx(history[1]["val_loss"])
  assert found["val_accuracy", 20] == history[-1]["val_accuracy"]
  tested = {row["step"] for row in history if "test_loss" in row}
  assert {step for tag, step in found if tag == "test_loss"} == tested
  assert min(tested - {0}) % 8  # added at the end of its epoch
  spent = rounds.Round.read(directory).cost.to_json()
  for name, value in spent.items():
    assert found[f"cost/{name}", 20] == pytest.approx(value)


def test_tensorboard_has_the_density_as_a_hyperparameter(trainer, directory):
  pytest.importorskip("tensorboard")
  from tensorboard.plugins.hparams import plugin_data_pb2

  run(trainer, directory)
  (path,) = directory.tensorboard.glob("events*")
  (content,) = [
    value.metadata.plugin_data.content
    for record in tf.data.TFRecordDataset(str(path))
    for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value
    if value.tag == "_hparams_/session_start_info"
  ]
  data = plugin_data_pb2.HParamsPluginData.FromString(content)
  hparams = data.session_start_info.hparams
  assert hparams["density"].number_value == 1.0
  assert hparams["method"].string_value == "ticket"


def test_a_write_that_bypasses_the_mask_is_noticed(trainer, directory):
  mask = tf_lottery.Mask.random(trainer.binding.shapes, 0.5, seed=0)
  trainer.restore(trainer.initial, mask, 0)
  trainer.binding.write(trainer.initial.weights)
  with pytest.raises(RuntimeError, match=r"pruned entries of dense.* not zero"):
    trainer.binding.check_held()
