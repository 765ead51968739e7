"""The loss of the papers' networks, which may smooth the labels."""

import functools
import importlib
from typing import Any

import tensorflow as tf


def smoothed_crossentropy(
  label_smoothing: float, *, keras: str = "keras"
) -> Any:
  """Returns the cross-entropy of integer labels that are smoothed.

  With a smoothing of s, the target of the right one of K classes is
  `1 - s + s / K`, and that of each other class is `s / K`. So the validation
  loss has smoothed labels too. Keras smooths one-hot labels alone.

  Args:
    label_smoothing: The smoothing s, in [0, 1). With 0, it is the plain loss
      of Keras, by its name.
    keras: `"keras"` (Keras 3) or `"tf_keras"`. Defaults to `"keras"`.

  Returns:
    A loss to compile a model with. The model must end in probabilities.

  Raises:
    ValueError: `label_smoothing` is out of range.

  Example:
  ```python
  model.compile("adam", smoothed_crossentropy(0.1), metrics=["accuracy"])
  ```

  Reference: Szegedy et al., arXiv 1512.00567, section 7.
  """
  if not 0 <= label_smoothing < 1:
    raise ValueError(
      f"label_smoothing must be in [0, 1), got {label_smoothing}."
    )
  if not label_smoothing:
    return "sparse_categorical_crossentropy"
  return _smoothed_class(keras)(label_smoothing)


@functools.cache
def _smoothed_class(keras: str) -> Any:
  """Makes and registers the class of losses with smoothed labels."""
  library = importlib.import_module(keras)
  base: Any = library.losses.Loss

  @library.saving.register_keras_serializable("tf_lottery")
  class SmoothedSparseCategoricalCrossentropy(base):
    """See `smoothed_crossentropy`."""

    def __init__(self, label_smoothing, name="smoothed_crossentropy", **more):
      super().__init__(name=name, **more)
      self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
      # Keras may have given the labels a last axis of length 1.
      labels = tf.reshape(tf.cast(y_true, tf.int32), tf.shape(y_pred)[:-1])
      return library.losses.categorical_crossentropy(
        tf.one_hot(labels, y_pred.shape[-1]),
        y_pred,
        label_smoothing=self.label_smoothing,
      )

    def get_config(self):
      config = super().get_config()
      return {**config, "label_smoothing": self.label_smoothing}

  return SmoothedSparseCategoricalCrossentropy
