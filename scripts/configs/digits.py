"""A ticket in half a minute: LeNet-300-100 on scikit-learn's 8x8 digits.

    python scripts/find_ticket.py --config=scripts/configs/digits.py

No paper's figure: 1,200 real images that need no download, and the protocol
of Frankle and Carbin (arXiv 1803.03635), shortened. The search costs at most
four trainings of the dense network. `digits.py:iterative` trains all of 15
Levels, as the paper does.
"""

from scripts import configs

SEARCHES = {
  "budget": dict(levels=20, budget=4.0),
  "iterative": dict(levels=15),
}


def get_config(search: str = "budget") -> configs.Config:
  """800 steps a training, by one of `SEARCHES`."""
  fields = dict(
    configs.choose(SEARCHES, search),
    data="digits",
    steps=800,
    evaluate_every="1ep",
    controls=("random_reinit", "shuffled_mask"),
  )
  return configs.paper_config_of(fields, "runs/digits")
