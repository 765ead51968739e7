"""The memory of a search, measured in a process of its own.

python -m tests.search.test_memory RUN_DIR
"""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest

import tf_lottery

UNITS = 1000
SNAPSHOT_MB = UNITS * UNITS * 4 / 2**20


def make_model():
  import keras

  layers = [keras.layers.Dense(UNITS, "relu"), keras.layers.Dense(2)]
  model = keras.Sequential([keras.Input((UNITS,)), *layers])
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile("adam", loss, metrics=["accuracy"])
  return model


def peak_mb():
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**20 if sys.platform == "darwin" else 2**10)


def search(run_dir):
  """Prints the peak memory after each Level, as JSON."""
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (64, UNITS), np.uint8)
  data = tf_lottery.training.data.ArrayData((x, x[:, 0] // 128), scale=255)
  peaks = []
  tf_lottery.find_ticket(
    make_model,
    data,
    validation_data=data,
    test_data=data,
    steps=4,
    batch_size=16,
    evaluate_every=3,
    rewind=tf_lottery.to_step("2it", keep_optimizer=True),
    schedule=tf_lottery.geometric(16, 0.1),
    method="iterative",
    run_dir=run_dir,
    progress=False,
    on_round=lambda round_: peaks.append(peak_mb()),
  )
  print(json.dumps(peaks))


@pytest.mark.slow
def test_it_does_not_grow_with_the_levels(tmp_path):
  command = [sys.executable, "-m", __name__, tmp_path / "run"]
  output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
  peaks = json.loads(output.splitlines()[-1])
  assert len(peaks) == 17
  # One snapshot a Level, of weights alone, would be 12 of them.
  assert peaks[16] - peaks[4] < 4 * SNAPSHOT_MB


if __name__ == "__main__":
  search(sys.argv[1])
