"""Augmentation of images inside the training program, from given noise.

An augmentation is a pure function `(images, uniforms) -> images` that XLA can
compile. The noise comes from the trainer, which draws it from the seed of the
data and the step: a resumed training and one on more replicas see the same
images.
"""

import tensorflow as tf

_SHIFT = 4


def crop_and_flip(images: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
  """Shifts each image by up to 4 pixels, and mirrors half of them.

  The augmentation of CIFAR-10 by He et al. (arXiv 1512.03385, section 4.2):
  pad by 4 pixels of zero, crop to the size it had, flip left and right.

  Args:
    images: of shape `(n, height, width)` or `(n, height, width, channels)`.
    uniforms: float32 in [0, 1) of shape `(n, 3)`, for the crop's row, its
      column and the flip: of 9 rows, of 9 columns, mirrored below 0.5.
  """
  height, width = images.shape[1:3]
  others = [[0, 0]] * (len(images.shape) - 3)
  border = [_SHIFT, _SHIFT]
  padded = tf.pad(images, [[0, 0], border, border, *others])
  first = tf.cast(uniforms[:, :2] * (2 * _SHIFT + 1), tf.int32)
  rows = first[:, :1] + tf.range(height)
  columns = first[:, 1:] + tf.where(
    uniforms[:, 2:] < 0.5, tf.range(width)[::-1], tf.range(width)
  )
  cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
  return tf.gather(cropped, columns, axis=2, batch_dims=1)


def uniforms(batch_size: int, noise: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
  """The noise of a step: by its number, and from the seed of the data.

  Args:
    batch_size: over all replicas.
    noise: the seed, and the number of the epoch's first step.
    step: of the epoch.
  """
  seed = noise + tf.stack([0, tf.cast(step, tf.int64)])
  # From bits: the floats that TensorFlow would draw are others under XLA, and
  # its generator another on each kind of device.
  bits = tf.random.stateless_uniform(
    (batch_size, 3), seed, None, None, tf.uint32, alg="philox"
  )
  return tf.cast(bits // 2**8, tf.float32) / 2**24
