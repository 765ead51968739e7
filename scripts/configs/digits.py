"""A ticket in about a minute: LeNet-300-100 on scikit-learn's 8x8 digits.

    python scripts/find_ticket.py --config=scripts/configs/digits.py

No paper's figure: 1,200 real images that need no download, and the protocol
of Frankle and Carbin (arXiv 1803.03635), shortened.
"""

import ml_collections

from scripts import configs
from tf_lottery import experiments


def get_config() -> ml_collections.ConfigDict:
  """800 steps a Level, 15 Levels."""
  experiment = experiments.Experiment(
    data="digits",
    steps=800,
    evaluate_every="1ep",
    levels=15,
    controls=("random_reinit", "shuffled_mask"),
  )
  return configs.config_of(experiment, "runs/digits", tolerance=0.01)
