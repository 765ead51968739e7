"""Conv-2 of the paper on Fashion-MNIST, at a size for two CPU cores.

    python scripts/run_sweep.py --config=scripts/configs/conv2_fashion_mnist.py

The network and its rates are those of Frankle and Carbin (arXiv 1803.03635,
section 3), the images smaller and grey, and the training much shorter: 100 of
20,000 iterations, 5 Levels, 2 replicates.
"""

import ml_collections

from scripts import configs
from tf_lottery import experiments


def get_config() -> ml_collections.ConfigDict:
  """100 iterations, 5 Levels, 2 replicates."""
  experiment = experiments.Experiment(
    data="fashion_mnist",
    recipe="conv2",
    steps=100,
    evaluate_every="100it",
    levels=5,
    controls=("random_reinit",),
    replicates=2,
  )
  return configs.config_of(experiment, "runs/conv2_fashion_mnist")
