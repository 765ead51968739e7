"""Controls whose masks come from a search on damaged training data."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest

import tf_lottery
from tests import small
from tests.experiments import mine
from tf_lottery.experiments import controls
from tf_lottery.experiments.controls import damaged_data
from tf_lottery.report import evidence
from tf_lottery.search import prices

LEVEL = 2
# What differs in the other search, besides what is evaluated.
DIFFERS = {
  "shuffled_labels": {"train_data"},
  "half_data": {"train_data"},
  "other_order": {"seed"},
}


@pytest.fixture(scope="module")
def trainer():
  """It learns so fast that what it learns from shows in the masks."""
  return tf_lottery.Trainer(
    lambda: small.make_model(keras, learning_rate=0.1), seed=3
  )


@pytest.fixture(scope="module")
def search(trainer, tmp_path_factory):
  """Three Levels, rewound to three quarters of an epoch: step 6."""
  return small.search(
    tmp_path_factory.mktemp("damaged"), trainer=trainer, rewind="0.75ep"
  )


def other_search(search, name):
  return search.directory.search_on(name)


def done(directory):
  return [
    round_.path.name for *_, round_ in directory.rounds() if round_.is_done
  ]


@pytest.mark.parametrize("name", damaged_data.NAMES)
def test_the_mask_is_another_and_trains_as_the_ticket(search, name):
  ticket = search.ticket(LEVEL)
  round_ = controls.BY_NAME[name](search, LEVEL, 0)
  changed = round_.ticket
  assert changed.mask != ticket.mask
  assert changed.mask.kept == ticket.mask.kept
  own = search.round(LEVEL)
  assert (round_.start, round_.steps) == (own.start, own.steps) == (6, 14)
  dense = search.dense_start()
  for key, value in changed.start.items():
    kept = changed.mask.get(key, np.True_)
    assert np.array_equal(value, np.where(kept, dense[key], 0))


@pytest.mark.parametrize("name", damaged_data.NAMES)
def test_one_thing_differs_in_the_other_search(search, name):
  controls.BY_NAME[name](search, LEVEL, 0)
  good = search.directory.read_declaration()
  other = other_search(search, name).read_declaration()
  assert good.keys() == other.keys()
  differs = {field for field in good if good[field] != other[field]}
  assert differs - {"evaluate_every", "test_data"} == DIFFERS[name]
  first = other_search(search, name).level(1).read_record()
  assert (first["start"], first["steps"]) == (6, 14)


def test_the_three_masks_differ(search):
  masks = [
    controls.BY_NAME[name](search, LEVEL, 0).ticket.mask
    for name in damaged_data.NAMES
  ]
  assert masks[0] != masks[1] != masks[2] != masks[0]


def test_levels_share_a_search_that_trains_no_more_than_it_needs(
  trainer, tmp_path
):
  search = small.search(tmp_path, trainer=trainer)
  controls.shuffled_labels(search, 2)
  other = other_search(search, "shuffled_labels")
  assert done(other) == ["level_00", "level_01"]
  level = other.level(1)
  ended = level.ended
  controls.shuffled_labels(search, 1)
  controls.shuffled_labels(search, 3)
  assert done(other) == ["level_00", "level_01", "level_02"]
  assert level.ended == ended
  masks = [search.find_control(n, "shuffled_labels", 0) for n in (1, 2, 3)]
  for larger, smaller in itertools.pairwise(masks):
    assert smaller.ticket.mask.issubset(larger.ticket.mask)


def test_each_draw_has_its_own_damage(trainer, tmp_path):
  search = small.search(tmp_path, trainer=trainer, levels=1)
  first, second = (controls.half_data(search, 1, draw) for draw in (0, 1))
  assert first.ticket.mask != second.ticket.mask


def test_a_killed_search_goes_on(trainer, tmp_path):
  search = small.search(tmp_path, trainer=trainer, levels=2)
  before = controls.shuffled_labels(search, 2)
  other = other_search(search, "shuffled_labels")
  (other.level(1).path / "round.json").unlink()
  (other.level(2).ticket).unlink()
  before.directory.ticket.rename(tmp_path / "kept")
  (before.directory.path / "round.json").unlink()
  again = controls.shuffled_labels(search, 2)
  kept = tf_lottery.Ticket.load(tmp_path / "kept")
  assert again.ticket.equals(kept)


@pytest.mark.parametrize(
  ("method", "rewind", "levels", "searches"),
  [
    ("gradual(0.5)", "init", [], 1),
    ("gradual(0.5)", "6it", ["level_00"], 1),
    ("iterative(0.5)", "init", [], 2),
    ("at_init('snip')", "init", [], 1),
  ],
)
def test_other_methods_draw_by_their_own_trainings(
  trainer, tmp_path, method, rewind, levels, searches
):
  search = small.search(
    tmp_path, trainer=trainer, levels=2, method=method, rewind=rewind
  )
  round_ = controls.shuffled_labels(search, 2)
  assert round_.ticket.mask != search.ticket(2).mask
  other = other_search(search, "shuffled_labels")
  assert done(other) == levels
  assert len(other.searches()) == searches


class ByLevels:
  """A user's own method, which needs the Levels before."""

  def check(self, search):
    pass

  def draw(self, search, level):
    before = search.mask(level - 1)
    mask = search.prune(
      search.trained(level - 1), before, search.schedule[level - 1]
    )
    search.keep(level, mask, search.round(level - 1).cost, level)


def test_a_method_of_the_users_own(trainer, tmp_path):
  search = small.search(tmp_path, trainer=trainer, levels=2, method=ByLevels())
  round_ = controls.other_order(search, 2)
  assert round_.ticket.mask.kept == search.ticket(2).mask.kept
  assert done(other_search(search, "other_order")) == ["level_00", "level_01"]


def test_its_cost_is_that_of_controls(trainer, tmp_path):
  search = small.search(tmp_path, trainer=trainer, levels=2)
  before = search.price()
  controls.half_data(search, 2)
  after = search.price()
  # Levels 0 and 1 of the other search, and the control.
  assert after["controls"].steps == 20 + 20 + 20
  assert prices.total(after) == prices.total(before)


def test_a_report_takes_it_for_no_run_of_its_own(trainer, tmp_path):
  search = small.search(tmp_path, trainer=trainer, levels=2)
  controls.half_data(search, 2)
  (found,) = evidence.gather([tmp_path])
  assert len(found.runs) == 1
  assert [r.level for r in found.rounds if r.method == "half_data"] == [2]
  assert sum(r.cost.steps for r in found.trainings) == 20 * (3 + 1 + 2)
  assert not found.damage


def test_a_name_for_a_training_must_not_look_like_it(search):
  with pytest.raises(ValueError, match=r"must not look like .* search_on-NAME"):
    search.train(search.ticket(1), "search_on-half_data-0")


@pytest.mark.parametrize("name", damaged_data.NAMES)
def test_streams_are_refused_before_anything_is_trained(tmp_path, name):
  experiment = tf_lottery.Experiment(
    make_model=mine.make_model,
    load_data=mine.load_pipelines,
    steps=4,
    schedule=[0.5],
    controls=[name],
  )
  with pytest.raises(ValueError, match=f"{name} needs training data as arrays"):
    tf_lottery.experiments.run(experiment, 0, tmp_path)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", damaged_data.NAMES)
def test_a_budget_is_refused(name):
  with pytest.raises(ValueError, match=f"{name} repeats .* Give a method"):
    tf_lottery.Experiment(
      make_model=mine.make_model,
      load_data=mine.load_data,
      steps=4,
      budget=4,
      controls=[name],
    )


def test_a_budget_is_refused_without_an_experiment_too(trainer, tmp_path):
  search = small.search(
    tmp_path, trainer=trainer, levels=2, budget=4, method=None
  )
  level = search.rounds[-1].level
  with pytest.raises(ValueError, match=r"half_data repeats .* Give a method"):
    controls.half_data(search, level)


def test_a_search_that_diverges_says_what_to_do(trainer, tmp_path):
  search = small.search(tmp_path, trainer=trainer, levels=1)
  # The labels of one class make the loss infinite where they are weighted so.
  train = search.protocol.train.with_class_weight({1: np.inf})
  broken = dataclasses.replace(
    search, protocol=dataclasses.replace(search.protocol, train=train)
  )
  with pytest.raises(
    tf_lottery.DivergedError,
    match=r"search of the control half_data diverged.* Leave the control out",
  ):
    controls.half_data(broken, 1)


@pytest.mark.slow
def test_a_proof_shows_them_all(tmp_path):
  names = (
    *("signs", "magnitudes", "permuted", "supermask", "weight_average"),
    *damaged_data.NAMES,
  )
  experiment = tf_lottery.Experiment(
    make_model=mine.make_model,
    load_data=mine.load_data,
    steps=16,
    batch_size=24,
    schedule=tf_lottery.geometric(3, 0.5),
    controls=("random_reinit", *names),
    control_levels=(2, 3),
    replicates=2,
  )
  proof = tf_lottery.prove(experiment, tmp_path / "runs", progress=False)
  proof.report(tmp_path / "report")
  page = (tmp_path / "report" / "report.html").read_text("utf-8")
  for label in ("signs", "supermask", "average", "shuffled labels"):
    assert label in page
  (found,) = evidence.gather([tmp_path / "runs"])
  assert found.unfinished == 0
  methods = {row.method for row in found.summary(found.fields["end"])}
  assert methods >= set(names)
  assert json.loads((proof.directory / "experiment.json").read_text())
