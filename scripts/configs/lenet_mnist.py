"""The LeNet protocol of the paper on MNIST.

    python scripts/find_ticket.py --config=scripts/configs/lenet_mnist.py

Everything else is as in `lenet_fashion_mnist.py`.
"""

import ml_collections

from scripts.configs import lenet_fashion_mnist


def get_config(size: str = "full") -> ml_collections.ConfigDict:
  """The full protocol, or `:smoke`."""
  config = lenet_fashion_mnist.get_config(size)
  config.data = "mnist"
  config.run_dir = config.run_dir.replace("fashion_mnist", "mnist")
  return config
