import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from tf_lottery.training.augmentation import crop_and_flip
from tf_lottery.training.data import ArrayData
from tf_lottery.training.data import StreamData
from tf_lottery.training.data import as_data
from tf_lottery.training.examples import gather

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 2, 0, 1, 2])
ONE_HOT = np.eye(3, dtype=np.float32)[Y]


def make_dataset(*parts):
  return tf.data.Dataset.from_tensor_slices(parts or (X, Y)).batch(2)


def examples(size):
  return ArrayData((np.zeros(size), np.zeros(size)))


def weights_of(data):
  return np.concatenate([batch[2].numpy() for batch in data.batches()])


class TestArrayData:
  def test_of_x_and_y(self):
    data = ArrayData((X, Y))
    assert data.size == 6
    x, y, weight = data.arrays
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert weight is None

  def test_with_sample_weight(self):
    weight = ArrayData((X, Y, np.ones(6))).arrays[2]
    assert weight.tolist() == [1.0] * 6

  def test_double_precision_becomes_single(self):
    x, y, weight = ArrayData((X.astype(float), Y, np.ones(6))).arrays
    assert (x.dtype, y.dtype, weight.dtype) == ("float32", "int64", "float32")

  def test_tensors_become_arrays(self):
    x, y, _ = ArrayData((tf.constant(X), tf.constant(Y))).arrays
    assert type(x) is np.ndarray
    assert type(y) is np.ndarray

  def test_labels_of_other_examples_bring_their_weights(self):
    data = ArrayData((X, {"kind": Y, "sum": X[:, 0]}, Y / 10), scale=2.0)
    x, y, weight = data.with_labels_of(np.array([1, 0, 3, 2, 5, 4])).take(
      slice(None)
    )
    np.testing.assert_array_equal(x, X / 2)
    assert y["kind"].tolist() == [1, 0, 0, 2, 2, 1]
    assert y["sum"].tolist() == [2, 0, 6, 4, 10, 8]
    np.testing.assert_allclose(weight, y["kind"] / 10)
    assert data.arrays[1]["kind"].tolist() == Y.tolist()

  def test_some_of_the_examples(self):
    data = ArrayData((X, Y), scale=2.0)
    data.order(0, 0)
    some = data.select(np.array([4, 1, 4]))
    assert (some.size, data.size) == (3, 6)
    x, y, weight = some.take(slice(None))
    np.testing.assert_array_equal(x, X[[4, 1, 4]] / 2)
    assert y.tolist() == [1, 1, 1]
    assert weight is None
    assert sorted(some.order(0, 0)) == [0, 1, 2]
    assert some.fingerprint() != data.fingerprint()

  def test_no_targets(self):
    assert ArrayData((X, None)).arrays[1] is None

  @pytest.mark.parametrize("parts", [(X,), (X, Y, Y, Y), ()])
  def test_other_tuples(self, parts):
    with pytest.raises(
      ValueError, match=rf"\(x, y\) or .* got a tuple of {len(parts)}\."
    ):
      ArrayData(parts)

  @pytest.mark.parametrize(
    "parts",
    [
      (X, Y[:5]),
      (X, Y, np.ones(5)),
      ({"a": X, "b": X[:5]}, Y),
      ((X, X[:5]), Y),
    ],
    ids=["y", "weight", "dict", "tuple"],
  )
  def test_sizes_that_differ(self, parts):
    with pytest.raises(ValueError, match=r"same number .* got \{(5, 6|6, 5)\}"):
      ArrayData(parts)

  def test_empty(self):
    with pytest.raises(ValueError, match="at least one example, got none"):
      ArrayData((X[:0], Y[:0]))


class TestBatches:
  def test_all_examples_in_order(self):
    batches = list(ArrayData((X, Y)).batches(4))
    assert [len(x) for x, _, _ in batches] == [4, 2]
    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches]), X)
    np.testing.assert_array_equal(np.concatenate([b[1] for b in batches]), Y)
    assert [weight for _, _, weight in batches] == [None, None]

  def test_a_batch_larger_than_the_data(self):
    ((x, y, weight),) = ArrayData((X, Y, np.ones(6))).batches(100)
    assert (len(x), len(y), len(weight)) == (6, 6, 6)

  @pytest.mark.parametrize(
    ("inputs", "pick"),
    [
      ({"left": X, "right": -X}, ("left", "right")),
      ((X, -X), (0, 1)),
      ({"both": (X, -X)}, None),
    ],
    ids=["dict", "tuple", "nested"],
  )
  def test_structure_of_inputs(self, inputs, pick):
    batches = list(ArrayData((inputs, Y)).batches(3))
    for x, y, _ in batches:
      tf.nest.assert_same_structure(x, inputs)
      left, right = [x[p] for p in pick] if pick else x["both"]
      np.testing.assert_array_equal(left, -right)
      assert len(left) == len(y) == 3

  def test_structure_of_targets(self):
    (batch,) = ArrayData((X, {"class": Y, "mask": ONE_HOT})).batches(6)
    np.testing.assert_array_equal(batch[1]["class"], Y)
    np.testing.assert_array_equal(batch[1]["mask"], ONE_HOT)


class TestStepsPerEpoch:
  @pytest.mark.parametrize(
    ("batch_size", "steps"), [(1, 6), (2, 3), (4, 1), (6, 1)]
  )
  def test_counts_whole_batches(self, batch_size, steps):
    assert ArrayData((X, Y)).steps_per_epoch(batch_size) == steps

  def test_a_batch_larger_than_the_data(self):
    with pytest.raises(ValueError, match="got 7 for 6 examples"):
      ArrayData((X, Y)).steps_per_epoch(7)


class TestOrder:
  @settings(max_examples=50, deadline=None)
  @given(
    size=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 10_000),
  )
  def test_is_a_permutation(self, size, seed, epoch):
    order = examples(size).order(seed, epoch)
    assert order.dtype == np.int32
    assert sorted(order) == list(range(size))

  def test_repeats(self):
    data = examples(100)
    np.testing.assert_array_equal(data.order(3, 5), examples(100).order(3, 5))

  def test_does_not_depend_on_what_was_asked_before(self):
    data = examples(100)
    for epoch in range(5):
      data.order(3, epoch)
    np.testing.assert_array_equal(data.order(3, 5), examples(100).order(3, 5))

  @pytest.mark.parametrize(("seed", "epoch"), [(3, 6), (4, 5), (5, 3), (0, 0)])
  def test_depends_on_seed_and_epoch(self, seed, epoch):
    data = examples(100)
    assert np.any(data.order(seed, epoch) != data.order(3, 5))

  @pytest.mark.parametrize(
    "other", [(0, 1), (0, 2), (0, 7), (1, 0), (1, 1)], ids=str
  )
  def test_batches_are_drawn_apart(self, other):
    data = examples(6000)
    batch = np.arange(6000) // 60
    of_example = np.empty((2, 6000), int)
    of_example[0, data.order(0, 0)] = batch
    of_example[1, data.order(*other)] = batch
    # Of examples that share a batch by chance there is one in a hundred.
    for shift in range(-2, 3):
      same = np.mean(of_example[0] + shift == of_example[1])
      assert same < 0.03, f"batches {shift} apart share {same:.0%}"


class TestClassWeight:
  def test_of_integers(self):
    data = ArrayData((X, Y)).with_class_weight({0: 2.0, 1: 3.0, 2: 0.5})
    assert data.arrays[2].tolist() == [2.0, 3.0, 0.5, 2.0, 3.0, 0.5]
    assert data.arrays[2].dtype == np.float32

  @pytest.mark.parametrize(
    "y",
    [ONE_HOT, Y.reshape(6, 1), Y.astype(np.float32), Y.astype(np.uint8)],
    ids=["one-hot", "column", "float", "uint8"],
  )
  def test_of_other_targets(self, y):
    data = ArrayData((X, y)).with_class_weight({0: 2.0, 1: 3.0})
    assert data.arrays[2].tolist() == [2.0, 3.0, 1.0, 2.0, 3.0, 1.0]

  @pytest.mark.parametrize("class_weight", [{1: 3.0}, {9: 5.0, 1: 3.0}])
  def test_classes_that_are_not_named_weigh_one(self, class_weight):
    data = ArrayData((X, Y)).with_class_weight(class_weight)
    assert data.arrays[2].tolist() == [1.0, 3.0, 1.0, 1.0, 3.0, 1.0]

  def test_of_no_class(self):
    data = ArrayData((X, Y)).with_class_weight({})
    assert data.arrays[2].tolist() == [1.0] * 6

  @pytest.mark.parametrize("shape", [(6,), (6, 1)])
  def test_multiplies_sample_weight(self, shape):
    weight = np.arange(6.0).reshape(shape)
    data = ArrayData((X, Y, weight)).with_class_weight({1: 3.0})
    assert data.arrays[2].ravel().tolist() == [0.0, 3.0, 2.0, 3.0, 12.0, 5.0]

  def test_leaves_its_own_data_alone(self):
    data = ArrayData((X, Y, np.ones(6)))
    data.with_class_weight({1: 3.0})
    assert data.arrays[2].tolist() == [1.0] * 6


class TestFingerprint:
  def test_same_data_same_hash(self):
    one = ArrayData((X, Y)).fingerprint()
    assert one == ArrayData((X.copy(), Y.copy())).fingerprint()
    assert one.startswith("6 examples ")

  def test_layout_in_memory_does_not_count(self):
    one = ArrayData((X, Y)).fingerprint()
    assert one == ArrayData((np.asfortranarray(X), Y)).fingerprint()

  @pytest.mark.parametrize("part", [0, 1, 2])
  @pytest.mark.parametrize("place", [0, -1])
  def test_changes_with_any_value(self, part, place):
    parts = [X, Y, np.ones(6)]
    before = ArrayData(tuple(parts)).fingerprint()
    parts[part] = parts[part].copy()
    parts[part].flat[place] += 1
    assert ArrayData(tuple(parts)).fingerprint() != before

  @pytest.mark.parametrize(
    "parts",
    [
      (X[::-1], Y),
      (X.reshape(6, 2, 1), Y),
      (X, Y.astype(np.int32)),
      (X, Y, np.ones(6)),
      (X.view(np.int32), Y),
    ],
    ids=["order", "shape", "dtype", "weight", "bits"],
  )
  def test_changes_with(self, parts):
    assert ArrayData(parts).fingerprint() != ArrayData((X, Y)).fingerprint()


class TestAugment:
  def test_is_kept_with_class_weights(self):
    data = ArrayData((X, Y), crop_and_flip)
    assert data.augment is crop_and_flip
    assert data.with_class_weight({0: 2.0}).augment is crop_and_flip
    assert ArrayData((X, Y)).augment is None

  def test_is_named_by_the_fingerprint(self):
    plain = ArrayData((X, Y)).fingerprint()
    augmented = ArrayData((X, Y), crop_and_flip).fingerprint()
    assert augmented == f"{plain} crop_and_flip"

  def test_without_a_name(self):
    with pytest.raises(TypeError, match=r"with a name.*Define one with def"):
      ArrayData((X, Y), functools.partial(crop_and_flip))

  def test_does_not_change_batches(self):
    ((x, _, _),) = ArrayData((X, Y), crop_and_flip).batches(6)
    np.testing.assert_array_equal(x, X)


PIXELS = (np.arange(2500 * 6) % 256).astype(np.uint8).reshape(2500, 2, 3)
CLASSES = (np.arange(2500) % 3).astype(np.int32)


def same_bits(left, right):
  return left.dtype == right.dtype and left.tobytes() == right.tobytes()


class TestScale:
  @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32])
  def test_batches_are_what_numpy_computes(self, dtype):
    data = ArrayData((PIXELS.astype(dtype), CLASSES), scale=255)
    x = np.concatenate([batch[0] for batch in data.batches(999)])
    assert same_bits(x, PIXELS.astype(np.float32) / 255)

  def test_shift_comes_first(self):
    data = ArrayData((PIXELS, CLASSES), scale=0.5, shift=100)
    x, _, _ = data.take(np.array([7, 3]))
    assert same_bits(
      x, (PIXELS[[7, 3]].astype(np.float32) - 100) / np.float32(0.5)
    )

  @pytest.mark.parametrize("jit", [None, True])
  @pytest.mark.parametrize(("scale", "shift"), [(255, 0), (0.3081, 33.3)])
  def test_programs_gather_what_numpy_computes(self, scale, shift, jit):
    data = ArrayData((PIXELS, CLASSES), scale=scale, shift=shift)
    order = np.random.default_rng(0).permutation(2500).reshape(50, 50)

    @tf.function(jit_compile=jit)
    def program(parts, scaling, order):
      def one(step, batches):
        x, _, _ = gather(parts, order[step], scaling, on_host=False)
        return step + 1, tf.tensor_scatter_nd_update(batches, [[step]], x[None])

      batches = tf.zeros((50, 50, 2, 3))
      return tf.while_loop(lambda step, _: step < 50, one, (0, batches))[1]

    batches = program(data.parts, data.scaling, tf.constant(order)).numpy()
    expected = (PIXELS.astype(np.float32) - np.float32(shift)) / np.float32(
      scale
    )
    assert same_bits(batches, expected[order])

  def test_examples_stay_as_they_are_in_memory(self):
    data = ArrayData((PIXELS, CLASSES), scale=255)
    assert data.arrays[0].dtype == np.uint8
    for other in (
      data.with_augment(crop_and_flip),
      data.with_class_weight({1: 2.0}),
    ):
      assert np.shares_memory(other.arrays[0], data.arrays[0])
      assert same_bits(other.take(slice(9))[0], data.take(slice(9))[0])

  def test_nothing_is_scaled_or_cast_without_it(self):
    data = ArrayData((PIXELS, CLASSES))
    assert same_bits(data.take(slice(None))[0], PIXELS)
    x, _, _ = gather(data.parts, tf.range(2500), data.scaling, on_host=False)
    assert same_bits(x.numpy(), PIXELS)

  @pytest.mark.parametrize(("scale", "shift"), [(255, 0), (127.5, 127.5)])
  def test_fingerprint_is_that_of_the_scaled_values(self, scale, shift):
    pixels = PIXELS.astype(np.float32)
    floats = ArrayData(((pixels - np.float32(shift)) / scale, CLASSES))
    data = ArrayData((PIXELS, CLASSES), scale=scale, shift=shift)
    assert data.fingerprint() == floats.fingerprint()
    assert data.fingerprint() != ArrayData((PIXELS, CLASSES)).fingerprint()
    changed = (data.with_augment(crop_and_flip), data.with_class_weight({1: 2}))
    assert [d.fingerprint() for d in changed] == [
      floats.with_augment(crop_and_flip).fingerprint(),
      floats.with_class_weight({1: 2}).fingerprint(),
    ]

  def test_of_several_arrays(self):
    with pytest.raises(
      ValueError, match=r"one array, got a dict\. .*Rescaling"
    ):
      ArrayData(({"a": X, "b": X}, Y), scale=255)

  @pytest.mark.parametrize("shift", [0.0, 1.0])
  def test_zero(self, shift):
    with pytest.raises(ValueError, match=r"must not be 0, got 0\."):
      ArrayData((X, Y), scale=0, shift=shift)

  def test_shift_alone(self):
    with pytest.raises(ValueError, match=r"shift=3 alone\. Give scale=1\.0"):
      ArrayData((X, Y), shift=3)


class TestMemory:
  def test_parts_and_arrays_share_it(self):
    data = ArrayData((X, Y, np.ones(6)))
    for part, array in zip(data.parts, data.arrays, strict=True):
      assert np.shares_memory(np.asarray(part), array)

  def test_tensors_are_not_copied(self):
    x = tf.constant(X)
    assert np.shares_memory(np.asarray(x), ArrayData((x, Y)).arrays[0])

  def test_what_a_caller_changes_afterwards_does_not_count(self):
    x = X.copy()
    data = ArrayData((x, Y))
    x[:] = 0
    np.testing.assert_array_equal(data.arrays[0], X)

  def test_an_order_is_drawn_once(self):
    data = examples(100)
    assert data.order(3, 5) is data.order(3, 5)


def test_fingerprints_of_earlier_versions_hold():
  assert (
    ArrayData((X, Y)).fingerprint()
    == "6 examples 25c652df6b25f08107dbfbd1c3fc102d"
  )
  # These were floats.
  assert (
    ArrayData((PIXELS, CLASSES), scale=255).fingerprint()
    == "2500 examples b6e4cfaeef334565e25be417df86c631"
  )
  assert (
    ArrayData((PIXELS, CLASSES), scale=127.5, shift=127.5).fingerprint()
    == "2500 examples 997dfec048f8723edd3bb610c92dfe34"
  )
  # A tensor holds neither of these as it is.
  swapped, letters = np.arange(12).reshape(6, 2).astype(">f4"), list("abcabc")
  assert (
    ArrayData((swapped, np.array(letters))).fingerprint()
    == "6 examples a8fe27e37c07897cc9d5bfa9fead50a1"
  )


class TestStreamData:
  def test_counts_batches(self):
    assert as_data(make_dataset()).steps_per_epoch() == 3
    assert as_data(make_dataset()).steps_per_epoch(batch_size=99) == 3

  @pytest.mark.parametrize(
    ("change", "cardinality"),
    [
      (lambda dataset: dataset.filter(lambda x, y: True), -2),
      (lambda dataset: dataset.repeat(), -1),
      (lambda dataset: dataset.take(0), 0),
    ],
    ids=["unknown", "infinite", "empty"],
  )
  def test_cardinality(self, change, cardinality):
    data = as_data(change(make_dataset()))
    with pytest.raises(
      ValueError, match=rf"known and finite, got cardinality {cardinality}\."
    ):
      data.steps_per_epoch()

  def test_cardinality_that_was_asserted(self):
    unknown = make_dataset().filter(lambda x, y: True)
    known = unknown.apply(tf.data.experimental.assert_cardinality(3))
    assert as_data(known).steps_per_epoch() == 3

  def test_batches_are_those_of_the_first_epoch(self):
    data = as_data(lambda epoch: make_dataset(X + 100 * epoch, Y))
    batches = list(data.batches())
    assert len(batches) == 3
    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches]), X)

  def test_each_epoch_has_its_own_dataset(self):
    data = as_data(lambda epoch: make_dataset(X + 100 * epoch, Y))
    x, _ = next(iter(data.make(7)))
    np.testing.assert_array_equal(x, X[:2] + 700)

  def test_class_weight(self):
    data = as_data(make_dataset()).with_class_weight({0: 2.0, 1: 3.0})
    assert weights_of(data).tolist() == [2.0, 3.0, 1.0, 2.0, 3.0, 1.0]
    assert data.steps_per_epoch() == 3

  def test_class_weight_of_a_column(self):
    data = as_data(make_dataset(X, Y.reshape(6, 1)))
    weights = weights_of(data.with_class_weight({0: 2.0, 1: 3.0}))
    assert weights.tolist() == [2.0, 3.0, 1.0, 2.0, 3.0, 1.0]

  @pytest.mark.parametrize("shape", [(6,), (6, 1)])
  @pytest.mark.parametrize("dtype", ["float32", "float64"])
  def test_class_weight_multiplies_sample_weight(self, shape, dtype):
    weight = np.arange(6, dtype=dtype).reshape(shape)
    data = as_data(make_dataset(X, Y, weight)).with_class_weight({1: 3.0})
    assert weights_of(data).ravel().tolist() == [0.0, 3.0, 2.0, 3.0, 12.0, 5.0]

  def test_class_weight_in_every_epoch(self):
    data = as_data(lambda epoch: make_dataset(X, (Y + epoch) % 3))
    _, _, weight = next(iter(data.with_class_weight({1: 3.0}).make(1)))
    assert weight.numpy().tolist() == [3.0, 1.0]

  def test_fingerprint_says_what_elements_look_like(self):
    fingerprint = as_data(make_dataset()).fingerprint()
    assert fingerprint == as_data(make_dataset()).fingerprint()
    assert fingerprint.startswith("3 batches of ")
    assert fingerprint != as_data(make_dataset(X, ONE_HOT)).fingerprint()
    assert fingerprint != as_data(make_dataset().take(2)).fingerprint()


class TestAsData:
  @pytest.mark.parametrize("value", [(X, Y), [X, Y], (X, Y, np.ones(6))])
  def test_arrays(self, value):
    data = as_data(value)
    assert isinstance(data, ArrayData)
    assert data.size == 6

  def test_dataset(self):
    assert isinstance(as_data(make_dataset()), StreamData)

  def test_dataset_is_the_same_in_each_epoch(self):
    dataset = make_dataset()
    assert as_data(dataset).make(0) is as_data(dataset).make(9)

  def test_function_of_the_epoch(self):
    asked = []

    def make(epoch):
      asked.append(epoch)
      return make_dataset()

    assert isinstance(as_data(make), StreamData)
    assert asked == [0]

  @pytest.mark.parametrize(
    "data", [ArrayData((X, Y)), StreamData(lambda _: make_dataset())]
  )
  def test_data_is_data(self, data):
    assert as_data(data) is data

  @pytest.mark.parametrize(
    ("value", "name"),
    [
      (X, "ndarray"),
      ("mnist", "str"),
      (None, "NoneType"),
      ({"x": X}, "dict"),
      (tf.constant(X), "EagerTensor"),
      (iter([X]), "list_iterator"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
  )
  def test_names_the_type_of_anything_else(self, value, name):
    with pytest.raises(TypeError, match=rf"got {name}\."):
      as_data(value)
