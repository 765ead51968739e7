"""The FLOPs of forward passes, against TensorFlow's profiler and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tf_lottery
from tf_lottery import wrappers
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
    if node.name in flops._FORMULAS
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
  "grouped": ((9, 8, 4), lambda layers: layers.Conv2D(6, 3, groups=2)),
  "dilated": ((9, 8, 3), lambda layers: layers.Conv2D(4, 3, dilation_rate=2)),
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
