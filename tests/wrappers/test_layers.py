"""What is prunable in each layer, in both generations alike."""

import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests.wrappers.models import DENSITY
from tests.wrappers.models import GENERATIONS
from tests.wrappers.models import assert_holds
from tests.wrappers.models import attention
from tests.wrappers.models import compiled
from tests.wrappers.models import custom_layer
from tests.wrappers.models import hold_random
from tests.wrappers.models import momentum
from tests.wrappers.models import one_layer
from tests.wrappers.models import residual
from tf_lottery.training import data

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
  raw = binding.variables["0/embeddings"]
  if strategy.num_replicas_in_sync == 1:
    assert isinstance(tape.gradient(loss, raw), tf.IndexedSlices)
  mask = tf_lottery.Mask.random(binding.shapes, DENSITY, seed=1)
  trainer.restore(trainer.initial, mask, 0)
  dataset = data.as_data((x, y))
  trainer.train(dataset, 0, 2, batch_size=8, seed=0)
  assert_holds(binding, mask)
  moved = (
    binding.read()["0/embeddings"]
    != trainer.initial.weights["0/embeddings"] * mask["0/embeddings"]
  )
  assert moved.any()
