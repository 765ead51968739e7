import json

import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import tf_lottery
from tests import small
from tf_lottery import files

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}


def literal():
  mask = tf_lottery.Mask(
    {"0/kernel": np.array([[True, False], [False, True], [True, True]])}
  )
  start = {
    "0/kernel": np.array([[1, 2], [3, 4], [5, 6]], np.float32),
    "0/bias": np.array([0.5, -0.5], np.float32),
    "1/moving_mean": np.array([7.0], np.float32),
  }
  return tf_lottery.Ticket(mask, start, {"level": 3, "who": "test"})


def test_start_weights_are_zero_where_pruned():
  kernel = literal().start["0/kernel"]
  np.testing.assert_array_equal(kernel, [[1, 0], [0, 4], [5, 6]])


def test_it_comes_back_from_disk_bit_for_bit(tmp_path):
  ticket = literal()
  ticket.save(tmp_path / "t.safetensors")
  loaded = tf_lottery.Ticket.load(tmp_path / "t.safetensors")
  assert loaded.mask == ticket.mask
  assert loaded.provenance == ticket.provenance
  assert list(loaded.start) == list(ticket.start)
  for key, value in ticket.start.items():
    np.testing.assert_array_equal(loaded.start[key], value)
    assert loaded.start[key].dtype == value.dtype


@pytest.mark.parametrize(
  ("density", "code"), [(0.05, 1.01 * 50_000), (0.5, 1000 * 1000 / 8)]
)
def test_the_file_holds_the_smaller_code_and_the_kept_weights_only(
  tmp_path, density, code
):
  shape = (1000, 1000)
  mask = tf_lottery.Mask.random({"k": shape}, density, seed=0)
  ticket = tf_lottery.Ticket(mask, {"k": np.ones(shape, np.float32)})
  ticket.save(tmp_path / "t")
  size = (tmp_path / "t").stat().st_size
  assert size < code + density * 1000 * 1000 * 4 + 2000
  assert tf_lottery.Ticket.load(tmp_path / "t").equals(ticket)


def test_files_of_version_1_are_read(tmp_path):
  """They have masks as bits, and no word on how they are coded."""
  mask = {"k": np.array([[True, False, True]])}
  files.write_tensors(
    tmp_path / "t",
    "ticket",
    {"mask/k": np.packbits(mask["k"]), "kept/k": np.array([1.0, 2.0])},
    {"shapes": {"k": [1, 3]}, "order": ["k"], "provenance": {}},
  )
  loaded = tf_lottery.Ticket.load(tmp_path / "t")
  assert loaded.start["k"].tolist() == [[1.0, 0.0, 2.0]]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_never_read_as_another_ticket(tmp_path_factory, data):
  path = tmp_path_factory.mktemp("t") / "t"
  literal().save(path)
  content = bytearray(path.read_bytes())
  if data.draw(st.booleans()):
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
  else:
    del content[data.draw(st.integers(0, len(content) - 1)) :]
  path.write_bytes(content)
  with pytest.raises(tf_lottery.FileFormatError, match=str(path)):
    tf_lottery.Ticket.load(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
  literal().mask.save(tmp_path / "m")
  with pytest.raises(tf_lottery.FileFormatError, match=r"ticket.*'mask'"):
    tf_lottery.Ticket.load(tmp_path / "m")


def test_a_mask_without_its_start_weights_is_refused():
  mask = tf_lottery.Mask.ones({"0/kernel": (3, 2)})
  with pytest.raises(
    ValueError, match=r"'0/kernel' has shape \(3, 2\), got none"
  ):
    tf_lottery.Ticket(mask, {})
  with pytest.raises(ValueError, match=r"got \(2, 3\)"):
    tf_lottery.Ticket(mask, {"0/kernel": np.ones((2, 3))})


@pytest.mark.parametrize("source", LIBRARIES)
@pytest.mark.parametrize("target", LIBRARIES)
def test_it_applies_to_a_rebuilt_model_and_the_other_generation(
  source, target, tmp_path
):
  model = tf_lottery.lottery_prune(small.make_model(LIBRARIES[source]))
  x, y = small.examples(96)
  model.fit(x, y, verbose=0)
  tf_lottery.prune_and_rewind(model, 0.4)
  expected = model.predict(x, verbose=0)
  tf_lottery.Ticket.from_model(model, note="x").save(tmp_path / "t")

  ticket = tf_lottery.Ticket.load(tmp_path / "t")
  rebuilt = small.make_model(LIBRARIES[target])
  ticket.apply(rebuilt)
  assert ticket.provenance["note"] == "x"
  actual = rebuilt.predict(x, verbose=0)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
  rebuilt.fit(x, y, verbose=0)
  tf_lottery.bind(rebuilt).check_held()
  assert tf_lottery.bind(rebuilt).mask == ticket.mask


def test_the_mask_alone_can_be_transferred():
  model = tf_lottery.lottery_prune(small.make_model(keras))
  tf_lottery.prune_and_rewind(model, 0.4)
  ticket = tf_lottery.Ticket.from_model(model)
  other = small.make_model(keras)
  own = tf_lottery.bind(other).read()
  ticket.apply(other, weights=False)
  after = tf_lottery.bind(other).read()
  for key, value in own.items():
    kept = ticket.mask.get(key, np.True_)
    np.testing.assert_array_equal(after[key], np.where(kept, value, 0))


def test_another_architecture_is_refused_by_weight_and_shapes():
  model = tf_lottery.lottery_prune(small.make_model(keras))
  ticket = tf_lottery.Ticket.from_model(model)
  wider = keras.Sequential([keras.Input((7,)), keras.layers.Dense(8)])
  with pytest.raises(
    ValueError, match=r"'0/kernel'.*shape \(7, 8\) in the model.*\(6, 8\)"
  ):
    ticket.apply(wider)
  deeper = keras.Sequential([model, keras.layers.Dense(3, name="extra")])
  with pytest.raises(ValueError, match="lacks: extra/kernel, extra/bias"):
    ticket.apply(deeper)


def test_shuffling_changes_the_mask_only():
  ticket = literal()
  dense = {key: np.ones_like(value) for key, value in ticket.start.items()}
  shuffled = [ticket.shuffled(dense, seed) for seed in range(8)]
  assert any(s.mask != ticket.mask for s in shuffled)
  for control in shuffled:
    assert control.mask.kept == ticket.mask.kept
    np.testing.assert_array_equal(
      control.start["0/kernel"], control.mask["0/kernel"]
    )
    assert control.provenance["control"] == "shuffled_mask"


def test_reinitialising_changes_the_weights_only():
  ticket = literal()
  drawn = {key: value + 1 for key, value in ticket.start.items()}
  control = ticket.reinitialised(drawn, seed=5)
  assert control.mask == ticket.mask
  np.testing.assert_array_equal(
    control.start["0/kernel"], [[2, 0], [0, 5], [6, 7]]
  )
  assert json.dumps(dict(control.provenance))
  assert control.provenance["control_seed"] == 5
