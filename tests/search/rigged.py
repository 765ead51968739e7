"""A search of which it is known which Levels match.

The targets depend on 8 of 16 inputs, and the model has one weight for each. So
what keeps at least 8 weights matches, and what keeps fewer does not.
"""

import keras
import numpy as np

import tf_lottery

STEPS = 48
SCHEDULE = tuple(kept / 16 for kept in (14, 12, 10, 8, 6, 4))
SMALLEST = 4


def examples(count, seed):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(count, 16)).astype(np.float32)
  noise = 0.5 * rng.normal(size=(count, 1))
  return x, (x[:, :8].sum(-1, keepdims=True) + noise).astype(np.float32)


def make_model():
  model = keras.Sequential(
    [keras.Input((16,)), keras.layers.Dense(1, use_bias=False, name="all")]
  )
  model.compile(keras.optimizers.SGD(0.1), loss="mse")
  return model


def search(run_dir, trainer, **arguments):
  """`find_ticket` with 48 steps a Level and 4 steps an epoch."""
  defaults = {
    "steps": STEPS,
    "evaluate_every": "4it",
    "schedule": SCHEDULE,
    "scope": tf_lottery.global_(),
  }
  if arguments.keys().isdisjoint(("choose", "budget", "search_steps")):
    defaults["method"] = "iterative"
  return tf_lottery.find_ticket(
    trainer,
    examples(128, 0),
    validation_data=examples(64, 1),
    run_dir=run_dir,
    **{**defaults, **arguments},
  )
