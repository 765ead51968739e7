"""Trainings that cannot succeed are refused before they begin."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tf_lottery
from tests import small

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}


@pytest.fixture(params=LIBRARIES.values(), ids=LIBRARIES)
def library(request):
  return request.param


@pytest.fixture(scope="module", params=LIBRARIES.values(), ids=LIBRARIES)
def trainer(request):
  return tf_lottery.Trainer(lambda: small.make_model(request.param), jit=False)


def examples(**changes):
  """Arrays of `small.examples` with some values or whole arrays changed."""
  x, y = small.examples(20)
  parts = {"x": x, "y": y, "weight": np.ones(20, np.float32)}
  for name, change in changes.items():
    if isinstance(change, tuple):
      index, value = change
      parts[name] = parts[name].copy()
      parts[name][index] = value
    else:
      parts[name] = change
  return tuple(parts.values())


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"x": ((5, 3), np.nan)}, r"train_data: x\[5, 3\] must be finite, got nan"),
    ({"x": ((19, 0), np.inf)}, r"x\[19, 0\] must be finite, got inf"),
    ({"weight": (7, np.nan)}, r"sample_weight\[7\] must be finite, got nan"),
    ({"y": np.full(20, np.nan)}, r"y\[0\] must be finite, got nan"),
    ({"y": (6, 2)}, r"y\[6\] is 2, and the output has 2 .* from 0 to 1"),
    ({"y": (4, -1)}, r"y\[4\] is -1, and the output has 2 values"),
    ({"y": np.full(20, 0.5)}, r"y\[0\] is 0.5, .* cut the fraction off"),
    ({"y": np.array(["cat", "dog"] * 10)}, "y must be numbers, got .* cat"),
    ({"y": np.eye(2)[[0, 1] * 10]}, r"y must have the shape .*got \(2,\)"),
    ({"x": np.ones((20, 5), np.float32)}, r"x of shape \(None, 5\) .*, 6\)"),
    ({"weight": np.ones((20, 2))}, r"sample_weight must have one .* \(2,\)"),
  ],
)
def test_arrays(trainer, changes, message):
  with pytest.raises(ValueError, match=message):
    trainer.check(examples(**changes), "train_data")


def test_good_data_pass(trainer):
  x, y, weight = examples()
  for data in (
    (x, y),
    (x, y.astype(np.float32)),  # whole numbers
    (x, y[:, None], weight[:, None]),
    tf.data.Dataset.from_tensor_slices((x, y)).batch(6),
  ):
    trainer.check(data)


def test_the_first_batch_of_a_stream_is_looked_at(trainer):
  x, y, _ = examples(y=(3, 9))
  dataset = tf.data.Dataset.from_tensor_slices((x, y))
  with pytest.raises(ValueError, match=r"data, first batch: y\[3\] is 9, and"):
    trainer.check(dataset.batch(4))
  with pytest.raises(ValueError, match=r"must be batched, .*batch\(size\)"):
    trainer.check(dataset)
  with pytest.raises(ValueError, match=r"must have an end, .*take\(n\)"):
    trainer.check(dataset.batch(4).repeat())
  with pytest.raises(ValueError, match="at least one batch, got none"):
    trainer.check(dataset.batch(4).take(0))
  with pytest.raises(ValueError, match=r"must give \(x, y\)"):
    trainer.check(dataset.batch(4).map(lambda x, y: x))


def make(library, loss, output=2, activation=None):
  def make_model():
    model = library.Sequential(
      [
        library.Input((6,)),
        library.layers.Dense(output, activation=activation),
      ]
    )
    model.compile("sgd", loss(library) if callable(loss) else loss)
    return model

  return tf_lottery.Trainer(make_model, jit=False)


@pytest.mark.parametrize(
  "loss",
  [
    "sparse_categorical_crossentropy",
    lambda keras: keras.losses.sparse_categorical_crossentropy,
    lambda keras: keras.losses.SparseCategoricalCrossentropy(True),
    lambda keras: [keras.losses.SparseCategoricalCrossentropy()],
  ],
)
def test_a_loss_may_be_named_in_any_way(library, loss):
  trainer = make(library, loss)
  trainer.check(examples())
  with pytest.raises(ValueError, match=r"y\[6\] is 2, and the output has 2"):
    trainer.check(examples(y=(6, 2)))


def test_an_ignored_class_may_be_out_of_range(library):
  trainer = make(
    library,
    lambda keras: keras.losses.SparseCategoricalCrossentropy(ignore_class=-1),
  )
  trainer.check(examples(y=(6, -1)))
  with pytest.raises(ValueError, match=r"y\[6\] is -2"):
    trainer.check(examples(y=(6, -2)))


def test_binary_labels(library):
  trainer = make(library, "binary_crossentropy", 1, "sigmoid")
  trainer.check(examples(y=np.full(20, 0.3)))  # soft labels are legal
  trainer.check(examples(y=np.full(20, 1 + 1e-7)))  # rounding
  with pytest.raises(ValueError, match=r"y\[2\] is -1, .* labels from 0 to 1"):
    trainer.check(examples(y=(2, -1)))
  with pytest.raises(ValueError, match=r"y\[2\] is 1.5, .* from 0 to 1"):
    trainer.check(examples(y=np.where(np.arange(20) == 2, 1.5, 1)))


def train(trainer, data):
  """Returns the loss of some steps on data that pass the checks."""
  trainer.check(data, batch_size=4)
  return trainer.train(data, 0, 4, batch_size=4, seed=0)


def test_labels_without_weight_do_not_count(library):
  trainer = make(library, "binary_crossentropy", 1, "sigmoid")
  data = examples(y=(2, -1), weight=(2, 0))
  assert np.isfinite(train(trainer, data))
  x, y, weight = data
  trainer.check((x, y[:, None], weight))
  trainer.check((x, y, weight[:, None]))
  trainer.check(tf.data.Dataset.from_tensor_slices(data).batch(4))
  with pytest.raises(ValueError, match=r"y\[3\] is -1, .* sample_weight 0"):
    trainer.check(examples(y=([2, 3], -1), weight=(2, 0)))
  classes = make(library, "sparse_categorical_crossentropy")
  with pytest.raises(ValueError, match=r"y\[2\] is -1, .* ignore_class of"):
    classes.check(data)


TOKENS = np.array([[1, 2, 0], [1, 0, 0], [2, 1, 1], [2, 2, 0]] * 4)


def make_sequence_model(library, mask_zero):
  def make_model():
    layers = library.layers
    model = library.Sequential(
      [
        library.Input((3,), dtype="int32"),
        layers.Embedding(3, 4, mask_zero=mask_zero),
        layers.Dense(1, activation="sigmoid"),
      ]
    )
    model.compile("sgd", "binary_crossentropy")
    return model

  return tf_lottery.Trainer(make_model, jit=False)


def test_steps_without_weight_do_not_count(library):
  trainer = make_sequence_model(library, mask_zero=False)
  y = (TOKENS - 1).astype(np.float32)
  weight = (TOKENS > 0).astype(np.float32)
  assert np.isfinite(train(trainer, (TOKENS, y[..., None], weight)))
  trainer.check((TOKENS, y, weight[..., None]))
  weight[1, 2] = 1
  with pytest.raises(ValueError, match=r"y\[1, 2, 0\] is -1"):
    trainer.check((TOKENS, y[..., None], weight))


def test_masked_steps_do_not_count(library):
  trainer = make_sequence_model(library, mask_zero=True)
  y = (TOKENS - 1).astype(np.float32)[..., None]
  assert np.isfinite(train(trainer, (TOKENS, y)))


def make_grouped_model(library, size):
  """Subtracts the mean of the examples of each group."""

  def subtract(x):
    groups = tf.reshape(x, (-1, size, 6))
    return tf.reshape(groups - tf.reduce_mean(groups, 1, True), (-1, 6))

  def make_model():
    inputs = library.Input((6,))
    x = library.layers.Lambda(subtract, output_shape=(6,))(inputs)
    model = library.Model(inputs, library.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    return model

  return tf_lottery.Trainer(make_model, jit=False)


def test_a_model_may_take_groups_of_examples(library):
  trainer = make_grouped_model(library, 5)
  x, y, _ = examples()
  trainer.check((x, y), batch_size=15)
  trainer.check((x, y))  # evaluated on 20 at once
  many = np.repeat(x, 75, 0), np.repeat(y, 75, 0)
  trainer.check(many)  # 1500, evaluated on 750 at once
  with pytest.raises(ValueError, match="in a batch of 8 does not fit"):
    trainer.check((x, y), batch_size=8)
  x[19, 0] = np.nan
  with pytest.raises(ValueError, match=r"x\[19, 0\] must be finite"):
    trainer.check((x, y), batch_size=5)


def test_find_ticket_tries_the_batch_of_a_training_step(library):
  trainer = make_grouped_model(library, 5)
  x, y, _ = examples()
  with pytest.raises(ValueError, match=r"train_data: x .* in a batch of 8 "):
    tf_lottery.find_ticket(
      trainer, (x, y), validation_data=(x, y), epochs=1, batch_size=8
    )


def test_one_weight_may_be_for_a_whole_batch(library):
  trainer = make(library, "binary_crossentropy", 1, "sigmoid")
  x, y, _ = examples()
  y = y.astype(np.float32)

  def batches(y, weight):
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    return dataset.map(lambda x, y: (x, y, weight))

  class Batches(library_sequence(library)):
    def __len__(self):
      return 5

    def __getitem__(self, index):
      part = slice(4 * index, 4 * index + 4)
      return x[part], y[part], np.float32(0.5)

  assert np.isfinite(train(trainer, batches(y, 0.5)))
  assert np.isfinite(train(trainer, Batches()))
  trainer.check(batches(-y, 0.0))
  with pytest.raises(ValueError, match=r"is -1.0, and binary"):
    trainer.check(batches(-y, 0.5))
  with pytest.raises(ValueError, match=r"sample_weight.* must be finite"):
    trainer.check(batches(y, np.nan))


def library_sequence(library):
  utils = library.utils
  return utils.PyDataset if library is keras else utils.Sequence


@pytest.mark.parametrize("part", ["x", "y"])
def test_numbers_in_arrays_of_objects(trainer, part):
  x, y = small.examples(20)
  values = {"x": x, "y": y}[part].astype(object)
  with pytest.raises(ValueError, match=rf'{part} must .*astype\("float32"\)'):
    trainer.check(examples(**{part: values}))
  values.flat[7] = [1, 2]
  with pytest.raises(ValueError, match=r"such as \[1, 2\].*pad_sequences"):
    trainer.check(examples(**{part: values}))


def test_labels_that_would_be_broadcast(library):
  trainer = make(library, "mse", 3)
  with pytest.raises(ValueError, match=r"y must have the shape \(3,\), .*\(\)"):
    trainer.check(examples(y=np.ones(20)))
  trainer.check(examples(y=np.ones((20, 3))))
  one = make(library, "mse", 1)
  one.check(examples(y=np.ones(20)))
  one.check(examples(y=np.ones((20, 1))))
  with pytest.raises(ValueError, match="use sparse_categorical_crossentropy"):
    make(library, "categorical_crossentropy").check(examples())


def test_a_loss_of_the_users_own_may_take_missing_labels(library):
  def known(y, predicted):
    missing = tf.math.is_nan(y)
    error = tf.where(missing, 0.0, predicted - tf.where(missing, 0.0, y))
    return tf.reduce_mean(error**2, -1)

  y = np.ones((20, 2), np.float32)
  y[3] = np.nan
  make(library, lambda keras: known).check(examples(y=y))
  with pytest.raises(ValueError, match=r"y\[3, 0\] must be finite"):
    make(library, "mse").check(examples(y=y))


def test_each_output_is_checked_by_its_own_loss(library):
  def make_model():
    inputs = library.Input((6,), name="x")
    layers = library.layers
    outputs = [
      layers.Dense(3, name="kind")(inputs),
      layers.Dense(1, name="size")(inputs),
    ]
    model = library.Model(inputs, outputs)
    kind = library.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", {"kind": kind, "size": "mse"})
    return model

  trainer = tf_lottery.Trainer(make_model, jit=False)
  x, y = small.examples(20)
  size = y.astype(np.float32)
  trainer.check((x, {"kind": y, "size": size}))
  with pytest.raises(ValueError, match=r"y\['kind'\]\[0\] is \d, .*'kind' has"):
    trainer.check((x, {"kind": y + 3, "size": size}))
  size = np.where(np.arange(20) == 8, np.inf, size)
  with pytest.raises(ValueError, match=r"y\['size'\]\[8\] must be finite"):
    trainer.check((x, {"kind": y, "size": size}))


def test_a_model_may_take_what_is_not_finite(library):
  def make_model():
    inputs = library.Input((6,))
    x = library.layers.Lambda(
      lambda x: tf.where(tf.math.is_nan(x), 0.0, x), output_shape=(6,)
    )(inputs)
    model = library.Model(inputs, library.layers.Dense(2)(x))
    model.compile(
      "sgd", library.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model

  data = examples(x=((5, 3), np.nan))
  tf_lottery.Trainer(make_model, jit=False).check(data)


def test_a_model_may_take_strings(library):
  def make_model():
    inputs = library.Input((), dtype="string")
    ids = library.layers.StringLookup(vocabulary=["a", "b"])(inputs)
    x = library.layers.Embedding(3, 4)(ids)
    model = library.Model(inputs, library.layers.Dense(2)(x))
    model.compile(
      "sgd", library.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model

  words = np.array(["a", "b"] * 10, object)
  trainer = tf_lottery.Trainer(make_model, jit=False)
  trainer.check(examples(x=words))
  rows = np.empty(20, object)
  rows[:] = [[1], [1, 2]] * 10
  with pytest.raises(ValueError, match="x must be an array of numbers, got"):
    trainer.check(examples(x=rows))
