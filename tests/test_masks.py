import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_lottery import masks
from tf_lottery.masks import Mask
from tf_lottery.storage import tensor_files
from tf_lottery.storage.files import FileFormatError
from tf_lottery.weights import Weight

SHAPES = {"0/kernel": (3, 4), "1/kernel": (4, 2), "2/kernel": (5,)}
# More than ten layers, so that the order of keys is not that of text.
DEEP = {f"{layer}/kernel": (4, 5) for layer in range(12)}

random_masks = st.dictionaries(
  st.text("abc/019", min_size=1, max_size=6),
  hnp.arrays(bool, hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)),
  max_size=4,
).map(Mask)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
  return tmp_path_factory.mktemp("scratch") / "a.mask"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
  path = tmp_path_factory.mktemp("content") / "a.mask"
  Mask.random(SHAPES, 0.5, 0).save(path)
  return path.read_bytes()


@pytest.fixture
def mask():
  return Mask(
    {
      "a": np.array([[True, False], [True, True]]),
      "b": np.array([False, True, False]),
    }
  )


class TestMask:
  def test_is_a_map(self, mask):
    assert isinstance(mask, Mapping)
    assert list(mask) == ["a", "b"]
    assert len(mask) == 2
    assert mask["b"].tolist() == [False, True, False]
    assert "c" not in mask

  def test_counts(self, mask):
    assert mask.shapes == {"a": (2, 2), "b": (3,)}
    assert mask.size == 7
    assert mask.kept == 4
    assert mask.density == 4 / 7

  def test_table(self, mask):
    assert mask.table() == [
      masks.LayerDensity("a", 3, 4),
      masks.LayerDensity("b", 1, 3),
    ]
    assert [row.density for row in mask.table()] == [3 / 4, 1 / 3]

  def test_repr_says_how_dense(self, mask):
    assert repr(mask) == "Mask(2 weights, density 0.5714)"

  def test_of_no_weights_is_dense(self):
    assert Mask({}).density == 1.0
    assert Mask({}).distance(Mask({})) == 0.0

  def test_arrays_are_read_only(self, mask):
    with pytest.raises(ValueError, match="read-only"):
      mask["a"][0, 1] = True
    with pytest.raises(TypeError, match="item assignment"):
      mask["a"] = np.ones((2, 2), bool)

  def test_is_apart_from_the_arrays_it_was_made_of(self):
    array = np.array([True, False])
    mask = Mask({"a": array})
    array[1] = True
    assert mask["a"].tolist() == [True, False]

  @pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
  def test_wants_booleans(self, dtype):
    name = np.dtype(dtype).name
    with pytest.raises(TypeError, match=f"boolean, got {name} for '0/kernel'"):
      Mask({"0/kernel": np.array([0, 1], dtype)})


class TestEquality:
  def test_same_entries(self, mask):
    assert mask == Mask({"b": mask["b"], "a": mask["a"]})

  @pytest.mark.parametrize(
    "other",
    [
      {"a": [[True, False], [True, True]]},
      {"a": [[True, False], [True, True]], "b": [True, True, False]},
      {"a": [True, False, True, True], "b": [False, True, False]},
      {"a": [[True, False], [True, True]], "c": [False, True, False]},
    ],
    ids=["fewer", "entry", "shape", "key"],
  )
  def test_differs(self, mask, other):
    assert mask != Mask(other)

  def test_with_something_else(self, mask):
    assert mask != 1

  def test_has_no_hash(self, mask):
    with pytest.raises(TypeError, match="unhashable type: 'Mask'"):
      hash(mask)


class TestOnes:
  def test_keeps_all(self):
    mask = Mask.ones(SHAPES)
    assert mask.shapes == SHAPES
    assert mask.density == 1.0


class TestRandom:
  @settings(max_examples=60, deadline=None)
  @given(
    density=st.floats(0.001, 1.0),
    seed=st.integers(0, 2**32),
    shapes=st.dictionaries(
      st.sampled_from("abcd"),
      st.lists(st.integers(1, 5), max_size=3).map(tuple),
      min_size=1,
    ),
  )
  def test_count_is_exact(self, density, seed, shapes):
    mask = Mask.random(shapes, density, seed)
    assert mask.shapes == shapes
    assert mask.kept == round(density * sum(map(math.prod, shapes.values())))

  def test_same_seed_same_mask(self):
    assert Mask.random(DEEP, 0.5, 7) == Mask.random(DEEP, 0.5, 7)

  def test_other_seed_other_mask(self):
    assert Mask.random(DEEP, 0.5, 7) != Mask.random(DEEP, 0.5, 8)

  def test_is_spread_over_all_weights(self):
    mask = Mask.random({"a": (50, 100), "b": (50, 100)}, 0.3, 0)
    assert [row.density for row in mask.table()] == pytest.approx(
      [0.3, 0.3], abs=0.03
    )

  @pytest.mark.parametrize("density", [0, -0.5, 1.2, float("nan")])
  def test_density_out_of_range(self, density):
    with pytest.raises(
      ValueError, match=rf"density must be in \(0, 1\], got {density}\."
    ):
      Mask.random(SHAPES, density, 0)


class TestDistance:
  def test_is_a_fraction_of_all_entries(self, mask):
    other = Mask({"a": mask["a"], "b": ~mask["b"]})
    assert mask.distance(other) == 3 / 7
    assert other.distance(mask) == 3 / 7
    assert mask.distance(mask) == 0.0

  @pytest.mark.parametrize("compare", [Mask.distance, Mask.issubset])
  def test_other_weights(self, mask, compare):
    other = Mask({"a": mask["a"], "c": np.array([True])})
    with pytest.raises(
      ValueError, match=r"same weights, got .*'b': \(3,\).*'c': \(1,\)"
    ):
      compare(mask, other)

  @pytest.mark.parametrize("compare", [Mask.distance, Mask.issubset])
  def test_shapes_that_would_broadcast(self, compare):
    with pytest.raises(ValueError, match=r"got .*\(1,\).*\(3,\)"):
      compare(Mask({"a": [True]}), Mask({"a": [True, True, False]}))


class TestIsSubset:
  @pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
      ([True, False, False], [True, True, False], True),
      ([True, True, False], [True, True, False], True),
      ([True, False, True], [True, True, False], False),
      ([False, False, False], [True, False, False], True),
    ],
  )
  def test_issubset(self, one, other, expected):
    assert Mask({"a": one}).issubset(Mask({"a": other})) == expected

  def test_every_weight_counts(self):
    one = Mask({"a": [True], "b": [True]})
    assert not one.issubset(Mask({"a": [True], "b": [False]}))


class TestSave:
  @pytest.mark.parametrize(
    ("tensors", "shapes", "why"),
    [
      ({"a": np.zeros(1, np.uint8)}, {"a": [3, 3]}, "must be 2 bytes, got 1"),
      ({"a": np.zeros(1, np.uint8)}, {"a": [3, -1]}, "Expected `int` >= 0"),
      ({"a": np.zeros(1, np.uint8)}, {"a": [2**53] * 3}, "bytes, got 1"),
      (
        {"a": np.zeros(0, np.uint8)},
        {"a": [0, 2**53, 2**53]},
        "too big|exceed",
      ),
      ({"b": np.zeros(1, np.uint8)}, {"a": [3]}, r"bits for \['b'\] and shap"),
      ({"a": np.zeros(3, np.uint8)}, {"a": [3, 3]}, "must be 2 bytes, got 3"),
      ({"a": np.zeros(1)}, {"a": [3]}, "vector of bytes, got float64"),
      ({"a": np.zeros(1, np.uint8)}, None, "Expected `object`, got `null`"),
    ],
  )
  def test_wrong_contents_with_the_right_checksum_are_refused(
    self, scratch, tensors, shapes, why
  ):
    tensor_files.write(scratch, "mask", tensors, {"shapes": shapes})
    with pytest.raises(FileFormatError, match=f"{scratch.name} is .*{why}"):
      Mask.load(scratch)

  @settings(max_examples=40, deadline=None)
  @given(mask=random_masks)
  def test_round_trip(self, scratch, mask):
    mask.save(scratch)
    loaded = Mask.load(scratch)
    assert loaded == mask
    assert loaded.shapes == mask.shapes

  def test_loaded_is_read_only(self, scratch, mask):
    mask.save(scratch)
    with pytest.raises(ValueError, match="read-only"):
      Mask.load(scratch)["a"][0, 1] = True

  def test_order_of_weights_survives(self, scratch):
    mask = Mask.random(DEEP, 0.5, 0)
    mask.save(scratch)
    assert list(Mask.load(scratch)) == list(DEEP)

  def test_takes_one_bit_an_entry(self, scratch):
    Mask.random({"a": (400, 300)}, 0.5, 0).save(scratch)
    assert scratch.stat().st_size < 400 * 300 / 8 + 1000

  def test_missing(self, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no mask file at .*nowhere"):
      Mask.load(tmp_path / "nowhere")

  def test_other_kind(self, tmp_path):
    tensor_files.write(tmp_path / "a", "ticket", {})
    with pytest.raises(
      FileFormatError, match="must be a mask file, got kind 'ticket'"
    ):
      Mask.load(tmp_path / "a")

  @settings(max_examples=200, deadline=None)
  @given(data=st.data())
  def test_damage_is_seen(self, scratch, content, data):
    damaged = bytearray(content)
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
      del damaged[place:]
    else:
      damaged[place] ^= data.draw(st.integers(min_value=1, max_value=255))
    scratch.write_bytes(damaged)
    try:
      loaded = Mask.load(scratch)
    except FileFormatError:
      return
    # Whitespace in the header may change without changing what it says.
    assert loaded == Mask.random(SHAPES, 0.5, 0)


class TestCheckDensity:
  @pytest.mark.parametrize("density", [1e-9, 0.5, 1, 1.0, np.float32(0.2)])
  def test_accepts(self, density):
    masks.check_density(density)

  @pytest.mark.parametrize("density", [0, -1, 1.0001, 80, float("nan")])
  def test_names_the_value(self, density):
    with pytest.raises(
      ValueError, match=rf"density must be in \(0, 1\], got {density}\."
    ):
      masks.check_density(density)


class TestNearlyEmpty:
  def warning(self, kept, kind="dense", rest=0.5):
    """The warning for one weight beside a large one of another density."""
    kept = np.array(kept, bool)
    rng = np.random.default_rng(0)
    mask = Mask({"0/w": kept, "1/w": rng.random((50, 50)) < rest})
    weights = [
      Weight(key, f"layer{key[0]}", "w", kind, array.shape, True, "")
      for key, array in mask.items()
    ]
    return masks.nearly_empty(mask, weights)

  def test_names_the_weight_and_the_way_out(self):
    warning = self.warning(np.zeros((4, 8)))
    assert "1 of 2 weights" in warning
    assert "layer0/w keeps 0 of 32" in warning
    assert "layer1" not in warning
    assert "layerwise()" in warning

  def test_below_a_tenth_of_the_density(self):
    kept = np.zeros((10, 10))
    kept[[0, 1, 2, 3], [0, 1, 2, 3]] = 1
    assert "keeps 4 of 100" in self.warning(kept)
    assert self.warning(kept, rest=0.3) is None

  @pytest.mark.parametrize("shape", [(6, 8), (3, 3, 6, 8)], ids=str)
  @pytest.mark.parametrize("axis", [-1, -2])
  def test_one_input_or_output_is_left(self, shape, axis):
    index = [slice(None)] * len(shape)
    index[axis] = 1
    kept = np.zeros(shape)
    kept[tuple(index)] = 1
    assert self.warning(kept)
    index[axis] = slice(2)
    kept[tuple(index)] = 1
    assert self.warning(kept) is None

  def test_a_single_output_is_no_fault(self):
    assert self.warning(np.ones((8, 1))) is None
    assert self.warning(np.ones((1, 8))) is None

  def test_a_low_density_alone_is_no_fault(self):
    kept = np.zeros((4, 3))
    kept[0] = 1
    assert self.warning(kept, rest=0.25) is None
    assert self.warning(kept, rest=0.9)

  def test_most_rows_of_an_embedding_are_empty(self):
    kept = np.zeros((10, 4))
    kept[:4, :2] = 1
    assert "keeps 8 of 40" in self.warning(kept, "embedding")
    assert self.warning(kept) is None
    kept[4, 0] = 1
    assert self.warning(kept, "embedding") is None
