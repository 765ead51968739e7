"""Masks and initial weights in files, of all formats."""

import dataclasses
import subprocess
import sys
import textwrap
from typing import Any

import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests.wrappers.models import DENSITY
from tests.wrappers.models import GENERATIONS
from tests.wrappers.models import all_layers
from tests.wrappers.models import assert_holds
from tests.wrappers.models import assert_refused
from tests.wrappers.models import assert_same
from tests.wrappers.models import compiled
from tests.wrappers.models import examples
from tests.wrappers.models import fit
from tests.wrappers.models import hold_random
from tests.wrappers.models import ready
from tests.wrappers.models import residual
from tests.wrappers.models import same
from tests.wrappers.models import sequential
from tests.wrappers.models import subclass_of
from tests.wrappers.models import subclassed


def masked(keras, make):
  """A model that was trained under a mask, away from its initial weights."""
  model = ready(keras, make, run_eagerly=False)
  binding = tf_lottery.bind(model)
  binding.write({key: value + 0.5 for key, value in binding.read().items()})
  tf_lottery.store_initial(model)
  binding, mask = hold_random(model)
  fit(model)
  return model, binding, mask


@dataclasses.dataclass
class Saved:
  model: Any
  mask: tf_lottery.Mask
  initial: dict[str, np.ndarray]
  weights: dict[str, np.ndarray]
  path: Any


SAVED = [(g, make) for g in GENERATIONS for make in (sequential, residual)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A `.keras` file of each generation and kind."""
  files = {}
  for generation, make in SAVED:
    model, binding, mask = masked(GENERATIONS[generation], make)
    name = f"{generation}-{make.__name__}"
    path = tmp_path_factory.mktemp("saved") / f"{name}.keras"
    model.save(path)
    files[name] = Saved(model, mask, binding.initial(), binding.read(), path)
  return files


def assert_like(model, saved):
  binding = tf_lottery.bind(model)
  assert binding.mask == saved.mask
  assert_same(binding.initial(), saved.initial)
  assert_same(binding.read(), saved.weights)
  return binding


@pytest.mark.parametrize("name", [f"{g}-{m.__name__}" for g, m in SAVED])
def test_a_keras_file_keeps_masks_and_initial_weights(saved, name):
  keras = GENERATIONS[name.split("-")[0]]
  model = keras.models.load_model(saved[name].path)
  binding = assert_like(model, saved[name])
  fit(model)
  assert_holds(binding, saved[name].mask)
  model = tf_lottery.strip_lottery(model)
  assert not [
    layer for layer in all_layers(model) if "Lottery" in type(layer).__name__
  ]


IN_A_FRESH_PROCESS = """
  import os
  import sys
  import numpy as np
  import tf_lottery
  import keras
  import tf_keras

  for path in sys.argv[1:]:
    generation = keras if "/keras-" in path else tf_keras
    model = generation.models.load_model(path)
    binding = tf_lottery.bind(model)
    expected = np.load(path + ".npz")
    for key, kept in binding.mask.items():
      np.testing.assert_array_equal(kept, expected["mask/" + key])
    for key, value in binding.initial().items():
      np.testing.assert_array_equal(value, expected["initial/" + key])
    if "residual" in path:
      model.fit(expected["x"], expected["y"], verbose=0)
    binding.check_held()
    assert 0.39 < binding.mask.density < 0.41
  assert "TF_USE_LEGACY_KERAS" not in os.environ
"""


def test_keras_files_load_in_a_process_that_only_imports_tf_lottery(saved):
  for one in saved.values():
    arrays = {f"mask/{key}": value for key, value in one.mask.items()}
    arrays |= {f"initial/{key}": value for key, value in one.initial.items()}
    x, y = examples()
    np.savez(f"{one.path}.npz", x=x, y=y, **arrays)
  script = textwrap.dedent(IN_A_FRESH_PROCESS)
  paths = [str(one.path) for one in saved.values()]
  done = subprocess.run(
    [sys.executable, "-c", script, *paths], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("make", [sequential, subclassed])
def test_a_checkpoint_keeps_masks_and_initial_weights(keras, make, tmp_path):
  def fresh():
    if make is subclassed:
      model = subclassed(keras, tf_lottery.lottery_prune)
      return compiled(keras, model, run_eagerly=True)
    return ready(keras, make)

  model = fresh()
  fit(model)
  tf_lottery.store_initial(model)
  binding, mask = hold_random(model, DENSITY / 2)
  checkpoint = tf.train.Checkpoint(model=model)
  path = checkpoint.save(tmp_path / "checkpoint")

  restored = fresh()
  status = tf.train.Checkpoint(model=restored).restore(path)
  status.assert_existing_objects_matched()
  restored_binding = tf_lottery.bind(restored)
  assert restored_binding.mask == mask
  assert_same(restored_binding.initial(), binding.initial())
  assert_same(restored_binding.read(), binding.read())
  fit(restored)
  assert_holds(restored_binding, mask)


def test_a_weights_file_keeps_masks_and_initial_weights(keras, tmp_path):
  model = ready(keras, residual)
  binding, mask = hold_random(model)
  path = tmp_path / "model.weights.h5"
  model.save_weights(path)
  restored = ready(keras, residual)
  restored.load_weights(path)
  restored_binding = tf_lottery.bind(restored)
  assert restored_binding.mask == mask
  assert_same(restored_binding.initial(), binding.initial())


def test_saving_a_subclassed_model_pruned_whole_names_the_way_out(
  keras3, tmp_path
):
  model = ready(keras3, subclassed)
  with pytest.raises(ValueError, match="Ticket"):
    model.save(tmp_path / "model.keras")
  model = tf_lottery.strip_lottery(model)
  model.save(tmp_path / "model.keras")


def test_a_subclassed_model_pruned_by_layers_survives_saving(keras3, tmp_path):
  model = compiled(keras3, subclassed(keras3, tf_lottery.lottery_prune))
  binding, mask = hold_random(model)
  fit(model)
  path = tmp_path / "model.keras"
  model.save(path)
  loaded = keras3.models.load_model(
    path, custom_objects={"Net": subclass_of(keras3)}
  )
  loaded_binding = tf_lottery.bind(loaded)
  assert loaded_binding.mask == mask
  assert_same(loaded_binding.initial(), binding.initial())
  assert_same(loaded_binding.read(), binding.read())
  fit(loaded)
  assert_holds(loaded_binding, mask)


@pytest.mark.parametrize("by_layers", [False, True], ids=["model", "layers"])
def test_a_keras_file_keeps_layers_made_of_layers(keras, by_layers, tmp_path):
  wrap = tf_lottery.lottery_prune if by_layers else same
  inputs = keras.Input((5, 4))
  # Attention of tf_keras makes its weights when it is called.
  x = wrap(keras.layers.MultiHeadAttention(2, 3))(inputs, inputs)
  x = wrap(keras.layers.Bidirectional(keras.layers.GRU(3)))(x)
  model = keras.Model(inputs, x)
  keys = list(tf_lottery.bind(model).read())
  path = tmp_path / "model.keras"
  if by_layers and keras is keras_3:
    # Keras would save it, and lose the masks.
    assert_refused(
      lambda: model.save(path), ValueError, r"Call lottery_prune\(model\)"
    )
  model = tf_lottery.lottery_prune(model)
  binding, mask = hold_random(model)
  assert len(mask) == 8
  assert list(binding.initial()) == list(binding.read()) == keys
  model.save(path)
  loaded = tf_lottery.bind(keras.models.load_model(path))
  assert loaded.mask == mask
  assert_same(loaded.initial(), binding.initial())
  assert_same(loaded.read(), binding.read())


def test_a_tf_keras_layer_must_make_its_weights_together(tf_keras):
  class Both(tf_keras.layers.Layer):
    def __init__(self):
      super().__init__()
      self.late = tf_keras.layers.Dense(3)

    def build(self, shape):
      self.scale = self.add_weight(name="scale", shape=())

    def call(self, inputs):
      return self.scale * self.late(inputs)

  inputs = tf_keras.Input((4,))
  model = tf_keras.Model(inputs, Both()(inputs))
  assert len(tf_lottery.bind(tf_lottery.lottery_prune(model)).initial()) == 3
  layer = tf_lottery.lottery_prune(Both())
  with pytest.raises(ValueError, match=r"Make them all in build\(\)"):
    layer(tf.zeros([2, 4]))


def test_lottery_prune_layers_keep_their_arguments_in_their_config(tf_keras):
  from tf_lottery.wrappers import keras2
  from tf_lottery.wrappers import keras2_lottery

  schedule = keras2.pruning_wrapper.pruning_sched.PolynomialDecay(
    0.1, 0.9, begin_step=3, end_step=7
  )
  layer = keras2_lottery.LotteryPrune(
    tf_keras.layers.Dense(4),
    prunable_roles=["kernel"],
    pruning_schedule=schedule,
    block_size=(1, 4),
    sparsity_m_by_n=(2, 4),
  )
  config = layer.get_config()
  again = keras2_lottery.LotteryPrune.from_config(config)
  assert again.get_config() == config
  assert again.sparsity_m_by_n == (2, 4)
  assert again.block_size == (1, 4)
  assert again.prunable_roles == ["kernel"]
  assert again.pruning_schedule.get_config() == schedule.get_config()
  again.build((None, 8))
  assert [weight.shape for weight, _, _ in again.pruning_vars] == [(8, 4)]
