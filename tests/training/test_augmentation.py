import numpy as np
import pytest
import tensorflow as tf

from tf_lottery.training import augmentation

IMAGE = [[1, 2], [3, 4]]
STAY, KEEP, FLIP = 4.5 / 9, 0.5, 0.49


def augmented(image, *uniforms, jit=None):
  program = tf.function(augmentation.crop_and_flip, jit_compile=jit)
  return program(
    tf.constant([image], tf.float32), tf.constant([uniforms], tf.float32)
  )[0].numpy()


@pytest.mark.parametrize("jit", [None, True])
@pytest.mark.parametrize(
  ("uniforms", "expected"),
  [
    ((STAY, STAY, KEEP), [[1, 2], [3, 4]]),
    ((STAY, STAY, FLIP), [[2, 1], [4, 3]]),
    ((5.5 / 9, STAY, KEEP), [[3, 4], [0, 0]]),
    ((3.5 / 9, STAY, KEEP), [[0, 0], [1, 2]]),
    ((STAY, 5.5 / 9, KEEP), [[2, 0], [4, 0]]),
    ((STAY, 3.5 / 9, FLIP), [[1, 0], [3, 0]]),
    ((0, 0, 0), [[0, 0], [0, 0]]),
  ],
)
def test_shifts_and_flips(uniforms, expected, jit):
  np.testing.assert_array_equal(augmented(IMAGE, *uniforms, jit=jit), expected)


def test_shifts_reach_4_pixels_and_no_further():
  image = np.arange(1, 31).reshape(5, 6)
  below_one = np.nextafter(np.float32(1), np.float32(0))
  last = augmented(image, below_one, below_one, KEEP)
  assert last[0, :2].tolist() == [29, 30]
  assert np.count_nonzero(last) == 2
  first = augmented(image, 0, 0, KEEP)
  assert first[4, 4:].tolist() == [1, 2]
  assert np.count_nonzero(first) == 2


def test_each_image_of_a_batch_moves_by_itself_and_channels_together():
  rng = np.random.default_rng(0)
  images = rng.random((16, 7, 5, 3), np.float32)
  uniforms = rng.random((16, 3), np.float32)
  moved = augmentation.crop_and_flip(images, uniforms)
  assert moved.shape == images.shape
  for image, noise, result in zip(images, uniforms, moved, strict=True):
    for channel in range(3):
      alone = augmentation.crop_and_flip(image[None, ..., channel], noise[None])
      np.testing.assert_array_equal(alone[0], result[..., channel])
