"""Which Levels are trained. The problem is rigged: Level 4 is the smallest."""

import types

import filelock
import numpy as np
import pytest

import tf_lottery
from tests.search import rigged
from tf_lottery.search import choosing
from tf_lottery.search import rounds
from tf_lottery.search.methods import at_init
from tf_lottery.search.methods import cycles
from tf_lottery.search.methods import early_bird
from tf_lottery.search.methods import gradual
from tf_lottery.search.methods import iterative


@pytest.fixture(scope="module")
def trainer():
  return tf_lottery.Trainer(rigged.make_model)


@pytest.fixture(scope="module")
def everything(trainer, tmp_path_factory):
  """All Levels are trained."""
  path = tmp_path_factory.mktemp("all")
  return rigged.search(path, trainer, method=gradual(0.25))


@pytest.fixture(scope="module")
def bisected(trainer, tmp_path_factory):
  """Those that bisection needs."""
  path = tmp_path_factory.mktemp("bisect")
  return rigged.search(path, trainer, method=gradual(0.25), choose="bisect")


def check_same(one, other):
  """Two Rounds have the same mask, weights and last evaluation."""
  assert one.ticket.mask == other.ticket.mask
  assert one.metrics == other.metrics
  final, expected = one.final.weights, other.final.weights
  for key, value in expected.items():
    np.testing.assert_array_equal(final[key], value)


def test_bisection_finds_what_training_all_levels_finds(everything, bisected):
  assert everything.smallest_matching_level() == rigged.SMALLEST
  assert bisected.smallest_matching_level() == rigged.SMALLEST
  assert bisected.smallest_matching().equals(everything.smallest_matching())
  assert [round_.level for round_ in bisected.rounds] == [0, 3, 4, 5]


def test_the_chosen_level_is_trained_to_its_end(everything, bisected):
  chosen = bisected.round(rigged.SMALLEST)
  assert not chosen.stopped
  assert chosen.steps == rigged.STEPS
  check_same(chosen, everything.round(rigged.SMALLEST))
  assert bisected.price()["final"] == chosen.cost


def test_a_level_that_matched_for_good_was_stopped(everything, bisected):
  stopped = bisected.round(3)
  assert stopped.stopped
  assert stopped.steps < rigged.STEPS
  assert stopped.cost.steps == stopped.steps
  # Up to there it is the same training.
  rows = everything.round(3).history[: len(stopped.history)]
  assert [row["val_loss"] for row in stopped.history] == [
    row["val_loss"] for row in rows
  ]
  # A Level that does not match is trained to its end.
  assert not bisected.round(5).stopped


def test_it_is_cheaper(everything, bisected):
  def spent(search):
    return sum(cost.steps for cost in search.price().values())

  assert spent(bisected) < 0.6 * spent(everything)


def test_the_result_names_the_levels_that_are_not_trained(everything, bisected):
  text = str(bisected)
  assert "Levels 1 to 2, 6 are not trained" in text
  (marked,) = (line for line in text.splitlines() if "(stopped early)" in line)
  assert marked.split()[0] == "3"
  assert "not trained" not in str(everything)
  assert "stopped" not in str(everything)


def test_a_level_that_is_not_trained_has_no_round(bisected):
  with pytest.raises(
    ValueError, match="Levels 0, 3, 4, 5 are trained; got Level 2"
  ):
    bisected.round(2)
  with pytest.raises(ValueError, match="got Level 6"):
    bisected.model(6)


def test_a_model_of_the_chosen_level_is_built(bisected):
  model = bisected.model()
  x, y = rigged.examples(64, 1)
  loss = float(np.mean((model.predict(x, verbose=0) - y) ** 2))
  expected = bisected.round(rigged.SMALLEST).metrics["val_loss"]
  assert loss == pytest.approx(expected, rel=1e-4)
  assert tf_lottery.bind(model).mask.kept == 8


def test_the_outcome_is_on_disk(bisected):
  outcome = bisected.directory.read_outcome()
  assert outcome["choose"] == "bisect"
  assert outcome["level"] == rigged.SMALLEST
  assert outcome["trained"] == [0, 3, 4, 5]


def test_on_round_hears_of_each_training(trainer, tmp_path):
  heard = []
  rigged.search(
    tmp_path,
    trainer,
    method=early_bird(0.25),
    choose="bisect",
    on_round=lambda round_: heard.append((round_.level, round_.stopped)),
  )
  assert heard == [(0, False), (3, True), (5, False), (4, True), (4, False)]


def test_all_levels_are_trained_after_a_bisection(
  trainer, everything, tmp_path
):
  """It trains the Levels that were left out, and goes on with the stopped."""
  arguments = {"trainer": trainer, "method": gradual(0.25)}
  rigged.search(tmp_path, choose="bisect", **arguments)
  times = {
    level: (tmp_path / f"level_{level:02d}" / "round.json").stat().st_mtime_ns
    for level in (0, 4, 5)
  }
  search = rigged.search(tmp_path, choose="all", **arguments)
  for one, expected in zip(search.rounds, everything.rounds, strict=True):
    check_same(one, expected)
    assert not one.stopped
  assert search.price() == everything.price()
  for level, time in times.items():
    path = tmp_path / f"level_{level:02d}" / "round.json"
    assert path.stat().st_mtime_ns == time


def test_a_bisection_after_all_levels_trains_nothing(
  trainer, everything, monkeypatch
):
  monkeypatch.setattr(trainer, "train", None)
  path = everything.directory.path
  search = rigged.search(path, trainer, method=gradual(0.25), choose="bisect")
  assert search.smallest_matching_level() == rigged.SMALLEST
  assert not any(round_.stopped for round_ in search.rounds)
  rigged.search(path, trainer, method=gradual(0.25))


def test_the_same_bisection_trains_nothing(trainer, bisected, monkeypatch):
  monkeypatch.setattr(trainer, "train", None)
  again = rigged.search(
    bisected.directory.path, trainer, method=gradual(0.25), choose="bisect"
  )
  assert again.price() == bisected.price()
  assert str(again) == str(bisected)


def test_few_evaluations_stop_nothing(trainer):
  """The noise of a value is not known from two of them."""
  search = rigged.search(
    None,
    trainer,
    method=gradual(0.25),
    choose="bisect",
    evaluate_every=rigged.STEPS // 2,
  )
  assert search.smallest_matching_level() == rigged.SMALLEST
  assert not any(round_.stopped for round_ in search.rounds)


@pytest.mark.parametrize(
  ("schedule", "trained"),
  [((0.25,), [0, 1]), ((0.25, 0.125), [0, 1]), ((0.5,), [0, 1])],
)
def test_short_schedules(schedule, trained, trainer):
  search = rigged.search(
    None, trainer, method=gradual(0.25), choose="bisect", schedule=schedule
  )
  assert [round_.level for round_ in search.rounds] == trained
  assert search.smallest_matching_level() == (schedule == (0.5,))


@pytest.mark.slow
def test_a_long_schedule_takes_few_trainings(trainer):
  schedule = tf_lottery.linear(98, 0.02)
  search = rigged.search(
    None,
    trainer,
    method=gradual(),
    choose="bisect",
    schedule=schedule,
  )
  level = search.smallest_matching_level()
  assert search.round(level).ticket.mask.kept == 8
  assert len(search.rounds) <= 9


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      {"choose": "bisect"},
      r"method=iterative\(\), its default, .* Give iterative\(steps=...\)",
    ),
    (
      {"choose": "bisect", "method": "iterative"},
      r"method=iterative\(\), its default, draws",
    ),
    ({"choose": "some"}, "choose must be one of all, bisect, got 'some'"),
  ],
)
def test_choices_that_cannot_be_are_refused(
  arguments, message, trainer, tmp_path
):
  with pytest.raises(ValueError, match=message):
    rigged.search(tmp_path, trainer, **arguments)
  assert not list(tmp_path.iterdir())


def test_short_iterative_levels_are_bisected(trainer):
  search = rigged.search(None, trainer, method=iterative(0.25), choose="bisect")
  assert search.smallest_matching_level() == rigged.SMALLEST


@pytest.mark.parametrize("arguments", [{"choose": "bisect"}, {"budget": 6}])
def test_a_search_that_left_out_levels_is_shown(arguments, trainer):
  if "choose" in arguments:
    arguments["method"] = gradual(0.25)
  search = rigged.search(None, trainer, **arguments)
  level = search.smallest_matching_level()
  assert len(search.rounds) <= len(rigged.SCHEDULE)
  assert f"smallest matching Level {level} of density" in repr(search)


@pytest.mark.parametrize(
  "arguments",
  [
    {"method": gradual(0.25)},
    {"method": cycles(3, 0.25), "choose": "bisect"},
    {"method": at_init("snip", 2), "choose": "bisect"},
    {"budget": 8},
    {"rewind": "finetune", "schedule": (0.75, 0.5, 0.25)},
  ],
  ids=["gradual", "cycles", "at init", "budget", "finetuning"],
)
def test_a_worker_that_does_not_write_finds_the_same(
  arguments, trainer, tmp_path, monkeypatch
):
  """It does not wait for files of the chief either."""
  writing = rigged.search(None, trainer, **arguments)
  monkeypatch.setattr(
    "tf_lottery.search.arguments.is_chief", lambda strategy: False
  )
  silent = rigged.search(tmp_path / "run", trainer, **arguments)
  assert not (tmp_path / "run").exists()
  assert [(r.level, r.steps, r.metrics) for r in silent.rounds] == [
    (r.level, r.steps, r.metrics) for r in writing.rounds
  ]
  for round_ in silent.rounds:
    assert silent.mask(round_.level) == writing.mask(round_.level)


def test_a_level_that_is_trained_afterwards_locks_the_run(trainer, tmp_path):
  search = rigged.search(
    tmp_path, trainer, method=gradual(0.25), choose="bisect", steps=4
  )
  left = min({1, 2, 6} - {round_.level for round_ in search.rounds})
  with (
    filelock.FileLock(tmp_path / "lock"),
    pytest.raises(RuntimeError, match="Another process works in the run"),
  ):
    search.train_level(left)
  assert search.train_level(left).level == left


def round_of(level, *, stopped=False):
  return rounds.Round(level, 0.5, {}, 1.0, 10, None, stopped=stopped)


def test_one_level_that_is_not_trained():
  search = types.SimpleNamespace(rounds=[round_of(0), round_of(2)])
  search.schedule = (0.5, 0.25)
  assert choosing.untrained(search) == (
    "Level 1 is not trained: how it would do is unknown."
  )


@pytest.mark.parametrize(
  ("affordable", "answer", "trained"), [(0, 1, []), (1, 1, [3]), (2, 2, [3, 2])]
)
def test_ends_of_trainings_that_cannot_be_afforded_are_left_out(
  affordable, answer, trained
):
  """Levels 2 and 3 were stopped as they matched; 3 fails at its end."""
  heard = []

  def train_level(level):
    heard.append(level)
    return round_of(level)

  search = types.SimpleNamespace(
    rounds=[round_of(0), round_of(1)]
    + [round_of(level, stopped=True) for level in (2, 3)],
    train_level=train_level,
  )
  matching = types.SimpleNamespace(
    is_reached_by=lambda round_: True,
    at_end=lambda round_: round_.level < 3,
  )
  found = choosing.finish(
    search, matching, lambda round_: len(heard) < affordable
  )
  assert found.level == answer
  assert heard == trained


def history(*values):
  return [{"step": 0, "val_accuracy": 0.1}] + [
    {"step": 10 * number, "loss": 0.0, "val_accuracy": value}
    for number, value in enumerate(values, 1)
  ]


# The dense network jumps by 0.02: the noise of a value is 0.02 / sqrt(2).
DENSE = (0.3, 0.5, 0.6, 0.7, 0.8, 0.82, 0.8, 0.82, 0.8, 0.82)


@pytest.fixture
def matching():
  rows = history(*DENSE)
  dense = rounds.Round(
    0, 1.0, {"val_accuracy": DENSE[-1]}, 1.0, 100, None, rows=rows
  )
  return choosing.Matching(
    types.SimpleNamespace(
      round=lambda level: dense,
      objective=tf_lottery.Objective("accuracy", "max"),
      tolerance=0.02,
      ticket_steps=100,
    )
  )


@pytest.mark.parametrize(
  ("values", "after"),
  [
    # The dense network itself, and another that is behind by 0.03 only.
    (DENSE, None),
    ([value - 0.03 for value in DENSE], None),
    # Behind from the start on: not before three tenths of a training.
    ([value - 0.04 for value in DENSE], 30),
    # Two values are too few, and a third that is as good begins anew.
    (
      [*DENSE[:3], 0.6, 0.7, *DENSE[5:6], 0.7, 0.7, 0.7, 0.8],
      90,
    ),
    # It learns later, and then is better: nothing has been seen of that.
    ([0.1, 0.2, 0.3, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], 30),
  ],
)
def test_a_training_falls_behind(values, after, matching):
  heard = [
    row["step"]
    for count, row in enumerate(history(*values), 1)
    if matching.is_behind(history(*values)[:count])
  ]
  assert (heard[0] if heard else None) == after
