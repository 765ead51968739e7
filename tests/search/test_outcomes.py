"""The outcome that a search leaves in its run directory."""

from tests import small
from tf_lottery.search.methods import gradual
from tf_lottery.storage import run_directory


def test_the_price_is_that_of_the_first_time(tmp_path):
  """Levels that are trained later, to compare them, are no part of it."""
  how = {"method": gradual(0.5), "choose": "bisect", "levels": 4}
  result = small.search(tmp_path, **how)
  directory = run_directory.RunDirectory(tmp_path)
  outcome = directory.read_outcome()
  spent = sum(part["steps"] for part in outcome["price"].values())
  assert spent == 10 + sum(round_.steps for round_ in result.rounds)
  (left, *_) = {1, 2, 3, 4} - set(outcome["trained"])
  result.train_level(left)
  again = small.search(tmp_path, trainer=result.trainer, **how)
  assert directory.read_outcome() == outcome
  price = again.price()
  assert price["choosing"].steps == outcome["price"]["choosing"]["steps"] + 20
  # What finds something else is written.
  (tmp_path / "outcome.json").write_text("damaged")
  small.search(tmp_path, trainer=result.trainer, **how)
  assert directory.read_outcome()["trained"] == outcome["trained"]
