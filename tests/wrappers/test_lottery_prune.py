"""What goes into lottery_prune, bind and hold."""

import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests.wrappers.models import DENSITY
from tests.wrappers.models import all_layers
from tests.wrappers.models import assert_holds
from tests.wrappers.models import assert_same
from tests.wrappers.models import blocks
from tests.wrappers.models import compiled
from tests.wrappers.models import fit
from tests.wrappers.models import hold_random
from tests.wrappers.models import nested
from tests.wrappers.models import predict
from tests.wrappers.models import ready
from tests.wrappers.models import residual
from tests.wrappers.models import same
from tests.wrappers.models import sequential
from tests.wrappers.models import shared
from tests.wrappers.models import subclass_of
from tests.wrappers.models import subclassed


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


def test_names_of_layers_that_the_model_does_not_have_are_refused(keras):
  model = compiled(keras, sequential(keras))
  with pytest.raises(ValueError, match=r"prunable must name layers.*got clss"):
    tf_lottery.lottery_prune(model, prunable={"clss": False})
