import numpy as np
import pytest
import tensorflow as tf

from tf_lottery.training import distribution
from tf_lottery.training import evaluation
from tf_lottery.training.data import as_data


def examples(count):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(count, 6)).astype(np.float32)
  return x, (x.sum(-1) > 0).astype(np.int32)


def make(keras, strategy):
  with strategy.scope():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    model.compile(
      "sgd",
      loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
      metrics=["accuracy"],
    )
  return model, evaluation.Evaluator(model, evaluation.Placement(strategy))


@pytest.mark.parametrize("count", [7, 1003])
def test_it_agrees_with_keras(keras, strategy, count):
  x, y = examples(count)
  model, evaluator = make(keras, strategy)
  ours = evaluator.evaluate(as_data((x, y)))
  plain, _ = make(keras, tf.distribute.get_strategy())
  plain.set_weights(model.get_weights())
  expected = plain.evaluate(x, y, verbose=0, return_dict=True)
  assert ours == pytest.approx(expected, rel=1e-5)
  assert evaluator.evaluate(as_data((x, y))) == ours


@pytest.mark.parametrize("count", [7, 1003])
def test_scaled_examples_have_the_metrics_of_floats(keras, strategy, count):
  x, y = examples(count)
  x = np.clip(128 + 50 * x, 0, 255).astype(np.uint8)
  _, evaluator = make(keras, strategy)
  for scale, shift in ((255, 0), (51, 17)):
    floats = (x.astype(np.float32) - np.float32(shift)) / np.float32(scale)
    scaled = data_lib.ArrayData((x, y), scale=scale, shift=shift)
    expected = evaluator.evaluate(data_lib.as_data((floats, y)))
    assert evaluator.evaluate(scaled) == expected


def test_arrays_are_put_on_the_device_once(strategy):
  placement = evaluation.Placement(strategy)
  data = as_data(examples(4))
  assert placement.put(data)[0] is placement.put(data)[0]
  x, _, weight = placement.put(data)
  np.testing.assert_array_equal(x, data.arrays[0])
  assert np.shares_memory(np.asarray(x), data.arrays[0])
  assert weight is None


def test_replicas_need_an_example_each_and_batches_of_one_size(keras):
  strategy = distribution.resolve_strategy("mirrored")
  _, evaluator = make(keras, strategy)
  with pytest.raises(ValueError, match="each of 2 replicas, got 1"):
    evaluator.evaluate(as_data(examples(1)))
  batches = tf.data.Dataset.from_tensor_slices(examples(6)).batch(4)
  with pytest.raises(ValueError, match="drop_remainder=True"):
    evaluator.evaluate(as_data(batches))


def test_each_of_two_million_examples_counts_once(keras3):
  count = 2_000_000
  x = np.zeros((count, 1), np.float32)
  y = (np.arange(count) % 4 == 0).astype(np.float32)
  y[count // 2 :] = 1.0
  model = keras3.Sequential(
    [keras3.Input((1,)), keras3.layers.Dense(1, kernel_initializer="zeros")]
  )
  model.compile("sgd", loss="mae")
  placement = evaluation.Placement(tf.distribute.get_strategy())
  found = evaluation.Evaluator(model, placement).evaluate(as_data((x, y)))
  assert found["loss"] == pytest.approx(float(y.mean()), rel=1e-4)
