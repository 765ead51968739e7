"""Sparse from the start: RigL, SET and random masks of ERK densities."""

import functools
import importlib
import math
import shutil

import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests import small
from tf_lottery import scopes
from tf_lottery.experiments import controls
from tf_lottery.experiments.controls import gradual_pruning

MOVING = ("rigl", "set")
LEVEL = 2


def make_model(library, optimizer="Adam", *, dropout=0.2, **settings):
  """A hidden layer, an output, and statistics and dropout between them."""
  layers = library.layers
  model = library.Sequential(
    [
      library.Input((6,)),
      layers.Dense(16, activation="tanh"),
      layers.BatchNormalization(),
      layers.Dropout(dropout),
      layers.Dense(2),
    ]
  )
  model.compile(
    getattr(library.optimizers, optimizer)(0.01, **settings),
    loss=library.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return model


@functools.cache
def trainer_of(name, strategy="none"):
  """One for all tests: the programs of a trainer are traced once."""
  library = importlib.import_module(name)
  # XLA would compile for longer than these networks train.
  return tf_lottery.Trainer(
    lambda: make_model(library), strategy=strategy, seed=3, jit=False
  )


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def search(request, tmp_path_factory):
  """Two Levels of 20 steps, 8 steps an epoch; 128 prunable weights."""
  return small.search(
    tmp_path_factory.mktemp("sparse"),
    trainer=trainer_of(request.param),
    levels=2,
  )


def watched(search, monkeypatch):
  """Notes mask, weights and slots before and after each change."""
  trainer, seen = search.trainer, []
  hold = trainer.binding.hold

  def note(mask):
    before = trainer.binding.mask, trainer.binding.read()
    hold(mask)
    slots = [slot.numpy() for _, slot, _ in slots_of(trainer)]
    seen.append((*before, mask, trainer.binding.read(), slots))

  monkeypatch.setattr(trainer.binding, "hold", note)
  return seen


def slots_of(trainer):
  """Key, variable and name of each slot, by shapes that are distinct."""
  by_shape = {shape: key for key, shape in trainer.binding.shapes.items()}
  variables = trainer.binding.generation.optimizer_variables(
    trainer.model.optimizer
  )
  for variable in variables:
    if key := by_shape.get(tuple(variable.shape)):
      yield key, variable, variable.name


def test_a_random_erk_mask_has_erk_counts_and_dense_weights(search):
  ticket = search.rounds[LEVEL].ticket
  changed, other = (
    controls.random_erk(search, LEVEL, draw).ticket for draw in (0, 1)
  )
  groups = scopes.erdos_renyi()(search.prunable, ticket.density)
  counts = {group.keys[0]: group.keep for group in groups}
  assert {row.key: row.kept for row in changed.mask.table()} == counts
  assert changed.mask.kept == ticket.mask.kept
  assert changed.mask != other.mask
  dense = search.dense_start()
  for key, kept in changed.mask.items():
    expected = np.where(kept, dense[key], 0)
    np.testing.assert_array_equal(changed.start[key], expected)


@pytest.mark.parametrize("name", MOVING)
def test_weights_are_dropped_and_grown(search, monkeypatch, name):
  seen = watched(search, monkeypatch)
  round_ = controls.BY_NAME[name](search, LEVEL, 1)
  first, *changes = seen
  erk = scopes.erdos_renyi()(search.prunable, 0.25)
  *steps, end = gradual_pruning.change_steps(20)
  assert (len(changes), end) == (len(steps), 15)
  assert changes[-1][2] == round_.ticket.mask != first[2]
  for step, (mask, weights, moved, after, slots) in zip(
    steps, changes, strict=True
  ):
    share = 0.15 * (1 + math.cos(math.pi * step / end))
    for group in erk:
      (key,) = group.keys
      assert np.count_nonzero(moved[key]) == group.keep
      dropped = mask[key] & ~moved[key]
      grown = moved[key] & ~mask[key]
      most = round(share * group.keep)
      assert np.count_nonzero(grown) <= most
      stayed = mask[key] & moved[key]
      # What is dropped is among the smallest; all weights that stay, stay.
      if dropped.any():
        sizes = np.sort(np.abs(weights[key][mask[key]]))
        assert np.abs(weights[key][dropped]).max() <= sizes[most - 1]
      np.testing.assert_array_equal(after[key][stayed], weights[key][stayed])
      assert not after[key][~stayed].any()
    named = [key for key, *_ in slots_of(search.trainer)]
    assert len(named) == 4  # two of Adam for each kernel
    for key, slot in zip(named, slots, strict=True):
      stayed = mask[key] & moved[key]
      assert not slot[~stayed].any()
      assert slot[stayed].any()
  moved_in_all = sum(mask.distance(after) for mask, _, after, *_ in changes)
  assert moved_in_all > 0.1
  assert round_.final.weights.keys() >= set(round_.ticket.mask)


def test_rigl_grows_by_the_gradient_and_set_at_random(search):
  """The gradients of pruned weights, from the batch of the next step."""
  trainer, protocol = search.trainer, search.protocol
  mask = tf_lottery.Mask.random(trainer.binding.shapes, 0.5, seed=1)
  trainer.restore(search.initial, mask, 0)
  before = trainer.capture(0, optimizer=True)
  found = trainer.gradients(protocol.train, 11, batch_size=12, seed=3)
  again = trainer.gradients(protocol.train, 11, batch_size=12, seed=3)
  other = trainer.gradients(protocol.train, 12, batch_size=12, seed=3)
  spent = trainer.collect()
  assert (spent.steps, spent.examples) == (0, 3 * 12)
  dense = 3 * 36 * trainer.flops(protocol.train).forward()
  sparse = 3 * 36 * trainer.flops(protocol.train).forward(mask)
  # Of the three passes, that by the weights is dense.
  assert spent.dense_flops == dense
  assert spent.sparse_flops == pytest.approx((2 * sparse + dense) / 3)
  after = trainer.capture(0, optimizer=True)
  # Moving statistics, the states of dropout and the optimizer are untouched.
  assert after.fingerprint() == before.fingerprint()
  for one, two in zip(before.optimizer, after.optimizer, strict=True):
    np.testing.assert_array_equal(one, two)
  assert found.keys() == mask.keys()
  for key, kept in mask.items():
    assert found[key][~kept].any()
    np.testing.assert_array_equal(found[key], again[key])
    assert np.any(found[key] != other[key])


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_gradients_are_those_of_finite_differences(library):
  library = importlib.import_module(library)

  def make():
    model = library.Sequential(
      [library.Input((3,)), library.layers.Dense(2, use_bias=False)]
    )
    model.compile(library.optimizers.SGD(1.0), "mse")
    return model

  trainer = tf_lottery.Trainer(make, jit=False)
  rng = np.random.default_rng(0)
  x, y = (rng.normal(size=(4, n)).astype("float32") for n in (3, 2))
  mask = tf_lottery.Mask({"0/kernel": np.eye(3, 2, dtype=bool)})
  trainer.restore(trainer.initial, mask, 0)
  weights = trainer.binding.read()["0/kernel"]
  (found,) = trainer.gradients((x, y), 0, batch_size=4, seed=0).values()
  # The mean over 4 examples and 2 outputs, and pruned weights are zero.
  expected = 2 * x.T @ (x @ (weights * mask["0/kernel"]) - y) / 8
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
  ("optimizer", "settings", "count"),
  [
    ("SGD", {"momentum": 0.9}, 2),
    ("Adam", {"amsgrad": True}, 6),
    ("Ftrl", {}, 4),
    ("RMSprop", {"momentum": 0.9, "centered": True}, 6),
  ],
)
def test_slots_of_pruned_weights_are_as_new(keras, optimizer, settings, count):
  trainer = tf_lottery.Trainer(
    lambda: make_model(keras, optimizer, **settings), jit=False
  )
  fresh = [slot.numpy() for _, slot, _ in slots_of(trainer)]
  trainer.train(small.examples(96), 0, 5, batch_size=12, seed=0)
  trained = trainer.capture(5, optimizer=True).optimizer
  before = [slot.numpy() for _, slot, _ in slots_of(trainer)]
  mask = tf_lottery.Mask.random(trainer.binding.shapes, 0.5, seed=1)
  trainer.reset_slots({key: ~kept for key, kept in mask.items()})
  found = list(slots_of(trainer))
  assert len(found) == count
  for (key, slot, _), new, old in zip(found, fresh, before, strict=True):
    expected = np.where(mask[key], old, new)
    np.testing.assert_array_equal(slot.numpy(), expected)
    assert np.any(old != new)
  # Other variables, such as the slots of biases, stay.
  after = trainer.capture(5, optimizer=True).optimizer
  shapes = set(trainer.binding.shapes.values())
  for old, new in zip(trained, after, strict=True):
    if old.shape not in shapes:
      np.testing.assert_array_equal(new, old)


class _Stop(Exception):
  pass


@pytest.mark.parametrize(
  ("name", "step"),
  [
    pytest.param("rigl", 7, marks=pytest.mark.slow),
    ("rigl", 13),
    pytest.param("set", 13, marks=pytest.mark.slow),
  ],
)
def test_it_resumes_bit_for_bit(keras, strategy, tmp_path, name, step):
  """Also where the checkpoint, of step 8, has a mask that has moved."""
  trainer = trainer_of(keras.__name__, strategy)
  search = small.search(tmp_path / "a", trainer=trainer, levels=2)
  shutil.copytree(tmp_path / "a", tmp_path / "b")
  control = controls.BY_NAME[name]
  whole = control(search, LEVEL)
  search = small.search(tmp_path / "b", trainer=trainer, levels=2)
  train = trainer.train

  def train_until_stopped(data, start, stop, **options):
    if start >= step:
      raise _Stop
    return train(data, start, stop, **options)

  trainer.train = train_until_stopped
  with pytest.raises(_Stop):
    control(search, LEVEL)
  trainer.train = train
  again = control(search, LEVEL)
  assert again.ticket.equals(whole.ticket)
  assert again.final.fingerprint() == whole.final.fingerprint()
  assert again.metrics == whole.metrics
  (again.directory.path / "round.json").unlink()
  once_more = control(search, LEVEL)
  assert once_more.ticket.equals(whole.ticket)
  assert once_more.metrics == whole.metrics


@pytest.mark.parametrize("pattern", ["channel", "block_1x2", "1_of_2"])
@pytest.mark.parametrize("name", [*MOVING, "random_erk"])
def test_it_keeps_the_pattern(tmp_path, name, pattern):
  trainer = trainer_of("keras")
  density = {"channel": 0.5, "1_of_2": 0.25}.get(pattern, 0.4)
  search = small.search(
    tmp_path, trainer=trainer, schedule=[density], pattern=pattern
  )
  control = controls.BY_NAME[name]
  mask = control(search, 1).ticket.mask
  other = control(search, 1, 1).ticket.mask
  assert mask != other
  assert [row.kept for row in mask.table()] == [
    row.kept for row in other.table()
  ]
  hidden = mask["0/kernel"]
  pairs = hidden.reshape(3, 2, 16)
  if pattern == "channel":
    assert np.array_equal(hidden.all(0), hidden.any(0))
    assert mask["2/kernel"].all()
  elif pattern == "block_1x2":
    assert np.array_equal(pairs[:, 0], pairs[:, 1])
  else:
    assert pairs.sum(1).max() == 1


def test_a_pattern_that_allows_no_dense_layer_is_refused(tmp_path):
  """At 48 % of 128 weights, ERK keeps more than half of the output layer."""
  trainer = trainer_of("keras")
  search = small.search(
    tmp_path, trainer=trainer, schedule=[0.48], pattern="1_of_2"
  )
  with pytest.raises(ValueError, match="control rigl has the layer densities"):
    controls.rigl(search, 1)


def test_it_grows_by_the_next_batch_of_a_stream(keras, tmp_path):
  """The batch is read once, and trained on after it was looked at."""
  read = []

  def batches(epoch):
    x, y = small.examples(96)
    order = np.random.default_rng(epoch).permutation(96)

    def generate():
      for batch in np.split(order, 8):
        read.append((epoch, batch[0]))
        yield x[batch], y[batch]

    spec = (
      tf.TensorSpec((12, 6), tf.float32),
      tf.TensorSpec((12,), tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(generate, output_signature=spec)
    return dataset.apply(tf.data.experimental.assert_cardinality(8))

  trainer = trainer_of(keras.__name__)
  search = tf_lottery.find_ticket(
    trainer,
    batches,
    validation_data=small.examples(40, 1),
    steps=20,
    schedule=[0.5],
    run_dir=tmp_path,
    seed=3,
  )
  traces = trainer.traces
  read.clear()
  static = controls.random_erk(search, 1)
  reads = len(read)
  read.clear()
  round_ = controls.rigl(search, 1)
  assert trainer.traces == traces
  assert round_.ticket.mask.kept == static.ticket.mask.kept
  # One more than the static training at most: nothing is skipped through.
  assert len(read) <= reads + 1
