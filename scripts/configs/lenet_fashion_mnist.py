"""The LeNet protocol of the paper on Fashion-MNIST.

    python scripts/find_ticket.py \
        --config=scripts/configs/lenet_fashion_mnist.py

LeNet-300-100 as in Frankle and Carbin (arXiv 1803.03635, section 2 and figure
2): Glorot normal, Adam 1.2e-3, batches of 60, 55,000 training and 5,000
validation images, 50,000 iterations a Level, 20 % pruned at each Level and 10 %
in the output layer, layerwise, rewound to initialisation. `:smoke` after the
file's name runs 300 iterations and two Levels.
"""

import ml_collections

from scripts.configs import digits


def get_config(size: str = "full") -> ml_collections.ConfigDict:
  """The full protocol, or a smoke test of it."""
  config = digits.get_config()
  config.data = "fashion_mnist"
  config.steps = 50_000
  config.evaluate_every = "100it"
  config.levels = 24
  config.tolerance = 0.002
  config.run_dir = "runs/lenet_fashion_mnist"
  if size == "smoke":
    config.steps = 300
    config.levels = 2
    config.run_dir = "runs/lenet_fashion_mnist_smoke"
  return config
