"""Smaller models compute the same."""

import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import tf_lottery
from tests.export import sparse_models

LIBRARIES = pytest.mark.parametrize("library", [keras, tf_keras])


def convolutional(library):
  layers = library.layers
  return sparse_models.sequential(
    library,
    (14, 14, 3),
    layers.Conv2D(16, 3, activation="relu"),
    layers.BatchNormalization(),
    layers.MaxPooling2D(),
    layers.Conv2D(24, 3, padding="same", use_bias=False),
    layers.BatchNormalization(),
    layers.ReLU(),
    layers.DepthwiseConv2D(3, activation="tanh"),
    layers.AveragePooling2D(2, padding="same"),
    layers.Flatten(),
    layers.Dropout(0.2),
    layers.Dense(30, "sigmoid"),
    layers.Dense(5, "softmax"),
  )


def residual(library):
  library.utils.set_random_seed(0)
  layers = library.layers
  inputs = library.Input((10, 10, 3))
  x = layers.Conv2D(16, 3, activation="relu")(inputs)
  y = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x))
  x = layers.ReLU()(layers.Add()([x, y]))
  y = layers.Conv2D(32, 3, strides=2)(layers.ZeroPadding2D()(x))
  shortcut = layers.Conv2D(32, 1, strides=2)(x)
  x = layers.Activation("relu")(layers.Add()([y, shortcut]))
  x = layers.GlobalAveragePooling2D()(x)
  outputs = [layers.Dense(4)(x), layers.Dense(2)(x)]
  return library.Model(inputs, outputs)


MODELS = {
  "dense": lambda library: sparse_models.mlp(library, 1.0, (60, 50, 40, 10)),
  "convolutional": convolutional,
  "residual": residual,
  "many_ended": lambda library: sparse_models.many_ended(library, 1.0),
  "other layers": lambda library: sparse_models.convolutional(library, 1.0),
}


@LIBRARIES
@pytest.mark.parametrize("density", [0.1, 0.05, 0.02, 0.001])
@pytest.mark.parametrize("name", ["dense", "convolutional", "residual"])
def test_random_tickets_compute_the_same(library, name, density):
  model = sparse_models.prune(MODELS[name](library), density)
  before = tf_lottery.bind(model).read()
  small, report = tf_lottery.compact(model)
  sparse_models.check_same(model, small, model.inputs[0].shape[1:])
  assert report.parameters[1] < 0.9 * report.parameters[0]
  assert small.count_params() == report.parameters[1]
  after = tf_lottery.bind(model).read()
  assert all(np.array_equal(before[key], after[key]) for key in before)


@LIBRARIES
def test_dead_units_go_and_constant_ones_are_folded(library):
  layers = library.layers
  model = sparse_models.sequential(
    library, (3,), layers.Dense(4, "relu"), layers.Dense(2)
  )
  # Unit 0 works; 1 leads nowhere; 2 is relu(0.5); 3 is relu(-1) = 0.
  model.layers[0].set_weights(
    [
      np.array([[1, 1, 0, 0], [2, 1, 0, 0], [3, 1, 0, 0]]),
      np.array([0.1, 0.2, 0.5, -1]),
    ]
  )
  model.layers[1].set_weights(
    [np.array([[1, -1], [0, 0], [2, 4], [9, 9]]), np.array([0.25, 0.5])]
  )
  small, report = tf_lottery.compact(model)
  names = [layer.name for layer in model.layers]
  assert report.units == {names[0]: (4, 1), names[1]: (2, 2)}
  assert report.parameters == (26, 8)
  first, second = small.layers
  assert first.get_weights()[0].tolist() == [[1], [2], [3]]
  assert second.get_weights()[0].tolist() == [[1, -1]]
  assert second.get_weights()[1].tolist() == [0.25 + 2 * 0.5, 0.5 + 4 * 0.5]
  header, *rows, total = str(report).splitlines()
  assert header.split() == ["layer", "before", "after", "why", "units", "stay"]
  assert [row.split(maxsplit=3) for row in rows] == [
    [names[0], "4", "1"],
    [names[1], "2", "2", "it is an output of the model"],
  ]
  assert total == "26 -> 8 parameters, 3.25 times fewer."


@LIBRARIES
def test_a_constant_is_not_folded_where_zeros_surround_it(library):
  layers = library.layers
  for padding, units in (("valid", 1), ("same", 2)):
    model = sparse_models.sequential(
      library,
      (6, 6, 1),
      layers.Conv2D(2, 1),
      layers.Conv2D(3, 3, padding=padding),
    )
    model.layers[0].set_weights([np.array([[[[1, 0]]]]), np.array([0.0, 2.0])])
    small, report = tf_lottery.compact(model)
    first, second = (layer.name for layer in model.layers)
    assert report.units[first] == (2, units)
    reason = f"1 constant, but {second} pads with zeros"
    assert report.left_alone.get(first, "") == ("" if units == 1 else reason)
    sparse_models.check_same(model, small, (6, 6, 1))


@LIBRARIES
def test_a_1x1_convolution_pads_nothing(library):
  layers = library.layers
  model = sparse_models.sequential(
    library,
    (5, 5, 1),
    layers.Conv2D(2, 1),
    layers.Conv2D(3, 1, strides=2, padding="same"),
  )
  model.layers[0].set_weights([np.array([[[[1, 0]]]]), np.array([0.0, 2.0])])
  small, report = tf_lottery.compact(model)
  assert report.units[model.layers[0].name] == (2, 1)
  sparse_models.check_same(model, small, (5, 5, 1))


@LIBRARIES
def test_a_layer_without_bias_takes_no_constant(library):
  layers = library.layers
  model = sparse_models.sequential(
    library, (3,), layers.Dense(4), layers.Dense(2, use_bias=False)
  )
  kernel, _ = model.layers[0].get_weights()
  kernel[:, 2:] = 0
  model.layers[0].set_weights([kernel, np.array([0, 0, 0, 1.0])])
  small, report = tf_lottery.compact(model)
  # The third unit is 0, which needs no bias; the fourth is 1, which does.
  first, second = (layer.name for layer in model.layers)
  assert report.units[first] == (4, 3)
  assert report.left_alone[first] == f"1 constant, but {second} has no bias"
  sparse_models.check_same(model, small, (3,))


@LIBRARIES
def test_one_unit_stays_where_none_matters(library):
  layers = library.layers
  model = sparse_models.sequential(
    library, (3,), layers.Dense(4), layers.Dense(2)
  )
  model.layers[1].set_weights([np.zeros((4, 2)), np.array([1.0, 2.0])])
  small, report = tf_lottery.compact(model)
  assert report.units[model.layers[0].name] == (4, 1)
  sparse_models.check_same(model, small, (3,))


@LIBRARIES
def test_branches_that_meet_lose_the_same_channels(library):
  library.utils.set_random_seed(0)
  layers = library.layers
  inputs = library.Input((5,))
  one, two, end = layers.Dense(6), layers.Dense(6), layers.Dense(2)
  added = layers.Add()([one(inputs), two(inputs)])
  model = library.Model(inputs, end(added))
  kernel, bias = end.get_weights()
  kernel[:2] = 0
  end.set_weights([kernel, bias])
  kernel, bias = one.get_weights()
  kernel[:, 2] = 0  # The other branch still needs this channel.
  one.set_weights([kernel, bias])
  small, report = tf_lottery.compact(model)
  assert report.units[one.name] == report.units[two.name] == (6, 4)
  sparse_models.check_same(model, small, (5,))


@LIBRARIES
def test_a_sum_by_the_operator_is_as_good_as_the_layer(library):
  library.utils.set_random_seed(0)
  layers = library.layers
  inputs = library.Input((5,))
  one, two, end = layers.Dense(6), layers.Dense(6), layers.Dense(2)
  model = library.Model(inputs, end(one(inputs) + two(inputs)))
  kernel, bias = end.get_weights()
  kernel[:2] = 0
  end.set_weights([kernel, bias])
  small, report = tf_lottery.compact(model)
  assert report.units[one.name] == report.units[two.name] == (6, 4)
  assert report.parameters == (86, 58)
  sparse_models.check_same(model, small, (5,))


@LIBRARIES
@pytest.mark.parametrize("name", ["many_ended", "other layers"])
def test_what_is_not_understood_is_left_alone_and_named(library, name):
  model = sparse_models.prune(MODELS[name](library), 0.02)
  small, report = tf_lottery.compact(model)
  reasons = " ".join(report.left_alone.values())
  reason = {
    "many_ended": "it is called several times",
    "other layers": "layers of class Conv2DTranspose are not understood",
  }[name]
  assert reason in reasons
  if name == "other layers":
    sparse_models.check_same(model, small, (12, 12, 3))
    assert report.parameters[1] < report.parameters[0]


@LIBRARIES
@pytest.mark.parametrize("name", ["dense", "residual"])
def test_a_compiled_model_stays_so_and_the_new_one_is_not(library, name):
  model = sparse_models.prune(MODELS[name](library), 0.02)
  model.compile("sgd", lambda y, got: (got - y) ** 2)
  small, _ = tf_lottery.compact(model)
  assert model.optimizer is not None
  assert getattr(model, "compiled", True)
  assert getattr(small, "optimizer", None) is None
  assert not getattr(small, "compiled", False)


@LIBRARIES
def test_a_lottery_ready_model_gives_a_plain_one(library):
  model = sparse_models.mlp(library, 1.0, (30, 40, 30, 10))
  model.compile("adam", "sparse_categorical_crossentropy")
  model = tf_lottery.lottery_prune(model)
  mask = tf_lottery.prune_and_rewind(model, 0.5, pattern="channel")
  small, report = tf_lottery.compact(model)
  assert not tf_lottery.bind(small).is_ready
  assert tf_lottery.bind(model).mask == mask
  assert report.parameters[1] < 0.7 * report.parameters[0]
  sparse_models.check_same(model, small, (30,))


def ready(library, *layers):
  """A lottery-ready model that is pruned by channels, with such layers."""
  model = sparse_models.sequential(
    library,
    (6,),
    library.layers.Dense(9, "relu"),
    *layers,
    library.layers.Dense(8, "relu"),
    library.layers.Dense(3),
  )
  model = tf_lottery.lottery_prune(model)
  tf_lottery.prune_and_rewind(
    model, 0.5, pattern="channel", reset_optimizer=False
  )
  return model


@LIBRARIES
def test_a_lottery_ready_model_may_have_lambdas(library):
  model = ready(library, library.layers.Lambda(lambda x: 2 * x))
  small, report = tf_lottery.compact(model)
  assert report.parameters[1] < report.parameters[0]
  assert tf_lottery.bind(model).is_ready
  tf_lottery.bind(model).check_held()
  sparse_models.check_same(model, small, (6,))


def test_a_lottery_ready_model_may_have_classes_that_are_not_registered():
  class Double(keras.layers.Dense):
    def call(self, inputs):
      return 2 * super().call(inputs)

  model = ready(keras, Double(7), keras.layers.Dense(5, lambda x: x + 1))
  small, report = tf_lottery.compact(model)
  assert report.parameters[1] < report.parameters[0]
  sparse_models.check_same(model, small, (6,))


@LIBRARIES
def test_mixed_precision_stays(library):
  layers = library.layers
  model = sparse_models.sequential(
    library,
    (20,),
    layers.Dense(40, "relu", dtype="mixed_bfloat16"),
    layers.Dense(40, "relu", dtype="mixed_bfloat16"),
    layers.Dense(3, dtype="float32"),
  )
  sparse_models.prune(model, 0.05)
  small, report = tf_lottery.compact(model)
  assert report.parameters[1] < 0.2 * report.parameters[0]
  assert [layer.compute_dtype for layer in small.layers] == [
    "bfloat16",
    "bfloat16",
    "float32",
  ]
  assert small.layers[0].kernel.dtype == "float32"
  sparse_models.check_same(model, small, (20,), 3e-2)


@LIBRARIES
def test_subclassed_models_are_refused(library):
  class Model(library.Model):
    def __init__(self):
      super().__init__()
      self.dense = library.layers.Dense(3)

    def call(self, inputs):
      return self.dense(inputs)

  model = Model()
  model(np.zeros((1, 4), np.float32))
  with pytest.raises(ValueError, match="must be a Sequential or functional"):
    tf_lottery.compact(model)


@settings(max_examples=15, deadline=None)
@given(
  blocks=sparse_models.architectures(),
  density=st.floats(0, 0.6),
  library=st.sampled_from([keras, tf_keras]),
  seed=st.integers(0, 99),
)
def test_any_small_network_computes_the_same(blocks, density, library, seed):
  model = sparse_models.build(library, blocks)
  sparse_models.prune(model, density, seed)
  small, _ = tf_lottery.compact(model)
  sparse_models.check_same(model, small, model.inputs[0].shape[1:])


def branching(library, blocks):
  """A network of blocks: what it consists of, how wide, padded, biased."""
  library.utils.set_random_seed(0)
  layers = library.layers
  inputs = x = library.Input((7, 7, 2))
  for name, width, padding, use_bias in blocks:
    given = {"padding": padding, "use_bias": use_bias}
    if name == "conv":
      x = layers.Conv2D(width, 2, activation="relu", **given)(x)
    elif name == "depthwise":
      x = layers.DepthwiseConv2D(2, activation="tanh", **given)(x)
    elif name == "residual":
      y = layers.Conv2D(x.shape[-1], 3, padding="same", use_bias=use_bias)(x)
      x = x + layers.BatchNormalization()(y)
    elif name == "branches":
      one = layers.Conv2D(width, 1, **given)(x)
      x = layers.ReLU()(layers.Add()([one, layers.Dense(width)(x)]))
    else:
      x = layers.Concatenate()([x, layers.Conv2D(width, 1, **given)(x)])
  x = layers.Dense(6, "sigmoid")(layers.Flatten()(x))
  return library.Model(inputs, [layers.Dense(3)(x), layers.Dense(2)(x)])


@settings(max_examples=8, deadline=None)
@given(
  blocks=st.lists(
    st.tuples(
      st.sampled_from(
        ["conv", "depthwise", "residual", "branches", "concatenation"]
      ),
      st.integers(1, 8),
      st.sampled_from(["same", "valid"]),
      st.booleans(),
    ),
    min_size=1,
    max_size=4,
  ),
  density=st.floats(0, 0.4),
  library=st.sampled_from([keras, tf_keras]),
  seed=st.integers(0, 99),
)
def test_any_branching_network_computes_the_same(
  blocks, density, library, seed
):
  model = sparse_models.prune(branching(library, blocks), density, seed)
  small, _ = tf_lottery.compact(model)
  sparse_models.check_same(model, small, (7, 7, 2))
