import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_lottery import masks
from tf_lottery.cost import Cost
from tf_lottery.training import augmentation
from tf_lottery.training.data import ArrayData
from tf_lottery.training.data import as_data
from tf_lottery.training.trainer import Trainer

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}
STRATEGIES = ["none", "mirrored"]


def examples(count=96, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(count, 6)).astype(np.float32)
  return x, (x.sum(-1) > 0).astype(np.int32)


def dense_model(library, *, optimizer=None, dropout=0.0, units=8):
  layers = library.layers
  model = library.Sequential(
    [
      library.Input((6,)),
      layers.Dense(units, activation="relu"),
      *([layers.Dropout(dropout)] if dropout else []),
      layers.Dense(2),
    ]
  )
  model.compile(
    optimizer or library.optimizers.Adam(0.01),
    loss=library.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return model


@pytest.fixture(params=LIBRARIES)
def library(request):
  return LIBRARIES[request.param]


@pytest.fixture(params=STRATEGIES)
def strategy(request):
  return request.param


def trained(trainer, data, start=0, stop=24, *, mask=None, snapshot=None):
  mask = mask or masks.Mask.random(trainer.binding.shapes, 0.5, seed=0)
  trainer.restore(snapshot or trainer.initial, mask, start)
  loss = trainer.train(data, start, stop, batch_size=12, seed=5)
  return loss, trainer.binding.read()


def assert_same(left, right, **tolerance):
  assert left.keys() == right.keys()
  for key in left:
    np.testing.assert_allclose(left[key], right[key], **tolerance)


def assert_identical(left, right):
  assert left.keys() == right.keys()
  for key in left:
    np.testing.assert_array_equal(left[key], right[key])


def test_training_lowers_the_loss_and_keeps_pruned_weights_zero(
  library, strategy
):
  trainer = Trainer(lambda: dense_model(library), strategy=strategy)
  data = as_data(examples())
  before = trainer.evaluate(data)
  mask = masks.Mask.random(trainer.binding.shapes, 0.5, seed=0)
  _, weights = trained(trainer, data, stop=80, mask=mask)
  after = trainer.evaluate(data)
  trainer.binding.check_held()
  assert after["loss"] < before["loss"]
  assert after["accuracy"] > 0.8
  for key, kept in mask.items():
    assert not weights[key][~kept].any()
    assert np.any(weights[key][kept] != trainer.initial.weights[key][kept])


def test_metrics_are_those_of_keras_evaluate(library, strategy):
  x, y = examples(1003)  # more than an evaluation batch, and odd
  trainer = Trainer(lambda: dense_model(library), strategy=strategy)
  ours = trainer.evaluate(as_data((x, y)))
  plain = dense_model(library)
  plain.set_weights(trainer.model.get_weights())
  expected = plain.evaluate(x, y, verbose=0, return_dict=True)
  assert ours == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw", "clipped"])
def test_two_replicas_equal_one_device(library, rule):
  optimizers = library.optimizers
  make = {
    "sgd": lambda: optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: optimizers.Adam(0.01),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "clipped": lambda: optimizers.SGD(0.1, global_clipnorm=0.1),
  }[rule]
  x, y = examples()
  weight = np.linspace(0.1, 2, len(y)).astype(np.float32)
  data = as_data((x, y, weight))
  results = []
  for strategy in STRATEGIES:
    trainer = Trainer(
      lambda: dense_model(library, optimizer=make()), strategy=strategy
    )
    loss, weights = trained(trainer, data)
    results.append({**weights, "loss": loss, **trainer.evaluate(data)})
  assert_same(*results, rtol=2e-4, atol=2e-6)


def test_the_step_is_the_one_that_keras_makes(library):
  """One epoch of ours in the order of `fit` gives the weights of `fit`."""
  x, y = examples()
  trainer = Trainer(lambda: dense_model(library))
  data = as_data((x, y))
  dense = masks.Mask.ones(trainer.binding.shapes)
  _, ours = trained(trainer, data, stop=8, mask=dense)
  trainer.binding.write(trainer.initial.weights)
  plain = dense_model(library)
  plain.set_weights(trainer.model.get_weights())
  order = data.order(5, 0)
  plain.fit(x[order], y[order], batch_size=12, shuffle=False, verbose=0)
  for mine, theirs in zip(ours.values(), plain.get_weights(), strict=True):
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_one_trace_serves_all_masks_seeds_and_stretches(library, strategy):
  trainer = Trainer(lambda: dense_model(library), strategy=strategy)
  data = as_data(examples())
  for seed, stop in ((0, 24), (1, 7), (2, 13)):
    snapshot = trainer.draw_snapshot(seed)
    mask = masks.Mask.random(trainer.binding.shapes, 0.9 - seed / 4, seed)
    trained(trainer, data, stop=stop, mask=mask, snapshot=snapshot)
    trainer.evaluate(data)
  assert trainer.traces == 1


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("jit", [True, False])
def test_going_on_from_a_snapshot_is_bit_identical(
  library, strategy, dropout, jit, tmp_path
):
  trainer = Trainer(
    lambda: dense_model(library, dropout=dropout), strategy=strategy, jit=jit
  )
  data = as_data(examples())
  mask = masks.Mask.random(trainer.binding.shapes, 0.5, seed=0)
  trained(trainer, data, stop=11, mask=mask)
  snapshot = trainer.capture(11, optimizer=True)
  snapshot.save(tmp_path / "snapshot.safetensors")
  trainer.train(data, 11, 24, batch_size=12, seed=5)
  expected = trainer.binding.read(random_states=True)
  trained(trainer, data, stop=3)  # something else in between
  loaded = type(snapshot).load(tmp_path / "snapshot.safetensors")
  trainer.restore(loaded, mask, 11)
  trainer.train(data, 11, 24, batch_size=12, seed=5)
  assert_identical(expected, trainer.binding.read(random_states=True))


def test_another_trainer_of_the_same_seed_is_bit_identical(library):
  data = as_data(examples())
  first, second = (
    Trainer(lambda: dense_model(library, dropout=0.3), seed=4) for _ in range(2)
  )
  assert_identical(first.initial.weights, second.initial.weights)
  assert_identical(trained(first, data)[1], trained(second, data)[1])


def test_seeds_give_other_weights_and_other_orders(library):
  trainer = Trainer(lambda: dense_model(library), seed=4)
  key = "0/kernel"
  assert np.any(trainer.draw(5)[key] != trainer.initial.weights[key])
  np.testing.assert_array_equal(
    trainer.draw(4)[key], trainer.initial.weights[key]
  )
  data = as_data(examples())
  weights = [trained(trainer, data)[1]]
  trainer.restore(
    trainer.initial, masks.Mask.random(trainer.binding.shapes, 0.5, 0), 0
  )
  trainer.train(data, 0, 24, batch_size=12, seed=6)
  assert np.any(weights[0][key] != trainer.binding.read()[key])


def test_the_learning_rate_schedule_goes_on_at_the_step(library):
  schedule = library.optimizers.schedules.PiecewiseConstantDecay(
    [10], [0.1, 0.0]
  )
  trainer = Trainer(
    lambda: dense_model(library, optimizer=library.optimizers.SGD(schedule))
  )
  data = as_data(examples())
  dense = masks.Mask.ones(trainer.binding.shapes)
  _, moved = trained(trainer, data, 0, 4, mask=dense)
  assert np.any(moved["0/kernel"] != trainer.initial.weights["0/kernel"])
  # After step 10 the rate is zero.
  _, still = trained(trainer, data, 12, 20, mask=dense)
  np.testing.assert_array_equal(
    still["0/kernel"], trainer.initial.weights["0/kernel"]
  )


def test_a_fresh_optimizer_remembers_nothing_and_a_kept_one_does(library):
  make = lambda: dense_model(  # noqa: E731
    library, optimizer=library.optimizers.SGD(0.05, momentum=0.9)
  )
  trainer = Trainer(make)
  data = as_data(examples())
  dense = masks.Mask.ones(trainer.binding.shapes)
  trained(trainer, data, stop=9, mask=dense)
  with_slots = trainer.capture(9, optimizer=True)
  without = trainer.capture(9)
  _, kept = trained(trainer, data, 9, 10, mask=dense, snapshot=with_slots)
  _, fresh = trained(trainer, data, 9, 10, mask=dense, snapshot=without)
  _, again = trained(trainer, data, 9, 10, mask=dense, snapshot=without)
  assert np.any(kept["0/kernel"] != fresh["0/kernel"])
  assert_identical(fresh, again)


def test_clipping_sees_the_norm_of_the_sparse_network(library):
  """Global-norm clipping must not count gradients of pruned weights."""
  x, y = examples()
  make = lambda: dense_model(  # noqa: E731
    library, optimizer=library.optimizers.SGD(1.0, global_clipnorm=1e-3)
  )
  trainer = Trainer(make)
  mask = masks.Mask.random(trainer.binding.shapes, 0.3, seed=0)
  trainer.restore(trainer.initial, mask, 0)
  before = trainer.binding.read()
  trainer.train(as_data((x, y)), 0, 1, batch_size=12, seed=5)
  after = trainer.binding.read()
  step = np.sqrt(sum(np.sum((after[k] - before[k]) ** 2) for k in before))
  assert step == pytest.approx(1e-3, rel=1e-3)


def test_dict_inputs_and_several_outputs(library):
  layers = library.layers
  rng = np.random.default_rng(0)

  def make():
    a, b = library.Input((3,), name="a"), library.Input((2,), name="b")
    both = layers.Concatenate()([a, b])
    outputs = {
      "p": layers.Dense(2, name="p")(both),
      "q": layers.Dense(1, name="q")(both),
    }
    model = library.Model({"a": a, "b": b}, outputs)
    model.compile("sgd", loss={"p": "mse", "q": "mse"})
    return model

  x = {"a": rng.normal(size=(24, 3)), "b": rng.normal(size=(24, 2))}
  y = {"p": rng.normal(size=(24, 2)), "q": rng.normal(size=(24, 1))}
  trainer = Trainer(make)
  data = as_data((x, y))
  before = trainer.evaluate(data)["loss"]
  trained(trainer, data, stop=20)
  assert trainer.evaluate(data)["loss"] < before


def test_a_stream_equals_the_arrays_in_the_same_order(library, strategy):
  x, y = examples()
  arrays = as_data((x, y))

  def epoch(number):
    order = arrays.order(5, number)
    dataset = tf.data.Dataset.from_tensor_slices((x[order], y[order]))
    return dataset.batch(12, drop_remainder=True)

  results = []
  for data in (arrays, as_data(epoch)):
    trainer = Trainer(lambda: dense_model(library), strategy=strategy)
    loss, weights = trained(trainer, data, stop=20)
    results.append({**weights, "loss": loss, **trainer.evaluate(arrays)})
    assert trainer.traces == 1
  assert_same(*results, rtol=2e-4, atol=2e-6)


def test_class_weights_change_the_loss(library):
  x, y = examples()
  trainer = Trainer(lambda: dense_model(library))
  plain = as_data((x, y))
  weighted = plain.with_class_weight({0: 0.0, 1: 0.0})
  dense = masks.Mask.ones(trainer.binding.shapes)
  assert trained(trainer, plain, mask=dense)[0] > 0
  assert trained(trainer, weighted, mask=dense)[0] == 0


def test_mixed_precision_trains_float32_weights(library):
  set_policy = library.mixed_precision.set_global_policy
  set_policy("mixed_bfloat16")
  try:
    trainer = Trainer(lambda: dense_model(library))
  finally:
    set_policy("float32")
  data = as_data(examples())
  _, weights = trained(trainer, data)
  trainer.binding.check_held()
  assert {value.dtype for value in weights.values()} == {np.dtype("float32")}
  assert np.isfinite(weights["0/kernel"]).all()


def test_batch_statistics_are_restored(library, strategy):
  def make():
    model = library.Sequential(
      [
        library.Input((6,)),
        library.layers.Dense(4),
        library.layers.BatchNormalization(),
        library.layers.Dense(2),
      ]
    )
    model.compile("sgd", library.losses.SparseCategoricalCrossentropy(True))
    return model

  trainer = Trainer(make, strategy=strategy)
  data = as_data(examples())
  _, weights = trained(trainer, data)
  mean = next(key for key in weights if key.endswith("moving_mean"))
  assert np.any(weights[mean] != 0)
  trainer.restore(
    trainer.initial, masks.Mask.ones(trainer.binding.shapes), step=0
  )
  assert not trainer.binding.read()[mean].any()


def test_models_that_cannot_be_trained_here_are_refused(library):
  def uncompiled():
    return library.Sequential([library.Input((2,)), library.layers.Dense(1)])

  class OwnStep(library.Sequential):
    def train_step(self, data):
      return {}

  def own_step():
    model = OwnStep([library.Input((2,)), library.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

  with pytest.raises(ValueError, match=r"compiled model.*model\.compile"):
    Trainer(uncompiled)
  with pytest.raises(ValueError, match=r"OwnStep.*train_step of its own"):
    Trainer(own_step)


def test_a_batch_must_divide_among_the_replicas():
  trainer = Trainer(lambda: dense_model(keras), strategy="mirrored")
  with pytest.raises(ValueError, match="multiple of the 2 replicas, got 9"):
    trainer.train(as_data(examples()), 0, 1, batch_size=9, seed=0)


def test_counting_metrics_count_each_example_once(library, strategy):
  x, y = examples(1003)

  def make():
    model = library.Sequential(
      [library.Input((6,)), library.layers.Dense(1, activation="sigmoid")]
    )
    model.compile(
      "sgd", "binary_crossentropy", metrics=[library.metrics.TruePositives()]
    )
    return model

  trainer = Trainer(make, strategy=strategy)
  ours = trainer.evaluate((x, y))
  plain = make()
  plain.set_weights(trainer.model.get_weights())
  expected = plain.evaluate(x, y, verbose=0)
  assert list(ours.values()) == pytest.approx(expected, rel=1e-5)


def test_clipped_embeddings_under_replicas(library, strategy):
  def make():
    model = library.Sequential(
      [
        library.Input((3,), dtype="int32"),
        library.layers.Embedding(10, 4),
        library.layers.Flatten(),
        library.layers.Dense(2),
      ]
    )
    optimizer = library.optimizers.SGD(0.5, global_clipnorm=0.01)
    model.compile(
      optimizer, library.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model

  trainer = Trainer(make, strategy=strategy)
  x = np.arange(96 * 3).reshape(96, 3) % 10
  _, weights = trained(trainer, as_data((x, examples()[1])))
  trainer.binding.check_held()
  assert np.any(weights["0/embeddings"])


def test_gradient_accumulation(library):
  if library is tf_keras:
    pytest.skip("tf_keras has none")
  make = lambda: dense_model(  # noqa: E731
    library,
    optimizer=library.optimizers.SGD(0.1, gradient_accumulation_steps=4),
  )
  trainer = Trainer(make)
  data = as_data(examples())
  before = trainer.evaluate(data)["loss"]
  trained(trainer, data, stop=3)
  key = "1/bias"
  assert not np.any(trainer.binding.read()[key])
  trained(trainer, data, stop=40)
  assert trainer.evaluate(data)["loss"] < before


def test_optimizers_that_average_weights_are_refused(library):
  optimizer = library.optimizers.SGD(0.1, use_ema=True)
  with pytest.raises(ValueError, match="use_ema=False"):
    Trainer(lambda: dense_model(library, optimizer=optimizer))


def test_a_shuffled_stream_is_read_once_an_epoch(library):
  """Evaluations cut an epoch; each example still comes once."""
  x, y = examples()
  seen = []

  def record(example):
    seen.append(float(example))
    return example

  def remember(x, y):
    tf.py_function(record, [x[0]], tf.float32)
    return x, y

  dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(96)
  dataset = dataset.map(remember).batch(12)
  trainer = Trainer(lambda: dense_model(library))
  data = as_data(dataset)
  trainer.evaluate(data)
  seen.clear()
  for start in (0, 3, 6):
    trainer.train(data, start, min(8, start + 3), batch_size=12, seed=0)
  assert sorted(seen) == sorted(x[:, 0].tolist())


def test_frozen_layers_are_not_pruned(library):
  def make():
    model = dense_model(library)
    model.layers[-2].trainable = False
    return model

  trainer = Trainer(make)
  assert list(trainer.binding.shapes) == ["1/kernel"]
  assert "not trainable" in trainer.binding.report["0/kernel"].reason


# Augmentation.


def images(augment=augmentation.crop_and_flip, count=96):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(count, 3, 4)).astype(np.float32)
  return ArrayData((x, (x.sum((1, 2)) > 0).astype(np.int32)), augment)


def image_model(library):
  layers = library.layers
  model = library.Sequential(
    [library.Input((3, 4)), layers.Flatten(), layers.Dense(2)]
  )
  model.compile(
    library.optimizers.SGD(0.1, momentum=0.9),
    library.losses.SparseCategoricalCrossentropy(from_logits=True),
  )
  return model


@pytest.mark.parametrize("augment", [None, augmentation.crop_and_flip])
@pytest.mark.parametrize(
  "jit", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_scaled_integers_train_bit_for_bit_as_floats(
  library, strategy, jit, augment
):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (96, 3, 4), np.uint8)
  y = (x.sum((1, 2)) > 12 * 128).astype(np.int32)
  trainer = Trainer(lambda: image_model(library), strategy=strategy, jit=jit)
  for scale, shift in ((255, 0), (51, 17)):
    floats = (x.astype(np.float32) - np.float32(shift)) / np.float32(scale)
    results = []
    for data in (
      ArrayData((floats, y), augment),
      ArrayData((x, y), augment, scale=scale, shift=shift),
    ):
      loss, weights = trained(trainer, data)
      results.append({**weights, "loss": loss, **trainer.evaluate(data)})
    assert_identical(*results)


def test_integers_reach_the_model_as_they_are(library):
  layers = library.layers

  def make():
    model = library.Sequential(
      [
        library.Input((3,), dtype="uint8"),
        layers.Embedding(256, 4, embeddings_initializer="ones"),
        layers.Flatten(),
        layers.Dense(2),
      ]
    )
    model.compile(
      library.optimizers.SGD(1.0),
      library.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model

  trainer = Trainer(make)
  x = np.tile(np.arange(200, 212, dtype=np.uint8)[:, None], (8, 3))
  mask = masks.Mask.ones(trainer.binding.shapes)
  data = as_data((x, examples()[1]))
  _, weights = trained(trainer, data, mask=mask)
  moved = np.any(weights["0/embeddings"] != 1, axis=-1)
  assert np.flatnonzero(moved).tolist() == list(range(200, 212))
  trainer.evaluate(data)


def test_augmentation_goes_on_in_the_middle_of_an_epoch(library, strategy):
  trainer = Trainer(lambda: image_model(library), strategy=strategy)
  data = images()
  _, whole = trained(trainer, data, stop=20)
  mask = masks.Mask.random(trainer.binding.shapes, 0.5, seed=0)
  trained(trainer, data, stop=11)
  snapshot = trainer.capture(11, optimizer=True)
  trained(trainer, data, stop=3)
  _, resumed = trained(trainer, data, 11, 20, mask=mask, snapshot=snapshot)
  assert_identical(whole, resumed)
  assert trainer.traces == 1


def test_replicas_and_xla_do_not_change_what_augmentation_draws(library):
  one, two = (
    trained(
      Trainer(
        lambda: image_model(library), strategy=strategy, jit=strategy == "none"
      ),
      images(),
    )[1]
    for strategy in STRATEGIES
  )
  assert_same(one, two, rtol=2e-4, atol=2e-6)


def test_augmentation_draws_anew_at_each_step_and_seed():
  seen = []

  def record(x, uniforms):
    tf.py_function(lambda u: seen.append(u.numpy()), [uniforms], [])
    return x

  trainer = Trainer(lambda: image_model(keras), jit=False)
  data = images(record)
  for seed in (5, 6):
    trainer.train(data, 7, 10, batch_size=12, seed=seed)
  assert {noise.shape for noise in seen} == {(12, 3)}
  noise = np.stack(seen)
  assert len(np.unique(noise)) == noise.size == 6 * 12 * 3
  assert 0 <= noise.min() < 0.1 < 0.9 < noise.max() < 1
  # By the step: the same for a stretch that is the first of the next epoch.
  seen.clear()
  trainer.train(data, 8, 9, batch_size=12, seed=5)
  np.testing.assert_array_equal(seen[0], noise[1])


def test_only_training_is_augmented_and_each_way_is_traced(library):
  trainer = Trainer(lambda: image_model(library))
  blank = images(lambda x, uniforms: 0 * x)
  plain, moved = images(None), images()
  mask = masks.Mask.ones(trainer.binding.shapes)
  results = [trained(trainer, d, mask=mask)[1] for d in (plain, moved, blank)]
  key = "0/kernel"
  initial = trainer.initial.weights[key]
  assert np.any(results[0][key] != results[1][key])
  np.testing.assert_array_equal(results[2][key], initial)
  assert trainer.evaluate(plain) == trainer.evaluate(blank)
  assert_identical(results[0], trained(trainer, plain, mask=mask)[1])
  assert trainer.traces == 3


def test_training_costs_three_forward_passes_an_example(library, strategy):
  trainer = Trainer(
    lambda: dense_model(library, dropout=0.5), strategy=strategy
  )
  data = as_data(examples())
  before = trainer.capture(0, optimizer=True)
  forward = trainer.flops(data).forward()
  assert forward == 2 * (6 * 8 + 8 * 2)
  after = trainer.capture(0, optimizer=True)
  assert after.fingerprint() == before.fingerprint()
  trainer.binding.hold(masks.Mask.random(trainer.binding.shapes, 0.5, seed=0))
  trainer.train(data, 3, 13, batch_size=12, seed=0)
  flops = 3 * 120 * forward
  assert trainer.spent == Cost(10, 120, flops, flops / 2)


def test_streams_cost_the_examples_that_they_give(library, strategy):
  trainer = Trainer(lambda: dense_model(library), strategy=strategy)
  dataset = tf.data.Dataset.from_tensor_slices(examples())
  stream = as_data(dataset.batch(8, drop_remainder=True))
  trainer.train(stream, 0, 5, batch_size=2, seed=0)
  flops = 3 * 40 * 2 * (6 * 8 + 8 * 2)
  assert trainer.spent == Cost(5, 40, flops, flops)


def test_what_cannot_be_counted_is_told_once_and_costs_steps(caplog):
  compiled = tf.function(lambda x: 2 * x).get_concrete_function(
    tf.TensorSpec((None, 6))
  )

  def make():
    model = keras.Sequential(
      [keras.Input((6,)), keras.layers.Lambda(compiled), keras.layers.Dense(2)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    return model

  trainer = Trainer(make)
  data = tf.data.Dataset.from_tensor_slices(examples(30)).batch(8)
  for _ in range(2):
    trainer.train(as_data(data), 0, 4, batch_size=8, seed=0)
    assert trainer.collect() == Cost(4, 30)
  assert caplog.text.count("costs are told in steps: the operations") == 1
