import tracemalloc

import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import tf_lottery
from tests import children
from tests import small
from tf_lottery import tickets
from tf_lottery.storage import tensor_files

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


def rewrite(path, tensors=None, **metadata):
  """Writes the literal ticket with other contents and the right checksum."""
  literal().save(path)
  old, described = tensor_files.read(path, "ticket")
  content = {
    k: v for k, v in {**old, **(tensors or {})}.items() if v is not None
  }
  tensor_files.write(path, "ticket", content, {**described, **metadata})


@pytest.mark.parametrize(
  ("tensors", "metadata", "why"),
  [
    ({"mask/0/kernel": None}, {}, "not those that its metadata name"),
    ({"kept/0/kernel": None}, {}, "not those that its metadata name"),
    ({"whole/0/bias": None}, {}, "not those that its metadata name"),
    ({"more": np.zeros(2)}, {}, "not those that its metadata name"),
    ({}, {"order": ["0/kernel"]}, "not those that its metadata name"),
    ({}, {"order": ["0/bias"] * 3}, "not those that its metadata name"),
    ({}, {"shapes": {}}, "not those that its metadata name"),
    ({}, {"shapes": {"0/kernel": [3, 3]}}, "bits of 9 entries must be 2 bytes"),
    ({}, {"shapes": {"0/kernel": [3, -2]}}, "Expected `int` >= 0"),
    ({}, {"shapes": {"0/kernel": [3, 2.0]}}, "Expected `int`, got `float`"),
    ({}, {"shapes": {"0/kernel": [1] * 33}}, "length <= 32"),
    ({}, {"shapes": {"0/kernel": "32"}}, "Expected `array`, got `str`"),
    ({}, {"codes": {"0/kernel": "runs"}}, "Invalid enum value 'runs'"),
    ({}, {"codes": {"0/kernel": "gaps"}}, "must end within its array of 6"),
    ({}, {"provenance": None}, "Expected `object`, got `null`"),
    ({"mask/0/kernel": np.array([64], np.uint8)}, {}, "be 1 start weights"),
    ({"mask/0/kernel": np.array([255], np.uint8)}, {}, "bits after the last"),
    ({"mask/0/kernel": np.array(9, np.uint8)}, {}, "must be a vector of bytes"),
    ({"kept/0/kernel": np.ones((4, 1))}, {}, r"4 start weights .*\(4, 1\)"),
  ],
  ids=str,
)
def test_wrong_contents_with_the_right_checksum_are_refused(
  tmp_path, tensors, metadata, why
):
  rewrite(tmp_path / "t", tensors, **metadata)
  with pytest.raises(tf_lottery.FileFormatError, match=f"t is .*{why}"):
    tf_lottery.Ticket.load(tmp_path / "t")


@pytest.mark.parametrize(
  "shape", [(10_000, 10_000), (2**53, 2**53), (0, 2**53, 2**53)]
)
def test_a_small_file_cannot_ask_for_much_memory(tmp_path, shape):
  tensor_files.write(
    tmp_path / "t",
    "ticket",
    {"mask/k": np.zeros(0, np.uint8), "kept/k": np.zeros(0, np.float32)},
    {
      "shapes": {"k": shape},
      "codes": {"k": "gaps" if shape[0] else "bits"},
      "order": ["k"],
      "provenance": {},
    },
  )
  tracemalloc.start()
  with pytest.raises(
    tf_lottery.FileFormatError, match="may take at most 67,108,864 bytes of mem"
  ):
    tf_lottery.Ticket.load(tmp_path / "t")
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 2**20


def test_what_is_saved_stays_below_the_limit_of_memory(tmp_path, monkeypatch):
  """Even if nothing is kept of a large array, for every size of entries."""
  monkeypatch.setattr(tickets, "_MEMORY", 0)
  for dtype in (np.float16, np.float64):
    start = {"k": np.zeros(3_000_000, dtype), "empty": np.zeros((0, 3), dtype)}
    mask = {key: np.zeros(value.shape, bool) for key, value in start.items()}
    ticket = tf_lottery.Ticket(tf_lottery.Mask(mask), start)
    ticket.save(tmp_path / "t")
    assert (tmp_path / "t").stat().st_size < 14_000
    assert tf_lottery.Ticket.load(tmp_path / "t").equals(ticket)


def test_the_mask_of_a_file_is_built_without_its_start_weights(tmp_path):
  ticket = literal()
  ticket.save(tmp_path / "t")
  file = tickets.TicketFile(tmp_path / "t")
  assert file.mask == ticket.mask
  assert file.provenance == ticket.provenance
  assert file.names == ["0/kernel"]


@pytest.mark.parametrize(
  ("weights", "names"),
  [
    (["dense/kernel", "dense/bias", "mean"], ["dense/kernel"]),
    (["dense/kernel"], ["0/kernel"]),
    ("abc", ["0/kernel"]),
    ([1, 2, 3], ["1"]),
  ],
)
def test_weights_are_named_by_the_provenance_if_it_fits(
  tmp_path, weights, names
):
  ticket = literal()
  named = tf_lottery.Ticket(ticket.mask, ticket.start, {"weights": weights})
  named.save(tmp_path / "t")
  assert tickets.TicketFile(tmp_path / "t").names == names


def test_it_is_loaded_from_a_saved_model_that_a_killed_export_left(tmp_path):
  ticket = literal()
  ticket.save(tmp_path / "saved" / tickets.IN_SAVED_MODEL)
  children.kill_while_aside(tmp_path / "saved")
  assert tf_lottery.Ticket.load(tmp_path / "saved").equals(ticket)


def test_a_directory_without_a_ticket_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"carries no ticket"):
    tf_lottery.Ticket.load(tmp_path)


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


def test_a_ticket_is_shown_in_one_line():
  mask = tf_lottery.Mask({"0/kernel": np.eye(2, dtype=bool)})
  start = {"0/kernel": np.ones((2, 2))}
  ticket = tf_lottery.Ticket(mask, start, {"level": 3, "seed": 0})
  assert repr(ticket) == (
    "Ticket(density 0.5000, 2 of 4 prunable weights, level 3, seed 0)"
  )
  assert ticket == tf_lottery.Ticket(mask, start)
  assert ticket != tf_lottery.Ticket(mask, {"0/kernel": np.zeros((2, 2))})


def test_a_saved_model_without_a_ticket_is_told(tmp_path):
  (tmp_path / "model").mkdir()
  with pytest.raises(FileNotFoundError, match="model carries no ticket"):
    tf_lottery.Ticket.load(tmp_path / "model")
