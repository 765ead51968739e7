import pytest

from tests import runs
from tf_lottery import masks
from tf_lottery.cost import Cost
from tf_lottery.report import chosen
from tf_lottery.report import costs
from tf_lottery.report import evidence
from tf_lottery.report import headlines
from tf_lottery.report import summaries
from tf_lottery.report import tables
from tf_lottery.storage import files
from tf_lottery.storage import run_directory

SCHEDULE = (0.5, 0.2, 0.1, 0.05)


def spent(trainings, density=1.0):
  """The cost of a part of a dense training of 30 steps."""
  flops = 3e6 * trainings
  return Cost(round(30 * trainings), 0, flops, density * flops)


def finish(round_, level, value, *, search=None, part=1.0, **fields):
  """Writes the Round of a Level, with its cost and its search's."""
  density = (1.0, *SCHEDULE)[level]
  runs.write_round(round_, value, density, done=False)
  more = {"cost": spent(part, density).to_json(), **fields}
  if search is not None:
    more["search_cost"] = spent(search, density).to_json()
  round_.finish(
    runs.record(level=level, density=density, steps=round(30 * part), **more)
  )


def write_chosen(home, number, *, stops):
  """A replicate of a search that bisects: Levels 2 and 3, and maybe 1."""
  directory = runs.write_run(
    home / f"replicate_{number:02d}", {}, seed=number, schedule=SCHEDULE
  )
  noise = 0.001 * number
  finish(directory.level(0), 0, 0.9 + noise)
  finish(directory.search(1), 0, 0.5, part=0.1)
  if stops:
    finish(directory.level(1), 1, 0.95, search=0.03, part=0.5, stopped=True)
  finish(directory.level(2), 2, 0.9 - noise, search=0.06)
  finish(directory.level(3), 3, 0.7 + noise, search=0.1)
  finish(directory.control(3, "superseded", 1), 3, 0.99)
  # Drawn, and not trained.
  runs.write_ticket(
    directory.level(4), masks.Mask.random(runs.SHAPES, 0.05, seed=0)
  )
  finish(directory.control(2, "random_reinit"), 2, 0.8 + noise)
  parts = {
    "dense": spent(1),
    "search": spent(0.1),
    "choosing": spent(2.5 if stops else 2),
    "final": spent(1, 0.2),
    "controls": Cost(),
  }
  directory.write_outcome(
    {
      "choose": "bisect",
      "budget": None,
      "level": 2,
      "trained": [0, 1, 2, 3],
      "price": {name: cost.to_json() for name, cost in parts.items()},
    }
  )
  return directory


@pytest.fixture
def bisected(tmp_path):
  """Three replicates, one of which stopped Level 1."""
  levels = [(0, "", 0), (2, "", 0), (3, "", 0), (2, "random_reinit", 0)]
  declared = {"id": "mine", "choose": "bisect", "budget": None}
  declared |= {"replicates": 3, "rounds": levels}
  files.write_json(tmp_path / run_directory.EXPERIMENT, declared)
  for number in range(3):
    write_chosen(tmp_path, number, stops=number == 1)
  (found,) = evidence.gather([tmp_path], 0.02)
  return found


def test_only_levels_and_controls_are_rounds(bisected):
  found = {(r.method, r.level) for r in bisected.rounds}
  assert found == {
    ("dense", 0),
    *(("ticket", level) for level in (1, 2, 3)),
    ("random_reinit", 2),
  }
  assert {r.method for r in bisected.beside} == {"search", "superseded"}
  assert bisected.unfinished == 0
  assert len(bisected.trainings) == 3 * 6 + 1


def test_a_stopped_round_is_in_no_mean_and_is_no_training_that_goes_on(
  bisected,
):
  (stopped,) = [r for r in bisected.rounds if r.stopped]
  assert (stopped.level, stopped.done, stopped.cost.steps) == (1, False, 15)
  rows = bisected.summary("test_end")
  assert {row.level for row in rows} == {0, 2, 3}
  assert 4 in bisected.masks  # drawn


def test_levels_that_only_some_replicates_trained_are_not_tested(tmp_path):
  declared = {"id": "mine", "choose": "bisect", "budget": None}
  files.write_json(tmp_path / run_directory.EXPERIMENT, declared)
  for number in range(3):
    directory = write_chosen(tmp_path, number, stops=False)
    if number:
      finish(directory.level(1), 1, 0.9, search=0.03)
  (found,) = evidence.gather([tmp_path], 0.02)
  verdicts = {v.level: v for v in found.verdicts()}
  assert not verdicts[1].to_test
  assert (
    verdicts[1].reason == "not tested: trained to its end in 2 of 3 replicates"
  )
  assert (verdicts[2].word, verdicts[3].word) == ("winning", "below")
  headline = headlines.headline(found)
  assert headline.startswith("The ticket with 20.0 % of the weights matches")
  assert "2 of 3" in tables.summary(found, summaries.HEADLINE).rows[1]
  text = chosen.sentences(found)
  assert "Some of the 3 replicates trained Level 1 (2);" in text


def test_which_levels_were_trained_is_said(bisected):
  assert chosen.sentences(bisected) == (
    "Each replicate trained the Levels that its search chose, of 4. Levels 2"
    " and 3 were trained to the end in all 3 replicates. Level 1 was stopped"
    " early in some replicates: the values at the stop are in no mean, and the"
    " cost is counted. Level 4 was not trained. How tickets do at the densities"
    " between those that were tested is unknown."
  )


def test_costs_are_in_dense_trainings_and_sparse_beside_them(bisected):
  training, search = costs.training(bisected, 2), costs.search(bisected, 2)
  assert (training.trainings, training.sparse) == pytest.approx((1, 0.2))
  assert (search.trainings, search.sparse) == pytest.approx((0.06, 0.012))
  assert str(search) == "0.06 (0.012)"
  assert costs.search(bisected, 0) is None
  columns = tables.summary(bisected, summaries.HEADLINE)
  row = dict(zip(columns.columns, columns.rows[1], strict=True))
  assert row["cost until drawn"] == "0.06 (0.012)"
  assert row["cost of training"] == "1.00 (0.20)"
  printed = tables.verdicts_as_text(bisected)
  assert "0.06      1.00" in printed


def test_the_price_is_that_of_the_answer_and_the_rest_is_told_apart(bisected):
  price = costs.Price.of(bisected)
  assert price.total.trainings == pytest.approx(4.1 + 0.5 / 3)
  assert price.parts["choosing"].trainings == pytest.approx(2 + 0.5 / 3)
  assert price.matched == 3
  # Everything is 5.1, or 5.6 where a Round was stopped.
  assert price.besides.trainings == pytest.approx(1.0)
  assert str(price).startswith(
    "The answer, which ticket is the smallest that matches on validation data,"
    " cost 4.27 trainings of the dense network (mean over 3 replicates, 4.10 to"
    " 4.60): 1.00 for the dense network, 0.10 for drawing masks, 2.17 for"
    " choosing the Level, 1.00 for the ticket."
  )
  assert "took 1.00 more in each replicate, on average." in str(price)


def test_runs_of_earlier_versions_have_steps_alone(tmp_path):
  methods = {"dense": [0.9], "ticket": [0.91, 0.5], "random_reinit": [0.8]}
  for seed in range(2):
    runs.write_run(tmp_path / f"run-{seed}", methods, seed=seed)
  (found,) = evidence.gather([tmp_path])
  search = costs.search(found, 2)
  assert (search.trainings, search.sparse, search.n) == (2, None, 2)
  price = costs.Price.of(found)
  assert price.total.trainings == 3
  parts = {name: part.trainings for name, part in price.parts.items()}
  assert parts == {"dense": 1, "choosing": 1, "final": 1}
  assert price.besides.trainings == 1
  assert "Hardware" not in str(price)


def test_there_is_no_price_before_the_answer(tmp_path):
  runs.write_run(tmp_path, {"dense": [0.9], "ticket": [0.9]})
  (found,) = evidence.gather([tmp_path])
  assert costs.Price.of(found) is None
  assert chosen.sentences(found) == ""
