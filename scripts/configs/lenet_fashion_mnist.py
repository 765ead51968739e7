"""The LeNet protocol of the paper on Fashion-MNIST.

    python scripts/find_ticket.py \
        --config=scripts/configs/lenet_fashion_mnist.py
    python scripts/run_sweep.py \
        --config=scripts/configs/lenet_fashion_mnist.py:short

LeNet-300-100 as in Frankle and Carbin (arXiv 1803.03635, section 2 and figure
2): Glorot normal, Adam 1.2e-3, batches of 60, 55,000 training and 5,000
validation images, 50,000 iterations a Level, 20 % pruned at each Level and 10 %
in the output layer, layerwise, rewound to initialisation; 5 replicates, 3
reinitialisations each.

`:short` after the file's name is what `docs/results/` shows: 10,000
iterations, 20 Levels, 3 replicates, controls at five Levels. `:smoke` runs 300
iterations and two Levels.
"""

from scripts import configs

FULL = dict(
  data="fashion_mnist",
  recipe="lenet_300_100",
  levels=24,
  controls=(
    "random_reinit",
    "shuffled_mask",
    "one_shot",
    "gradual",
    "small_dense",
  ),
  reinits=3,
  replicates=5,
  tolerance=0.002,
)
SIZES = {
  "full": FULL,
  "short": dict(
    FULL,
    steps=10_000,
    levels=20,
    control_levels=(3, 7, 9, 15, 20),
    reinits=2,
    replicates=3,
  ),
  "smoke": dict(FULL, steps=300, levels=2, reinits=1, replicates=1),
}


def get_config(size: str = "full") -> configs.Config:
  """One of `SIZES`."""
  fields = configs.choose(SIZES, size)
  return configs.paper_config_of(fields, f"runs/lenet_fashion_mnist_{size}")
