"""Augmentation of images inside the training program, from given noise.

An augmentation is a pure function `(images, uniforms) -> images` that XLA can
compile. The trainer draws the noise from the step and the seed of the data, so
that a resumed training, or one on more replicas, sees the same images.
"""

import tensorflow as tf

_SHIFT = 4


def crop_and_flip(images: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
  """Shifts each image by up to 4 pixels, and mirrors half of them.

  Each image is padded by 4 pixels of zero on each side, cropped to its former
  size at a random place, and flipped left to right with probability 0.5.

  Args:
    images: Images of shape `(n, height, width)` or `(n, height, width,
      channels)`.
    uniforms: Noise, float32 in [0, 1) of shape `(n, 3)`. The first two columns
      choose the row and the column of the crop, out of 9 each; an image is
      flipped where the third is below 0.5.

  Returns:
    Images of the same shape.

  Reference: He et al., arXiv 1512.03385, section 4.2.
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
  """Draws the noise of a step.

  Args:
    batch_size: Examples in a step, over all replicas.
    noise: The seed of the data, and the number of the epoch's first step; int64
      of shape `(2,)`.
    step: The number of the step within the epoch.

  Returns:
    float32 in [0, 1) of shape `(batch_size, 3)`.
  """
  seed = noise + tf.stack([0, tf.cast(step, tf.int64)])
  # Floats are made of random bits here, and the generator is named: the floats
  # that TensorFlow draws by default differ under XLA and between devices.
  bits = tf.random.stateless_uniform(
    (batch_size, 3), seed, None, None, tf.uint32, alg="philox"
  )
  return tf.cast(bits // 2**8, tf.float32) / 2**24
