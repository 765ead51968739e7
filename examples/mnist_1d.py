"""Lottery tickets on MNIST-1D (Greydanus and Kobak, arXiv 2011.14439).

    pip install 'tf_lottery[report]' mnist1d
    python examples/mnist_1d.py

A residual MLP on 4,000 signals of 40 points, pruned layer by layer, one percent
at a time, to 2 % of its weights. Results: docs/results/mnist_1d.
"""

import keras
import numpy as np
from mnist1d import data

import tf_lottery

CONTROLS = ("random_reinit", "shuffled_mask", "random_mask", "one_shot")
CONTROLS += ("fine_tune", "learning_rate_rewind", "gradual", "small_dense")


def make_model(width=1.0):
  def dense(units, inputs, **arguments):  # initialised as in PyTorch
    draw = keras.initializers.RandomUniform
    arguments["kernel_initializer"] = draw(-(inputs**-0.5), inputs**-0.5)
    arguments["bias_initializer"] = draw(-(inputs**-0.5), inputs**-0.5)
    return keras.layers.Dense(units, **arguments)

  units, signal = max(1, round(500 * width)), keras.Input((40,))
  hidden = dense(units, 40, activation="relu")(signal)
  hidden = dense(units, units, activation="relu")(hidden) + hidden
  model = keras.Model(signal, dense(10, units)(hidden))
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(keras.optimizers.Adam(2e-2), loss, metrics=["accuracy"])
  return model


def load_data():
  arguments = data.get_dataset_args()
  drawn = data.make_dataset(arguments)
  arguments.seed += 1  # other signals, to choose tickets by
  others = data.make_dataset(arguments)
  parts = (drawn, ""), (others, "_test"), (drawn, "_test")
  return [(d["x" + p].astype(np.float32), d["y" + p]) for d, p in parts]


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
  proof.report("report_mnist_1d")
