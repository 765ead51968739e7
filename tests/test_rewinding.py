import numpy as np
import pytest

import tf_lottery
from tf_lottery import rewinding
from tf_lottery.storage import tensor_files


def snapshot(optimizer=None):
  weights = {
    "0/kernel": np.array([[1.5, -2.0]], np.float32),
    "random/0": np.array([3, 4], np.uint32),
  }
  return rewinding.Snapshot(7, weights, optimizer)


@pytest.mark.parametrize(
  "optimizer", [None, (), (np.array(7, np.int64), np.ones((1, 2)))]
)
def test_a_snapshot_comes_back_from_disk(tmp_path, optimizer):
  before = snapshot(optimizer)
  before.save(tmp_path / "s")
  after = rewinding.Snapshot.load(tmp_path / "s")
  assert after.step == 7
  assert after.fingerprint() == before.fingerprint()
  assert (after.optimizer is None) == (optimizer is None)
  for mine, theirs in zip(after.optimizer or (), optimizer or (), strict=True):
    np.testing.assert_array_equal(mine, theirs)
    assert mine.dtype == theirs.dtype


def test_a_snapshot_keeps_its_mask(tmp_path):
  mask = tf_lottery.Mask({"0/kernel": [[True, False]]})
  rewinding.Snapshot(7, snapshot().weights, None, mask).save(tmp_path / "s")
  assert rewinding.Snapshot.load(tmp_path / "s").mask == mask
  snapshot().save(tmp_path / "s")
  assert rewinding.Snapshot.load(tmp_path / "s").mask is None


@pytest.mark.parametrize(
  ("tensors", "metadata", "why"),
  [
    ({"weights/random/0": None}, {}, "not those that its metadata name"),
    ({"weights/more": np.zeros(1)}, {}, "not those that its metadata name"),
    ({"mask/1/kernel": np.ones(2, bool)}, {}, "not those that its metadata"),
    ({"mask/0/kernel": np.ones((1, 2))}, {}, "not those that its metadata"),
    ({"optimizer/0": None}, {}, "not those that its metadata name"),
    ({"optimizer/1": np.zeros(1)}, {}, "not those that its metadata name"),
    ({}, {"optimizer": None}, "not those that its metadata name"),
    ({}, {"optimizer": 2**53}, "not those that its metadata name"),
    ({}, {"optimizer": -1}, "Expected `int` >= 0"),
    ({}, {"keys": ["0/kernel", "0/kernel"]}, "not those that its metadata"),
    ({}, {"keys": []}, "not those that its metadata name"),
    ({}, {"keys": "0/kernel"}, "Expected `array`, got `str`"),
    ({}, {"step": 7.0}, "Expected `int`, got `float`"),
    ({}, {"step": -7}, "Expected `int` >= 0"),
    ({}, {"step": True}, "Expected `int`, got `bool`"),
  ],
  ids=str,
)
def test_wrong_contents_with_the_right_checksum_are_refused(
  tmp_path, tensors, metadata, why
):
  snapshot((np.array(7),)).save(tmp_path / "s")
  old, described = tensor_files.read(tmp_path / "s", "snapshot")
  content = {k: v for k, v in {**old, **tensors}.items() if v is not None}
  tensor_files.write(
    tmp_path / "s", "snapshot", content, {**described, **metadata}
  )
  with pytest.raises(tf_lottery.FileFormatError, match=f"s is .*{why}"):
    rewinding.Snapshot.load(tmp_path / "s")


def test_a_fingerprint_changes_with_any_weight():
  other = dict(snapshot().weights)
  other["0/kernel"] = np.array([[1.5, -2.5]], np.float32)
  changed = rewinding.Snapshot(7, other)
  assert changed.fingerprint() != snapshot().fingerprint()


@pytest.mark.parametrize(
  ("rewind", "expected"),
  [
    (tf_lottery.to_init(), (0, 100)),
    (tf_lottery.to_step("30it"), (30, 100)),
    (tf_lottery.to_step("1.5ep"), (15, 100)),
    (rewinding.learning_rate(), (0, 100)),
    (rewinding.learning_rate("2ep"), (20, 100)),
    (rewinding.finetune(), (100, 200)),
  ],
)
def test_the_span_of_a_round(rewind, expected):
  assert rewind.span(100, steps_per_epoch=10) == range(*expected)


def test_a_step_beyond_the_end_is_refused():
  with pytest.raises(ValueError, match="got 10ep = 100 iterations of 100"):
    tf_lottery.to_step("10ep").span(100, steps_per_epoch=10)


def test_what_is_kept():
  assert tf_lottery.to_init().weights == tf_lottery.Step(0)
  assert not tf_lottery.to_init().keep_optimizer
  assert tf_lottery.to_step(5, keep_optimizer=True).keep_optimizer
  assert rewinding.learning_rate().weights is None
