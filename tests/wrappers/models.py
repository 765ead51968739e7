"""Models of all kinds, and what the tests of the wrappers do with them."""

import warnings

import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras_2

import tf_lottery
from tf_lottery import wrappers

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
  """The weight on each replica."""
  variable = binding.variables[key]
  return [copy.numpy() for copy in getattr(variable, "values", (variable,))]


def assert_holds(binding, mask):
  binding.check_held()
  for key, kept in mask.items():
    for copy in copies(binding, key):
      assert not copy[~kept].any()


def assert_same(got, expected):
  for key in expected:
    np.testing.assert_array_equal(got[key], expected[key], err_msg=key)


def assert_refused(use, error, match):
  """That a call raises; `bind` in it may have warned before."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    with pytest.raises(error, match=match):
      use()


def all_layers(model):
  return list(wrappers.walk(model))


OPTIMIZERS = {
  "momentum": momentum,
  "adam": lambda keras: keras.optimizers.Adam(0.01),
  "adamw": lambda keras: keras.optimizers.AdamW(0.01, weight_decay=0.1),
  "clipnorm": lambda keras: keras.optimizers.SGD(0.05, global_clipnorm=0.1),
}


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


def sizes_of(model):
  return len(model.weights), len(model.trainable_weights)
