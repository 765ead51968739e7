"""Experiments whose number of replicates depends on the verdicts."""

import dataclasses
import json
import shutil

import pytest

from tests import runs
from tests.experiments import mine
from tf_lottery import experiments
from tf_lottery.experiments import looks
from tf_lottery.experiments import sequential
from tf_lottery.experiments import sweeps
from tf_lottery.experiments import trained
from tf_lottery.report import evidence
from tf_lottery.report import wording
from tf_lottery.storage import run_directory

AUTO = experiments.Experiment(
  title="In looks",
  make_model=mine.make_model,
  load_data=mine.load_data,
  steps=8,
  batch_size=12,
  schedule=(0.5, 0.2),
  controls=("shuffled_mask", "random_reinit"),
  control_levels=(1,),
  replicates="auto:8",
  tolerance=0.05,
)
NOISE = (0.0, 0.004, -0.004, 0.002, -0.002, 0.001, 0.003, -0.001)
# A ticket that may match, but not by four or six replicates.
UNSURE = (0.1, -0.1, 0.1, -0.1, 0.1, -0.1, 0.1, -0.1)


class Written:
  """Writes the runs that it should train, and notes what was asked of it."""

  def __init__(self, root, ticket, failures=(), experiment=AUTO):
    self.root = root
    self.experiment = experiment
    self.ticket = ticket
    self.failures = list(failures)
    self.asked = []

  def __call__(self, replicates, only):
    names = self.experiment.controls
    controls = tuple(n for n in names if only is None or n in only)
    self.asked.append((controls, list(replicates)))
    home = self.root / self.experiment.id
    self.experiment.declare(home, self.experiment.controlled(()))
    for n in replicates:
      methods = {
        "dense": [0.8 + NOISE[n]],
        "ticket": [0.8 + self.ticket[n], 0.3 + NOISE[n]],
        **{name: [0.6 - NOISE[n]] for name in controls},
      }
      path = home / f"replicate_{n:02d}"
      runs.write_run(path, methods, seed=n)
    return self.failures.pop(0) if self.failures else {}


def taken(root, experiment=AUTO):
  return run_directory.read_looks(root / experiment.id)["taken"]


def test_the_numbers_of_replicates():
  assert looks.planned(3) == (3,)
  assert looks.planned("auto") == looks.planned("auto:12") == (4, 6, 8, 12)
  assert looks.planned("auto:9") == (4, 6, 8, 9)
  assert AUTO.looks == (4, 6, 8)
  for value in ("auto:4", "auto:", "automatic", "3"):
    with pytest.raises(ValueError, match=f"N at least 5; got '{value}'"):
      dataclasses.replace(AUTO, replicates=value)
  with pytest.raises(ValueError, match="replicates must be at least 1, got 0"):
    dataclasses.replace(AUTO, replicates=0)


def test_it_is_the_same_experiment_with_any_number_of_replicates():
  fixed = dataclasses.replace(AUTO, replicates=3)
  assert fixed.id == AUTO.id
  assert experiments.Experiment.from_json(AUTO.to_json()).looks == AUTO.looks


def test_it_stops_where_tickets_clearly_win(tmp_path):
  train = Written(tmp_path, NOISE[::-1])
  assert sequential.train_in_looks(AUTO, tmp_path, train) == {}
  # The controls that decide nothing come last.
  assert train.asked == [
    (("random_reinit",), [0, 1, 2, 3]),
    (("shuffled_mask", "random_reinit"), [0, 1, 2, 3]),
  ]
  assert taken(tmp_path) == [4]
  proof = experiments.Proof(AUTO, tmp_path)
  assert [v.word for v in proof.verdicts] == ["winning", "cannot tell"]
  assert "looked at after 4 replicates; at most 8 were planned" in str(proof)
  assert proof.round(1, replicate=3).level == 1
  with pytest.raises(ValueError, match="replicate must be 0 to 3, got 4"):
    proof.round(1, replicate=4)


def test_it_goes_on_while_a_ticket_may_match(tmp_path):
  train = Written(tmp_path, UNSURE)
  sequential.train_in_looks(AUTO, tmp_path, train)
  assert [replicates for _, replicates in train.asked] == [
    [0, 1, 2, 3],
    [4, 5],
    [6, 7],
    list(range(8)),
  ]
  assert taken(tmp_path) == [4, 6, 8]


def test_it_goes_on_where_it_stopped(tmp_path):
  def killed(replicates, only):
    if replicates[0]:
      raise KeyboardInterrupt
    return Written(tmp_path, UNSURE)(replicates, only)

  with pytest.raises(KeyboardInterrupt):
    sequential.train_in_looks(AUTO, tmp_path, killed)
  assert taken(tmp_path) == [4]
  before = run_directory.read_looks(tmp_path / AUTO.id)
  train = Written(tmp_path, UNSURE)
  sequential.train_in_looks(AUTO, tmp_path, train)
  assert [replicates for _, replicates in train.asked][:2] == [
    [0, 1, 2, 3],
    [4, 5],
  ]
  after = run_directory.read_looks(tmp_path / AUTO.id)
  assert after["shown"] == [[], [], []]
  changed = ("taken", "shown", "settled")
  assert after == {**before, **{name: after[name] for name in changed}}
  assert after["taken"] == [4, 6, 8]
  again = Written(tmp_path, UNSURE)
  sequential.train_in_looks(AUTO, tmp_path, again)
  assert {tuple(replicates) for _, replicates in again.asked} == {
    tuple(range(8))
  }
  assert run_directory.read_looks(tmp_path / AUTO.id) == after


def test_no_look_is_taken_at_what_failed(tmp_path):
  train = Written(tmp_path, NOISE, [{"one": "OSError: the disk is gone"}])
  failed = sequential.train_in_looks(AUTO, tmp_path, train)
  assert failed == {"one": "OSError: the disk is gone"}
  assert (len(train.asked), taken(tmp_path)) == (1, [])
  other = Written(
    tmp_path, NOISE, [{"one": "OSError: after a DivergedError: nan"}]
  )
  sequential.train_in_looks(AUTO, tmp_path, other)
  assert taken(tmp_path) == []
  diverged = Written(tmp_path, NOISE, [{"one": "DivergedError: nan"}])
  sequential.train_in_looks(AUTO, tmp_path, diverged)
  assert taken(tmp_path) == [4]


def test_the_plan_cannot_change_after_the_first_look(tmp_path):
  sequential.train_in_looks(AUTO, tmp_path, Written(tmp_path, UNSURE))
  sequential.check_looks(AUTO, tmp_path)
  for value in ("auto", 3, 8):
    other = dataclasses.replace(AUTO, replicates=value)
    with pytest.raises(
      ValueError, match="after 4, 6, 8 replicates, of at most 8"
    ):
      experiments.prove(other, tmp_path, progress=False)


def test_what_verdicts_depend_on_cannot_change_after_the_first_look(tmp_path):
  sequential.train_in_looks(AUTO, tmp_path, Written(tmp_path, NOISE))
  for changes, text in (
    ({"schedule": (0.5, 0.2, 0.1)}, r"schedule was \[0.5, 0.2\] then"),
    ({"reinits": 2}, "reinits was 1 then.* got 2"),
    ({"control_levels": (1, 2)}, r"control_levels was \[1\] then"),
    ({"tolerance": 0.1}, "tolerance was 0.05 then"),
    ({"controls": ()}, "random_reinit was one of the controls then"),
  ):
    other = dataclasses.replace(AUTO, **changes)
    with pytest.raises(ValueError, match=text):
      experiments.prove(other, tmp_path, progress=False)
  more = dataclasses.replace(AUTO, controls=("random_reinit", "random_mask"))
  sequential.check_looks(more, tmp_path)


def test_what_a_look_has_shown_does_not_depend_on_later_rounds(tmp_path):
  train = Written(tmp_path, NOISE[::-1])
  sequential.train_in_looks(AUTO, tmp_path, train)
  found = run_directory.read_looks(tmp_path / AUTO.id)
  assert found["shown"] == [[[1, "winning"]]]
  # Reinits that are as good as the ticket, and a Level that matches now.
  for n in range(4):
    values = {
      "dense": [0.8 + NOISE[n]],
      "ticket": [0.8 + NOISE[3 - n], 0.8 + NOISE[n]],
      "random_reinit": [[0.8 - NOISE[n], 1.0]],
    }
    runs.write_run(tmp_path / AUTO.id / f"replicate_{n:02d}", values, seed=n)
  levels = dataclasses.replace(AUTO, control_levels=(1, 2))
  levels.declare(tmp_path / AUTO.id, (1, 2))
  proof = experiments.Proof(AUTO, tmp_path)
  assert [v.word for v in proof.verdicts] == ["winning", "cannot tell"]
  assert proof.verdicts[0].p_reinit > 0.05
  # Without the words, as early versions wrote no others, it is judged again.
  early = {name: found[name] for name in found if name != "shown"}
  run_directory.write_looks(tmp_path / AUTO.id, early)
  assert [v.word for v in proof.verdicts] == ["matching", "matching"]


def test_a_ticket_that_diverged_cannot_match(tmp_path):
  class Diverges(Written):
    def __call__(self, replicates, only):
      super().__call__(replicates, only)
      if 2 not in replicates:
        return {}
      path = self.root / self.experiment.id / "replicate_02"
      for level in (1, 2):
        shutil.rmtree(path / f"level_{level:02d}")
      text = "Traceback:\n  ...\ntf_lottery.search.DivergedError: Level 1: nan"
      return {str(path): text}

  sequential.train_in_looks(AUTO, tmp_path, Diverges(tmp_path, NOISE))
  (first, _) = experiments.Proof(AUTO, tmp_path).verdicts
  assert (first.word, first.reason) == (
    "cannot tell",
    "1 ticket has no finite value",
  )
  assert first.p_matching < 0.01


def test_the_directory_of_another_experiment_stays_as_it_is(tmp_path):
  other = dataclasses.replace(AUTO, steps=9, replicates=3, name="same")
  other.declare(tmp_path / "same")

  def refuse(*_):
    raise ValueError("holds another run")

  same = dataclasses.replace(AUTO, name="same")
  with pytest.raises(ValueError, match="holds another run"):
    sequential.train_in_looks(same, tmp_path, refuse)
  assert [path.name for path in (tmp_path / "same").iterdir()] == [
    "experiment.json"
  ]


def test_the_plan_may_change_before_the_first_look(tmp_path):
  train = Written(tmp_path, NOISE, [{"one": "OSError: the disk is gone"}])
  sequential.train_in_looks(AUTO, tmp_path, train)
  more = dataclasses.replace(AUTO, replicates="auto")
  sequential.check_looks(more, tmp_path)
  sequential.train_in_looks(more, tmp_path, Written(tmp_path, NOISE))
  found = run_directory.read_looks(tmp_path / AUTO.id)
  assert (found["planned"], found["taken"]) == ([4, 6, 8, 12], [4])


def test_a_fixed_number_before_is_told(tmp_path):
  fixed = dataclasses.replace(AUTO, replicates=3)
  Written(tmp_path, NOISE, experiment=fixed)(range(3), None)
  sequential.train_in_looks(AUTO, tmp_path, Written(tmp_path, NOISE))
  proof = experiments.Proof(AUTO, tmp_path)
  assert "Before, 3 replicates had been declared" in str(proof)


def test_the_first_look_chooses_the_levels_that_have_controls(tmp_path):
  chosen = dataclasses.replace(
    AUTO, schedule=(0.6, 0.4, 0.2), control_levels="chosen"
  )

  def write(replicate, smaller):
    path = experiments.run_dir(chosen, replicate, tmp_path)
    directory = runs.write_run(path, {"dense": [0.8]}, seed=replicate)
    for level, value in enumerate((0.8, 0.8, smaller, smaller)):
      round_ = directory.level(level)
      density = (1.0, *chosen.schedule)[level]
      runs.write_round(round_, value, density)
      metrics = {"loss": 0.4, "val_loss": 0.6, "val_accuracy": value}
      round_.finish(runs.record(level=level, density=density, metrics=metrics))

  for replicate in range(8):
    write(replicate, smaller=0.8 if replicate < 4 else 0.1)
  assert experiments.chosen_levels(chosen, tmp_path) == (2, 3)
  fixed = dataclasses.replace(chosen, replicates=8)
  assert experiments.chosen_levels(fixed, tmp_path) == (1, 2)


def test_with_a_budget_the_first_look_chooses_among_named_levels(tmp_path):
  within = dataclasses.replace(AUTO, budget=2.5, control_levels=(1, 2))

  def write(replicate, values):
    path = experiments.run_dir(within, replicate, tmp_path)
    directory = runs.write_run(
      path, {"dense": [0.8], "ticket": values}, seed=replicate
    )
    outcome = {"budget": 2.5, "choose": "all", "trained": [0, 1, 2]}
    directory.write_outcome(outcome)

  for replicate in range(4):
    write(replicate, [0.8, 0.8])
  assert experiments.chosen_levels(within, tmp_path) == (1, 2)
  write(4, [0.8])  # This replicate has drawn no second ticket yet.
  assert experiments.chosen_levels(within, tmp_path) == (1, 2)
  fixed = dataclasses.replace(within, replicates=8)
  assert experiments.chosen_levels(fixed, tmp_path) == (1,)


def test_a_sweep_needs_a_fixed_number(tmp_path):
  with pytest.raises(ValueError, match=r"tf_lottery\.prove\(experiment, root"):
    sweeps.tasks([AUTO], tmp_path)


def test_prove_judges_in_looks(tmp_path):
  small = dataclasses.replace(
    AUTO, schedule=(0.5,), tolerance=1.0, controls=("shuffled_mask",)
  )
  proof = experiments.prove(small, tmp_path, progress=False)
  assert taken(tmp_path, small) == [4]
  declared = json.loads((proof.directory / "experiment.json").read_text())
  assert declared["replicates"] == "auto:8"
  assert declared["controls"] == ["shuffled_mask"]
  assert not proof.evidence.unfinished
  assert proof.evidence.replicates == 4
  # A fifth replicate that a fixed number once asked for is not waited for.
  experiments.run_dir(small, 4, tmp_path).mkdir()
  done, every = trained.count_done(small, tmp_path)
  assert done == every
  assert wording.looks(proof.evidence) in str(proof)
  for replicate in range(4):
    assert experiments.is_done(small, replicate, tmp_path)


def test_other_controls_are_checked_and_declared_before_a_look(tmp_path):
  bad = dataclasses.replace(AUTO, controls=("gradual_tfmot",))
  with pytest.raises(ValueError, match="gradual_tfmot needs a model"):
    experiments.prove(
      dataclasses.replace(
        bad, make_model=mine.make_without_width, schedule=(0.5,)
      ),
      tmp_path,
      progress=False,
    )
  assert not list(tmp_path.rglob("replicate_*"))
  small = dataclasses.replace(AUTO, schedule=(0.5,))
  experiments.run(small, 0, tmp_path, only=("random_reinit",))
  (found,) = evidence.gather([tmp_path])
  names = {
    control for _, control, _ in found.runs[0].experiment_declaration["rounds"]
  }
  assert names == {"", "shuffled_mask", "random_reinit"}
  assert {r.method for r in found.rounds if r.done} == {
    "dense",
    "ticket",
    "random_reinit",
  }
  assert found.unfinished
  assert experiments.is_done(small, 0, tmp_path, only=("random_reinit",))
  assert not experiments.is_done(small, 0, tmp_path)


@pytest.mark.slow
def test_prove_judges_in_looks_in_processes(tmp_path):
  small = dataclasses.replace(AUTO, schedule=(0.5,), tolerance=1.0, controls=())
  proof = experiments.prove(small, tmp_path, processes=2, progress=True)
  assert not proof.failed
  assert taken(tmp_path, small) == [4]
  assert [v.word for v in proof.verdicts] == ["matching"]
