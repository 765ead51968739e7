"""Sparse models to export, of both Keras generations."""

import numpy as np
from hypothesis import strategies as st

import tf_lottery


def prune(model, density, seed=0):
  """Zeroes what is not kept of each kernel, at random, exact in its count.

  Biases and moving statistics are no longer those of initialisation.
  """
  rng = np.random.default_rng(seed)
  binding = tf_lottery.bind(model)
  for key, value in binding.read().items():
    if value.ndim > 1:
      kept = np.arange(value.size) < round(density * value.size)
      value = value * rng.permutation(kept).reshape(value.shape)
    elif value.dtype.kind == "f":
      value = value + rng.uniform(0.1, 0.5, value.shape)
    binding.write({key: value})
  return model


def mlp(library, density, widths=(785, 364, 363, 10), *, bias=True):
  """Odd and even widths; a softmax at the end."""
  library.utils.set_random_seed(1)
  layers = library.layers
  *hidden, outputs = widths[1:]
  model = library.Sequential(
    [
      library.Input((widths[0],)),
      *(layers.Dense(width, "relu", use_bias=bias) for width in hidden),
      layers.Dense(outputs, "softmax", use_bias=bias),
    ]
  )
  return prune(model, density)


def convolutional(library, density):
  """Every kind of convolution that TFLite stores sparse."""
  library.utils.set_random_seed(1)
  layers = library.layers
  model = library.Sequential(
    [
      library.Input((12, 12, 3)),
      layers.Conv2D(16, 3, activation="relu"),
      layers.BatchNormalization(),
      layers.DepthwiseConv2D(3, padding="same"),
      layers.Conv2DTranspose(12, 3, strides=2, padding="same"),
      layers.Conv2D(24, 1, activation="relu"),
      layers.MaxPooling2D(),
      layers.Flatten(),
      layers.Dropout(0.5),
      layers.Dense(7),
    ]
  )
  return prune(model, density)


def many_ended(library, density):
  """Two inputs, two outputs by name, a layer that is used twice."""
  library.utils.set_random_seed(1)
  layers = library.layers
  one, two = (library.Input((n,), name=f"in_{n}") for n in (30, 31))
  shared = layers.Dense(40, "relu")
  left = shared(layers.Dense(33)(one))
  right = shared(layers.Dense(33)(two))
  both = layers.Concatenate()([layers.Add()([left, right]), right])
  outputs = {"scores": layers.Dense(5)(both), "value": layers.Dense(1)(left)}
  return prune(library.Model([one, two], outputs), density)


@st.composite
def architectures(draw):
  """Layers of a small convolutional network: names and arguments."""
  width = st.integers(1, 9)
  activation = st.sampled_from(["relu", "tanh", "linear", "sigmoid"])
  blocks = []
  for _ in range(draw(st.integers(1, 3))):
    conv = {
      "kernel_size": draw(st.integers(1, 2)),
      "padding": draw(st.sampled_from(["same", "valid"])),
      "activation": draw(activation),
      "use_bias": draw(st.booleans()),
    }
    name = draw(
      st.sampled_from(
        ["Conv2D", "Conv2D", "DepthwiseConv2D", "Conv2DTranspose"]
      )
    )
    if name != "DepthwiseConv2D":
      conv["filters"] = draw(width)
    blocks.append((name, conv))
    for name in ("BatchNormalization", "MaxPooling2D", "ReLU"):
      if draw(st.booleans()) and len(blocks) < 5:
        blocks.append((name, {}))
  blocks.append((draw(st.sampled_from(["Flatten", "GlobalMaxPooling2D"])), {}))
  dense = {"units": draw(width), "activation": draw(activation)}
  return [*blocks, ("Dense", dense), ("Dense", {"units": 3})]


def build(library, blocks):
  """The Sequential model of such layers, on images of 16x16x2."""
  library.utils.set_random_seed(0)
  layers = [getattr(library.layers, name)(**given) for name, given in blocks]
  return library.Sequential([library.Input((16, 16, 2)), *layers])


def sequential(library, shape, *layers):
  library.utils.set_random_seed(0)
  return library.Sequential([library.Input(shape), *layers])


def check_same(model, small, shape, tolerance=1e-5):
  x = np.random.default_rng(7).normal(size=(6, *shape)).astype(np.float32)
  expected, got = model(x), small(x)
  if not isinstance(expected, list):
    expected, got = [expected], [got]
  for one, other in zip(expected, got, strict=True):
    scale = np.abs(one).max()
    assert np.abs(np.asarray(one) - other).max() <= tolerance * scale
