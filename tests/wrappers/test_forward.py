"""No pruning operation runs in the forward pass."""

import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests.wrappers.models import fit
from tests.wrappers.models import hold_random
from tests.wrappers.models import predict
from tests.wrappers.models import ready
from tests.wrappers.models import residual
from tests.wrappers.models import sequential


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
