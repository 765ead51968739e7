"""The default scope on models whose weights start at different scales."""

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}


def text_model(library):
  layers = library.layers
  model = library.Sequential(
    [
      library.Input((12,), dtype="int32"),
      layers.Embedding(40, 16),
      layers.LSTM(32),
      layers.Dense(4),
    ]
  )
  model.compile(
    library.optimizers.Adam(0.01),
    library.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return model


def marked_sequences(count, seed):
  """The class of a sequence is that of the token after its only marker, 0."""
  rng = np.random.default_rng(seed)
  x = rng.integers(1, 40, (count, 12)).astype(np.int32)
  place = rng.integers(0, 11, count)
  x[np.arange(count), place] = 0
  return x, (x[np.arange(count), place + 1] % 4).astype(np.int32)


def mobile_block(library):
  layers = library.layers
  inputs = library.Input((8, 8, 16))
  x = layers.Conv2D(48, 1, use_bias=False)(inputs)
  x = layers.ReLU()(layers.BatchNormalization()(x))
  x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
  x = layers.ReLU()(layers.BatchNormalization()(x))
  x = layers.Conv2D(16, 1, use_bias=False)(x)
  x = layers.Add()([inputs, layers.BatchNormalization()(x)])
  x = layers.GlobalAveragePooling2D()(x)
  model = library.Model(inputs, layers.Dense(10)(x))
  model.compile("adam", "mse")
  return model


def ready(library, make):
  library.utils.set_random_seed(0)
  return tf_lottery.lottery_prune(make(library))


def densities(model, density, **arguments):
  mask = tf_lottery.prune_and_rewind(model, density, **arguments)
  return [row.density for row in mask.table()]


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_an_embedding_is_not_emptied(library):
  embedding, *_ = densities(ready(library, text_model), 0.2)
  assert embedding > 0.1
  with pytest.warns(UserWarning, match="embeddings keeps 0 of 640"):
    embedding, *_ = densities(
      ready(library, text_model), 0.2, scope=tf_lottery.global_()
    )
  assert embedding == 0


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_channels_of_a_mobile_block_are_not_emptied(library):
  model = ready(library, mobile_block)
  *_, output = tf_lottery.bind(model).report.prunable
  for density in (0.5, 0.25, 0.1):
    found = densities(model, density, pattern="channel")
    # All of about the same density, as their weights start at similar scales.
    assert min(found) > density / 3
    assert tf_lottery.bind(model).mask[output.key].all()


def test_a_search_warns_once_a_level(tmp_path, caplog):
  def search(scope):
    caplog.clear()
    result = tf_lottery.find_ticket(
      lambda: text_model(keras),
      marked_sequences(128, 0),
      validation_data=marked_sequences(64, 1),
      steps=2,
      schedule=(0.3, 0.1),
      method="iterative",
      scope=scope,
      run_dir=tmp_path / str(scope),
    )
    found = [text for text in caplog.messages if "nearly empty" in text]
    return result, found

  result, found = search(tf_lottery.global_())
  assert [text.split(":")[0] for text in found] == ["Level 1", "Level 2"]
  assert all("embeddings" in text for text in found)
  smallest = result.rounds[2].smallest_layer
  assert smallest["name"].endswith("embeddings")
  assert (
    smallest["density"] == result.rounds[2].ticket.mask["0/embeddings"].mean()
  )
  assert f"{smallest['density']:.2%} {smallest['name']}" in str(result)
  result, found = search(None)
  assert not found
  assert result.scope == tf_lottery.lamp()


@pytest.mark.slow
def test_a_text_model_keeps_its_accuracy(tmp_path):
  def value(scope):
    result = tf_lottery.find_ticket(
      lambda: text_model(keras),
      marked_sequences(4000, 1),
      validation_data=marked_sequences(1000, 2),
      steps=400,
      batch_size=64,
      schedule=(0.5, 0.2),
      method="iterative",
      scope=scope,
    )
    assert result.rounds[0].metrics["val_accuracy"] > 0.98
    return result.rounds[-1].metrics["val_accuracy"]

  assert value(None) > 0.98
  assert value(tf_lottery.global_()) < 0.9
