"""The same ticket by another recipe."""

import keras as keras_3
import numpy as np
import pytest

import tf_lottery
from tests import small
from tf_lottery import experiments
from tf_lottery.report import records


@pytest.fixture(scope="module")
def trainer():
  return tf_lottery.Trainer(lambda: small.make_model(keras_3), seed=3)


@pytest.fixture(scope="module")
def search(trainer, tmp_path_factory):
  return small.search(
    tmp_path_factory.mktemp("late"),
    trainer=trainer,
    levels=2,
    rewind=tf_lottery.to_step("6it"),
  )


@pytest.fixture(scope="module")
def momentum():
  def make_model():
    model = small.make_model(keras_3)
    model.compile(
      keras_3.optimizers.SGD(0.1, momentum=0.9),
      keras_3.losses.SparseCategoricalCrossentropy(from_logits=True),
      metrics=["accuracy"],
    )
    return model

  return tf_lottery.Trainer(make_model)


def test_it_trains_the_ticket_with_another_optimizer(search, momentum):
  round_ = experiments.retrain(search, 2, name="momentum", trainer=momentum)
  ticket = search.rounds[2].ticket
  assert round_.ticket.equals(ticket)
  assert round_.directory.path.name == "level_02-momentum-0"
  assert round_.density == 0.25
  assert round_.steps == 20
  assert round_.history[0]["step"] == 0
  assert round_.history[0]["val_loss"] == pytest.approx(
    search.rounds[2].history[0]["val_loss"]
  )
  differing = [
    key
    for key, value in round_.final.weights.items()
    if not np.array_equal(value, search.rounds[2].final.weights[key])
  ]
  assert len(differing) > 2
  again = experiments.retrain(search, 2, name="momentum", trainer=momentum)
  assert again.metrics == round_.metrics
  # The search's own trainer goes on with its own optimizer.
  mine = search.train(ticket, "again")
  assert mine.metrics == search.rounds[2].metrics


def test_the_dense_network_trains_by_it_too(search, momentum):
  """From step 6, as the tickets do."""
  round_ = experiments.retrain(search, 0, name="momentum", trainer=momentum)
  assert round_.directory.path.name == "level_00-momentum-0"
  assert (round_.level, round_.density) == (0, 1.0)
  start = tf_lottery.Snapshot.load(search.directory.rewind).weights
  for key, value in round_.ticket.start.items():
    np.testing.assert_array_equal(value, start[key])


def test_data_batch_size_and_length_may_be_others(search):
  round_ = experiments.retrain(
    search,
    1,
    name="elsewhere",
    train_data=small.examples(60, 7),
    validation_data=small.examples(30, 8),
    batch_size=20,
    steps=7,
  )
  assert round_.steps == 7
  assert [row["step"] for row in round_.history] == [0, 7]
  assert search.protocol.batch_size == 12
  recipe = round_.ticket.provenance["recipe"]
  assert recipe["batch_size"] == 20
  assert "test_accuracy" in round_.metrics


def test_all_as_before_is_the_training_of_before(keras, tmp_path):
  search = small.search(tmp_path, library=keras, levels=1, dropout=0.2)
  for level in (0, 1):
    again = experiments.retrain(search, level, name="same")
    assert again.final.fingerprint() == search.rounds[level].final.fingerprint()


def test_records_name_it_as_a_method(search, momentum):
  experiments.retrain(search, 0, name="momentum", trainer=momentum)
  experiments.retrain(search, 2, name="momentum", trainer=momentum)
  found = records.read_rounds(search.directory.path)
  levels = [r.level for r in found if r.method == "momentum"]
  assert levels == [0, 2]


def test_a_name_stands_for_one_recipe(search, momentum):
  experiments.retrain(search, 1, name="longer", steps=30)
  with pytest.raises(ValueError, match="steps 0 to 30, and 0 to 31 are asked"):
    experiments.retrain(search, 1, name="longer", steps=31)
  with pytest.raises(ValueError, match="another recipe; optimizer: it was"):
    experiments.retrain(search, 1, name="longer", trainer=momentum, steps=30)
  with pytest.raises(ValueError, match="batch_size: it was 12, now 6"):
    experiments.retrain(search, 1, name="longer", batch_size=6, steps=30)


@pytest.mark.parametrize("name", ["", "a-b", "dense", "gradual", "small_dense"])
def test_names_of_other_methods_are_refused(search, name):
  with pytest.raises(ValueError, match="name must have letters"):
    experiments.retrain(search, 1, name=name)


def test_levels_and_steps_out_of_range_are_refused(search):
  with pytest.raises(ValueError, match="0, 1, 2 are trained; got Level 3"):
    experiments.retrain(search, 3, name="x")
  with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
    experiments.retrain(search, 1, name="x", steps=0)


def test_another_architecture_is_refused(search):
  def more_classes():
    model = keras_3.Sequential(
      [
        keras_3.Input((6,)),
        keras_3.layers.Dense(8, activation="relu"),
        keras_3.layers.BatchNormalization(),
        keras_3.layers.Dense(3),
      ]
    )
    model.compile("adam", "mse")
    return model

  with pytest.raises(ValueError, match=r"as many outputs: .*\(8, 3\)"):
    experiments.retrain(
      search, 1, name="x", trainer=tf_lottery.Trainer(more_classes)
    )


def test_other_prunable_weights_are_refused(search):
  other = tf_lottery.Trainer(
    lambda: small.make_model(keras_3), prunable=lambda w: not w.is_output
  )
  with pytest.raises(ValueError, match="Give it the same prunable"):
    experiments.retrain(search, 1, name="x", trainer=other)
