"""Proves a ticket of a small residual network on handwritten digits.

pip install 'tf_lottery[report]' scikit-learn
python examples/images.py
"""

import keras
import tensorflow as tf
from keras import layers
from sklearn import datasets
from sklearn.model_selection import train_test_split

import tf_lottery


def make_model(width=1.0):
  def block(x, filters, strides=1):
    y = layers.Conv2D(filters, 3, strides, "same", use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
    y = layers.BatchNormalization(momentum=0.9)(y)
    return layers.ReLU()(y + layers.Conv2D(filters, 1, strides)(x))

  image = keras.Input((8, 8, 1))
  x = layers.RandomTranslation(0.1, 0.1, fill_mode="constant")(image)
  filters = [max(1, round(n * width)) for n in (16, 32)]
  x = block(block(x, filters[0]), filters[1], strides=2)
  x = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
  model = keras.Model(image, x)
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  rate = keras.optimizers.schedules.CosineDecay(5e-3, 350)
  model.compile(keras.optimizers.AdamW(rate), loss, metrics=["accuracy"])
  return model


def load_data(seed):
  x, y = datasets.load_digits(return_X_y=True)
  x = x.reshape(-1, 8, 8, 1) / 16
  x, x_test, y, y_test = train_test_split(x, y, test_size=400, random_state=0)
  x, x_val, y, y_val = train_test_split(x, y, test_size=300, random_state=seed)

  def batches(epoch):  # in another order each epoch, the same after a restart
    data = tf.data.Dataset.from_tensor_slices((x, y))
    return data.shuffle(len(x), seed=1000 * seed + epoch).batch(32)

  return batches, (x_val, y_val), (x_test, y_test)


EXPERIMENT = tf_lottery.Experiment(
  title="Small residual network on digits",
  make_model=make_model,
  load_data=load_data,
  epochs=10,
  schedule=tf_lottery.geometric(6, rate=0.4),
  controls=("random_reinit", "shuffled_mask", "small_dense"),
)

if __name__ == "__main__":
  proof = tf_lottery.prove(EXPERIMENT, "runs", processes=2)
  print(proof)
  proof.report("report_images")
  print(tf_lottery.export.to_tflite(proof.model(), "digits.tflite"))
