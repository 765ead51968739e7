"""Networks on the line between two others, for both Keras generations."""

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tf_lottery import analysis
from tf_lottery.objective import Objective

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}
LOSS = Objective("loss", "min")
X = np.array([[1.0], [2.0]], np.float32)
DATA = (X, 2 * X)


def linear(library):
  """y = w x, of which the loss is a parabola in w: 2.5 (w - 2) ** 2."""
  model = library.Sequential(
    [library.Input((1,)), library.layers.Dense(1, use_bias=False)]
  )
  model.compile(library.optimizers.SGD(0.1), loss="mse")
  return model


@pytest.fixture(params=LIBRARIES.values(), ids=LIBRARIES)
def trainer(request):
  return tf_lottery.Trainer(lambda: linear(request.param))


def weights(trainer, value):
  return {
    key: np.full_like(array, value)
    for key, array in trainer.binding.read().items()
  }


def test_values_lie_on_the_parabola(trainer):
  line = analysis.interpolate(
    trainer, weights(trainer, 0.0), weights(trainer, 4.0), DATA, points=5
  )
  np.testing.assert_allclose(line.places, [0, 0.25, 0.5, 0.75, 1])
  np.testing.assert_allclose(
    line.values["loss"], [10, 2.5, 0, 2.5, 10], atol=1e-5
  )
  # Nothing between is worse than the ends.
  assert line.barrier(LOSS) == pytest.approx(0)
  # More of it would be better: then the middle is a barrier.
  assert line.barrier(Objective("loss", "max")) == pytest.approx(10)


def test_the_model_is_afterwards_as_it_was(trainer):
  mask = tf_lottery.Mask(
    {key: np.zeros(s, bool) for key, s in trainer.binding.shapes.items()}
  )
  trainer.binding.hold(mask)
  before = trainer.binding.read()
  one, other = weights(trainer, 1.0), weights(trainer, 3.0)
  line = analysis.interpolate(trainer, one, other, DATA, points=2)
  # The mask of before does not prune the networks on the line.
  np.testing.assert_allclose(line.values["loss"], [2.5, 2.5], rtol=1e-5)
  assert trainer.binding.mask == mask
  for key, value in trainer.binding.read().items():
    np.testing.assert_array_equal(value, before[key])


def test_models_and_snapshots_are_networks(trainer):
  snapshot = tf_lottery.Snapshot(0, weights(trainer, 2.0))
  model = trainer.make_model()
  tf_lottery.bind(model).write(weights(trainer, 0.0))
  line = analysis.interpolate(trainer, snapshot, model, DATA, points=2)
  np.testing.assert_allclose(line.values["loss"], [0, 10], atol=1e-5)
  assert line.barrier(LOSS) == pytest.approx(5)


def normalised(library):
  model = library.Sequential(
    [
      library.Input((1,)),
      library.layers.Dense(1, use_bias=False),
      library.layers.BatchNormalization(epsilon=1e-6),
    ]
  )
  model.compile(library.optimizers.SGD(0.1), loss="mse")
  return model


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_moving_statistics_are_computed_anew(library):
  """With the right ones, the outputs have mean 0 and variance 1."""
  trainer = tf_lottery.Trainer(lambda: normalised(library))
  one = trainer.binding.read()
  x = np.random.default_rng(0).normal(3, 5, (512, 1)).astype(np.float32)
  data = (x, np.zeros_like(x))
  old = analysis.interpolate(trainer, one, one, data, points=2)
  new = analysis.interpolate(
    trainer, one, one, data, points=2, statistics_data=data
  )
  assert new.values["loss"][0] == pytest.approx(1, abs=0.1)
  assert abs(old.values["loss"][0] - 1) > 0.5
  assert all(
    layer.momentum == 0.99
    for layer in trainer.model.layers
    if hasattr(layer, "momentum")
  )


def test_successive_levels_of_a_search(tmp_path):
  result = small.search(tmp_path, levels=2)
  steps = [round_.steps for round_ in result.rounds]
  barriers = analysis.level_barriers(result, points=3)
  assert list(barriers) == [(0, 1), (1, 2)]
  assert all(barrier >= 0 for barrier in barriers.values())
  line = analysis.interpolate(
    result.trainer,
    result.round(0),
    result.round(1),
    result.protocol.test,
    points=3,
  )
  name = result.objective.name
  ends = [round_.metrics[f"test_{name}"] for round_ in result.rounds[:2]]
  np.testing.assert_allclose(line.values[name][[0, -1]], ends, rtol=1e-5)
  assert line.barrier(result.objective) == barriers[0, 1]
  assert [round_.steps for round_ in result.rounds] == steps


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"points": 1}, "points must be at least 2, got 1"),
    ({"second": {}}, "only one has"),
    ({"second": {"nothing": np.zeros(1)}}, "Both networks must have the same"),
  ],
)
def test_what_makes_no_line_is_refused(change, message, trainer):
  one = weights(trainer, 1.0)
  arguments = {"second": one, "points": 2, **change}
  with pytest.raises(ValueError, match=message):
    analysis.interpolate(trainer, one, data=DATA, **arguments)


def test_a_barrier_of_an_unknown_metric_is_refused():
  line = analysis.Line(np.array([0.0, 1.0]), {"loss": np.zeros(2)})
  with pytest.raises(ValueError, match="on the line are loss; got 'accuracy'"):
    line.barrier(Objective("accuracy", "max"))
