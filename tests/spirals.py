"""A small task on which the order of the data decides where training ends."""

import keras
import numpy as np

import tf_lottery


def examples(count, seed):
  """Two spirals of points, one of each class."""
  rng = np.random.default_rng(seed)
  turn = np.sqrt(rng.uniform(0.1, 1, count)) * 3 * np.pi
  classes = rng.integers(0, 2, count)
  angle = turn + np.pi * classes
  x = np.stack([turn * np.cos(angle), turn * np.sin(angle)], -1) / 6
  x += rng.normal(0, 0.02, (count, 2))
  return x.astype(np.float32), classes.astype(np.int32)


def make_model(library=keras):
  layers = library.layers
  model = library.Sequential(
    [
      library.Input((2,)),
      layers.Dense(32, "relu"),
      layers.Dense(32, "relu"),
      layers.Dense(2),
    ]
  )
  schedule = library.optimizers.schedules
  model.compile(
    library.optimizers.Adam(
      schedule.PiecewiseConstantDecay([300], [0.03, 0.001])
    ),
    library.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return model


def search(run_dir, library=keras, **arguments):
  """One Level of 600 steps; training is stable from about step 20 on."""
  return tf_lottery.find_ticket(
    lambda: make_model(library),
    examples(400, 0),
    validation_data=examples(400, 1),
    run_dir=run_dir,
    **dict(
      steps=600,
      batch_size=20,
      schedule=[0.8],
      evaluate_every=600,
      **arguments,
    ),
  )
