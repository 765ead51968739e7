"""Every kind of model, under every strategy."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests.wrappers.models import DENSITY
from tests.wrappers.models import GENERATIONS
from tests.wrappers.models import all_layers
from tests.wrappers.models import assert_same
from tests.wrappers.models import compiled
from tests.wrappers.models import copies
from tests.wrappers.models import fit
from tests.wrappers.models import hold_random
from tests.wrappers.models import mobilenet
from tests.wrappers.models import mobilenet_stem
from tests.wrappers.models import predict
from tests.wrappers.models import residual
from tests.wrappers.models import same
from tests.wrappers.models import sequential
from tests.wrappers.models import sizes_of
from tests.wrappers.models import subclassed
from tf_lottery.training import distribution
from tf_lottery.wrappers import set_seed


@dataclasses.dataclass(frozen=True)
class Case:
  generation: str
  strategy: str
  make: Callable
  by_layers: bool = False

  @property
  def shape(self):
    return (32, 32, 3) if "mobilenet" in self.make.__name__ else (6,)

  def __str__(self):
    way = "-by_layers" if self.by_layers else ""
    return f"{self.generation}-{self.strategy}-{self.make.__name__}{way}"


def cases():
  for generation in GENERATIONS:
    for strategy in ("none", "mirrored"):
      for make in (sequential, residual, mobilenet_stem, mobilenet, subclassed):
        if make is mobilenet_stem and strategy == "mirrored":
          continue  # the whole of it is there, marked slow
        marks = pytest.mark.slow if make is mobilenet else ()
        if make is not subclassed or generation == "keras":
          case = Case(generation, strategy, make)
          yield pytest.param(case, id=str(case), marks=marks)
      case = Case(generation, strategy, subclassed, by_layers=True)
      yield pytest.param(case, id=str(case))


@dataclasses.dataclass
class Trained:
  """A model made lottery-ready, held and trained; and what was seen."""

  case: Case
  sizes: tuple[int, int]
  model: Any
  binding: Any
  mask: tf_lottery.Mask
  before: dict[str, np.ndarray]
  held: dict[str, np.ndarray]
  after: dict[str, list[np.ndarray]]
  initial: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=cases())
def trained(request):
  case = request.param
  keras = GENERATIONS[case.generation]
  wrap = tf_lottery.lottery_prune if case.by_layers else same
  set_seed(0)
  with distribution.resolve_strategy(case.strategy).scope():
    model = case.make(keras, wrap)
    # Tracing this one takes its time, and the others are traced.
    eager = case.make is mobilenet_stem
    model = compiled(keras, model, run_eagerly=eager)
  before = tf_lottery.bind(model).read()
  sizes = sizes_of(case.make(keras) if case.by_layers else model)
  if not case.by_layers:
    # Outside of the strategy's scope, as a user may.
    model = tf_lottery.lottery_prune(model)
  binding, mask = hold_random(model)
  held = binding.read()
  fit(model, case.shape)
  yield Trained(
    case,
    sizes,
    model,
    binding,
    mask,
    before,
    held,
    {key: copies(binding, key) for key in held},
    binding.initial(),
  )
  keras.backend.clear_session()


def test_pruned_entries_are_zero_on_every_replica_after_fit(trained):
  strategy = distribution.resolve_strategy(trained.case.strategy)
  replicas = strategy.num_replicas_in_sync
  for key, kept in trained.mask.items():
    assert len(trained.after[key]) == replicas
    for copy in trained.after[key]:
      assert np.all(copy[~kept] == 0.0)
  assert trained.mask.kept == round(DENSITY * trained.mask.size)


def test_a_model_stays_under_its_strategy(trained):
  if trained.case.generation == "tf_keras":
    strategy = distribution.resolve_strategy(trained.case.strategy)
    assert trained.model.distribute_strategy is strategy
  for key in trained.mask:
    np.testing.assert_array_equal(trained.after[key][0], trained.after[key][-1])


def test_kept_entries_train(trained):
  moved = sum(
    np.count_nonzero((trained.after[key][0] != trained.held[key])[kept])
    for key, kept in trained.mask.items()
  )
  # Not all: a dead ReLU has no gradient.
  assert moved > trained.mask.kept / 3


def test_holding_zeroes_the_pruned_and_leaves_the_rest(trained):
  expected = dict(trained.before)
  for key, kept in trained.mask.items():
    expected[key] = np.where(kept, expected[key], np.float32(0))
  assert_same(trained.held, expected)


def test_initial_weights_are_those_before_training(trained):
  assert trained.initial.keys() == trained.before.keys()
  assert_same(trained.initial, trained.before)


@pytest.fixture(scope="module")
def stripped(trained):
  trained.binding.check_held()
  before = predict(trained.model, trained.case.shape)
  return tf_lottery.strip_lottery(trained.model), before


def test_a_stripped_model_predicts_the_same(trained, stripped):
  model, before = stripped
  np.testing.assert_array_equal(predict(model, trained.case.shape), before)
  weights = tf_lottery.bind(model).read()
  for key, kept in trained.mask.items():
    assert not weights[key][~kept].any()


def test_a_stripped_model_is_plain(trained, stripped, tmp_path):
  model, _ = stripped
  names = {type(layer).__name__ for layer in all_layers(model)}
  assert not [name for name in names if "Lottery" in name]
  assert sizes_of(model) == trained.sizes
  path = tf.train.Checkpoint(model=model).write(tmp_path / "checkpoint")
  names = [name for name, _ in tf.train.list_variables(path)]
  assert not [name for name in names if "lottery" in name]
  with pytest.raises(ValueError, match="lottery_prune"):
    tf_lottery.bind(model).initial()


def test_a_stripped_model_trains_dense_again(trained, stripped):
  model, _ = stripped
  # One that is traced anew, without the mask, suffices.
  model.run_eagerly = trained.case.strategy == "mirrored" or (
    "mobilenet" in trained.case.make.__name__
  )
  fit(model, trained.case.shape)
  weights = tf_lottery.bind(model).read()
  assert any(weights[key][~kept].any() for key, kept in trained.mask.items())
