"""Keras's own datasets: PyDataset, and tf_keras's Sequence."""

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tf_lottery.training.data import as_data

BASES = {"keras": keras.utils.PyDataset, "tf_keras": tf_keras.utils.Sequence}


def dataset(base, count=96, seed=0, *, shuffle=False, weights=()):
  class Batches(base):
    def __init__(self):
      super().__init__()
      self.x, self.y = small.examples(count, seed)
      self.order = np.arange(count)
      self.ends = 0

    def __len__(self):
      return count // 12

    def __getitem__(self, index):
      rows = self.order[index * 12 : (index + 1) * 12]
      return [self.x[rows], self.y[rows], *weights]

    def on_epoch_end(self):
      self.ends += 1
      if shuffle:
        self.order = self.order[::-1]

  return Batches()


@pytest.fixture(params=BASES.values(), ids=BASES)
def base(request):
  return request.param


def test_batches_come_in_its_own_order(base):
  data = as_data(dataset(base))
  assert data.steps_per_epoch() == 8
  x, y = small.examples(96)
  for index, batch in enumerate(data.batches()):
    rows = slice(index * 12, (index + 1) * 12)
    np.testing.assert_array_equal(batch[0], x[rows])
    np.testing.assert_array_equal(batch[1], y[rows])
  assert index == 7


def test_it_is_told_of_the_end_of_an_epoch_between_two(base):
  batches = dataset(base, shuffle=True)
  data = as_data(batches)
  data.make(0)
  data.make(0)
  assert batches.ends == 0
  data.make(1)
  data.make(1)
  assert batches.ends == 1
  first = next(iter(data.make(1)))[0]
  np.testing.assert_array_equal(first, batches.x[::-1][:12])


def test_no_sample_weights_may_be_given_as_none(base):
  data = as_data(dataset(base, weights=(None,)))
  assert len(data.element_spec) == 2


def test_sides_that_vary_are_of_any_size(base):
  class Padded(base):
    def __len__(self):
      return 3

    def __getitem__(self, index):
      return np.zeros((2, 4 + index, 6)), {"a": np.zeros((2, 5))}

  x, y = as_data(Padded()).element_spec
  assert x.shape.as_list() == [None, None, 6]
  assert y["a"].shape.as_list() == [None, 5]


def test_without_a_batch_it_is_refused(base):
  with pytest.raises(ValueError, match="must have at least one batch, got non"):
    as_data(dataset(base, count=0))


@pytest.mark.slow
def test_a_search_trains_on_it_and_goes_on(base, tmp_path):
  library = keras if base is keras.utils.PyDataset else tf_keras

  def search(run_dir, levels):
    return tf_lottery.find_ticket(
      lambda: small.make_model(library),
      dataset(base),
      validation_data=dataset(base, 24, 1),
      epochs=2,
      schedule=tf_lottery.geometric(levels, 0.5),
      method="iterative",
      run_dir=run_dir,
    )

  whole = search(tmp_path / "whole", 2)
  assert whole.rounds[0].steps == 16
  search(tmp_path / "parts", 1)
  parts = search(tmp_path / "parts", 2)
  for one, other in zip(whole.rounds, parts.rounds, strict=True):
    assert one.metrics == other.metrics
