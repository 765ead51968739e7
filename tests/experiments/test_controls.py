"""Each control changes one thing, and trains as the ticket did."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tf_lottery import rewinding
from tf_lottery.experiments import controls
from tf_lottery.report import records
from tf_lottery.wrappers import keras2_gradual

LEVEL = 2
# Controls that do not start at step 6, to which the search rewinds.
FROM_ELSEWHERE = (
  "fine_tune",
  "gradual",
  "learning_rate_rewind",
  "rewind_to_init",
  "rigl",
  "set",
)
# Controls that are evaluated as they are.
UNTRAINED = ("supermask", "weight_average")


@pytest.fixture(scope="module")
def trainer():
  return tf_lottery.Trainer(lambda: small.make_model(keras), seed=3)


@pytest.fixture(scope="module")
def result(trainer, tmp_path_factory):
  """Two Levels, rewound to step 6."""
  return small.search(
    tmp_path_factory.mktemp("late"), trainer=trainer, rewind=small.REWIND
  )


@pytest.fixture(scope="module")
def ticket(result):
  return result.rounds[LEVEL].ticket


def same_weights(one, other, mask):
  return all(
    np.array_equal(
      value[mask[key]] if key in mask else value,
      other[key][mask[key]] if key in mask else other[key],
    )
    for key, value in one.items()
  )


@pytest.mark.parametrize("name", sorted(controls.BY_NAME))
def test_it_trains_as_long_at_the_same_density(result, ticket, name):
  round_ = controls.BY_NAME[name](result, LEVEL, 0)
  assert round_.directory.path.name == f"level_02-{name}-0"
  assert round_.ticket.provenance["control"] == name
  assert round_.ticket.mask.kept == ticket.mask.kept
  assert round_.density == ticket.density
  expected = 20 if name in FROM_ELSEWHERE else 14
  if name.endswith("_equal_cost"):
    expected = 20 + 14 + 14  # Levels 0 and 1, and the ticket's own
  if name in UNTRAINED:
    expected = 0
  assert round_.steps == expected
  traces = result.trainer.traces
  again = controls.BY_NAME[name](result, LEVEL, 0)
  assert again.metrics == round_.metrics
  assert result.trainer.traces == traces


def test_random_reinit_changes_the_weights_alone(result, ticket):
  first, second = (
    controls.random_reinit(result, LEVEL, draw).ticket for draw in (0, 1)
  )
  for changed in (first, second):
    assert changed.mask == ticket.mask
    for key, kept in ticket.mask.items():
      assert np.all(changed.start[key][kept] != ticket.start[key][kept])
  assert not first.equals(second)


@pytest.mark.parametrize("name", ["shuffled_mask", "random_mask", "one_shot"])
def test_other_masks_keep_the_weights(result, ticket, name):
  changed = controls.BY_NAME[name](result, LEVEL, 0).ticket
  assert changed.mask != ticket.mask
  dense = rewinding.Snapshot.load(result.directory.rewind).weights
  assert same_weights(changed.start, dense, changed.mask)
  # The ticket's own are those of the same snapshot.
  assert same_weights(ticket.start, dense, ticket.mask)


def test_a_shuffled_mask_keeps_each_layers_count(result, ticket):
  changed = controls.shuffled_mask(result, LEVEL).ticket
  assert changed.mask.table() == ticket.mask.table()
  other = controls.shuffled_mask(result, LEVEL, 1).ticket
  assert other.mask != changed.mask


@pytest.mark.parametrize("name", ["shuffled_mask", "random_mask"])
@pytest.mark.parametrize("pattern", ["block_1x2", "1_of_2", "channel"])
def test_other_masks_keep_the_pattern(trainer, tmp_path, name, pattern):
  density = {"1_of_2": 0.4}.get(pattern, 0.5)
  result = small.search(
    tmp_path, trainer=trainer, schedule=[density], pattern=pattern
  )
  ticket = result.rounds[1].ticket
  changed = controls.BY_NAME[name](result, 1, 0).ticket
  assert changed.mask != ticket.mask
  if name == "shuffled_mask":
    assert changed.mask.table() == ticket.mask.table()
  # Kernels are inputs x outputs.
  hidden = changed.mask["0/kernel"]
  pairs = hidden.reshape(3, 2, 8)
  if pattern == "block_1x2":
    assert np.array_equal(pairs[:, 0], pairs[:, 1])
  elif pattern == "1_of_2":
    assert pairs.sum(1).max() == 1
  else:
    assert np.array_equal(hidden.all(0), hidden.any(0))
    assert changed.mask["2/kernel"].all()


def test_a_control_that_an_earlier_version_drew_otherwise_is_read_back(
  trainer, tmp_path, caplog
):
  search = small.search(tmp_path, trainer=trainer, levels=1)
  done = controls.shuffled_mask(search, 1)
  ticket = done.ticket
  other = tf_lottery.Mask.random(ticket.mask.shapes, 0.5, seed=9)
  dense = search.rounds[0].ticket.start
  tf_lottery.Ticket(other, dense, ticket.provenance).save(done.directory.ticket)
  assert controls.shuffled_mask(search, 1).metrics == done.metrics
  assert "was trained by an earlier version" in caplog.text


def test_one_shot_prunes_the_trained_dense_network(result):
  changed = controls.one_shot(result, LEVEL).ticket
  trained = result.rounds[0].final.weights
  magnitudes = np.concatenate(
    [np.abs(trained[key]).ravel() for key in changed.mask]
  )
  kept = np.concatenate([array.ravel() for array in changed.mask.values()])
  assert magnitudes[kept].min() >= magnitudes[~kept].max()


@pytest.mark.parametrize("name", ["fine_tune", "learning_rate_rewind"])
def test_no_rewinding_goes_on_from_the_trained_weights(result, ticket, name):
  round_ = controls.BY_NAME[name](result, LEVEL, 0)
  assert round_.ticket.mask == ticket.mask
  trained = result.rounds[LEVEL - 1].final.weights
  assert same_weights(round_.ticket.start, trained, ticket.mask)
  first = {"fine_tune": 20, "learning_rate_rewind": 0}[name]
  assert round_.history[0]["step"] == first


def test_rewinding_to_init_takes_the_very_first_weights(result, ticket):
  round_ = controls.rewind_to_init(result, LEVEL)
  assert round_.ticket.mask == ticket.mask
  initial = result.rounds[0].ticket.start
  assert same_weights(round_.ticket.start, initial, ticket.mask)
  assert not same_weights(round_.ticket.start, ticket.start, ticket.mask)


def test_controls_of_a_short_search_are_as_short(trainer, tmp_path):
  result = small.search(
    tmp_path, trainer=trainer, levels=1, steps=20, search_steps=10
  )
  for control in (controls.random_reinit, controls.learning_rate_rewind):
    assert control(result, 1).steps == result.rounds[1].steps == 10


def test_new_weights_train_from_the_start_where_tickets_are_fine_tuned(
  trainer, tmp_path
):
  result = small.search(
    tmp_path, trainer=trainer, levels=1, rewind=rewinding.finetune()
  )
  assert result.rounds[1].history[0]["step"] == 20
  assert controls.random_reinit(result, 1).history[0]["step"] == 0


def test_steps_are_counted_from_the_start_of_each_training(result):
  """A control that goes on where training ended does not look slower."""
  run_dir = result.rounds[0].directory.path.parent
  controls.fine_tune(result, LEVEL)
  controls.rewind_to_init(result, LEVEL)
  found = {
    (record.method, record.level): record
    for record in records.read_rounds(run_dir)
  }
  assert found["fine_tune", LEVEL].steps == 20
  assert found["rewind_to_init", LEVEL].steps == 20
  assert found["ticket", LEVEL].steps == 14
  for (method, _), record in found.items():
    if method not in UNTRAINED:
      assert 0 < record.early_stop_step <= record.steps


def test_steps_of_an_unfinished_training_are_counted_from_its_start(
  trainer, tmp_path
):
  small.search(tmp_path, trainer=trainer, levels=1, rewind=rewinding.finetune())
  (tmp_path / "level_01" / "round.json").unlink()
  unfinished = records.read_rounds(tmp_path)[1]
  assert (unfinished.done, unfinished.steps) == (False, 20)


def test_a_done_control_is_not_taken_for_one_of_other_steps(result, ticket):
  result.train(ticket, "twice")
  with pytest.raises(ValueError, match="steps 6 to 20, and 0 to 20 are asked"):
    result.train(ticket, "twice", rewind=tf_lottery.to_init())


@pytest.mark.parametrize(
  ("steps", "end"), [(1, 1), (20, 15), (260, 100), (1000, 700), (10_000, 7500)]
)
def test_gradual_pruning_ends_where_tfmot_prunes(steps, end):
  """At a multiple of 100 steps, once there are as many."""
  assert keras2_gradual.end_step(steps) == end


def test_rewinding_to_init_is_refused_where_it_changes_nothing(
  trainer, tmp_path
):
  result = small.search(tmp_path, trainer=trainer, levels=1)
  with pytest.raises(ValueError, match="would repeat the tickets"):
    controls.rewind_to_init(result, 1)


def test_a_process_that_must_not_write_trains_gradually_too(trainer, tmp_path):
  """The workers of a cluster that are not its chief leave no files."""
  result = small.search(tmp_path, trainer=trainer, levels=1)
  result.directory.writes = False
  before = sorted(tmp_path.rglob("*"))
  round_ = controls.gradual_tfmot(
    result, 1, make_model=lambda: small.make_model(tf_keras)
  )
  assert sorted(tmp_path.rglob("*")) == before
  assert round_.metrics["val_loss"] > 0


def test_the_dense_network_has_no_controls(result):
  with pytest.raises(ValueError, match=r"pruned Levels, .* got Level 0"):
    controls.random_reinit(result, 0)


def make_narrow(width=1.0):
  model = keras.Sequential(
    [
      keras.Input((6,)),
      keras.layers.Dense(max(1, round(32 * width))),
      keras.layers.Dense(2),
    ]
  )
  model.compile(
    "adam",
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return model


def test_small_dense_has_about_as_many_weights(result, ticket):
  """16 weights are kept, and a hidden unit has 8."""
  assert ticket.mask.kept == 16
  control = functools.partial(controls.small_dense, make_model=make_narrow)
  round_ = control(result, LEVEL)
  assert round_.density == 16 / ticket.mask.size
  assert round_.ticket.mask.shapes == {"0/kernel": (6, 2), "1/kernel": (2, 2)}
  assert round_.steps == result.steps
  assert round_.ticket.density == 1.0
  assert control(result, LEVEL).metrics == round_.metrics
  other = control(result, LEVEL, 1).ticket
  assert not np.array_equal(
    other.start["0/kernel"], round_.ticket.start["0/kernel"]
  )


def test_small_dense_trains_as_long_as_search_and_ticket(result, ticket):
  control = functools.partial(
    controls.small_dense_equal_cost, make_model=make_narrow
  )
  round_ = control(result, LEVEL)
  assert round_.steps == result.equal_cost_steps(LEVEL) == 20 + 14 + 14
  assert round_.density == 16 / ticket.mask.size
  assert round_.ticket.provenance["control"] == "small_dense_equal_cost"
  assert control(result, LEVEL).metrics == round_.metrics


def test_equal_cost_counts_what_the_ticket_says_its_search_cost(
  trainer, tmp_path
):
  search = small.search(tmp_path, trainer=trainer, levels=2)
  assert [search.equal_cost_steps(level) for level in (1, 2)] == [40, 60]
  level = search.rounds[2].directory
  ticket = tf_lottery.Ticket.load(level.ticket)
  cost = dict.fromkeys(("examples", "dense_flops", "sparse_flops"), 1)
  provenance = {**ticket.provenance, "search_cost": {"steps": 7, **cost}}
  dataclasses.replace(ticket, provenance=provenance).save(level.ticket)
  assert search.equal_cost_steps(2) == 27
  with pytest.raises(ValueError, match="got Level 0"):
    search.equal_cost_steps(0)


def test_small_dense_says_if_no_width_comes_close(result, caplog):
  """8 weights are kept, and the narrowest has 9."""
  assert result.rounds[3].ticket.mask.kept == 8

  def make_model(width):
    model = keras.Sequential(
      [
        keras.Input((6,)),
        keras.layers.Dense(max(1, round(32 * width))),
        keras.layers.Dense(1),
        keras.layers.Dense(2),
      ]
    )
    model.compile(
      "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model

  controls.small_dense(result, 3, make_model=make_model)
  assert (
    "seed 3: it has 9 prunable weights, and the ticket keeps 8" in caplog.text
  )


def test_tfmots_gradual_ends_at_the_tickets_densities(result, ticket):
  control = functools.partial(
    controls.gradual_tfmot, make_model=lambda: small.make_model(tf_keras)
  )
  round_ = control(result, LEVEL)
  found = round_.ticket
  assert found.mask != ticket.mask
  for mine, tickets_ in zip(
    found.mask.table(), ticket.mask.table(), strict=True
  ):
    assert mine.kept == pytest.approx(tickets_.kept, abs=1)
  # The same initial weights, and only rows with the final density.
  assert same_weights(found.start, result.rounds[0].ticket.start, found.mask)
  assert [row["step"] for row in round_.history] == [16, 20]
  assert set(round_.metrics) >= {"val_loss", "test_accuracy"}
  assert control(result, LEVEL).metrics == round_.metrics
