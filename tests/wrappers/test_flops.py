"""The FLOPs of forward passes, against TensorFlow's profiler and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tf_lottery
from tf_lottery import wrappers
from tf_lottery.wrappers import flop_formulas
from tf_lottery.wrappers import flops

BOTH = pytest.mark.parametrize("library", [keras, tf_keras])


def sequential(library, shape, *layers):
  return library.Sequential([library.Input(shape), *layers])


def counted(model, shape, examples=1):
  return flops.count(
    wrappers.bind(model), np.ones((examples, *shape), np.float32)
  )


def profiled(model, shape):
  """What TensorFlow's profiler counts, without its sums and activations."""
  function = tf.function(lambda x: model(x)).get_concrete_function(
    tf.TensorSpec((1, *shape))
  )
  options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
  options = (
    tf.compat.v1.profiler.ProfileOptionBuilder(options)
    .with_empty_output()
    .build()
  )
  profile = tf.compat.v1.profiler.profile(
    function.graph, cmd="op", options=options
  )
  return sum(
    node.total_float_ops - sum(c.total_float_ops for c in node.children)
    for node in _nodes(profile)
    if node.name in flop_formulas.FORMULAS
  )


def _nodes(profile):
  yield profile
  for child in profile.children:
    yield from _nodes(child)


KINDS = {
  "dense": ((7,), lambda layers: layers.Dense(5)),
  "dense on time": ((4, 7), lambda layers: layers.Dense(5)),
  "conv 1": ((9, 3), lambda layers: layers.Conv1D(4, 3)),
  "conv 2": ((9, 8, 3), lambda layers: layers.Conv2D(4, 3)),
  "same": ((9, 8, 3), lambda layers: layers.Conv2D(4, 3, padding="same")),
  "strided": (
    (9, 8, 3),
    lambda layers: layers.Conv2D(4, 3, 2, padding="same"),
  ),
  "conv 3": ((5, 6, 7, 2), lambda layers: layers.Conv3D(4, 2)),
  "depthwise": (
    (9, 8, 3),
    lambda layers: layers.DepthwiseConv2D(3, depth_multiplier=2),
  ),
  "separable": ((9, 8, 3), lambda layers: layers.SeparableConv2D(4, 3)),
  "transposed": (
    (9, 8, 3),
    lambda layers: layers.Conv2DTranspose(4, 3, 1, padding="same"),
  ),
}


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_with_the_profiler(library, kind):
  shape, make = KINDS[kind]
  model = sequential(library, shape, make(library.layers))
  assert counted(model, shape).forward() == profiled(model, shape) > 0


def test_padding_counts_as_examples_do():
  model = sequential(
    keras, (5, 5, 1), keras.layers.Conv2D(1, 3, padding="same")
  )
  assert counted(model, (5, 5, 1)).uses == {"0/kernel": 25}


# Name -> input, layer, and the positions of the output.
DILATED = {
  "valid": ((9, 9, 3), lambda layers: layers.Conv2D(4, 3, dilation_rate=2), 25),
  "same": (
    (9, 8, 3),
    lambda layers: layers.Conv2D(4, 3, padding="same", dilation_rate=2),
    72,
  ),
  "causal": (
    (9, 3),
    lambda layers: layers.Conv1D(4, 3, padding="causal", dilation_rate=2),
    9,
  ),
  "depthwise": (
    (9, 9, 3),
    lambda layers: layers.DepthwiseConv2D(3, dilation_rate=2),
    25,
  ),
}


@BOTH
@pytest.mark.parametrize("kind", DILATED)
def test_a_dilated_convolution_is_counted_at_its_outputs(library, kind):
  shape, make, positions = DILATED[kind]
  model = sequential(library, shape, make(library.layers))
  found = counted(model, shape, examples=2)
  assert list(found.uses.values()) == [positions]
  kernel = model.layers[-1].weights[0]
  assert found.multiply_adds == positions * np.prod(kernel.shape)


@BOTH
def test_a_grouped_convolution(library):
  model = sequential(library, (9, 8, 4), library.layers.Conv2D(6, 3, groups=2))
  assert counted(model, (9, 8, 4)).uses == {"0/kernel": 7 * 6}
  assert counted(model, (9, 8, 4)).forward() == 2 * 42 * (3 * 3 * 2 * 6)


@BOTH
def test_a_strided_transposed_convolution_is_counted_at_its_inputs(library):
  layer = library.layers.Conv3DTranspose(4, 3, 2)
  model = sequential(library, (2, 3, 4, 5), layer)
  assert counted(model, (2, 3, 4, 5)).uses == {"0/kernel": 24}


RECURRENT = {
  "SimpleRNN": 1,
  "LSTM": 4,
  "GRU": 3,
}


@BOTH
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_use_their_weights_at_each_step(library, name):
  layer = getattr(library.layers, name)(5)
  model = sequential(library, (7, 3), layer)
  found = counted(model, (7, 3))
  assert found.uses == {"0/kernel": 7, "0/recurrent_kernel": 7}
  assert found.forward() == 2 * 7 * RECURRENT[name] * 5 * (3 + 5)


@BOTH
def test_layers_around_layers(library):
  layers = library.layers
  cells = [layers.LSTMCell(5), layers.GRUCell(4)]
  model = sequential(
    library,
    (7, 3),
    layers.Bidirectional(layers.RNN(cells, return_sequences=True)),
    layers.TimeDistributed(layers.Dense(2)),
  )
  one_way = 4 * 5 * (3 + 5) + 3 * 4 * (5 + 4)
  assert counted(model, (7, 3)).forward() == 2 * 7 * (2 * one_way + 8 * 2)


@BOTH
def test_a_recurrent_convolution(library):
  layer = library.layers.ConvLSTM2D(6, 3, padding="same")
  model = sequential(library, (4, 9, 8, 2), layer)
  found = counted(model, (4, 9, 8, 2))
  assert found.uses == {
    "0/kernel": 4 * 9 * 8,
    "0/recurrent_kernel": 4 * 9 * 8,
  }


@BOTH
def test_attention_multiplies_activations_too(library):
  inputs = library.Input((6, 8))
  outputs = library.layers.MultiHeadAttention(2, 4)(inputs, inputs)
  found = counted(library.Model(inputs, outputs), (6, 8))
  # Queries, keys, values and outputs; then Q K^T and A V.
  weights, products = 4 * 6 * 8 * 8, 2 * 6 * 6 * 8
  assert found.forward() == 2 * (weights + products)
  assert sorted(found.uses.values()) == [6] * 4


@BOTH
def test_an_einsum_with_broadcast_axes(library):
  layer = library.layers.EinsumDense("...x,xy->...y", output_shape=(4, 5))
  model = sequential(library, (4, 3), layer)
  assert counted(model, (4, 3)).uses == {"0/kernel": 4}


@BOTH
def test_a_layer_that_is_called_twice_is_counted_twice(library):
  layer = library.layers.Dense(3, use_bias=False)
  model = sequential(library, (3,), layer, library.layers.ReLU(), layer)
  assert counted(model, (3,)).uses == {"0/kernel": 2}


@BOTH
def test_embeddings_cost_nothing_until_they_are_multiplied_by(library):
  class Tied(library.Model):
    def __init__(self):
      super().__init__()
      self.tokens = library.layers.Embedding(10, 4)

    def call(self, x):
      hidden = self.tokens(tf.cast(x, tf.int32))
      table = tf.convert_to_tensor(self.tokens.embeddings)
      return tf.matmul(hidden, tf.transpose(table))

  embedding = sequential(library, (3,), library.layers.Embedding(10, 4))
  assert counted(embedding, (3,)).forward() == 0
  model = Tied()
  model(np.ones((1, 3), np.float32))
  assert counted(model, (3,)).uses == {"0/embeddings": 3}


@BOTH
def test_a_layer_of_ones_own(library):
  class Gated(library.layers.Layer):
    def build(self, shape):
      # A wide kernel that is used in two halves, and one that is normalised.
      self.wide = self.add_weight(shape=(shape[-1], 8), name="wide")
      self.unit = self.add_weight(shape=(4, 4), name="unit")

    def call(self, x):
      left, right = tf.split(tf.convert_to_tensor(self.wide), 2, axis=1)
      hidden = tf.matmul(x, left) * tf.sigmoid(tf.matmul(x, right))
      unit = tf.convert_to_tensor(self.unit)
      return tf.matmul(hidden, unit / (1e-6 + tf.norm(unit)))

  model = sequential(library, (3,), Gated())
  found = counted(model, (3,))
  assert found.uses == {"0/wide": 1, "0/unit": 1}
  assert found.forward() == 2 * (3 * 8 + 4 * 4)


@BOTH
def test_weights_times_weights_are_no_work_of_an_example(library):
  class LowRank(library.layers.Layer):
    def build(self, shape):
      self.a = self.add_weight(shape=(shape[-1], 2), name="a")
      self.b = self.add_weight(shape=(2, 5), name="b")

    def call(self, x):
      return tf.matmul(x, tf.matmul(self.a, self.b))

  assert counted(sequential(library, (3,), LowRank()), (3,)).forward() == 30


def test_a_loop_over_the_data_is_counted_as_often_as_it_runs():
  class Thrice(keras.layers.Layer):
    def build(self, shape):
      self.w = self.add_weight(shape=(3, 3), name="w")

    @tf.function
    def repeated(self, x):
      for _ in tf.range(3):
        x = tf.matmul(x, self.w)
      return x

    def call(self, x):
      return self.repeated(x)

    def compute_output_shape(self, shape):
      return shape

  assert counted(sequential(keras, (3,), Thrice()), (3,)).uses == {"0/w": 3}


@BOTH
def test_a_mask_leaves_out_the_pruned_weights(library):
  layers = library.layers
  model = sequential(
    library, (6, 6, 2), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)
  )
  found = counted(model, (6, 6, 2))
  binding = wrappers.bind(model)
  full = tf_lottery.Mask.ones(binding.shapes)
  assert found.forward(full) == found.forward()
  for density in (0.5, 0.1):
    mask = tf_lottery.Mask.random(binding.shapes, density, seed=0)
    kept = {row.key: row.kept for row in mask.table()}
    (conv, dense) = kept
    assert found.forward(mask) == 2 * (16 * kept[conv] + kept[dense])
    assert found.forward(mask) < found.forward()
  # Weights outside of the mask are dense.
  only = tf_lottery.Mask({dense: np.zeros(binding.shapes[dense], bool)})
  assert found.forward(only) == 2 * 16 * 3 * 3 * 2 * 3


@BOTH
def test_the_number_of_examples_does_not_matter(library):
  model = sequential(library, (7, 3), library.layers.LSTM(5))
  assert counted(model, (7, 3), examples=3) == counted(model, (7, 3))


@BOTH
def test_it_leaves_the_model_as_it_was(library):
  layers = library.layers
  rnn = layers.LSTM(4, stateful=True)
  inputs = library.Input(batch_shape=(1, 5, 3))
  hidden = layers.BatchNormalization()(layers.Dropout(0.5)(rnn(inputs)))
  model = library.Model(inputs, layers.Dense(2)(hidden))
  binding = wrappers.bind(model)
  before = binding.read(random_states=True)
  flops.count(binding, np.ones((1, 5, 3), np.float32))
  after = binding.read(random_states=True)
  for key, value in before.items():
    np.testing.assert_array_equal(after[key], value)
  assert not tf.config.functions_run_eagerly()


def test_mixed_precision_and_lottery_layers_count_alike():
  for library in (keras, tf_keras):
    policy = library.mixed_precision.Policy("mixed_bfloat16")
    model = sequential(library, (7,), library.layers.Dense(5, dtype=policy))
    ready = tf_lottery.lottery_prune(model)
    assert list(counted(ready, (7,)).uses.values()) == [1]


def test_a_function_that_is_compiled_already_is_refused(tmp_path):
  class Module(tf.Module):
    def __init__(self):
      self.w = tf.Variable(tf.ones((3, 3)))

    @tf.function(input_signature=[tf.TensorSpec((None, 3))])
    def __call__(self, x):
      return tf.matmul(x, self.w)

  tf.saved_model.save(Module(), str(tmp_path))
  loaded = tf.saved_model.load(str(tmp_path))
  model = sequential(keras, (3,), keras.layers.Lambda(lambda x: loaded(x)))
  with pytest.raises(ValueError, match=r"inside of .* are not seen"):
    counted(model, (3,))
