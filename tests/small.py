"""A search that takes seconds, in this process or as a child.

python -m tests.small RUN_DIR
"""

import os
import sys

import numpy as np

import tf_lottery

REWIND = tf_lottery.to_step("6it", keep_optimizer=True)


def examples(count, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(count, 6)).astype(np.float32)
  return x, (x.sum(-1) > 0).astype(np.int32)


def make_model(library, *, learning_rate=0.01, activation="relu", dropout=0.0):
  layers = library.layers
  model = library.Sequential(
    [
      library.Input((6,)),
      layers.Dense(8, activation=activation),
      layers.BatchNormalization(),
      layers.Dropout(dropout),
      layers.Dense(2),
    ]
  )
  model.compile(
    library.optimizers.Adam(learning_rate),
    loss=library.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return model


def search(
  run_dir,
  *,
  library=None,
  trainer=None,
  levels=3,
  learning_rate=0.01,
  activation="relu",
  dropout=0.0,
  data_seed=0,
  **arguments,
):
  """`find_ticket` with 8 steps an epoch, 20 steps a Level."""
  if library is None:
    import keras as library

  def make():
    return make_model(
      library,
      learning_rate=learning_rate,
      activation=activation,
      dropout=dropout,
    )

  defaults = {
    "steps": 20,
    "batch_size": 12,
    "schedule": tf_lottery.geometric(levels, 0.5),
    # The default of the versions that wrote tests/data/searches.
    "scope": tf_lottery.global_(),
    "seed": 3,
  }
  if arguments.keys().isdisjoint(("choose", "budget", "search_steps")):
    defaults["method"] = "iterative"
  return tf_lottery.find_ticket(
    trainer or make,
    examples(96, data_seed),
    validation_data=examples(40, 1),
    test_data=examples(40, 2),
    run_dir=run_dir,
    **{**defaults, **arguments},
  )


if __name__ == "__main__":
  in_cluster = "TF_CONFIG" in os.environ
  search(
    sys.argv[1],
    rewind=REWIND,
    steps=40 if in_cluster else 2000,
    dropout=0.0 if in_cluster else 0.2,
    strategy="multi_worker_mirrored" if in_cluster else None,
  )
