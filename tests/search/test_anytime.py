"""Searches within a budget, on a problem of which the answer is known."""

import json

import pytest

import tf_lottery
from tests.search import rigged
from tf_lottery.experiments import controls
from tf_lottery.report import records
from tf_lottery.search import prices
from tf_lottery.search.methods import gradual

# With the smallest, a larger ticket matches, then the right one. The largest
# tries to get below it.
BUDGETS = (2.5, 4, 6, 8)


@pytest.fixture(scope="module")
def trainer():
  return tf_lottery.Trainer(rigged.make_model)


@pytest.fixture(scope="module")
def growing(trainer, tmp_path_factory):
  """One search whose budget grows: budget -> what was found then."""
  path = tmp_path_factory.mktemp("growing")
  found = {}
  for budget in BUDGETS:
    search = rigged.search(path, trainer, budget=budget)
    found[budget] = search, search.price()
  return found


@pytest.fixture(scope="module")
def fresh(trainer, tmp_path_factory):
  """A search with the largest budget at once."""
  path = tmp_path_factory.mktemp("fresh")
  return rigged.search(path, trainer, budget=BUDGETS[-1])


def trainings(price):
  return prices.total(price).trainings(price["dense"])


def test_no_search_costs_more_than_its_budget(growing, fresh):
  for budget, (_, price) in growing.items():
    assert trainings(price) <= budget
  assert trainings(fresh.price()) <= BUDGETS[-1]


def test_the_answer_matches_at_its_end(growing, fresh):
  found = [search for search, _ in growing.values()]
  for search in (*found, fresh):
    round_ = search.round(search.smallest_matching_level())
    assert not round_.stopped
    assert round_.steps == rigged.STEPS
    allowed = 1.05 * search.round(0).metrics["val_loss"]
    assert round_.metrics["val_loss"] <= allowed
  assert fresh.smallest_matching_level() == rigged.SMALLEST


def test_a_larger_budget_finds_no_larger_ticket(growing):
  levels = [s.smallest_matching_level() for s, _ in growing.values()]
  assert levels == sorted(levels)
  assert 0 < levels[0] < rigged.SMALLEST
  assert levels[-1] == rigged.SMALLEST


def test_superseded_trainings_are_kept_and_paid(growing):
  search, price = growing[BUDGETS[-1]]
  path = search.directory.path
  superseded = list(path.glob("level_*-superseded-*/round.json"))
  assert superseded
  for record in superseded:
    assert json.loads(record.read_text())["cost"]["steps"]
    assert list((path / "tensorboard" / record.parent.name).iterdir())
  spent = sum(
    json.loads(record.read_text())["cost"]["steps"]
    for record in path.rglob("round.json")
  )
  assert sum(part.steps for part in price.values()) == spent


def test_masks_that_are_drawn_again_lie_within_the_one_that_matched(growing):
  search, _ = growing[BUDGETS[-1]]
  first = tf_lottery.Ticket.load(
    search.directory.control(5, "superseded", 2).ticket
  )
  again = tf_lottery.Ticket.load(search.directory.level(5).ticket)
  assert again.provenance["search"] > first.provenance["search"]
  assert again.mask.kept == first.mask.kept == 6
  matched = search.smallest_matching()
  assert again.mask.issubset(matched.mask)
  spent = [t.provenance["search_cost"]["steps"] for t in (first, again)]
  assert spent == sorted(spent)


def test_going_on_trains_nothing_twice(trainer, growing, monkeypatch):
  search, price = growing[BUDGETS[-1]]
  monkeypatch.setattr(trainer, "train", None)
  again = rigged.search(search.directory.path, trainer, budget=BUDGETS[-1])
  assert again.price() == price
  assert str(again) == str(search)


def test_a_budget_that_grows_draws_what_it_would_have_at_once(growing, fresh):
  search, _ = growing[BUDGETS[-1]]
  assert search.smallest_matching().equals(fresh.smallest_matching())
  both = zip(
    search.directory.searches(), fresh.directory.searches(), strict=False
  )
  for one, other in both:
    assert tf_lottery.Ticket.load(one.ticket).equals(
      tf_lottery.Ticket.load(other.ticket)
    )


def test_the_outcome_tells_the_budget(growing):
  search, _ = growing[BUDGETS[-1]]
  outcome = search.directory.read_outcome()
  assert outcome["choose"] == "budget"
  assert outcome["budget"] == BUDGETS[-1]
  assert outcome["level"] == rigged.SMALLEST


def test_a_small_schedule_ends_before_its_budget(trainer):
  search = rigged.search(None, trainer, budget=20, schedule=(0.75, 0.5))
  assert search.smallest_matching_level() == 2
  assert trainings(search.price()) < 4.2


def test_nothing_matches(trainer):
  search = rigged.search(None, trainer, budget=4, schedule=(0.375, 0.25))
  assert search.smallest_matching_level() == 0
  assert "No ticket matches" in str(search)
  assert trainings(search.price()) <= 4


def test_two_of_four_within_a_budget(trainer):
  search = rigged.search(
    None, trainer, budget=5, pattern="2_of_4", schedule=(0.5, 0.25)
  )
  assert len(search.rounds) > 1
  assert trainings(search.price()) <= 5


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"budget": 2}, "budget must be a number of at least 2.5 .* got 2"),
    ({"budget": float("nan")}, "at least 2.5 .* got nan"),
    ({"budget": float("inf")}, "budget must be a number .* got inf"),
    ({"budget": 3, "method": "gradual"}, "leave them out, or the budget"),
    ({"budget": 3, "choose": "bisect"}, "choose='bisect' and budget=3"),
    (
      {"budget": 3, "rewind": "finetune"},
      "A search with a budget draws masks without .* rewind must restore",
    ),
  ],
)
def test_what_a_budget_does_not_go_with_is_refused(
  arguments, message, trainer, tmp_path
):
  with pytest.raises(ValueError, match=message):
    rigged.search(tmp_path, trainer, **arguments)
  assert not list(tmp_path.iterdir())


def test_a_budget_in_the_directory_of_a_method_is_refused(trainer, tmp_path):
  short = {"steps": 4, "schedule": (0.5,)}
  rigged.search(tmp_path, trainer, method=gradual(0.5), **short)
  with pytest.raises(
    ValueError,
    match=r"method: it was gradual\(0.5\), now a search with a budget",
  ):
    rigged.search(tmp_path, trainer, budget=3, **short)


def test_a_budget_on_a_grid_only_decides_when_to_end(trainer, tmp_path):
  for budget in (2.6, 5.1, 6.4, 8):
    grown = rigged.search(tmp_path, trainer, budget=budget)
    fresh = rigged.search(None, trainer, budget=budget)
    assert trainings(grown.price()) <= budget
    assert trainings(fresh.price()) <= budget
    assert grown.smallest_matching().equals(fresh.smallest_matching())
    # What the smaller budgets' answers cost may leave less for draws.
    searches = grown.directory.searches()
    assert len(searches) <= len(fresh.directory.searches())
    for one in searches:
      other = fresh.directory.round(one.path.name)
      assert tf_lottery.Ticket.load(one.ticket).equals(
        tf_lottery.Ticket.load(other.ticket)
      )


def test_what_others_trained_is_set_aside_with_its_controls(trainer, tmp_path):
  """Its ticket is drawn again by a larger budget."""
  search = rigged.search(tmp_path, trainer, budget=2.5)
  assert search.smallest_matching_level() < rigged.SMALLEST
  search.train_level(5)
  controls.random_reinit(search, 5)
  before, spent = search.ticket(5), search.price()
  search = rigged.search(tmp_path, trainer, budget=8)
  assert search.smallest_matching_level() == rigged.SMALLEST
  again = search.ticket(5)
  assert again.provenance["search"] > before.provenance["search"]
  assert search.find_control(5, "random_reinit", 0) is None
  assert search.price()["controls"] == spent["controls"]
  assert not [r for r in records.read_rounds(tmp_path) if "_" in r.method]
  # Its answer was found without it.
  fresh = rigged.search(None, trainer, budget=8)
  assert search.smallest_matching().equals(fresh.smallest_matching())
  assert list(tmp_path.glob("level_05-superseded*random_reinit*/round.json"))


def test_the_ticket_of_a_level_that_is_trained_is_not_replaced(
  trainer, tmp_path
):
  search = rigged.search(tmp_path, trainer, budget=4)
  level = search.smallest_matching_level()
  other = tf_lottery.Mask.ones(search.ticket(level).mask.shapes)
  with pytest.raises(RuntimeError, match="holds the training of another tick"):
    search.keep(level, other, search.spent_on(level), 1)


def test_a_smaller_budget_afterwards_tells_what_the_larger_one_found(
  trainer, growing, monkeypatch
):
  larger, price = growing[BUDGETS[-1]]
  monkeypatch.setattr(trainer, "train", None)
  smaller = rigged.search(larger.directory.path, trainer, budget=BUDGETS[1])
  assert smaller.smallest_matching_level() == rigged.SMALLEST
  assert [r.level for r in smaller.rounds] == [r.level for r in larger.rounds]
  assert smaller.price() == price
  assert "A larger budget, of 8 trainings, was spent here" in str(smaller)
  assert smaller.directory.read_outcome()["budget"] == BUDGETS[-1]


def test_a_search_tells_why_it_ended(trainer, fresh):
  assert "left of the budget of 8 trainings does not pay for" in str(fresh)
  short = rigged.search(None, trainer, budget=20, schedule=(0.75, 0.5))
  assert "Level 2 is the last of the schedule: a longer" in str(short)


def test_a_ticket_that_falls_behind_is_given_up(growing):
  """Its training ends before it could have matched, and never goes on."""
  small, _ = growing[BUDGETS[1]]
  given_up = [
    record.parent
    for record in small.directory.path.glob("level_*/round.json")
    if json.loads(record.read_text())["level"] > rigged.SMALLEST
  ]
  assert given_up
  for path in given_up:
    record = json.loads((path / "round.json").read_text())
    assert record["stopped"]
    assert record["steps"] < rigged.STEPS


def test_a_search_about_which_nothing_is_said_costs_four_trainings(
  trainer, tmp_path
):
  def search(**arguments):
    x, y = rigged.examples(128, 0)
    return tf_lottery.find_ticket(
      trainer, (x, y), validation_data=(x, y), steps=8, **arguments
    )

  said = search(budget=4)
  assert search().smallest_matching().equals(said.smallest_matching())
  assert search().price() == said.price()
  one = search(schedule=(0.5,))
  assert [r.level for r in one.rounds] == [0, 1]
  assert one.method == tf_lottery.iterative()
  tuned = search(schedule=(0.5, 0.25), rewind="finetune")
  assert [r.level for r in tuned.rounds] == [0, 1, 2]
  # A run of the former default goes on if it is said.
  search(method="iterative", run_dir=tmp_path, schedule=(0.5, 0.25))
  with pytest.raises(ValueError, match='Give method="iterative" to go on'):
    search(run_dir=tmp_path, schedule=(0.5, 0.25))
