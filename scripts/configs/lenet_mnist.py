"""The LeNet protocol of the paper on MNIST.

    python scripts/find_ticket.py --config=scripts/configs/lenet_mnist.py

Everything else is as in `lenet_fashion_mnist.py`.
"""

import dataclasses

import ml_collections

from scripts import configs
from scripts.configs import lenet_fashion_mnist


def get_config(size: str = "full") -> ml_collections.ConfigDict:
  """One of the sizes of `lenet_fashion_mnist.py`."""
  experiment = dataclasses.replace(
    lenet_fashion_mnist.SIZES[size], data="mnist"
  )
  return configs.config_of(
    experiment, f"runs/lenet_mnist_{size}", tolerance=0.002
  )
