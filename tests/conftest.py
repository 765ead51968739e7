"""What all tests share: two devices, both Keras generations, strategies."""

import gc
import importlib

import pytest
import tensorflow as tf

from tf_lottery.training import distribution

# Before anything makes TensorFlow initialise: two replicas on one CPU.
tf.config.set_logical_device_configuration(
  tf.config.list_physical_devices("CPU")[0],
  [tf.config.LogicalDeviceConfiguration()] * 2,
)


@pytest.fixture(scope="module", autouse=True)
def _frozen():
  """Keeps the garbage collector from what earlier modules have left alive.

  TensorFlow keeps much of it, and each collection would look at all of it.
  """
  yield
  gc.collect()
  gc.freeze()


@pytest.fixture(scope="session", params=["keras", "tf_keras"])
def keras(request):
  """The module of each Keras generation."""
  return importlib.import_module(request.param)


@pytest.fixture(scope="session")
def keras3():
  """The module of Keras 3."""
  return importlib.import_module("keras")


@pytest.fixture(scope="session")
def tf_keras():
  """The module of Keras 2."""
  return importlib.import_module("tf_keras")


@pytest.fixture(scope="session", params=["none", "mirrored"])
def strategy(request):
  """One device, and two replicas; one object each in a process."""
  return distribution.resolve_strategy(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Marks combinations slow that the README's command need not try.

  In the room of the wrappers, where the Keras generations differ, none is
  marked here. Elsewhere the command takes Keras 3 of a test of both, and two
  combinations of a test of both generations and both strategies, which have
  each of them once.
  """
  for item in items:
    if "wrappers" in item.path.parts:
      continue
    spec = getattr(item, "callspec", None)
    names = set(spec.id.split("-")) if spec else set()
    if names & {"none", "mirrored"}:
      rare = {"keras", "mirrored"} <= names or {"tf_keras", "none"} <= names
    else:
      rare = "tf_keras" in names
    if rare:
      item.add_marker(pytest.mark.slow)
