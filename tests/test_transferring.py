"""Tickets for other networks: other classes, more or fewer layers."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

import tf_lottery


def mlp(keras, hidden=(6, 6), classes=3, inputs=5):
  dense = [keras.layers.Dense(units, "relu") for units in hidden]
  output = keras.layers.Dense(classes, name="logits")
  return keras.Sequential([keras.Input((inputs,)), *dense, output])


def resnet(keras, blocks, classes=3):
  """A residual network of two stages, built as the papers' ResNet-20."""
  layers = keras.layers

  def conv(x, filters, stride=1, size=3):
    x = layers.Conv2D(
      filters, size, strides=stride, padding="same", use_bias=False
    )(x)
    return layers.BatchNormalization()(x)

  inputs = keras.Input((4, 4, 1))
  x = layers.ReLU()(conv(inputs, 2))
  for stage, filters in enumerate((2, 4)):
    for block in range(blocks):
      stride = 2 if stage and not block else 1
      branch = conv(layers.ReLU()(conv(x, filters, stride)), filters)
      x = conv(x, filters, 2, 1) if stride == 2 else x
      x = layers.ReLU()(layers.Add()([branch, x]))
  x = layers.GlobalAveragePooling2D()(x)
  return keras.Model(inputs, layers.Dense(classes, name="logits")(x))


def subclassed(keras, classes=3):
  class Net(keras.Model):
    def __init__(self):
      super().__init__()
      self.embedding = keras.layers.Embedding(9, 4)
      self.lstm = keras.layers.LSTM(4)
      self.logits = keras.layers.Dense(classes)

    def call(self, x):
      return self.logits(self.lstm(self.embedding(x)))

  model = Net()
  model(tf.zeros([2, 3], tf.int32))
  return model


def ticket_of(model, density=0.5):
  binding = tf_lottery.bind(model)
  rng = np.random.default_rng(1)
  start = {
    key: rng.normal(size=value.shape).astype(np.float32)
    for key, value in binding.read().items()
  }
  names = [weight.name for weight in binding.report]
  mask = tf_lottery.Mask.random(binding.shapes, density, seed=0)
  return tf_lottery.Ticket(
    mask, start, {"level": 4, "seed": 7, "weights": names}
  )


def kernels(match):
  """The kernels that each kernel of the model comes from."""
  return [
    int(match.sources[weight.key].partition("/")[0])
    for weight in match.weights
    if weight.role == "kernel" and weight.key in match.sources
  ]


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def other(request):
  """The generation of the target; `keras` is that of the source."""
  return importlib.import_module(request.param)


@pytest.mark.parametrize("make", [mlp, lambda k: resnet(k, 1), subclassed])
def test_the_same_architecture_takes_all(keras, other, make):
  ticket = ticket_of(make(keras))
  model = make(other)
  moved = ticket.transfer(model)
  assert moved.equals(ticket)
  assert moved.provenance["drawn_anew"] == []
  moved.apply(model)
  tf_lottery.bind(model).check_held()


@pytest.mark.parametrize(
  "make",
  [
    lambda keras, classes: mlp(keras, classes=classes),
    lambda keras, classes: resnet(keras, 1, classes),
    subclassed,
  ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_another_output_layer_is_drawn_anew(keras, other, make, sparse):
  ticket = ticket_of(make(keras, 3))
  model = make(other, 5)
  before = tf_lottery.bind(model).read()
  moved = ticket.transfer(model, sparse=sparse)
  (head,) = (key for key, kept in moved.mask.items() if kept.shape[-1] == 5)
  bias = head.replace("kernel", "bias")
  for key, kept in ticket.mask.items():
    if key != head:
      np.testing.assert_array_equal(moved.mask[key], kept)
  for key, value in ticket.start.items():
    if key not in (head, bias):
      np.testing.assert_array_equal(moved.start[key], value)
  kept = moved.mask[head]
  expected = round(ticket.density * kept.size) if sparse else kept.size
  assert kept.sum() == expected
  np.testing.assert_array_equal(moved.start[head][kept], before[head][kept])
  np.testing.assert_array_equal(moved.start[bias], before[bias])
  assert len(moved.provenance["drawn_anew"]) == 2
  moved.apply(model)
  tf_lottery.bind(model).check_held()


def test_the_provenance_names_the_source(keras3, tmp_path):
  ticket = ticket_of(mlp(keras3))
  moved = ticket.transfer(mlp(keras3, classes=4))
  assert moved.provenance["source"] == {
    "level": 4,
    "seed": 7,
    "control": None,
    "fingerprint": ticket.fingerprint(),
  }
  assert moved.provenance["drawn_anew"] == ["logits/kernel", "logits/bias"]
  moved.save(tmp_path / "t")
  assert tf_lottery.Ticket.load(tmp_path / "t") == moved
  assert moved.fingerprint() != ticket.fingerprint()


def test_a_seed_draws_the_sparse_output(keras3):
  ticket, model = ticket_of(mlp(keras3)), mlp(keras3, classes=4)
  first, again, second = (
    ticket.transfer(model, sparse=True, seed=seed) for seed in (1, 1, 2)
  )
  assert first == again
  assert first.mask != second.mask


def test_layers_that_are_named_are_drawn_anew_although_they_fit(keras):
  ticket, model = ticket_of(mlp(keras)), mlp(keras)
  moved = ticket.transfer(model, anew=["output"])
  assert moved.provenance["drawn_anew"] == ["logits/kernel", "logits/bias"]
  assert moved.provenance["left_out"] == ["logits/kernel", "logits/bias"]
  assert moved.mask["2/kernel"].all()
  wider = mlp(keras, hidden=(6, 8, 6))
  assert kernels(ticket.match(wider, anew=["dense*"])) == [2]


@pytest.mark.parametrize(
  ("hidden", "expected"),
  [
    ((6, 6, 6, 6), [0, 1, 1, 1, 2]),  # the layer of that width is repeated
    ((6,), [0, 2]),  # the first is kept
  ],
)
def test_a_deeper_or_shallower_mlp_matches_by_shape(
  keras, other, hidden, expected
):
  ticket = ticket_of(mlp(keras))
  model = mlp(other, hidden)
  assert kernels(ticket.match(model)) == expected
  moved = ticket.transfer(model)
  for place, source in enumerate(expected):
    for kind in ("mask", "start"):
      np.testing.assert_array_equal(
        getattr(moved, kind)[f"{place}/kernel"],
        getattr(ticket, kind)[f"{source}/kernel"],
      )


def test_layers_as_wide_as_the_input_keep_first_and_last(keras3):
  square = mlp(keras3, (5, 5), 5)
  ticket = ticket_of(square)
  assert kernels(ticket.match(mlp(keras3, (5,) * 4, 5))) == [0, 1, 0, 1, 2]
  assert kernels(ticket.match(mlp(keras3, (5,), 5))) == [0, 2]


# The layers with weights of a network of two blocks a stage: the stem 0 and 1,
# the first stage 2 to 9; the second 10 to 15, with its shortcut, and 16 to 19;
# the output 20. A convolution comes before its normalisation.
@pytest.mark.parametrize(
  ("blocks", "expected"),
  [
    (1, [*range(6), *range(10, 16), 20]),
    (2, [*range(21)]),
    (3, [*range(10), *range(6, 20), *range(16, 21)]),
    (4, [*range(10), *range(2, 20), *range(16, 20), *range(16, 21)]),
  ],
)
def test_whole_blocks_of_a_residual_network_are_repeated(
  keras3, other, blocks, expected
):
  match = ticket_of(resnet(keras3, 2)).match(resnet(other, blocks))
  assert not match.anew
  layers = {
    int(key.partition("/")[0]): int(source.partition("/")[0])
    for key, source in match.sources.items()
  }
  assert list(layers.values()) == expected


def test_the_match_is_a_table(keras3):
  text = str(ticket_of(mlp(keras3)).match(mlp(keras3, (6, 6, 6), 4)))
  lines = text.splitlines()
  assert lines[0].split() == ["weight", "shape", "from"]
  assert [line.split()[-1] for line in lines[1:7:2]] == [
    lines[1].split()[-1],
    lines[3].split()[-1],
    lines[3].split()[-1],
  ]
  assert lines[7].endswith("drawn anew")
  assert "Drawn anew: logits. Left out of the ticket: logits." in lines[-1]


def test_weights_of_the_models_own_may_be_given(keras3):
  ticket, model = ticket_of(mlp(keras3)), mlp(keras3, classes=4)
  own = {
    k: np.full_like(v, 3) for k, v in tf_lottery.bind(model).read().items()
  }
  moved = ticket.transfer(model, start=own)
  assert (moved.start["2/kernel"] == 3).all()
  np.testing.assert_array_equal(moved.start["1/bias"], ticket.start["1/bias"])


def test_weights_that_the_ticket_does_not_prune_stay_dense(keras):
  whole = ticket_of(mlp(keras))
  mask = {key: kept for key, kept in whole.mask.items() if key != "0/kernel"}
  ticket = tf_lottery.Ticket(tf_lottery.Mask(mask), whole.start)
  model = mlp(keras, classes=4)
  moved = ticket.transfer(model)
  assert list(moved.mask) == ["1/kernel", "2/kernel"]
  np.testing.assert_array_equal(
    moved.start["0/kernel"], whole.start["0/kernel"]
  )
  moved.apply(model)


def test_a_lottery_ready_model_gives_its_initial_weights(keras):
  ticket = ticket_of(mlp(keras))
  model = tf_lottery.lottery_prune(mlp(keras, classes=4))
  binding = tf_lottery.bind(model)
  initial = binding.initial()
  binding.write({key: value + 1 for key, value in initial.items()})
  moved = ticket.transfer(model)
  np.testing.assert_array_equal(moved.start["2/kernel"], initial["2/kernel"])
  moved.apply(model)
  np.testing.assert_array_equal(
    binding.initial()["0/kernel"], ticket.start["0/kernel"]
  )


@pytest.mark.parametrize(
  ("hidden", "inputs", "anew", "error", "why"),
  [
    ((8, 6), 5, (), ValueError, "does not fit a wider or narrower network"),
    ((6, 6), 4, (), ValueError, r"of shape \(4, 6\).* lacks one as well"),
    ((8,), 4, (), ValueError, "No layer of the model has a counterpart"),
    ((6, 6), 5, ("nowhere",), ValueError, "got 'nowhere'. The layers are"),
    ((6, 6), 5, "output", TypeError, "must be a list of selectors"),
  ],
)
def test_what_does_not_fit_is_refused(keras, hidden, inputs, anew, error, why):
  ticket = ticket_of(mlp(keras))
  with pytest.raises(error, match=why):
    ticket.transfer(
      mlp(keras, hidden, 3 if inputs == 5 else 9, inputs), anew=anew
    )
