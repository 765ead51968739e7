"""What tickets keep along the named axes of layers of both generations."""

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tf_lottery import analysis

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}


@pytest.fixture(params=LIBRARIES.values(), ids=LIBRARIES)
def library(request):
  return request.param


def attention(library):
  x = library.Input((5, 4))
  return library.Model(x, library.layers.MultiHeadAttention(2, 3)(x, x))


def one_layer(make, shape):
  return lambda library: library.Sequential(
    [library.Input(shape), make(library.layers)]
  )


WINDOW = {"height": 2, "width": 3}
IN, OUT = {"input channels": 4}, {"filters": 5}
# A model -> the axes of each of its prunable weights, and their lengths.
AXES = {
  "Dense": (
    one_layer(lambda layers: layers.Dense(3), (4,)),
    [{"inputs": 4, "units": 3}],
  ),
  "EinsumDense": (
    one_layer(
      lambda layers: layers.EinsumDense("abc,cde->abde", (None, 3, 5)), (6, 4)
    ),
    [{"inputs": 4, "units 1": 3, "units 2": 5}],
  ),
  "EinsumDense of groups": (
    one_layer(
      lambda layers: layers.EinsumDense("abc,bcd->abd", (6, 3)), (6, 4)
    ),
    [{"groups": 6, "inputs": 4, "units": 3}],
  ),
  "Embedding": (
    one_layer(lambda layers: layers.Embedding(9, 3), (4,)),
    [{"tokens": 9, "features": 3}],
  ),
  "Conv1D": (
    one_layer(lambda layers: layers.Conv1D(5, 2), (7, 4)),
    [{"steps": 2, **IN, **OUT}],
  ),
  "Conv2D": (
    one_layer(lambda layers: layers.Conv2D(5, (2, 3)), (7, 7, 4)),
    [{**WINDOW, **IN, **OUT}],
  ),
  "Conv3D": (
    one_layer(lambda layers: layers.Conv3D(5, (1, 2, 3)), (7, 7, 7, 4)),
    [{"depth": 1, **WINDOW, **IN, **OUT}],
  ),
  "Conv2DTranspose": (
    one_layer(lambda layers: layers.Conv2DTranspose(5, (2, 3)), (7, 7, 4)),
    [{**WINDOW, **OUT, **IN}],
  ),
  "SeparableConv2D": (
    one_layer(lambda layers: layers.SeparableConv2D(5, 2), (7, 7, 4)),
    [{"height": 1, "width": 1, **IN, **OUT}],
  ),
  "SimpleRNN": (
    one_layer(lambda layers: layers.SimpleRNN(3), (5, 2)),
    [{"inputs": 2, "units": 3}, {"state": 3, "units": 3}],
  ),
  "LSTM": (
    one_layer(lambda layers: layers.LSTM(3), (5, 2)),
    [
      {"inputs": 2, "gates": 4, "units": 3},
      {"state": 3, "gates": 4, "units": 3},
    ],
  ),
  "GRU": (
    one_layer(lambda layers: layers.GRU(3), (5, 2)),
    [
      {"inputs": 2, "gates": 3, "units": 3},
      {"state": 3, "gates": 3, "units": 3},
    ],
  ),
  "ConvLSTM2D": (
    one_layer(lambda layers: layers.ConvLSTM2D(3, (2, 3)), (5, 7, 7, 4)),
    [
      {**WINDOW, "inputs": 4, "gates": 4, "units": 3},
      {**WINDOW, "state": 3, "gates": 4, "units": 3},
    ],
  ),
  "MultiHeadAttention": (
    attention,
    [{"features": 4, "heads": 2, "head units": 3}] * 3
    + [{"heads": 2, "head units": 3, "features": 4}],
  ),
}


def axes(found):
  """Key -> name -> length."""
  by_key = {}
  for axis in found.axes:
    by_key.setdefault(axis.key, {})[axis.axis] = axis.size
  return by_key


@pytest.mark.parametrize("name", AXES)
def test_axes_are_called_by_what_they_are(name, library):
  make, expected = AXES[name]
  model = make(library)
  mask = tf_lottery.Mask.ones(tf_lottery.bind(model).shapes)
  found = axes(analysis.kept(mask, model))
  assert [list(lengths.items()) for lengths in found.values()] == [
    list(lengths.items()) for lengths in expected
  ]


def test_a_depthwise_kernel_that_the_user_chose_has_names(library):
  layer = library.layers.DepthwiseConv2D(2, depth_multiplier=3)
  model = library.Sequential([library.Input((7, 7, 4)), layer])
  binding = tf_lottery.bind(model, prunable={layer.name: True})
  found = analysis.kept(tf_lottery.Mask.ones(binding.shapes), binding)
  ((_, names),) = axes(found).items()
  assert list(names.items()) == [
    ("height", 2),
    ("width", 2),
    ("input channels", 4),
    ("filters of each", 3),
  ]


def test_an_unknown_axis_is_called_by_its_number(library):
  class Mine(library.layers.Layer):
    def build(self, shape):
      self.table = self.add_weight(name="table", shape=(shape[-1], 3))

    def call(self, x):
      return x @ self.table

  model = library.Sequential([library.Input((4,)), Mine(name="mine")])
  binding = tf_lottery.bind(model, prunable={"mine": True})
  found = analysis.kept(tf_lottery.Mask.ones(binding.shapes), model)
  assert axes(found) == {"0/table": {"axis 0": 4, "axis 1": 3}}


def dense_and_attention(library):
  x = library.Input((5, 4))
  attention = library.layers.MultiHeadAttention(2, 3, name="attention")
  hidden = library.layers.Dense(2, name="hidden")(attention(x, x))
  return library.Model(x, hidden)


def test_entries_are_counted_along_each_axis(library):
  model = dense_and_attention(library)
  shapes = tf_lottery.bind(model).shapes
  arrays = {key: np.zeros(shape, bool) for key, shape in shapes.items()}
  arrays["0/kernel"][1, 1, :] = True  # of the query: one feature, one head
  arrays["4/kernel"][[0, 3], 1] = True
  found = analysis.kept(tf_lottery.Mask(arrays), model)
  counts = {a.axis: list(a.counts) for a in found.axes if a.key == "0/kernel"}
  assert counts == {
    "features": [0, 3, 0, 0],
    "heads": [0, 3],
    "head units": [1, 1, 1],
  }
  heads = found.axis("0/kernel", "heads")
  assert (list(heads.dead), heads.alive, heads.size) == ([0], 1, 2)
  units = found.axis("4/kernel", "units")
  assert (units.weight, list(units.counts)) == ("hidden/kernel", [0, 2])
  assert found.empty == ("1/kernel", "2/kernel", "3/kernel")
  assert "hidden/kernel" in str(found)


def test_gates_share_an_axis_of_the_array(library):
  make, _ = AXES["LSTM"]
  model = make(library)
  shapes = tf_lottery.bind(model).shapes
  arrays = {key: np.zeros(shape, bool) for key, shape in shapes.items()}
  arrays["0/kernel"][0, [3, 5]] = True  # units 0 and 2 of the second gate
  found = analysis.kept(tf_lottery.Mask(arrays), model)
  assert list(found.axis("0/kernel", "gates").counts) == [0, 2, 0, 0]
  assert list(found.axis("0/kernel", "units").counts) == [1, 0, 1]


def test_the_mask_of_a_lottery_ready_model_fits_a_plain_one(library):
  model = tf_lottery.lottery_prune(small.make_model(library))
  mask = tf_lottery.Mask.random(tf_lottery.bind(model).shapes, 0.3, seed=0)
  plain = analysis.kept(mask, small.make_model(library))
  ready = analysis.kept(mask, model)
  assert axes(plain) == axes(ready)
  for one, other in zip(plain.axes, ready.axes, strict=True):
    np.testing.assert_array_equal(one.counts, other.counts)
  assert plain.density == mask.density


def test_a_layer_within_layers_of_the_users_own_is_found(library):
  class Mine(library.Model):
    def __init__(self):
      super().__init__()
      self.inner = library.layers.Dense(3)

    def call(self, x):
      return self.inner(x)

  model = Mine()
  model(np.zeros((1, 4), np.float32))
  mask = tf_lottery.Mask.ones(tf_lottery.bind(model).shapes)
  found = analysis.kept(mask, model)
  assert axes(found) == {"0/kernel": {"inputs": 4, "units": 3}}


def test_an_axis_that_is_not_there_is_refused(library):
  model = small.make_model(library)
  mask = tf_lottery.Mask.ones(tf_lottery.bind(model).shapes)
  found = analysis.kept(mask, model)
  with pytest.raises(
    ValueError, match=r"no axis \('0/kernel', 'heads'\);.*uni"
  ):
    found.axis("0/kernel", "heads")


def test_a_mask_of_another_architecture_is_refused(library):
  mask = tf_lottery.Mask({"0/kernel": np.ones((9, 9), bool)})
  with pytest.raises(ValueError, match="of another architecture"):
    analysis.kept(mask, small.make_model(library))
