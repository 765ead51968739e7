import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests import small
from tf_lottery import data as data_lib
from tf_lottery import legs
from tf_lottery import rundir


@pytest.fixture(scope="module")
def trainer():
  return tf_lottery.Trainer(lambda: small.make_model(keras))


@pytest.fixture
def directory(tmp_path):
  return rundir.RunDirectory(tmp_path).level(0)


def run(trainer, directory, start=0, stop=20, every=5, test=None, **leg):
  protocol = legs.Protocol(
    train=data_lib.as_data(small.examples(96)),
    validation=data_lib.as_data(small.examples(40, 1)),
    test=test,
    batch_size=12,
    steps_per_epoch=8,
    evaluate_every=every,
    seed=0,
  )
  mask = tf_lottery.Mask.ones(trainer.binding.shapes)
  one = legs.Leg(trainer.initial, mask, start, stop, **leg)
  return legs.run(trainer, protocol, one, directory)


def test_it_evaluates_every_so_often_and_at_the_end(trainer, directory):
  history, final = run(trainer, directory, stop=18)
  assert [row["step"] for row in history] == [5, 10, 15, 18]
  assert final.step == 18
  assert {"loss", "seconds", "val_loss", "val_accuracy"} <= history[0].keys()
  seconds = [row["seconds"] for row in history]
  assert seconds == sorted(seconds)
  assert directory.read_metrics() == history


def test_it_tests_at_new_lowest_validation_losses_and_at_the_end(
  trainer, directory
):
  test = data_lib.as_data(small.examples(40, 2))
  rows, _ = run(trainer, directory, stop=60, every=2, test=test)
  lowest = [
    row["val_loss"] < min([r["val_loss"] for r in rows[:i]], default=np.inf)
    for i, row in enumerate(rows)
  ]
  lowest[-1] = True
  assert not all(lowest)
  assert ["test_loss" in row for row in rows] == lowest


def test_it_begins_in_the_middle(trainer, directory):
  history, _ = run(trainer, directory, start=7, stop=18)
  assert [row["step"] for row in history] == [10, 15, 18]


@pytest.mark.parametrize("step", [3, 8, 10])
def test_it_captures_at_a_step(trainer, directory, step):
  captured = []
  run(trainer, directory, capture_at=step, on_capture=captured.append)
  (snapshot,) = captured
  assert snapshot.step == step
  assert snapshot.optimizer is None


def test_where_it_stops_for_evaluation_changes_nothing(trainer, directory):
  _, often = run(trainer, directory, every=1)
  directory.checkpoint.unlink()
  _, seldom = run(trainer, directory, every=20)
  for key, value in often.weights.items():
    np.testing.assert_allclose(value, seldom.weights[key], atol=1e-6)


def test_it_goes_on_from_its_checkpoint(trainer, directory):
  expected, end = run(trainer, directory)
  (directory.path / "final.safetensors").unlink()
  assert directory.checkpoint.is_file()  # of step 16
  again, same_end = run(trainer, directory)
  assert [row["step"] for row in again] == [row["step"] for row in expected]
  assert again[:3] == expected[:3]  # kept, seconds included
  assert same_end.fingerprint() == end.fingerprint()


def test_tensorboard_reads_the_metrics(trainer, directory):
  history, _ = run(trainer, directory)
  (path,) = directory.tensorboard.glob("events*")
  found = {}
  for record in tf.data.TFRecordDataset(str(path)):
    event = tf.compat.v1.Event.FromString(record.numpy())
    for value in event.summary.value:
      if value.tag.startswith("_hparams_"):
        continue
      assert value.metadata.plugin_data.plugin_name == "scalars"
      found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
  assert found["val_loss", 5] == pytest.approx(history[0]["val_loss"])
  assert found["val_accuracy", 20] == history[-1]["val_accuracy"]


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
