import importlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import tf_lottery
from tf_lottery import patterns
from tf_lottery import scopes
from tf_lottery import wrappers
from tf_lottery.masks import Mask
from tf_lottery.weights import Weight

# The models of these tests are not compiled.
pytestmark = pytest.mark.filterwarnings("ignore:.* found no optimizer to reset")
BLOCK = patterns.block(1, 4)
TWO_OF_FOUR = patterns.n_of_m(2, 4)
ALL = (
  patterns.unstructured(),
  BLOCK,
  patterns.block(2, 3, score="norm"),
  patterns.channel(),
  TWO_OF_FOUR,
)


def weight(shape, role="kernel", is_transposed=False, key="w"):
  return Weight(
    key, key, role, "conv", shape, True, "", is_transposed=is_transposed
  )


def select(scores, density, pattern, mask=None, **fields):
  scores = np.asarray(scores, np.float32)
  w = weight(scores.shape, **fields)
  mask = Mask.ones({"w": scores.shape}) if mask is None else mask
  return scopes.select(
    {"w": scores}, mask, density, scopes.global_(), [w], pattern
  )


def test_a_block_is_four_consecutive_inputs_of_one_output():
  # A dense kernel is inputs x outputs: a block is a column of four.
  scores = [
    [0, 3, 0],
    [0, 3, 0],
    [0, 3, 9],
    [0, 3, 0],
    [1, 0, 0],
    [1, 0, 0],
    [1, 0, 2],
    [1, 0, 0],
  ]
  kept = select(scores, 2 / 6, BLOCK)["w"]
  assert kept.astype(int).tolist() == [[0, 1, 1]] * 4 + [[0, 0, 0]] * 4


@pytest.mark.parametrize(
  ("score", "winner"), [("mean", 0), ("sum", 0), ("norm", 1), ("max", 1)]
)
def test_a_block_is_scored_by_mean_sum_norm_or_maximum(score, winner):
  scores = np.array([[2, 0], [2, 0], [2, 5], [2, 0]])
  kept = select(scores, 0.5, patterns.block(1, 4, score=score))["w"]
  assert kept.all(0).tolist() == [winner == 0, winner == 1]


def test_scores_may_be_negative_but_for_the_norm():
  scores = np.array([[-1, -9], [-2, -9.0]])
  mask = Mask({"w": np.array([[True, True], [True, False]])})
  for score, kept in (("max", 0), ("mean", 0)):
    pattern = patterns.block(1, 2, score=score)
    chosen = select(scores, 0.5, pattern, mask)["w"]
    assert chosen.any(0).tolist() == [kept == 0, kept == 1]
  with pytest.raises(ValueError, match=r"at least 0, got -9\.0"):
    select(scores, 0.5, patterns.channel(score="norm"))


def test_a_search_asks_for_densities_that_its_pattern_allows(tmp_path):
  from tests import small

  with pytest.raises(ValueError, match=r"densities of at most 0\.625"):
    small.search(tmp_path, pattern="2_of_4", schedule=[0.8, 0.4], steps=8)
  assert not list(tmp_path.iterdir())


def test_the_inputs_of_a_convolution_are_channels_at_one_place():
  scores = np.zeros((2, 1, 4, 3))
  scores[1, 0, :, 2] = 1
  kept = select(scores, 1 / 6, BLOCK)["w"]
  assert np.array_equal(kept, scores > 0)


def test_a_transposed_convolution_has_its_outputs_first():
  scores = np.zeros((2, 1, 3, 4))
  scores[1, 0, 2, :] = 1
  kept = select(scores, 1 / 6, BLOCK, is_transposed=True)["w"]
  assert np.array_equal(kept, scores > 0)
  binding = tf_lottery.bind(
    keras.Sequential(
      [keras.Input((4, 4, 3)), keras.layers.Conv2DTranspose(2, 3)]
    )
  )
  assert binding.report[0].is_transposed


def test_the_last_block_may_be_smaller():
  scores = np.ones((6, 2))
  scores[4:, 1] = 9
  kept = select(scores, 0.25, BLOCK)["w"]
  assert kept[:, 1].tolist() == [False] * 4 + [True] * 2
  assert not kept[:, 0].any()


def test_a_channel_is_a_whole_unit_or_filter():
  kept = select([[1, 5, 1], [1, 0, 2]], 1 / 3, patterns.channel())["w"]
  assert kept.tolist() == [[False, True, False]] * 2
  scores = np.arange(3 * 3 * 2 * 4).reshape(3, 3, 2, 4)
  kept = select(scores, 0.5, patterns.channel())["w"]
  assert kept.all((0, 1, 2)).tolist() == [False, False, True, True]
  assert kept.any((0, 1, 2)).tolist() == [False, False, True, True]
  scores = np.zeros((3, 3, 4, 1))
  scores[1, 1, 2] = 1
  kept = select(scores, 0.25, patterns.channel(), role="depthwise_kernel")["w"]
  assert kept.all((0, 1, 3)).tolist() == [False, False, True, False]


def test_small_blocks_are_not_beaten_by_large_ones():
  """A first convolution on one channel has blocks of one weight."""
  layers = keras.layers
  model = keras.Sequential(
    [
      keras.Input((8, 8, 1)),
      layers.Conv2D(8, 3),
      layers.Flatten(),
      layers.Dense(40),
      layers.Dense(10),
    ]
  )
  first, _, output = (w.key for w in tf_lottery.bind(model).report.prunable)
  for pattern in ("block_1x4", "channel"):
    ready = tf_lottery.lottery_prune(keras.models.clone_model(model))
    mask = tf_lottery.prune_and_rewind(ready, 0.3, pattern=pattern)
    assert mask[first].any()
  # Units of the output are classes: all of them stay.
  assert mask[output].all()


def test_two_of_four_keeps_the_best_two_of_each_run():
  scores = np.array([[4, 3, 2, 1, 1, 1, 1, 9]]).T
  kept = select(scores, 0.5, TWO_OF_FOUR)["w"]
  assert kept.ravel().astype(int).tolist() == [1, 1, 0, 0, 1, 0, 0, 1]


def test_below_n_of_m_the_best_of_all_that_may_stay_are_kept():
  scores = np.array([[9, 8, 7, 6, 1, 1, 1, 2]]).T
  kept = select(scores, 3 / 8, TWO_OF_FOUR)["w"]
  assert kept.ravel().astype(int).tolist() == [1, 1, 0, 0, 0, 0, 0, 1]


def test_more_than_n_of_m_is_refused():
  with pytest.raises(
    ValueError, match=r"keeps at most 32 of 64.*one_shot\(0\.5\)"
  ):
    select(np.ones((8, 8)), 0.6, TWO_OF_FOUR)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: patterns.block(0, 4), "outputs must be at least 1, got 0"),
    (lambda: patterns.block(1, 4, score="avg"), "score must be one of"),
    (lambda: patterns.n_of_m(5, 4), "n must be from 1 to m = 4, got 5"),
    (lambda: patterns.get("blocks"), "pattern must be .* got 'blocks'"),
  ],
)
def test_bad_arguments_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_patterns_have_names():
  assert patterns.get("unstructured") == patterns.unstructured()
  assert patterns.get("channel") == patterns.channel()
  assert patterns.get("block_1x4") == BLOCK
  assert patterns.get("2_of_4") == TWO_OF_FOUR
  assert patterns.get(BLOCK) is BLOCK


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_masks_are_monotone_and_counts_exact(data):
  pattern = data.draw(st.sampled_from(ALL))
  shape = data.draw(
    st.one_of(
      st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 5)] * 4)
    )
  )
  w = weight(
    shape,
    role=data.draw(st.sampled_from(["kernel", "depthwise_kernel"]))
    if len(shape) == 4
    else "kernel",
    is_transposed=data.draw(st.booleans()),
  )
  rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
  highest = 0.5 if pattern == TWO_OF_FOUR else 1.0
  densities = sorted(
    data.draw(st.lists(st.floats(0.01, highest), min_size=1, max_size=3)),
    reverse=True,
  )
  mask = Mask.ones({"w": shape})
  for density in densities:
    scores = rng.random(shape).astype(np.float32)
    _, left = pattern.pool(w, scores, np.ones(shape, bool))
    smaller = scopes.select(
      {"w": scores}, mask, density, scopes.global_(), [w], pattern
    )
    assert smaller.issubset(mask)
    _, kept = pattern.pool(w, scores, smaller["w"])
    blocks = round(round(density * mask.size) * len(left) / mask.size)
    assert np.count_nonzero(kept) == blocks
    # What stays are whole blocks.
    assert np.array_equal(pattern.expand(w, kept), smaller["w"])
    mask = smaller


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
@pytest.mark.parametrize(
  "scope",
  [
    scopes.global_(),
    scopes.layerwise(),
    scopes.erdos_renyi(),
    scopes.lamp(),
  ],
  ids=["global", "layerwise", "erdos_renyi", "lamp"],
)
@pytest.mark.parametrize("pattern", ALL, ids=str)
def test_patterns_go_with_every_criterion_and_scope(pattern, scope, criterion):
  model = tf_lottery.lottery_prune(make_model(keras))
  for density in (0.4, 0.2):
    mask = tf_lottery.prune_and_rewind(
      model, density, criterion=criterion, scope=scope, pattern=pattern
    )
    blocks = kept = 0
    for w in tf_lottery.bind(model).report.prunable:
      if pattern.spares(w):
        assert w.is_output
        assert mask[w.key].all()
        continue
      _, left = pattern.pool(w, mask[w.key].astype(float), mask[w.key])
      assert np.array_equal(pattern.expand(w, left), mask[w.key])
      blocks += len(left)
      kept += np.count_nonzero(left)
    # A layerwise scope rounds for each of the two layers.
    assert abs(kept - density * blocks) <= 1


def make_model(library):
  library.utils.set_random_seed(0)
  layers = library.layers
  return library.Sequential(
    [
      library.Input((16,)),
      layers.Dense(24, "relu"),
      layers.Dense(12, "relu"),
    ]
  )


@pytest.mark.parametrize(
  ("arguments", "pattern"),
  [
    ({"block_size": (4, 1)}, BLOCK),
    ({"block_size": [2, 2], "block_pooling_type": "MAX"}, None),
    ({"sparsity_m_by_n": (2, 4)}, TWO_OF_FOUR),
    ({}, patterns.unstructured()),
  ],
  ids=["block", "max", "m_by_n", "none"],
)
def test_arguments_of_tfmot_mean_what_tfmot_does(arguments, pattern):
  """The mask is the one that tfmot's own pruning computes."""
  model = tf_lottery.lottery_prune(make_model(tf_keras), **arguments)
  # Not before: it warns where tf_lottery does not import it.
  pruning_impl = importlib.import_module(
    "tensorflow_model_optimization.python.core.sparsity.keras.pruning_impl"
  )
  binding = tf_lottery.bind(model)
  kernels = {w.key: binding.read()[w.key] for w in binding.report.prunable}
  assert pattern in (None, wrappers.pattern_of(model))
  mask = tf_lottery.prune_and_rewind(
    model, 0.5, scope=scopes.layerwise(rate=0.5)
  )
  for key, kernel in kernels.items():
    theirs = pruning_impl.Pruning(
      training_step_fn=lambda: 0,
      pruning_vars=[],
      pruning_schedule=lambda step: (True, 0.5),
      block_size=list(arguments.get("block_size", (1, 1))),
      block_pooling_type=arguments.get("block_pooling_type", "AVG"),
      sparsity_m_by_n=arguments.get("sparsity_m_by_n"),
    )
    _, expected = theirs._maybe_update_block_mask(tf.constant(kernel))
    assert np.array_equal(mask[key], np.asarray(expected) > 0)


def test_layers_with_different_patterns_need_one_by_hand():
  layers = [
    tf_lottery.lottery_prune(tf_keras.layers.Dense(8), block_size=size)
    for size in ((4, 1), (2, 2))
  ]
  model = tf_keras.Sequential([tf_keras.Input((8,)), *layers])
  with pytest.raises(ValueError, match="must ask for one pattern"):
    tf_lottery.prune_and_rewind(model, 0.5)
  mask = tf_lottery.prune_and_rewind(model, 0.5, pattern="channel")
  assert mask["0/kernel"].any(0).sum() == 4


def test_find_ticket_prunes_by_a_pattern(tmp_path):
  from tests import small

  result = small.search(
    tmp_path, pattern="block_1x4", schedule=[0.5, 0.25], steps=8
  )
  weights = result.trainer.binding.report.prunable
  for round_, w in itertools.product(result.rounds[1:], weights):
    mask = round_.ticket.mask[w.key]
    _, left = BLOCK.pool(w, mask.astype(float), mask)
    assert np.array_equal(BLOCK.expand(w, left), mask)
  with pytest.raises(ValueError, match="pattern"):
    small.search(tmp_path, schedule=[0.5, 0.25], steps=8)


@pytest.mark.parametrize("pattern", ALL, ids=str)
@given(
  shape=st.sampled_from([(9, 7), (8, 4), (3, 3, 5, 6)]),
  seed=st.integers(0, 2**16),
)
@settings(max_examples=25, deadline=None)
def test_shuffling_keeps_the_pattern_and_the_counts(pattern, shape, seed):
  w = weight(shape)
  scores = {"w": np.random.default_rng(seed).random(shape)}
  full = Mask.ones({"w": shape})
  mask = scopes.select(scores, full, 0.45, scopes.global_(), [w], pattern)
  shuffled = patterns.shuffled(mask, [w], pattern, seed)
  assert shuffled.kept == mask.kept
  assert shuffled == patterns.shuffled(mask, [w], pattern, seed)
  # A mask that has the pattern is what the pattern selects from its scores.
  blocks = pattern.pool(w, shuffled["w"].astype(float), shuffled["w"])
  again = pattern.expand(w, np.logical_and(*(b > 0 for b in blocks)))
  np.testing.assert_array_equal(again, shuffled["w"])


def test_single_weights_are_shuffled_as_in_earlier_versions():
  mask = Mask.random({"a": (3, 4), "b": (7,)}, 0.4, seed=1)
  weights = [weight((3, 4), key="a"), weight((7,), key="b")]
  found = patterns.shuffled(mask, weights, patterns.unstructured(), 3)
  assert {key: array.astype(int).tolist() for key, array in found.items()} == {
    "a": [[1, 0, 0, 1], [1, 0, 1, 0], [1, 0, 0, 0]],
    "b": [0, 0, 1, 0, 1, 1, 0],
  }
