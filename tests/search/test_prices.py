"""The parts of a search's price. Each training of a Level takes 48 steps."""

import keras
import pytest

import tf_lottery
from tests import small
from tests.search import rigged
from tf_lottery.experiments import controls
from tf_lottery.search import prices
from tf_lottery.search.methods import at_init
from tf_lottery.search.methods import early_bird
from tf_lottery.search.methods import gradual
from tf_lottery.search.methods import iterative


@pytest.fixture(scope="module")
def trainer():
  return tf_lottery.Trainer(rigged.make_model)


@pytest.fixture(scope="module")
def small_trainer():
  return tf_lottery.Trainer(lambda: small.make_model(keras))


def steps_of(search):
  return {name: cost.steps for name, cost in search.price().items()}


SCHEDULE = (0.75, 0.5, 0.25)  # of these, Level 2 is the smallest that matches


@pytest.mark.parametrize(
  ("method", "search", "choosing"),
  [
    # The training of Level 1 draws the mask of Level 2.
    (iterative(), 48, 48),
    (iterative(12), 36, 96),
    (gradual(0.5), 24, 96),
  ],
)
def test_what_was_spent_on_which_part(method, search, choosing, trainer):
  found = rigged.search(None, trainer, method=method, schedule=SCHEDULE)
  assert found.smallest_matching_level() == 2
  assert steps_of(found) == {
    "dense": 48,
    "search": search,
    "choosing": choosing,
    "final": 48,
    "controls": 0,
  }
  whole = (48 + search + choosing + 48) / 48
  assert f"This cost {whole:.2f} trainings" in str(found)
  assert prices.total(found.price()).steps == 48 + search + choosing + 48


def test_controls_are_no_part_of_the_answer(trainer):
  found = rigged.search(None, trainer, method=gradual(0.5), schedule=SCHEDULE)
  before = prices.total(found.price())
  controls.random_reinit(found, 2)
  assert steps_of(found)["controls"] == 48
  assert prices.total(found.price()) == before


def test_nothing_matches_so_nothing_is_final(trainer):
  found = rigged.search(
    None, trainer, method=gradual(0.5), schedule=(0.25, 0.125)
  )
  assert steps_of(found)["final"] == 0
  assert steps_of(found)["choosing"] == 96
  assert "for the ticket" not in str(found)


def test_scores_cost_examples_and_no_steps(tmp_path):
  found = small.search(
    tmp_path,
    trainer=tf_lottery.Trainer(lambda: small.make_model(keras)),
    method=at_init("snip", 2),
    steps=8,
    levels=1,
  )
  searched = found.price()["search"]
  assert searched.steps == 0
  # Two rounds, each of the 8 batches of 12.
  assert searched.examples == 2 * 96
  dense = found.price()["dense"]
  assert dense.examples == 96
  # The second round scores a network that is pruned already.
  assert searched.sparse_flops < searched.dense_flops == 2 * dense.dense_flops
  assert searched.trainings(dense) == 2
  assert found.directory.read_outcome()["price"]["search"]["examples"] == 192


@pytest.mark.parametrize(
  ("method", "scores"),
  [
    (iterative(), 2),
    (iterative(8), 2),
    (early_bird(8), 3 + 2),  # three candidates, and two Levels
    (gradual(8), 8),  # as often as the density falls
  ],
  ids=["iterative", "short", "early-bird", "gradual"],
)
def test_scoring_by_data_is_part_of_the_price(method, scores, small_trainer):
  price = {}
  for criterion in ("magnitude", "taylor"):
    found = small.search(
      None,
      trainer=small_trainer,
      method=method,
      criterion=criterion,
      steps=8,
      levels=2,
    )
    price[criterion] = found.price()["search"]
    record = found.round(2).directory.read_record()
    price[criterion, 2] = tf_lottery.Cost.from_json(record["search_cost"])
  free, priced = price["magnitude"], price["taylor"]
  assert priced.steps == free.steps
  # Each score reads the 8 batches of 12.
  assert priced.examples - free.examples == scores * 96
  assert price["taylor", 2].examples == price["magnitude", 2].examples + (
    scores * 96
  )
  assert priced.dense_flops > free.dense_flops
