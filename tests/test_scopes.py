import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from tf_lottery import schedules
from tf_lottery import scopes
from tf_lottery.masks import Mask
from tf_lottery.scopes import Group
from tf_lottery.weights import PrunableReport
from tf_lottery.weights import Weight


def make_weights(*layers):
  """Weights from (layer, kind, shape), the last one being the output."""
  return PrunableReport(
    [
      Weight(f"{i}/kernel", layer, "kernel", kind, shape, True, "")
      for i, (layer, kind, shape) in enumerate(layers)
    ]
  ).prunable


def conv(*channels):
  return [
    (f"conv{i}", "conv", (3, 3, *pair))
    for i, pair in enumerate(itertools.pairwise(channels))
  ]


def dense(*units):
  return [
    (f"fc{i}", "dense", pair)
    for i, pair in enumerate(itertools.pairwise(units))
  ]


LENET = make_weights(*dense(784, 300, 100, 10))
CONV2 = make_weights(
  *conv(3, 64, 64),
  *dense(16 * 16 * 64, 256, 256, 10),
)
CONV4 = make_weights(
  *conv(3, 64, 64, 128, 128),
  *dense(8 * 8 * 128, 256, 256, 10),
)
CONV6 = make_weights(
  *conv(3, 64, 64, 128, 128, 256, 256),
  *dense(4 * 4 * 256, 256, 256, 10),
)
RESNET20 = make_weights(
  *conv(3, *[16] * 7, *[32] * 6, *[64] * 6),
  ("shortcut1", "conv", (1, 1, 16, 32)),
  ("shortcut2", "conv", (1, 1, 32, 64)),
  ("fc", "dense", (64, 10)),
)

SMALL = make_weights(
  ("conv", "conv", (3, 3, 1, 2)),
  ("fc1", "dense", (8, 4)),
  ("fc2", "dense", (4, 3)),
)


def shapes_of(weights):
  return {weight.key: weight.shape for weight in weights}


def draw_scores(weights, rng):
  return {w.key: rng.random(w.shape, np.float32) for w in weights}


def iterate(weights, scope, levels, rate=0.2, seed=0):
  """The mask of each Level, by scores drawn anew for each."""
  rng = np.random.default_rng(seed)
  mask = Mask.ones(shapes_of(weights))
  for density in schedules.geometric(levels, rate):
    smaller = scopes.select(
      draw_scores(weights, rng), mask, density, scope, weights
    )
    assert smaller.issubset(mask)
    mask = smaller
    yield mask


def select_one(scores, density, kept=None):
  """Selects in one weight; the result as a list of 0 and 1."""
  scores = np.array(scores)
  weights = make_weights(("w", "dense", scores.shape))
  mask = Mask.ones(shapes_of(weights))
  if kept is not None:
    mask = Mask({"0/kernel": np.array(kept, bool)})
  chosen = scopes.select(
    {"0/kernel": scores}, mask, density, scopes.global_(), weights
  )
  return chosen["0/kernel"].astype(int).tolist()


class TestGlobal:
  def test_all_compete(self):
    assert scopes.global_()(SMALL, 0.5) == [
      Group(("0/kernel", "1/kernel", "2/kernel"), 31)
    ]

  @pytest.mark.parametrize(
    ("pattern", "group"),
    [
      ("output", Group(("0/kernel", "1/kernel"), 25)),
      ("dense", Group(("0/kernel",), 9)),
      ("conv", Group(("1/kernel", "2/kernel"), 22)),
      ("fc*", Group(("0/kernel",), 9)),
      ("fc1", Group(("0/kernel", "2/kernel"), 15)),
      ("1/kernel", Group(("0/kernel", "2/kernel"), 15)),
    ],
  )
  def test_exempt(self, pattern, group):
    assert scopes.global_([pattern])(SMALL, 0.5) == [group]

  def test_the_density_is_that_of_the_others(self):
    scope = scopes.global_(["output"])
    scores = draw_scores(SMALL, np.random.default_rng(0))
    mask = scopes.select(scores, Mask.ones(shapes_of(SMALL)), 0.5, scope, SMALL)
    assert [row.kept for row in mask.table()][2] == 12
    assert mask.kept == 25 + 12

  def test_unknown_pattern(self):
    with pytest.raises(ValueError, match=r"names 'fc9'.* conv \(conv\), fc1"):
      scopes.global_(["fc9"])(SMALL, 0.5)


class TestLayerwise:
  def test_each_has_the_same_density(self):
    assert scopes.layerwise()(SMALL, 0.5) == [
      Group(("0/kernel",), 9),
      Group(("1/kernel",), 16),
      Group(("2/kernel",), 6),
    ]

  def test_rates_after_two_levels(self):
    scope = scopes.layerwise({"output": 0.1, "conv": 0.0})
    keep = [group.keep for group in scope(SMALL, 0.64)]
    assert keep == [18, round(0.64 * 32), round(0.81 * 12)]

  def test_default_rate(self):
    scope = scopes.layerwise({"output": 0.2}, rate=0.5)
    keep = [group.keep for group in scope(SMALL, 0.25)]
    assert keep == [round(0.25 * 18), 8, round(0.64 * 12)]

  def test_the_first_pattern_counts(self):
    first = scopes.layerwise({"fc2": 0.0, "dense": 0.5})(SMALL, 0.8)
    assert [group.keep for group in first] == [14, 16, 12]
    first = scopes.layerwise({"dense": 0.5, "fc2": 0.0})(SMALL, 0.8)
    assert [group.keep for group in first] == [14, 16, 6]

  def test_no_weight_takes_from_another(self):
    weights = make_weights(("a", "dense", (2, 2)), ("b", "dense", (2, 2)))
    scores = {"0/kernel": np.full((2, 2), 9.0), "1/kernel": np.zeros((2, 2))}
    mask = scopes.select(
      scores, Mask.ones(shapes_of(weights)), 0.5, scopes.layerwise(), weights
    )
    assert [row.kept for row in mask.table()] == [2, 2]

  @pytest.mark.parametrize("rate", [0, 1, -0.1, 20, float("nan")])
  def test_default_rate_out_of_range(self, rate):
    with pytest.raises(
      ValueError, match=rf"rate must be in \(0, 1\), got {rate}\."
    ):
      scopes.layerwise(rate=rate)

  @pytest.mark.parametrize("rate", [1, -0.1, 20, float("nan")])
  def test_rate_out_of_range(self, rate):
    with pytest.raises(
      ValueError, match=rf"must be in \[0, 1\), got {rate} for 'output'"
    ):
      scopes.layerwise({"output": rate})

  def test_unknown_pattern(self):
    with pytest.raises(ValueError, match=r"names 'lstm'.* fc2 \(dense\)"):
      scopes.layerwise({"lstm": 0.1})(SMALL, 0.5)


class TestErdosRenyi:
  def test_density_is_in_proportion_to_sum_over_product(self):
    weights = make_weights(("a", "dense", (100, 100)), ("b", "dense", (10, 50)))
    keep = [group.keep for group in scopes.erdos_renyi()(weights, 0.05)]
    # sum(shape) is 200 and 60, and 5 % of 10,500 is 525.
    assert keep == [404, 121]

  def test_small_weights_stay_dense(self):
    weights = make_weights(("a", "dense", (100, 100)), ("b", "dense", (4, 2)))
    keep = [group.keep for group in scopes.erdos_renyi()(weights, 0.5)]
    assert keep == [5004 - 8, 8]

  def test_dense(self):
    keep = [group.keep for group in scopes.erdos_renyi()(SMALL, 1.0)]
    assert keep == [18, 32, 12]

  @settings(max_examples=100, deadline=None)
  @given(
    shapes=st.lists(
      st.lists(st.integers(1, 9), min_size=1, max_size=4),
      min_size=1,
      max_size=5,
    ),
    density=st.floats(0.001, 1.0),
  )
  def test_counts_are_exact_and_fit(self, shapes, density):
    weights = make_weights(*[("w", "dense", tuple(s)) for s in shapes])
    keep = [group.keep for group in scopes.erdos_renyi()(weights, density)]
    sizes = [weight.size for weight in weights]
    assert sum(keep) == round(density * sum(sizes))
    assert all(0 <= k <= size for k, size in zip(keep, sizes, strict=True))

  @pytest.mark.parametrize(
    "shapes",
    [[(3, 3, 1, 2), (8, 4), (4, 3)], [(1, 2), (1, 8)], [(5, 1), (7, 2), (2,)]],
    ids=str,
  )
  def test_no_count_rises_as_density_falls(self, shapes):
    weights = make_weights(*[("w", "dense", shape) for shape in shapes])
    scope = scopes.erdos_renyi()
    counts = [
      [group.keep for group in scope(weights, density)]
      for density in schedules.linear(200, 0.005)
    ]
    for count in zip(*counts, strict=True):
      assert list(count) == sorted(count, reverse=True)


class TestSelect:
  @pytest.mark.parametrize(
    ("scores", "density", "expected"),
    [
      ([0.1, 0.9, 0.2, 0.5], 0.5, [0, 1, 0, 1]),
      ([0.1, 0.9, 0.2, 0.5], 0.25, [0, 1, 0, 0]),
      ([0.1, 0.9, 0.2, 0.5], 1.0, [1, 1, 1, 1]),
      ([-0.1, -0.9, -0.2, -0.5], 0.5, [1, 0, 1, 0]),
      ([3, 1, 2, 0], 0.5, [1, 0, 1, 0]),
      ([[0.1, 0.9], [0.2, 0.5]], 0.5, [[0, 1], [0, 1]]),
    ],
  )
  def test_keeps_the_highest(self, scores, density, expected):
    assert select_one(scores, density) == expected

  def test_negative_weights_are_not_special(self):
    weights = np.array([0.1, -0.9, -0.2, 0.5])
    assert select_one(np.abs(weights), 0.5) == [0, 1, 0, 1]
    assert select_one(np.abs(-weights), 0.5) == [0, 1, 0, 1]

  def test_weights_that_are_zero_can_stay(self):
    assert select_one([0.0, 0.0, 0.0, 0.0], 1.0) == [1, 1, 1, 1]

  @pytest.mark.parametrize(
    ("scores", "expected"),
    [
      ([1, 1, 1, 1], [1, 1, 0, 0]),
      ([0, 1, 1, 1], [0, 1, 1, 0]),
      ([1, 2, 1, 1], [1, 1, 0, 0]),
      ([1, 1, 1, 2], [1, 0, 0, 1]),
    ],
  )
  def test_ties_go_to_the_lower_index(self, scores, expected):
    assert select_one(scores, 0.5) == expected

  def test_ties_go_to_the_earlier_weight(self):
    weights = make_weights(("a", "dense", (2,)), ("b", "dense", (2,)))
    scores = {"1/kernel": np.ones(2), "0/kernel": np.ones(2)}
    mask = scopes.select(
      scores,
      Mask({"1/kernel": [True, True], "0/kernel": [True, True]}),
      0.5,
      scopes.global_(),
      weights,
    )
    assert mask["0/kernel"].tolist() == [True, True]
    assert mask["1/kernel"].tolist() == [False, False]

  @pytest.mark.parametrize("distinct", [True, False])
  def test_prune_k_prunes_exactly_k(self, distinct):
    scores = np.arange(10.0) if distinct else np.ones(10)
    for k in range(10):
      assert sum(select_one(scores, (10 - k) / 10)) == 10 - k

  def test_a_pruned_weight_never_returns(self):
    kept = [0, 1, 1, 1]
    assert select_one([9.0, 1.0, 2.0, 3.0], 0.5, kept) == [0, 0, 1, 1]

  def test_all_that_is_left_may_stay(self):
    kept = [0, 1, 0, 1]
    assert select_one([9.0, 1.0, 2.0, 3.0], 0.5, kept) == kept

  def test_a_group_may_end_empty(self):
    assert select_one([1.0, 2.0, 3.0], 0.1) == [0, 0, 0]

  def test_leaves_its_arguments_alone(self):
    mask = Mask.ones(shapes_of(SMALL))
    scores = draw_scores(SMALL, np.random.default_rng(0))
    before = {key: array.copy() for key, array in scores.items()}
    scopes.select(scores, mask, 0.5, scopes.global_(), SMALL)
    assert mask.density == 1.0
    assert all(np.array_equal(scores[key], before[key]) for key in scores)

  @pytest.mark.parametrize("density", [0, 1.2, -0.5, float("nan")])
  def test_density_out_of_range(self, density):
    with pytest.raises(
      ValueError, match=rf"density must be in \(0, 1\], got {density}\."
    ):
      select_one([1.0, 2.0], density)

  def test_density_must_not_rise(self):
    with pytest.raises(
      ValueError,
      match=r"rise: 0\.75 would keep 3 of 0/kernel, and only 2 are left",
    ):
      select_one([1.0, 2.0, 3.0, 4.0], 0.75, kept=[0, 1, 0, 1])

  @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
  def test_scores_must_be_finite(self, value):
    with pytest.raises(
      ValueError, match=r"'0/kernel' must be finite.*diverged"
    ):
      select_one([1.0, value], 0.5)

  def test_scores_of_another_shape(self):
    scores = {w.key: np.ones(w.shape) for w in SMALL}
    scores["1/kernel"] = np.ones((4, 8))
    with pytest.raises(
      ValueError, match=r"'1/kernel' .* shape \(8, 4\), got \(4, 8\)"
    ):
      scopes.select(
        scores, Mask.ones(shapes_of(SMALL)), 0.5, scopes.global_(), SMALL
      )

  def test_missing_scores(self):
    scores = {w.key: np.ones(w.shape) for w in SMALL[:2]}
    with pytest.raises(ValueError, match="no score for '2/kernel'"):
      scopes.select(
        scores, Mask.ones(shapes_of(SMALL)), 0.5, scopes.global_(), SMALL
      )

  @pytest.mark.parametrize(
    "scope",
    [
      scopes.global_(),
      scopes.global_(["output"]),
      scopes.layerwise({"output": 0.1}),
      scopes.erdos_renyi(),
    ],
    ids=str,
  )
  @settings(max_examples=60, deadline=None)
  @given(data=st.data())
  def test_is_what_sorting_would_keep(self, scope, data):
    shapes = data.draw(
      st.lists(
        st.lists(st.integers(1, 4), min_size=1, max_size=3),
        min_size=2,
        max_size=4,
      )
    )
    weights = make_weights(*[("w", "dense", tuple(s)) for s in shapes])
    # Few distinct scores, so that there are many ties.
    scores = {w.key: draw_array(data, w, st.integers(-2, 2)) for w in weights}
    mask = Mask({w.key: draw_array(data, w, st.booleans()) for w in weights})
    density = data.draw(st.floats(0.01, 1.0))
    groups = scope(weights, density)
    if any(g.keep > sum(mask[k].sum() for k in g.keys) for g in groups):
      with pytest.raises(ValueError, match="density must not rise"):
        scopes.select(scores, mask, density, scope, weights)
      return
    chosen = scopes.select(scores, mask, density, scope, weights)
    assert chosen.shapes == mask.shapes
    assert chosen.issubset(mask)
    expected = {key: array.copy() for key, array in mask.items()}
    for group in groups:
      entries = [
        (-scores[key].flat[index], place, key, index)
        for place, key in enumerate(group.keys)
        for index in np.flatnonzero(mask[key])
      ]
      for *_, key, index in sorted(entries)[group.keep :]:
        expected[key].flat[index] = False
    assert chosen == Mask(expected)

  @settings(max_examples=60, deadline=None)
  @given(
    seed=st.integers(0, 2**32),
    levels=st.integers(1, 8),
    rate=st.floats(0.01, 0.9),
  )
  def test_counts_are_exact_at_every_level(self, seed, levels, rate):
    densities = schedules.geometric(levels, rate)
    masks_ = iterate(SMALL, scopes.global_(), levels, rate, seed)
    for mask, density in zip(masks_, densities, strict=True):
      assert mask.kept == round(density * 62)
    masks_ = iterate(SMALL, scopes.layerwise(rate=rate), levels, rate, seed)
    for mask, density in zip(masks_, densities, strict=True):
      assert [row.kept for row in mask.table()] == [
        round(density * 18),
        round(density * 32),
        round(density * 12),
      ]


def lamp_by_hand(scores):
  """Equation 5 of arXiv 2010.07611, entry by entry."""
  flat = scores.ravel().astype(float)
  order = sorted(range(len(flat)), key=lambda index: (-flat[index], index))
  values = np.empty(len(flat))
  for rank, index in enumerate(order):
    above = sum(flat[other] ** 2 for other in order[: rank + 1])
    values[index] = flat[index] ** 2 / above
  return values


def select_all(scores, density, weights, mask=None, scope=None):
  return scopes.select(
    scores,
    mask or Mask.ones(shapes_of(weights)),
    density,
    scope or scopes.lamp(),
    weights,
  )


class TestLamp:
  def test_is_the_papers_equation(self):
    scores = draw_scores(SMALL, np.random.default_rng(0))
    values = np.concatenate([lamp_by_hand(scores[w.key]) for w in SMALL])
    mask = select_all(scores, 0.5, SMALL)
    kept = np.concatenate([mask[w.key].ravel() for w in SMALL])
    assert kept.sum() == 31
    assert values[kept].min() > values[~kept].max()

  @pytest.mark.parametrize("factor", [1e-20, 1e-3, 7.0, 1e20])
  def test_the_scale_of_a_weight_makes_no_difference(self, factor):
    scores = draw_scores(SMALL, np.random.default_rng(1))
    scores = {key: array.astype(float) for key, array in scores.items()}
    scaled = {**scores, "0/kernel": scores["0/kernel"] * factor}
    assert select_all(scaled, 0.3, SMALL) == select_all(scores, 0.3, SMALL)

  def test_scores_below_zero_are_ranked_like_others(self):
    scores = draw_scores(SMALL, np.random.default_rng(2))
    lower = {key: array - 2 for key, array in scores.items()}
    mask = select_all(lower, 0.5, SMALL)
    for key, kept in mask.items():
      assert scores[key][kept].min() > scores[key][~kept].max()

  def test_equal_scores_are_kept_by_index(self):
    weights = make_weights(("a", "dense", (2, 2)), ("b", "dense", (2, 2)))
    scores = {"0/kernel": np.zeros((2, 2)), "1/kernel": np.ones((2, 2))}
    mask = select_all(scores, 0.5, weights)
    assert [mask[w.key].ravel().tolist() for w in weights] == [
      [True, True, False, False]
    ] * 2

  @settings(max_examples=100, deadline=None)
  @given(data=st.data())
  def test_counts_are_exact_and_no_weight_is_emptied(self, data):
    shapes = data.draw(
      st.lists(
        st.lists(st.integers(1, 4), min_size=1, max_size=3),
        min_size=2,
        max_size=4,
      )
    )
    weights = make_weights(*[("w", "dense", tuple(s)) for s in shapes])
    mask = Mask.ones(shapes_of(weights))
    for density in sorted(
      data.draw(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4)),
      reverse=True,
    ):
      # Few distinct scores, so that there are many ties.
      scores = {w.key: draw_array(data, w, st.integers(-2, 2)) for w in weights}
      smaller = select_all(scores, density, weights, mask)
      assert smaller.issubset(mask)
      assert smaller.kept == round(density * mask.size)
      for key, kept in smaller.items():
        if smaller.kept >= len(weights):
          assert kept.any()
        # Of equal scores the lower index is kept.
        ranked = np.argsort(-scores[key].ravel(), kind="stable")
        ranked = ranked[mask[key].ravel()[ranked]]
        assert kept.ravel()[ranked[: kept.sum()]].all()
      mask = smaller

  def test_a_small_embedding_is_not_emptied(self):
    """Embeddings start at 0.05 at most, and kernels at ten times that."""
    weights = make_weights(
      ("embedding", "embedding", (40, 16)),
      ("lstm", "recurrent", (16, 128)),
      ("fc", "dense", (32, 4)),
    )
    rng = np.random.default_rng(0)
    limits = {"0/kernel": 0.05, "1/kernel": 0.2, "2/kernel": 0.4}
    scores = {w.key: rng.uniform(0, limits[w.key], w.shape) for w in weights}
    kept = {
      scope: select_all(scores, 0.2, weights, scope=scope)["0/kernel"].mean()
      for scope in (scopes.global_(), scopes.default())
    }
    assert kept[scopes.global_()] == 0
    assert 0.15 < kept[scopes.default()] < 0.4


def draw_array(data, weight, elements):
  values = data.draw(
    st.lists(elements, min_size=weight.size, max_size=weight.size)
  )
  return np.reshape(values, weight.shape)


# The rates of arXiv 1803.03635, figure 2, and the percentages of weights left
# that its other figures name, with those between them.
PAPER = {
  "lenet": (
    LENET,
    scopes.layerwise({"output": 0.1}),
    266_200,
    {
      1: 80.04,
      2: 64.06,
      3: 51.28,
      4: 41.05,
      5: 32.87,
      6: 26.32,
      7: 21.07,
      8: 16.88,
      9: 13.52,
      10: 10.83,
      11: 8.68,
      12: 6.95,
      13: 5.57,
      14: 4.47,
      15: 3.58,
      16: 2.87,
      20: 1.19,
      24: 0.50,
    },
  ),
  "conv2": (
    CONV2,
    scopes.layerwise({"output": 0.1, "conv": 0.1}),
    4_300_992,
    {6: 26.47, 11: 8.81, 14: 4.57},
  ),
  "conv4": (
    CONV4,
    scopes.layerwise({"output": 0.1, "conv": 0.1}),
    2_425_024,
    {11: 11.06, 12: 9.18, 13: 7.65, 15: 5.37},
  ),
  "conv6": (
    CONV6,
    scopes.layerwise({"output": 0.1, "conv": 0.15}),
    2_261_184,
    {7: 26.61, 10: 15.29, 12: 10.62},
  ),
  "resnet20": (
    RESNET20,
    scopes.global_(["shortcut*", "output"]),
    267_696 + 2_560 + 640,
    {4: 41.66, 6: 27.09, 7: 21.91, 10: 11.79},
  ),
}


class TestPaper:
  @pytest.mark.parametrize("name", PAPER)
  def test_density_ladder(self, name):
    weights, scope, size, ladder = PAPER[name]
    levels = max(ladder)
    got = {
      level: mask.density
      for level, mask in enumerate(iterate(weights, scope, levels), start=1)
    }
    assert Mask.ones(shapes_of(weights)).size == size
    assert {level: round(got[level] * 100, 2) for level in ladder} == ladder

  @pytest.mark.parametrize("level", [1, 7, 15])
  def test_one_shot_gives_each_layer_the_same_count(self, level):
    weights, scope, *_ = PAPER["lenet"]
    *_, iterated = iterate(weights, scope, level, seed=1)
    (density,) = schedules.one_shot(schedules.geometric(level)[-1])
    at_once = scopes.select(
      draw_scores(weights, np.random.default_rng(2)),
      Mask.ones(shapes_of(weights)),
      density,
      scope,
      weights,
    )
    assert at_once.table() == iterated.table()
    assert at_once != iterated

  def test_resnet_prunes_neither_shortcuts_nor_output(self):
    weights, scope, *_ = PAPER["resnet20"]
    *_, mask = iterate(weights, scope, 10)
    dense = [row.key for row in mask.table() if row.kept == row.size]
    assert dense == ["19/kernel", "20/kernel", "21/kernel"]
