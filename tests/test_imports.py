"""What importing the package costs, changes and offers."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import tf_lottery

ROOT = pathlib.Path(__file__).parents[1]

# Run in a fresh process. What TensorFlow and Keras change and load is their
# own: they are imported before the comparison starts.
IMPORT_ALONE = """
import json
import os
import sys

import keras
import tensorflow

before = dict(os.environ)
loaded_before = set(sys.modules)

import tf_lottery

heavy = [
  "matplotlib",
  "tensorflow_datasets",
  "tensorflow_model_optimization",
  "tf_keras",
]
print(json.dumps({
  "changed": sorted(set(before.items()) ^ set(os.environ.items())),
  "loaded": sorted(set(heavy) & (set(sys.modules) - loaded_before)),
}))
"""


def test_the_import_of_the_package_changes_nothing():
  search = os.pathsep.join([str(ROOT), *sys.path])
  done = subprocess.run(
    [sys.executable, "-c", IMPORT_ALONE],
    env=os.environ | {"PYTHONPATH": search},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout) == {"changed": [], "loaded": []}


@pytest.mark.parametrize(
  ("name", "member"),
  [
    ("controls", "random_reinit"),
    ("experiments", "Experiment"),
    ("export", "to_tflite"),
    ("papers", "recipes"),
    ("report", "write"),
  ],
)
def test_a_room_is_reached_without_a_second_import(name, member):
  room = getattr(tf_lottery, name)
  assert getattr(room, member)
  assert name in dir(tf_lottery)


def test_names_of_before_are_still_there():
  assert tf_lottery.SearchResult is tf_lottery.Search
  assert callable(tf_lottery.compact)
  with pytest.raises(AttributeError, match="no attribute 'nothing'"):
    _ = tf_lottery.nothing
