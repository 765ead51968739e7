"""Conv-2 of the paper on Fashion-MNIST, at a size for two CPU cores.

    python scripts/run_sweep.py --config=scripts/configs/conv2_fashion_mnist.py

The network and its rates are those of Frankle and Carbin (arXiv 1803.03635,
section 3), the images smaller and grey, and the training much shorter: 100 of
20,000 iterations, 5 Levels, 2 replicates.
"""

from scripts import configs


def get_config() -> configs.Config:
  """100 iterations, 5 Levels, 2 replicates."""
  fields = dict(
    data="fashion_mnist",
    recipe="conv2",
    steps=100,
    evaluate_every="100it",
    levels=5,
    controls=("random_reinit",),
    replicates=2,
  )
  return configs.paper_config_of(fields, "runs/conv2_fashion_mnist")
