"""Proves a ticket of a regression on a table, by its mean absolute error.

pip install 'tf_lottery[report]' scikit-learn
python examples/tabular.py
"""

import keras
from keras import layers
from sklearn import datasets
from sklearn.model_selection import train_test_split

import tf_lottery


def make_model(width=1.0):
  model = keras.Sequential(
    [
      keras.Input((10,)),
      layers.Dense(max(1, round(300 * width)), "relu"),
      layers.Dense(max(1, round(100 * width)), "relu"),
      layers.Dense(1),
    ]
  )
  rate = keras.optimizers.schedules.CosineDecay(2e-3, 2100)
  model.compile(keras.optimizers.Adam(rate), "mse", metrics=["mae"])
  return model


def load_data(seed):
  x, y = datasets.make_friedman1(20_000, noise=1.0, random_state=0)
  x, x_test, y, y_test = train_test_split(x, y, test_size=4000, random_state=0)
  x, x_val, y, y_val = train_test_split(x, y, test_size=2000, random_state=seed)
  return (x, y[:, None]), (x_val, y_val[:, None]), (x_test, y_test[:, None])


EXPERIMENT = tf_lottery.Experiment(
  title="MLP on Friedman regression",
  make_model=make_model,
  load_data=load_data,
  epochs=10,
  batch_size=64,
  schedule=tf_lottery.geometric(8, rate=0.4),
  objective="mae",
  controls=("random_reinit", "shuffled_mask", "small_dense"),
)

if __name__ == "__main__":
  proof = tf_lottery.prove(EXPERIMENT, "runs", processes=2)
  print(proof)
  proof.report("report_tabular")
  print(tf_lottery.export.to_tflite(proof.model(), "regression.tflite"))
