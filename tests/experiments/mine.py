"""A user's own models and data, as other processes import them."""

import numpy as np


def make_model(units=8, *, width=1.0, keras="keras", learning_rate=0.02):
  import importlib

  library = importlib.import_module(keras)
  layers = library.layers
  model = library.Sequential(
    [
      library.Input((6,)),
      layers.Dense(max(1, round(units * width)), activation="relu"),
      layers.Dense(2),
    ]
  )
  model.compile(
    library.optimizers.Adam(learning_rate),
    loss=library.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return model


def make_without_width(units=8):
  return make_model(units)


def make_regression():
  import keras

  model = keras.Sequential(
    [keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
  )
  model.compile(keras.optimizers.Adam(0.02), loss="mse")
  return model


def load_data(seed, count=96):
  rng = np.random.default_rng(seed)

  def draw(size):
    x = rng.normal(size=(size, 6)).astype(np.float32)
    return x, (x.sum(-1) > 0).astype(np.int32)

  return draw(count), draw(40), draw(40)


def load_twice():
  """Without a seed, and without test data."""
  train, validation, _ = load_data(7)
  return {"train": train, "validation": validation}


def load_targets(seed):
  rng = np.random.default_rng(seed)
  parts = []
  for size in (96, 40, 40):
    x = rng.normal(size=(size, 6)).astype(np.float32)
    parts.append((x, 30 + x.sum(-1, keepdims=True)))
  return parts


def load_pipelines(seed):
  import tensorflow as tf

  return [
    tf.data.Dataset.from_tensor_slices(part).batch(12)
    for part in load_data(seed)
  ]


def load_nonsense():
  return np.zeros((4, 6)), np.zeros(4)


def fail():
  raise OSError("the disk of the data is gone")


def load_some_broken(seed):
  """The inputs of the first seed are so large that its loss overflows."""
  (x, y), validation, test = load_data(seed)
  return (x * np.float32(1e30 if seed == 0 else 1), y), validation, test
