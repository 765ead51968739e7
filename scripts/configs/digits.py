"""A ticket in about a minute: LeNet-300-100 on scikit-learn's 8x8 digits.

    python scripts/find_ticket.py --config=scripts/configs/digits.py

No paper's figure: 1,200 real images that need no download, and the protocol
of Frankle and Carbin (arXiv 1803.03635), shortened.
"""

from scripts import configs


def get_config() -> configs.Config:
  """800 steps a Level, 15 Levels."""
  fields = dict(
    data="digits",
    steps=800,
    evaluate_every="1ep",
    levels=15,
    controls=("random_reinit", "shuffled_mask"),
  )
  return configs.paper_config_of(fields, "runs/digits")
