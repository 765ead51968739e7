"""Augmentation of images inside the training program, from given noise.

An augmentation is a pure function `(images, uniforms) -> images` that XLA can
compile. The noise depends on the seed of the data and the step alone, so that
a resumed training, or one on more replicas, sees the same images.
"""

import tensorflow as tf

_SHIFT = 4


def crop_and_flip(images: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
  """Shifts each image by up to 4 pixels, and mirrors half of them.

  He et al. augment CIFAR-10 in this way (arXiv 1512.03385, section 4.2): pad
  with 4 pixels of zero, crop to the size of before, flip left and right.

  Args:
    images: Array of shape `(n, height, width)` or `(n, height, width,
      channels)`.
    uniforms: float32 in [0, 1) of shape `(n, 3)`. They choose one of 9 rows
      and one of 9 columns for the crop; below 0.5, the third mirrors.
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
  """Draws the noise of a step: float32 in [0, 1) of shape `(batch_size, 3)`.

  Args:
    batch_size: Examples over all replicas.
    noise: The seed of the data, and the number of the epoch's first step.
    step: The number of the step in the epoch.
  """
  seed = noise + tf.stack([0, tf.cast(step, tf.int64)])
  # From the bits of a named generator: TensorFlow draws other floats under
  # XLA, and by default uses another generator on each kind of device.
  bits = tf.random.stateless_uniform(
    (batch_size, 3), seed, None, None, tf.uint32, alg="philox"
  )
  return tf.cast(bits // 2**8, tf.float32) / 2**24
