"""The LeNet protocol of the paper on MNIST.

    python scripts/find_ticket.py --config=scripts/configs/lenet_mnist.py

Everything else is as in `lenet_fashion_mnist.py`.
"""

from scripts import configs
from scripts.configs import lenet_fashion_mnist


def get_config(size: str = "full") -> configs.Config:
  """One of the sizes of `lenet_fashion_mnist.py`."""
  fields = configs.choose(lenet_fashion_mnist.SIZES, size)
  return configs.paper_config_of(
    {**fields, "data": "mnist"}, f"runs/lenet_mnist_{size}"
  )
