import numpy as np
import pytest

import tf_lottery
from tf_lottery.papers import networks

NAMES = ["lenet_300_100", "conv2", "conv4", "conv6", "resnet20", "vgg19"]


def prunable(model):
  return tf_lottery.bind(model).report.prunable


def size(model):
  return sum(weight.size for weight in prunable(model))


@pytest.mark.parametrize(
  ("name", "shape", "expected"),
  [
    ("lenet_300_100", (28, 28), 266_200),
    ("lenet_300_100", (8, 8), 50_200),
    ("conv2", (32, 32, 3), 4_300_992),
    ("conv2", (28, 28), 576 + 36_864 + 12_544 * 256 + 65_536 + 2560),
    ("conv4", (32, 32, 3), 2_425_024),
    ("conv6", (32, 32, 3), 2_261_184),
    ("resnet20", (32, 32, 3), 267_696 + 2560 + 640),
    ("vgg19", (32, 32, 3), 20_018_880 + 5120),
  ],
)
def test_the_networks_have_the_papers_sizes(keras, name, shape, expected):
  model = getattr(networks, name)(shape, keras=keras.__name__)
  assert size(model) == expected
  assert type(model).__module__.split(".")[0] == keras.__name__
  initial = tf_lottery.bind(model).read()
  assert all(not v.any() for k, v in initial.items() if k.endswith("bias"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28)])
def test_the_generations_agree_on_keys_and_shapes(name, shape):
  first, second = (
    tf_lottery.bind(getattr(networks, name)(shape, 7, keras=k, width=0.02))
    for k in ("keras", "tf_keras")
  )
  assert first.shapes == second.shapes
  assert first.report.prunable[-1].shape[-1] == 7


def test_the_parts_of_resnet20_can_be_named():
  model = networks.resnet20((32, 32, 3))
  weights = prunable(model)
  shortcuts = [w for w in weights if w.matches("shortcut_*")]
  assert [w.shape for w in shortcuts] == [(1, 1, 16, 32), (1, 1, 32, 64)]
  inner = [w for w in weights if w.shape[:2] == (3, 3)]
  assert sum(w.size for w in inner) == 267_696
  (output,) = (w for w in weights if w.matches("output"))
  assert output.shape == (64, 10)
  assert len(inner) + len(shortcuts) + 1 == len(weights)


@pytest.mark.parametrize("name", ["resnet20", "vgg19"])
def test_weight_decay_adds_its_share_of_each_kernel(keras, name):
  make = getattr(networks, name)
  plain, decayed = (
    make((28, 28), keras=keras.__name__, width=0.02, weight_decay=decay)
    for decay in (0.0, 0.5)
  )
  assert not plain.losses
  kernels = [w for w in decayed.trainable_weights if len(w.shape) > 1]
  assert len(decayed.losses) == len(kernels)
  # Its gradient is 0.5 w.
  expected = 0.25 * sum(np.sum(np.square(w)) for w in kernels)
  assert float(sum(decayed.losses)) == pytest.approx(expected, rel=1e-5)
