"""Proves a ticket of a transformer that knows a library by its docstrings.

    pip install 'tf_lottery[report]' scikit-learn
    python examples/text.py

The texts are the docstrings of three libraries that are installed anyway.
"""

import inspect

import keras
import numpy as np
import sklearn.utils
from keras import layers
from sklearn.model_selection import train_test_split

import tf_lottery

WORDS, LENGTH = 3000, 24


def make_model():
  tokens = keras.Input((LENGTH,), dtype="int32")
  x = layers.Embedding(WORDS, 32)(tokens)
  x = x + layers.Embedding(LENGTH, 32)(keras.ops.arange(LENGTH))
  x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x))
  x = layers.LayerNormalization()(
    x + layers.Dense(32)(layers.Dense(64, "relu")(x))
  )
  x = layers.Dropout(0.2)(layers.GlobalAveragePooling1D()(x))
  model = keras.Model(tokens, layers.Dense(3, "softmax")(x))
  model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
  return model


def load_data(seed):
  texts, labels = [], []
  for label, library in enumerate((keras.ops, np, sklearn.utils)):
    for _, function in inspect.getmembers(library, callable):
      lines = (inspect.getdoc(function) or "").splitlines()
      texts += [line for line in lines if len(line) > 40]
      labels += [label] * (len(texts) - len(labels))
  vocabulary = layers.TextVectorization(WORDS, output_sequence_length=LENGTH)
  vocabulary.adapt(texts)
  x, y = np.asarray(vocabulary(texts), np.int32), np.asarray(labels)
  x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, random_state=0)
  x, x_val, y, y_val = train_test_split(x, y, test_size=0.2, random_state=seed)
  return (x, y), (x_val, y_val), (x_test, y_test)


EXPERIMENT = tf_lottery.Experiment(
  title="Transformer on docstrings",
  make_model=make_model,
  load_data=load_data,
  epochs=3,
  batch_size=64,
  schedule=tf_lottery.geometric(5, rate=0.4),
  controls=("random_reinit", "shuffled_mask"),
)

if __name__ == "__main__":
  proof = tf_lottery.prove(EXPERIMENT, "runs", processes=2)
  print(proof)
  proof.report("report_text")
  print(tf_lottery.export.to_saved_model(proof.model(), "text_model"))
