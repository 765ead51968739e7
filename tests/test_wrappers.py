"""One suite for both Keras generations, strategies and kinds of model."""

import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras_2

import tf_lottery
from tf_lottery.training.trainer import distribution
from tf_lottery.wrappers import binding as binding_lib
from tf_lottery.wrappers import set_seed

GENERATIONS = {"keras": keras_3, "tf_keras": keras_2}
DENSITY = 0.4
BATCH = 8

# Models: each maker gets a generation, and what to wrap layers with.


def same(layer):
  return layer


def sequential(keras, wrap=same):
  del wrap
  return keras.Sequential(
    [
      keras.layers.InputLayer((6,)),
      keras.layers.Dense(8, activation="relu"),
      keras.layers.Dense(4, activation="softmax"),
    ]
  )


def residual(keras, wrap=same):
  del wrap
  inputs = keras.Input((6,))
  x = keras.layers.Dense(8, activation="relu")(inputs)
  y = keras.layers.Dense(8)(x)
  y = keras.layers.BatchNormalization()(y)
  y = keras.layers.Dropout(0.1)(y)
  outputs = keras.layers.Dense(4, activation="softmax")(x + y)
  return keras.Model(inputs, outputs)


def subclass_of(keras):
  class Net(keras.Model):
    def __init__(self, wrap=same, **kwargs):
      super().__init__(**kwargs)
      self.wrap = wrap
      self.hidden = wrap(keras.layers.Dense(8, activation="relu"))
      self.norm = wrap(keras.layers.BatchNormalization())
      self.drop = keras.layers.Dropout(0.1)
      self.head = wrap(keras.layers.Dense(4, activation="softmax"))

    def call(self, inputs, training=None):
      x = self.norm(self.hidden(inputs), training=training)
      return self.head(self.drop(x, training=training))

    def get_config(self):
      return {"wrapped": self.wrap is not same}

    @classmethod
    def from_config(cls, config):
      return cls(tf_lottery.lottery_prune if config["wrapped"] else same)

  return Net


def subclassed(keras, wrap=same):
  model = subclass_of(keras)(wrap)
  model(tf.zeros([2, 6]))
  return model


def mobilenet(keras, wrap=same):
  del wrap
  return keras.applications.MobileNetV2(
    input_shape=(32, 32, 3), alpha=0.35, classes=4, weights=None
  )


def mobilenet_stem(keras, wrap=same):
  """Its first blocks: all kinds of layer and a sum."""
  whole = mobilenet(keras, wrap)
  x = whole.get_layer("block_2_add").output
  x = keras.layers.GlobalAveragePooling2D()(x)
  outputs = keras.layers.Dense(4, activation="softmax")(x)
  return keras.Model(whole.input, outputs)


# What the tests do with them.


def momentum(keras):
  return keras.optimizers.SGD(0.05, momentum=0.9)


def compiled(keras, model, optimizer=momentum, **kwargs):
  kwargs = {"jit_compile": False, **kwargs}
  model.compile(optimizer(keras), "sparse_categorical_crossentropy", **kwargs)
  return model


def ready(keras, make=sequential, optimizer=momentum, run_eagerly=True):
  # Tracing takes longer than all else: only where the test is about training.
  model = compiled(keras, make(keras), optimizer, run_eagerly=run_eagerly)
  return tf_lottery.lottery_prune(model)


def examples(shape=(6,)):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2 * BATCH, *shape)).astype("float32")
  return x, rng.integers(0, 4, 2 * BATCH)


def fit(model, shape=(6,)):
  return model.fit(*examples(shape), batch_size=BATCH, verbose=0)


def hold_random(model, density=DENSITY, seed=1):
  binding = tf_lottery.bind(model)
  mask = tf_lottery.Mask.random(binding.shapes, density, seed)
  binding.hold(mask)
  return binding, mask


def predict(model, shape=(6,)):
  return np.asarray(model(examples(shape)[0], training=False))


def copies(binding, key):
  """The weight on each replica, read without the binding's own code."""
  variable = binding._slots[key].variable
  if isinstance(variable, keras_3.Variable):
    variable = variable.value
  return [copy.numpy() for copy in getattr(variable, "values", (variable,))]


def assert_holds(binding, mask):
  binding.check_held()
  for key, kept in mask.items():
    for copy in copies(binding, key):
      assert not copy[~kept].any()


def assert_same(got, expected):
  for key in expected:
    np.testing.assert_array_equal(got[key], expected[key], err_msg=key)


def all_layers(model):
  return list(binding_lib.walk(model, tf_lottery.bind(model).generation))


@pytest.fixture(autouse=True)
def seeded():
  set_seed(0)


# 1. Every kind of model, under every strategy.


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


def sizes_of(model):
  return len(model.weights), len(model.trainable_weights)


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


# 2. Every optimizer, and every way to train.


OPTIMIZERS = {
  "momentum": momentum,
  "adam": lambda keras: keras.optimizers.Adam(0.01),
  "adamw": lambda keras: keras.optimizers.AdamW(0.01, weight_decay=0.1),
  "clipnorm": lambda keras: keras.optimizers.SGD(0.05, global_clipnorm=0.1),
}


@pytest.fixture(params=OPTIMIZERS.values(), ids=OPTIMIZERS)
def optimizer(request):
  return request.param


def single(keras):
  return keras.Sequential(
    [
      keras.layers.InputLayer((6,)),
      keras.layers.Dense(4, activation="softmax"),
    ]
  )


def tape_step(keras, model):
  """A user's own training step, as Keras's guides write it."""
  loss_of = keras.losses.SparseCategoricalCrossentropy(reduction="sum")

  def step(x, y):
    with tf.GradientTape() as tape:
      loss = loss_of(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply_gradients(
      zip(gradients, model.trainable_variables, strict=True)
    )

  return step


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_fit_holds_under_every_optimizer(keras, optimizer, jit_compile):
  model = compiled(keras, single(keras), optimizer, jit_compile=jit_compile)
  model = tf_lottery.lottery_prune(model)
  binding, mask = hold_random(model)
  before = binding.read()
  fit(model)
  assert_holds(binding, mask)
  assert np.any(binding.read()["0/kernel"] != before["0/kernel"])


@pytest.mark.parametrize("jit_compile", [False, True], ids=["eager", "xla"])
def test_a_tape_loop_holds_under_every_optimizer(keras, optimizer, jit_compile):
  model = tf_lottery.lottery_prune(single(keras))
  model.optimizer = optimizer(keras)
  model.optimizer.build(model.trainable_variables)
  binding, mask = hold_random(model)
  step = tape_step(keras, model)
  if jit_compile:
    step = tf.function(step, jit_compile=True)
  x, y = examples()
  for _ in range(3):
    step(x, y)
    assert_holds(binding, mask)
  # A second mask needs no new tracing.
  binding, mask = hold_random(model, DENSITY / 2, seed=2)
  step(x, y)
  assert_holds(binding, mask)


def test_a_tape_loop_holds_under_a_strategy(keras):
  strategy = distribution.resolve_strategy("mirrored")
  with strategy.scope():
    model = compiled(keras, sequential(keras))
  model = tf_lottery.lottery_prune(model)
  binding, mask = hold_random(model)
  with strategy.scope():
    model.optimizer.build(model.trainable_variables)
  step = tape_step(keras, model)
  tf.function(strategy.run)(step, args=examples())
  assert_holds(binding, mask)


def test_a_model_that_was_trained_before_holds(keras):
  model = compiled(keras, sequential(keras))
  fit(model)
  trained_weights = tf_lottery.bind(model).read()
  model = tf_lottery.lottery_prune(model)
  assert_same(tf_lottery.bind(model).initial(), trained_weights)
  binding, mask = hold_random(model)
  fit(model)
  assert_holds(binding, mask)


def test_holding_on_a_plain_model_that_was_trained_before(keras):
  model = compiled(keras, sequential(keras))
  fit(model)
  binding, mask = hold_random(model)
  fit(model)
  assert_holds(binding, mask)
  binding.release()
  fit(model)
  assert binding.read()["0/kernel"][~mask["0/kernel"]].any()


def test_optimizers_that_average_the_weights_are_refused(keras):
  # Keras writes the averages back at the end of fit(), unmasked.
  def averaging(keras):
    return keras.optimizers.SGD(0.1, use_ema=True)

  with pytest.raises(ValueError, match="Use use_ema=False"):
    ready(keras, optimizer=averaging)
  model = tf_lottery.lottery_prune(sequential(keras))
  model = compiled(keras, model, averaging)
  with pytest.raises(ValueError, match="Use use_ema=False"):
    tf_lottery.prune_and_rewind(model, 0.5)


def test_check_held_notices_what_was_written_past_the_optimizer(keras):
  binding, mask = hold_random(ready(keras))
  binding.write(binding.initial())
  with pytest.raises(RuntimeError, match="hold the mask again"):
    binding.check_held()
  binding.hold(mask)
  assert_holds(binding, mask)


def test_a_constraint_of_the_user_goes_on(keras):
  model = keras.Sequential(
    [
      keras.layers.InputLayer((6,)),
      keras.layers.Dense(4, "softmax", kernel_constraint="non_neg"),
    ]
  )
  model = tf_lottery.lottery_prune(compiled(keras, model))
  binding, mask = hold_random(model)
  fit(model)
  assert_holds(binding, mask)
  assert binding.read()["0/kernel"].min() >= 0
  model = tf_lottery.strip_lottery(model)
  fit(model)
  assert tf_lottery.bind(model).read()["0/kernel"].min() >= 0


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def policy(request, keras):
  keras.mixed_precision.set_global_policy(request.param)
  yield request.param
  keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("by_layers", [False, True], ids=["model", "layers"])
def test_mixed_precision_keeps_the_master_weights(keras, policy, by_layers):
  wrap = tf_lottery.lottery_prune if by_layers else same
  model = subclassed(keras, wrap) if by_layers else residual(keras)
  eager = by_layers or policy == "mixed_bfloat16"
  model = compiled(keras, model, run_eagerly=eager)
  before = tf_lottery.bind(model).read()
  if not by_layers:
    model = tf_lottery.lottery_prune(model)
  binding, mask = hold_random(model)
  assert_same(binding.initial(), before)
  model.predict(examples()[0], verbose=0)
  after = binding.read()
  for key, kept in mask.items():
    assert after[key].dtype == np.float32
    np.testing.assert_array_equal(after[key], np.where(kept, before[key], 0))
    # These values would show a rounding.
    assert np.any(before[key] != before[key].astype(np.float16))
  fit(model)
  assert_holds(binding, mask)
  tf_lottery.prune_and_rewind(model, DENSITY / 2)
  rewound = binding.read()
  for key, kept in binding.mask.items():
    np.testing.assert_array_equal(rewound[key], np.where(kept, before[key], 0))
  assert_same(tf_lottery.bind(tf_lottery.strip_lottery(model)).read(), rewound)


# 3. Saving.


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
    with pytest.raises(ValueError, match=r"Call lottery_prune\(model\)"):
      model.save(path)
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


# 4. What is prunable, in both generations alike.


def one_layer(make, shape):
  def model(keras, wrap=same):
    del wrap
    inputs = keras.Input(shape)
    return keras.Model(inputs, make(keras)(inputs))

  return model


def attention(keras, wrap=same):
  del wrap
  inputs = keras.Input((5, 4))
  layer = keras.layers.MultiHeadAttention(2, 3)
  return keras.Model(inputs, layer(inputs, inputs))


def custom_layer(keras):
  class Mixing(keras.layers.Layer):
    def build(self, shape):
      self.matrix = self.add_weight(name="matrix", shape=(shape[-1], 3))
      self.shift = self.add_weight(name="shift", shape=(3,))

    def call(self, inputs):
      return inputs @ self.matrix + self.shift

  return Mixing(name="mixing")


RNN = ["kernel", "recurrent_kernel"]
# Name -> the model, the roles that are prunable, and the others.
LAYERS = {
  "Dense": (lambda k: k.layers.Dense(3), (4,), ["kernel"], ["bias"]),
  "EinsumDense": (
    lambda k: k.layers.EinsumDense("ab,bc->ac", (3,), bias_axes="c"),
    (4,),
    ["kernel"],
    ["bias"],
  ),
  "Conv1D": (lambda k: k.layers.Conv1D(3, 2), (5, 2), ["kernel"], ["bias"]),
  "Conv2D": (lambda k: k.layers.Conv2D(3, 2), (5, 5, 2), ["kernel"], ["bias"]),
  "Conv3D": (
    lambda k: k.layers.Conv3D(3, 2),
    (4, 4, 4, 2),
    ["kernel"],
    ["bias"],
  ),
  "Conv2DTranspose": (
    lambda k: k.layers.Conv2DTranspose(3, 2),
    (5, 5, 2),
    ["kernel"],
    ["bias"],
  ),
  "SeparableConv2D": (
    lambda k: k.layers.SeparableConv2D(3, 2),
    (5, 5, 2),
    ["pointwise_kernel"],
    ["depthwise_kernel", "bias"],
  ),
  "DepthwiseConv2D": (
    lambda k: k.layers.DepthwiseConv2D(2),
    (5, 5, 2),
    [],
    ["depthwise_kernel", "bias"],
  ),
  "Embedding": (lambda k: k.layers.Embedding(9, 3), (4,), ["embeddings"], []),
  "LSTM": (lambda k: k.layers.LSTM(3), (5, 2), RNN, ["bias"]),
  "GRU": (lambda k: k.layers.GRU(3), (5, 2), RNN, ["bias"]),
  "SimpleRNN": (lambda k: k.layers.SimpleRNN(3), (5, 2), RNN, ["bias"]),
  "Bidirectional": (
    lambda k: k.layers.Bidirectional(k.layers.LSTM(3)),
    (5, 2),
    RNN * 2,
    ["bias"] * 2,
  ),
  "TimeDistributed": (
    lambda k: k.layers.TimeDistributed(k.layers.Dense(3)),
    (5, 2),
    ["kernel"],
    ["bias"],
  ),
  "BatchNormalization": (
    lambda k: k.layers.BatchNormalization(),
    (4,),
    [],
    ["gamma", "beta", "moving_mean", "moving_variance"],
  ),
  "LayerNormalization": (
    lambda k: k.layers.LayerNormalization(),
    (4,),
    [],
    ["gamma", "beta"],
  ),
  "PReLU": (lambda k: k.layers.PReLU(), (4,), [], ["alpha"]),
  "custom": (custom_layer, (4,), [], ["matrix", "shift"]),
}
DATA = {"Embedding": np.arange(8).reshape(2, 4)}


@pytest.fixture(params=LAYERS)
def layer(request):
  make, shape, prunable, others = LAYERS[request.param]
  x = DATA.get(request.param, np.ones((2, *shape), "float32"))
  return one_layer(make, shape), x, prunable, others


def test_the_report_says_which_weights_are_prunable(keras, layer):
  make, _, prunable, others = layer
  report = tf_lottery.bind(make(keras)).report
  assert sorted(weight.role for weight in report.prunable) == sorted(prunable)
  rest = [weight.role for weight in report if not weight.prunable]
  assert sorted(rest) == sorted(others)
  assert all(weight.reason in str(report) for weight in report)


def test_every_layer_can_be_made_ready_held_and_stripped(keras, layer):
  make, x, prunable, _ = layer
  model = make(keras)
  plain = tf_lottery.bind(model).read()
  expected = np.asarray(model(x))
  model = tf_lottery.lottery_prune(model)
  np.testing.assert_array_equal(model(x), expected)
  if prunable:
    binding, mask = hold_random(model)
    before = binding.read()
    model.compile(momentum(keras), "mse", run_eagerly=True)
    model.train_on_batch(x, np.zeros(model(x).shape))
    assert_holds(binding, mask)
    assert any(np.any(binding.read()[key] != before[key]) for key in mask)
    tf_lottery.prune_and_rewind(model, DENSITY / 2)
    kept = binding.mask
  model = tf_lottery.strip_lottery(model)
  got = tf_lottery.bind(model).read()
  for key, value in plain.items():
    mask = kept[key] if prunable and key in kept else True
    np.testing.assert_array_equal(got[key], np.where(mask, value, 0))


@pytest.mark.parametrize(
  "make",
  [*(one_layer(*row[:2]) for row in LAYERS.values()), attention, residual],
  ids=[*LAYERS, "attention", "residual"],
)
def test_keys_are_alike_in_both_generations_and_in_each_rebuild(make):
  binds = [
    tf_lottery.bind(model)
    for keras in GENERATIONS.values()
    for model in (make(keras), tf_lottery.lottery_prune(make(keras)))
  ]
  first = {w.key: (w.shape, w.prunable, w.kind) for w in binds[0].report}
  for bound in binds[1:]:
    other = {w.key: (w.shape, w.prunable, w.kind) for w in bound.report}
    assert list(other.items()) == list(first.items())


def test_the_projections_of_attention_are_prunable_and_held(keras):
  model = attention(keras)
  report = tf_lottery.bind(model).report
  assert {weight.layer for weight in report.prunable} == {
    "query",
    "key",
    "value",
    "attention_output",
  }
  model = tf_lottery.lottery_prune(model)
  model.compile(momentum(keras), "mse", run_eagerly=True)
  binding, mask = hold_random(model)
  model.train_on_batch(np.ones((2, 5, 4)), np.zeros((2, 5, 4)))
  assert_holds(binding, mask)


def test_a_function_overrides_the_rules(keras):
  for make, shape, role in (
    (lambda k: k.layers.DepthwiseConv2D(2), (5, 5, 2), "depthwise_kernel"),
    (custom_layer, (4,), "matrix"),
  ):
    model = one_layer(make, shape)(keras)
    model = tf_lottery.lottery_prune(
      model, prunable=lambda weight: True if len(weight.shape) > 1 else None
    )
    binding, mask = hold_random(model)
    assert [weight.role for weight in binding.report.prunable] == [role]
    model.compile(momentum(keras), "mse", run_eagerly=True)
    model.train_on_batch(
      np.ones((2, *shape)), np.zeros((2, *model.output_shape[1:]))
    )
    assert_holds(binding, mask)


def test_a_dictionary_of_layer_names_overrides_the_rules(keras):
  inputs = keras.Input((4,))
  x = keras.layers.Dense(3, name="kept_dense")(inputs)
  model = keras.Model(inputs, custom_layer(keras)(x))
  model = tf_lottery.lottery_prune(
    model, prunable={"kept_dense": False, "mixing": True}
  )
  binding = tf_lottery.bind(model)
  assert [weight.name for weight in binding.report.prunable] == [
    "mixing/matrix"
  ]
  assert "at lottery_prune()" in binding.report["0/kernel"].reason


def test_no_override_makes_moving_statistics_prunable(keras):
  report = tf_lottery.bind(residual(keras), prunable=lambda weight: True).report
  rest = [weight.role for weight in report if not weight.prunable]
  assert rest == ["moving_mean", "moving_variance"]


def test_frozen_layers_are_not_prunable(keras):
  model = residual(keras)
  model.layers[1].trainable = False
  report = tf_lottery.bind(model, prunable=lambda weight: True).report
  assert not report["0/kernel"].prunable
  assert "not trainable" in report["0/kernel"].reason
  assert report["1/kernel"].prunable


def test_embeddings_with_sparse_gradients_hold_in_a_trainer(keras, strategy):
  def make_model():
    model = keras.Sequential(
      [
        keras.layers.InputLayer((3,), dtype="int32"),
        keras.layers.Embedding(20, 4),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(4, activation="softmax"),
      ]
    )
    return compiled(keras, model)

  trainer = tf_lottery.Trainer(make_model, strategy=strategy)
  binding = trainer.binding
  rng = np.random.default_rng(0)
  x = rng.integers(0, 20, (16, 3)).astype("int32")
  y = rng.integers(0, 4, 16)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(trainer.model(x[:2]))
  raw = binding.generation.raw(binding._slots["0/embeddings"].variable)
  if strategy.num_replicas_in_sync == 1:
    assert isinstance(tape.gradient(loss, raw), tf.IndexedSlices)
  mask = tf_lottery.Mask.random(binding.shapes, DENSITY, seed=1)
  trainer.restore(trainer.initial, mask, 0)
  data = tf_lottery.data.as_data((x, y))
  trainer.train(data, 0, 2, batch_size=8, seed=0)
  assert_holds(binding, mask)
  moved = (
    binding.read()["0/embeddings"]
    != trainer.initial.weights["0/embeddings"] * mask["0/embeddings"]
  )
  assert moved.any()


# 5. The forward pass.


def operations(model, shape=(6,)):
  """How many operations a traced call has, functions called included."""
  call = tf.function(lambda x: model(x, training=True))
  graph = call.get_concrete_function(tf.zeros([2, *shape])).graph
  definition = graph.as_graph_def()
  inner = [len(f.node_def) for f in definition.library.function]
  return len(definition.node) + sum(inner)


def test_no_pruning_operation_runs_in_a_forward_pass(tf_keras):
  from tf_lottery.wrappers import keras2

  plain = operations(sequential(tf_keras))
  ours = operations(tf_lottery.lottery_prune(sequential(tf_keras)))
  model = sequential(tf_keras)
  stock = tf_keras.Sequential(
    [
      keras2.pruning_wrapper.PruneLowMagnitude(layer, input_shape=shape)
      for layer, shape in zip(model.layers, [(6,), (8,)], strict=True)
    ]
  )
  assert ours <= plain + 2 * len(model.layers)
  assert operations(stock) > ours + 50


@pytest.mark.parametrize("make", [sequential, residual])
def test_a_held_model_computes_with_weights_times_mask(keras, make):
  model = ready(keras, make)
  fit(model)
  binding, mask = hold_random(model)
  plain = make(keras)
  weights = binding.read()
  for key, kept in mask.items():
    weights[key] = weights[key] * kept
  tf_lottery.bind(plain).write(weights)
  np.testing.assert_array_equal(predict(model), predict(plain))


# 6. Pruning and rewinding.


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
  kept = np.concatenate([np.abs(trained[k][m]) for k, m in mask.items()])
  pruned = np.concatenate([np.abs(trained[k][~m]) for k, m in mask.items()])
  assert kept.min() >= pruned.max()


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


def test_prune_and_rewind_needs_no_compiled_model(keras):
  model = tf_lottery.lottery_prune(sequential(keras))
  assert tf_lottery.prune_and_rewind(model, 0.25).kept == 20


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
  kernel[0, 0] = np.nan
  binding.write({"0/kernel": kernel})
  with pytest.raises(ValueError, match="training diverged"):
    tf_lottery.prune_and_rewind(model, 0.4)


# 7. What goes in.


def test_unbuilt_models_are_refused(keras):
  models = [
    keras.Sequential([keras.layers.Dense(3)]),
    subclass_of(keras)(),
  ]
  for model in models:
    with pytest.raises(ValueError, match=r"not built\. Give it an Input, or"):
      tf_lottery.lottery_prune(model)
    with pytest.raises(ValueError, match=r"not built\. Give it an Input, or"):
      tf_lottery.bind(model)


@pytest.mark.parametrize("value", [None, 3, "model", tf.Module()])
def test_what_is_no_keras_object_is_refused(value):
  for function in (
    tf_lottery.lottery_prune,
    tf_lottery.bind,
    tf_lottery.strip_lottery,
    tf_lottery.store_initial,
  ):
    with pytest.raises(TypeError, match="Expected a model or layer of keras"):
      function(value)


def test_subclassed_tf_keras_models_are_refused_whole(tf_keras):
  model = subclassed(tf_keras)
  way_out = r"lottery_prune\(layer\) in its __init__, or use a Keras 3 model"
  with pytest.raises(ValueError, match=way_out):
    tf_lottery.lottery_prune(model)
  inputs = tf_keras.Input((6,))
  outer = tf_keras.Model(inputs, model(inputs))
  with pytest.raises(ValueError, match=way_out):
    tf_lottery.lottery_prune(outer)


@pytest.mark.parametrize("make", [sequential, residual, subclassed])
def test_lottery_prune_twice_is_harmless(keras, make):
  model = make(keras, tf_lottery.lottery_prune)
  model = compiled(keras, model, run_eagerly=True)
  before = tf_lottery.bind(model).read()
  model = tf_lottery.lottery_prune(model)
  binding, mask = hold_random(model)
  fit(model)
  again = tf_lottery.lottery_prune(model)
  assert tf_lottery.bind(again).mask == mask
  assert_same(tf_lottery.bind(again).initial(), before)
  fit(again)
  assert_holds(tf_lottery.bind(again), mask)
  assert_holds(binding, mask)
  layer = keras.layers.Dense(3)
  layer = tf_lottery.lottery_prune(layer)
  assert tf_lottery.lottery_prune(layer) is layer


def nested(keras, wrap=same):
  del wrap
  inner = keras.Sequential(
    [
      keras.layers.InputLayer((8,)),
      keras.layers.Dense(8, activation="relu"),
      keras.layers.BatchNormalization(),
    ]
  )
  inputs = keras.Input((6,))
  x = keras.layers.Dense(8)(inputs)
  outputs = keras.layers.Dense(4, activation="softmax")(x + inner(x))
  return keras.Model(inputs, outputs)


def shared(keras, wrap=same):
  del wrap
  twice = keras.layers.Dense(6, activation="relu")
  inputs = keras.Input((6,))
  x = twice(twice(inputs))
  return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))


def blocks(keras, wrap=same):
  """Layers in lists, dictionaries and other layers."""

  class Block(keras.layers.Layer):
    def __init__(self, wrap):
      super().__init__()
      self.dense = wrap(keras.layers.Dense(6))

    def build(self, shape):
      self.dense.build(shape)

    def call(self, inputs):
      return self.dense(inputs)

  class Net(keras.Model):
    def __init__(self):
      super().__init__()
      self.block = Block(wrap)
      self.first = wrap(keras.layers.Dense(6))
      self.several = [wrap(keras.layers.Dense(6)) for _ in range(2)]
      self.by_name = {"head": wrap(keras.layers.Dense(4, "softmax"))}

    def call(self, inputs):
      x = self.first(self.block(inputs))
      for layer in self.several:
        x = layer(x)
      return self.by_name["head"](x)

  model = Net()
  model(tf.zeros([2, 6]))
  return model


@pytest.mark.parametrize("make", [nested, shared, blocks])
def test_nested_and_shared_layers_hold_and_are_stripped(keras, make):
  wrap = tf_lottery.lottery_prune if make is blocks else same
  model = compiled(keras, make(keras, wrap), run_eagerly=True)
  plain = tf_lottery.bind(make(keras))
  before = tf_lottery.bind(model).read()
  assert list(before) == [weight.key for weight in plain.report]
  expected = predict(model)
  if make is not blocks:
    model = tf_lottery.lottery_prune(model)
  np.testing.assert_array_equal(predict(model), expected)
  binding, mask = hold_random(model)
  assert len(mask) == {nested: 3, shared: 2, blocks: 5}[make]
  fit(model)
  assert_holds(binding, mask)
  mask = tf_lottery.prune_and_rewind(model, DENSITY / 2)
  rewound = binding.read()
  for key, kept in mask.items():
    np.testing.assert_array_equal(rewound[key], np.where(kept, before[key], 0))
  expected = predict(model)
  model = tf_lottery.strip_lottery(model)
  np.testing.assert_array_equal(predict(model), expected)
  assert not [
    layer for layer in all_layers(model) if "Lottery" in type(layer).__name__
  ]
  stripped = tf_lottery.bind(model)
  assert [w.key for w in stripped.report] == [w.key for w in plain.report]
  assert_same(stripped.read(), rewound)
  fit(model)
  assert stripped.read()["0/kernel"][~mask["0/kernel"]].any()


def test_rewinding_needs_every_layer_with_weights_to_be_ready(keras):
  wrapped = []

  def wrap_the_first(layer):
    wrapped.append(layer)
    return tf_lottery.lottery_prune(layer) if len(wrapped) == 1 else layer

  model = subclassed(keras, wrap_the_first)
  binding, mask = hold_random(model)
  assert list(mask) == ["0/kernel"]
  with pytest.raises(ValueError, match=r"lottery_prune\(layer\) on every"):
    tf_lottery.prune_and_rewind(model, DENSITY / 2)
  assert_holds(binding, mask)
  # Stripping leaves the layers in their order.
  keys = [weight.key for weight in binding.report]
  model = tf_lottery.strip_lottery(model)
  assert [weight.key for weight in tf_lottery.bind(model).report] == keys
  assert [layer.name for layer in model.layers if layer.weights] == [
    layer.name for layer in wrapped
  ]


def test_the_same_mask_fits_both_generations(keras3, tf_keras):
  ours = [ready(keras, residual) for keras in (keras3, tf_keras)]
  one, other = map(tf_lottery.bind, ours)
  other.write(one.read())
  mask = tf_lottery.Mask.random(one.shapes, DENSITY, seed=3)
  for binding in (one, other):
    binding.hold(mask)
  np.testing.assert_allclose(
    predict(ours[0]), predict(ours[1]), rtol=1e-5, atol=1e-6
  )


def test_holding_a_mask_of_another_architecture_is_refused(keras):
  model = ready(keras)
  other = tf_lottery.bind(residual(keras))
  mask = tf_lottery.Mask.ones(other.shapes)
  with pytest.raises(ValueError, match="another architecture"):
    tf_lottery.bind(model).hold(mask)
