"""prune_and_rewind: score, select, hold and rewind in one call."""

import numpy as np
import pytest

import tf_lottery
from tests.wrappers.models import BATCH
from tests.wrappers.models import OPTIMIZERS
from tests.wrappers.models import assert_holds
from tests.wrappers.models import assert_same
from tests.wrappers.models import compiled
from tests.wrappers.models import examples
from tests.wrappers.models import fit
from tests.wrappers.models import ready
from tests.wrappers.models import residual
from tests.wrappers.models import sequential
from tf_lottery.wrappers import set_seed


@pytest.fixture(autouse=True)
def seeded():
  set_seed(0)


def optimizer_state(binding):
  return [
    np.asarray(variable)
    for variable in binding.generation.optimizer_variables(
      binding.model.optimizer
    )
  ]


def slots(binding):
  return [value for value in optimizer_state(binding) if value.ndim]


def test_prune_and_rewind_is_exact_monotone_and_rewinds_everything(
  keras, strategy
):
  with strategy.scope():
    model = compiled(keras, residual(keras))
  model = tf_lottery.lottery_prune(model)
  binding = tf_lottery.bind(model)
  before = binding.read()
  size = sum(np.prod(shape) for shape in binding.shapes.values())
  last = binding.mask
  for density in (0.5, 0.21):
    fit(model)
    assert np.any(binding.read()["2/moving_mean"] != before["2/moving_mean"])
    assert np.any(binding.read()["1/bias"] != before["1/bias"])
    mask = tf_lottery.prune_and_rewind(model, density)
    assert mask.kept == round(density * size)
    assert mask.issubset(last)
    assert mask == binding.mask == tf_lottery.bind(model).mask
    expected = dict(before)
    for key, kept in mask.items():
      expected[key] = np.where(kept, before[key], 0)
    assert_same(binding.read(), expected)
    last = mask
  fit(model)
  assert_holds(binding, mask)


def test_prune_and_rewind_keeps_the_largest_weights(keras):
  model = ready(keras)
  binding = tf_lottery.bind(model)
  fit(model)
  trained = binding.read()
  mask = tf_lottery.prune_and_rewind(model, 0.5)
  for key, kept in mask.items():
    sizes = np.abs(trained[key])
    assert sizes[kept].min() >= sizes[~kept].max(initial=0)


def test_prune_and_rewind_begins_the_optimizer_afresh(keras, strategy):
  with strategy.scope():
    model = sequential(keras)
    model = compiled(keras, model, OPTIMIZERS["adam"], run_eagerly=True)
  model = tf_lottery.lottery_prune(model)
  binding = tf_lottery.bind(model)
  fit(model)
  model.optimizer.learning_rate = 0.007
  assert int(np.asarray(model.optimizer.iterations)) == 2
  assert any(np.any(value) for value in slots(binding))
  tf_lottery.prune_and_rewind(model, 0.5)
  assert int(np.asarray(model.optimizer.iterations)) == 0
  assert float(np.asarray(model.optimizer.learning_rate)) == (
    pytest.approx(0.007)
  )
  assert not any(np.any(value) for value in slots(binding))
  fit(model)
  assert int(np.asarray(model.optimizer.iterations)) == 2


def test_prune_and_rewind_keeps_the_optimizer_when_asked(keras):
  model = ready(keras)
  binding = tf_lottery.bind(model)
  fit(model)
  before = optimizer_state(binding)
  tf_lottery.prune_and_rewind(model, 0.5, reset_optimizer=False)
  for now, then in zip(optimizer_state(binding), before, strict=True):
    np.testing.assert_array_equal(now, then)


def test_a_rewound_training_repeats_itself(keras):
  model = ready(keras)
  binding = tf_lottery.bind(model)
  fit(model)
  mask = tf_lottery.prune_and_rewind(model, 0.5)
  results = []
  for _ in range(2):
    model.fit(*examples(), batch_size=BATCH, shuffle=False, verbose=0)
    results.append(binding.read())
    tf_lottery.prune_and_rewind(model, 0.5)
    assert binding.mask == mask
  assert_same(*results)


def test_store_initial_moves_the_point_to_which_models_rewind(keras):
  model = ready(keras, residual)
  binding = tf_lottery.bind(model)
  fit(model)
  at_k = binding.read()
  tf_lottery.store_initial(model)
  fit(model)
  mask = tf_lottery.prune_and_rewind(model, 0.5)
  expected = dict(at_k)
  for key, kept in mask.items():
    expected[key] = np.where(kept, at_k[key], 0)
  assert_same(binding.read(), expected)


def test_prune_and_rewind_says_what_is_wrong(keras):
  plain = compiled(keras, sequential(keras))
  with pytest.raises(ValueError, match=r"Call lottery_prune\(model\)"):
    tf_lottery.prune_and_rewind(plain, 0.5)
  with pytest.raises(ValueError, match=r"Call lottery_prune\(model\)"):
    tf_lottery.store_initial(plain)
  model = ready(keras)
  tf_lottery.prune_and_rewind(model, 0.5)
  with pytest.raises(ValueError, match="density must not rise"):
    tf_lottery.prune_and_rewind(model, 0.6)
  with pytest.raises(ValueError, match=r"density must be in \(0, 1\], got 0"):
    tf_lottery.prune_and_rewind(model, 0)
  with pytest.raises(ValueError, match=r"'magnitude'.*got 'magnitud'"):
    tf_lottery.prune_and_rewind(model, 0.4, criterion="magnitud")
  binding = tf_lottery.bind(model)
  kernel = binding.read()["0/kernel"]
  kernel[binding.mask["0/kernel"]] = np.nan
  binding.write({"0/kernel": kernel})
  with pytest.raises(ValueError, match="training diverged"):
    tf_lottery.prune_and_rewind(model, 0.4)
