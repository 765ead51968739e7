"""Lottery tickets on MNIST-1D, with five replicates and eight controls.

    pip install 'tf_lottery[report]' mnist1d
    python examples/mnist1d.py

The experiment of Greydanus and Kobak (arXiv 2011.14439, section 3.1): a
residual MLP of 500 units on 4,000 signals of 40 points. It is pruned layer by
layer, one percent of its weights at a time, down to 2 %.
"""

import keras
import numpy as np
from mnist1d import data

import tf_lottery

CONTROLS = ("random_reinit", "shuffled_mask", "random_mask", "one_shot")
CONTROLS += ("fine_tune", "learning_rate_rewind", "gradual", "small_dense")


def make_model(width=1.0):
  def dense(units, inputs, **arguments):  # initialised as in PyTorch
    limit = inputs**-0.5
    uniform = keras.initializers.RandomUniform
    arguments["kernel_initializer"] = uniform(-limit, limit)
    arguments["bias_initializer"] = uniform(-limit, limit)
    return keras.layers.Dense(units, **arguments)

  units = max(1, round(500 * width))
  signal = keras.Input((40,))
  hidden = dense(units, 40, activation="relu")(signal)
  skipped = dense(units, units, activation="relu")(hidden) + hidden
  model = keras.Model(signal, dense(10, units)(skipped))
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(keras.optimizers.Adam(2e-2), loss, metrics=["accuracy"])
  return model


def load_data():
  arguments = data.get_dataset_args()
  ours = data.make_dataset(arguments)
  arguments.seed += 1  # other signals: to choose tickets by
  others = data.make_dataset(arguments)
  return [
    (drawn["x" + part].astype(np.float32), drawn["y" + part])
    for drawn, part in ((ours, ""), (others, "_test"), (ours, "_test"))
  ]


EXPERIMENT = tf_lottery.Experiment(
  title="Residual MLP on MNIST-1D",
  make_model=make_model,
  load_data=load_data,
  steps=1500,
  batch_size=100,
  schedule=tf_lottery.linear(98, 0.02),
  scope="layerwise",
  evaluate_every="100it",
  controls=CONTROLS,
  control_levels=(80, 86, 90, 95, 98),
  replicates=5,
)

if __name__ == "__main__":
  proof = tf_lottery.prove(EXPERIMENT, "runs", processes=2)
  print(proof)
  proof.report("report")
