"""A ticket in about a minute: LeNet-300-100 on scikit-learn's 8x8 digits.

    python scripts/find_ticket.py --config=scripts/configs/digits.py

No paper's figure: 1,200 real images that need no download, and the protocol
of Frankle and Carbin (arXiv 1803.03635), shortened.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The fields that every config has."""
  config = ml_collections.ConfigDict()
  config.data = "digits"
  config.data_dir = ml_collections.config_dict.placeholder(str)
  config.recipe = "lenet_300_100"
  config.keras = "keras"
  config.learning_rate = 1.2e-3
  config.batch_size = 60
  config.steps = 800
  config.search_steps = ml_collections.config_dict.placeholder(int)
  config.evaluate_every = "1ep"
  config.levels = 15
  config.rate = 0.2
  config.rewind_to = "0it"
  config.tolerance = 0.01
  # Trained on the chosen ticket, or on the tickets of all Levels.
  config.controls = ("random_reinit", "shuffled_mask")
  config.controls_on_all_levels = False
  config.strategy = "none"
  config.seed = 0
  config.run_dir = "runs/digits"
  return config
