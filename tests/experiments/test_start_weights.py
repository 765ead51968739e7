"""Controls that change start weights alone, and one that trains nothing."""

import keras
import numpy as np
import pytest

import tf_lottery
from tests import small
from tests.experiments import mine
from tf_lottery.cost import Cost
from tf_lottery.experiments import controls
from tf_lottery.report import records
from tf_lottery.report import summaries

LEVEL = 2
NAMES = ("signs", "magnitudes", "permuted")


@pytest.fixture(scope="module")
def trainer():
  return tf_lottery.Trainer(lambda: small.make_model(keras), seed=3)


@pytest.fixture(scope="module")
def search(trainer, tmp_path_factory):
  """Two Levels, rewound to step 6."""
  return small.search(
    tmp_path_factory.mktemp("starts"),
    trainer=trainer,
    levels=2,
    rewind=small.REWIND,
  )


@pytest.fixture(scope="module")
def ticket(search):
  return search.ticket(LEVEL)


def pairs(search, ticket, name):
  """The kept start weights of each prunable tensor: before, and changed."""
  changed = controls.BY_NAME[name](search, LEVEL, 0).ticket
  return [
    (ticket.start[key][kept], changed.start[key][kept])
    for key, kept in ticket.mask.items()
  ]


@pytest.mark.parametrize("name", NAMES)
def test_prunable_weights_alone_are_changed(search, ticket, name):
  round_ = controls.BY_NAME[name](search, LEVEL, 0)
  changed = round_.ticket
  assert changed.mask == ticket.mask
  assert round_.steps == search.round(LEVEL).steps
  assert round_.start == 6
  for key, value in changed.start.items():
    same = np.array_equal(value, ticket.start[key])
    assert same == (key not in ticket.mask)


def test_signs_stay_and_magnitudes_become_their_mean(search, ticket):
  for before, after in pairs(search, ticket, "signs"):
    assert np.array_equal(np.sign(after), np.sign(before))
    mean = np.abs(before).mean()
    np.testing.assert_allclose(np.abs(after), mean, rtol=1e-6)


def test_magnitudes_stay_and_signs_are_drawn(search, ticket):
  flipped = []
  for before, after in pairs(search, ticket, "magnitudes"):
    assert np.array_equal(np.abs(after), np.abs(before))
    flipped += (np.sign(after) != np.sign(before)).tolist()
  assert 0.1 < np.mean(flipped) < 0.9
  other = controls.magnitudes(search, LEVEL, 1).ticket
  assert not other.equals(controls.magnitudes(search, LEVEL, 0).ticket)


def test_weights_change_places_within_their_tensor(search, ticket):
  for before, after in pairs(search, ticket, "permuted"):
    assert np.array_equal(np.sort(after), np.sort(before))
    assert not np.array_equal(after, before)


def make_constant():
  """Its hidden weights are all equal, and those of the output are zeros."""
  layers = keras.layers
  model = keras.Sequential(
    [
      keras.Input((6,)),
      layers.Dense(8, "tanh", kernel_initializer=keras.initializers.Ones()),
      layers.Dense(2, kernel_initializer="zeros"),
    ]
  )
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
  return model


def test_zeros_have_no_sign_and_equal_weights_stay(tmp_path, caplog):
  search = small.search(
    tmp_path, trainer=tf_lottery.Trainer(make_constant), levels=1
  )
  start = search.ticket(1).start
  for name in NAMES:
    changed = controls.BY_NAME[name](search, 1, 0).ticket.start
    assert np.all(changed["1/kernel"] == 0)
    if name == "magnitudes":
      assert {-1.0, 1.0} <= set(changed["0/kernel"].ravel().tolist())
      continue
    assert np.array_equal(changed["0/kernel"], start["0/kernel"])
    assert f"{name} changes nothing at Level 1, seed 3" in caplog.text
  assert "magnitudes changes nothing" not in caplog.text


def test_a_supermask_is_the_mask_on_the_very_first_weights(search, ticket):
  round_ = controls.supermask(search, LEVEL)
  changed, first = round_.ticket, search.initial.weights
  assert changed.mask == ticket.mask
  for key, kept in changed.mask.items():
    assert np.array_equal(changed.start[key], np.where(kept, first[key], 0))
  for key, value in round_.final.weights.items():
    if key in changed.start:
      assert np.array_equal(value, changed.start[key])


def test_a_supermask_is_evaluated_and_not_trained(search, ticket):
  round_ = controls.supermask(search, LEVEL)
  assert (round_.steps, round_.start, round_.cost) == (0, 0, Cost())
  (row,) = round_.history
  model = round_.restore(search.trainer.make_model())
  x, y = small.examples(40, 2)
  _, accuracy = model.evaluate(x, y, verbose=0)
  assert round_.metrics["test_accuracy"] == pytest.approx(accuracy)
  assert round_.metrics["val_loss"] == row["val_loss"]
  # It is not that of the ticket, which rewinds to step 6.
  untrained = search.round(LEVEL).untrained
  assert untrained["val_loss"] != row["val_loss"]


def test_reports_show_it_at_both_moments(search):
  round_ = controls.supermask(search, LEVEL)
  found = [
    record
    for record in records.read_rounds(search.directory.path)
    if record.method == "supermask"
  ]
  (record,) = found
  assert record.done
  assert (record.steps, record.early_stop_step) == (0, None)
  for when in summaries.MOMENTS:
    measure = summaries.measure_at(when, found)
    assert getattr(record, measure) == round_.metrics["test_accuracy"]
  assert record.test_start == record.test_end


def test_a_supermask_that_was_not_recorded_is_recorded_later(trainer, tmp_path):
  search = small.search(tmp_path, trainer=trainer, levels=1)
  before = controls.supermask(search, 1)
  (before.directory.path / "round.json").unlink()
  (record,) = (
    r for r in records.read_rounds(tmp_path) if r.method == "supermask"
  )
  assert not record.done
  assert record.test_end is None
  again = controls.supermask(search, 1)
  assert again.metrics == before.metrics
  assert len(again.history) == 1


def test_a_supermask_of_a_regression(tmp_path):
  train, validation, _ = mine.load_targets(0)
  search = tf_lottery.find_ticket(
    mine.make_regression,
    train,
    validation_data=validation,
    steps=8,
    schedule=[0.5],
    method="iterative",
    run_dir=tmp_path,
  )
  round_ = controls.supermask(search, 1)
  assert round_.metrics.keys() == {"val_loss"}
  assert round_.metrics["val_loss"] > search.round(1).metrics["val_loss"]


def test_the_dense_network_has_none(search):
  for name in (*NAMES, "supermask"):
    with pytest.raises(ValueError, match=r"pruned Levels, .* got Level 0"):
      controls.BY_NAME[name](search, 0, 0)
