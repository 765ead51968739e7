"""Models of keras.applications, in place: what tfmot refuses or changes."""

import keras
import numpy as np
import pytest

import tf_lottery
from tf_lottery.training import data

APPLICATIONS = {
  "MobileNetV2": {"alpha": 0.35},
  "EfficientNetB0": {},
  "MobileNetV3Small": {"minimalistic": True},
}


def make(name, **arguments):
  return getattr(keras.applications, name)(
    weights=None, input_shape=(32, 32, 3), classes=4, **arguments
  )


@pytest.fixture(
  params=[
    "MobileNetV2",
    pytest.param("EfficientNetB0", marks=pytest.mark.slow),
    pytest.param("MobileNetV3Small", marks=pytest.mark.slow),
  ],
)
def application(request):
  yield lambda: make(request.param, **APPLICATIONS[request.param])
  keras.backend.clear_session()


def test_an_application_trains_under_a_mask(application):
  model = application()
  plain = tf_lottery.bind(model).read()
  x = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
  expected = np.asarray(model(x))
  model = tf_lottery.lottery_prune(model)
  np.testing.assert_array_equal(np.asarray(model(x)), expected)
  binding = tf_lottery.bind(model)
  kinds = {weight.kind for weight in binding.report.prunable}
  assert "conv" in kinds
  assert kinds <= {"conv", "dense"}
  mask = tf_lottery.Mask.random(binding.shapes, 0.2, seed=0)
  binding.hold(mask)
  held = binding.read()
  model.compile(
    keras.optimizers.SGD(0.01, momentum=0.9),
    "sparse_categorical_crossentropy",
    run_eagerly=True,  # one step takes less time than tracing it
  )
  model.fit(x, np.arange(4), batch_size=4, verbose=0)
  binding.check_held()
  trained = binding.read()
  for key, kept in mask.items():
    assert not trained[key][~kept].any()
  moved = sum(np.any(trained[key] != held[key]) for key in mask)
  assert moved > len(mask) / 2
  for key, value in binding.initial().items():
    np.testing.assert_array_equal(value, plain[key])
  expected = np.asarray(model(x))
  model = tf_lottery.strip_lottery(model)
  np.testing.assert_array_equal(np.asarray(model(x)), expected)
  assert type(model).__name__ == "Functional"


@pytest.mark.slow
def test_an_application_trains_in_a_trainer():
  def make_model():
    model = make("MobileNetV2", alpha=0.35)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    return model

  trainer = tf_lottery.Trainer(make_model)
  mask = tf_lottery.Mask.random(trainer.binding.shapes, 0.2, seed=0)
  trainer.restore(trainer.initial, mask, 0)
  rng = np.random.default_rng(0)
  x = rng.uniform(0, 255, (4, 32, 32, 3)).astype("float32")
  dataset = data.as_data((x, np.arange(4)))
  trainer.train(dataset, 0, 1, batch_size=4, seed=0)
  trainer.binding.check_held()
  trained = trainer.binding.read()
  assert any(
    np.any(trained[key] != trainer.initial.weights[key] * kept)
    for key, kept in mask.items()
  )
