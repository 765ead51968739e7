import gc
import weakref

import numpy as np
import pytest

from tf_lottery import wrappers
from tf_lottery.experiments.controls import widths
from tf_lottery.papers import networks


def size_of(model):
  return sum(weight.size for weight in wrappers.bind(model).report.prunable)


def test_it_finds_the_width_with_as_many_weights(keras):
  built = []

  def make_model(width):
    built.append(width)
    hidden = keras.layers.Dense(max(1, round(100 * width)))
    return keras.Sequential([keras.Input((9,)), hidden, keras.layers.Dense(1)])

  # 10 weights a unit.
  assert widths.closest_width(make_model, 370)[1] == 370
  assert widths.closest_width(make_model, 373)[1] == 370
  assert widths.closest_width(make_model, 1)[1] == 10
  width, size = widths.closest_width(make_model, 2500)
  assert (width, size) == (2.5, 2500)
  built.clear()
  widths.closest_width(make_model, 373)
  assert len(built) <= 15
  assert built[0] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["lenet_300_100", "conv2", "conv6", "resnet20"]
)
def test_it_is_the_closest_width_of_a_papers_network(name):
  network, shape, wanted = getattr(networks, name), (28, 28), 20_000

  def make_model(width):
    return network(shape, width=width)

  width, size = widths.closest_width(make_model, wanted)
  assert size == size_of(make_model(width))
  assert size == pytest.approx(wanted, rel=0.1)
  for other in (0.98 * width, 1.02 * width):
    assert abs(size_of(make_model(other)) - wanted) >= abs(size - wanted)


def test_only_prunable_weights_count(keras):
  def make_model(width):
    hidden = keras.layers.Dense(max(1, round(10 * width)))
    return keras.Sequential([keras.Input((6,)), hidden, keras.layers.Dense(4)])

  def first(weight):
    return weight.key == "0/kernel"

  assert widths.closest_width(make_model, 30, first)[1] == 30
  assert widths.closest_width(make_model, 30)[1] == 30
  assert widths.closest_width(make_model, 24, first)[1] == 24


@pytest.mark.slow
def test_it_keeps_no_model_alive(keras):
  built = []

  def make_model(width):
    hidden = keras.layers.Dense(max(1, round(100 * width)))
    model = keras.Sequential([keras.Input((9,)), hidden])
    built.append(weakref.ref(model))
    return model

  widths.closest_width(make_model, 333)
  gc.collect()
  assert len(built) > 5
  assert not [model for model in built if model() is not None]


def test_a_function_that_ignores_the_width_is_refused(keras):
  def make_model(width):
    return keras.Sequential([keras.Input((9,)), keras.layers.Dense(10)])

  with pytest.raises(ValueError, match="got 90 at every width"):
    widths.closest_width(make_model, 30)
  assert widths.closest_width(make_model, 90) == (1.0, 90)


def test_a_function_that_fails_is_named_with_the_width(keras):
  def make_model(width):
    units = int(10 * width)
    if not units:
      raise ValueError("units must be positive")
    return keras.Sequential([keras.Input((9,)), keras.layers.Dense(units)])

  with pytest.raises(ValueError, match=r"width=0\.0\d+\) fails: units must be"):
    widths.closest_width(make_model, 3)
  with pytest.raises(ValueError, match=r"fails: .*width"):
    widths.closest_width(lambda: make_model(1.0), 10)
  with pytest.raises(ValueError, match="at least 1, got 0"):
    widths.closest_width(make_model, np.int64(0))
