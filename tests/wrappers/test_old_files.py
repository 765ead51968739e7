"""Files that earlier versions wrote load with their masks and weights."""

import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import tf_lottery
from tests.wrappers.models import GENERATIONS
from tests.wrappers.models import all_layers
from tests.wrappers.models import assert_holds
from tests.wrappers.models import assert_same
from tests.wrappers.models import fit

FILES = pathlib.Path(__file__).parents[1] / "data" / "keras"
NAMES = [
  f"{g}_{kind}" for g in GENERATIONS for kind in ("sequential", "functional")
]


def load(name):
  keras = GENERATIONS[name.rpartition("_")[0]]
  return keras.models.load_model(FILES / f"{name}.keras")


def expected(name, part):
  with np.load(FILES / f"{name}.npz") as arrays:
    return {
      key.removeprefix(part): value
      for key, value in arrays.items()
      if key.startswith(part)
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_file_keeps_its_mask_initial_weights_and_weights(name):
  model = load(name)
  binding = tf_lottery.bind(model)
  mask = tf_lottery.Mask(expected(name, "mask/"))
  assert binding.mask == mask
  assert_same(binding.initial(), expected(name, "initial/"))
  assert_same(binding.read(), expected(name, "weights/"))
  fit(model)
  assert_holds(binding, mask)
  pruned = tf_lottery.prune_and_rewind(model, 0.2)
  assert pruned.issubset(mask)
  model = tf_lottery.strip_lottery(model)
  assert not [
    layer for layer in all_layers(model) if "Lottery" in type(layer).__name__
  ]


IN_A_FRESH_PROCESS = """
  import sys
  import tf_lottery
  import keras
  import tf_keras

  for path in sys.argv[1:]:
    library = tf_keras if "/tf_keras_" in path else keras
    binding = tf_lottery.bind(library.models.load_model(path))
    binding.check_held()
    assert 0.35 < binding.mask.density < 0.45, binding.mask
    binding.initial()
"""


def test_files_load_in_a_process_that_only_imports_tf_lottery():
  paths = [str(FILES / f"{name}.keras") for name in NAMES]
  script = textwrap.dedent(IN_A_FRESH_PROCESS)
  done = subprocess.run(
    [sys.executable, "-c", script, *paths], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-2000:]
