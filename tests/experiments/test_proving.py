import dataclasses
import logging
import subprocess
import sys

import numpy as np
import pytest

import tf_lottery
from tests.experiments import mine
from tf_lottery import experiments

MINE = experiments.Experiment(
  title="A small model",
  make_model=mine.make_model,
  load_data=mine.load_data,
  epochs=2,
  batch_size=12,
  schedule=(0.6, 0.3),
  controls=("random_reinit", "shuffled_mask"),
  replicates=3,
  tolerance=0.3,
)
SCRIPT = """
import sys
from tests.experiments import mine
from tf_lottery import experiments

def make_model():
  return mine.make_model()

EXPERIMENT = experiments.Experiment(
  make_model=make_model, load_data=mine.load_data, epochs=1,
  batch_size=12, schedule=(0.5,), replicates=2)

{guard}
print(experiments.prove(EXPERIMENT, sys.argv[1], processes=2))
"""


@pytest.fixture(scope="module")
def proof(tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  return experiments.prove(MINE, root, progress=False)


def test_one_call_trains_replicates_and_controls(proof):
  for replicate in range(3):
    assert experiments.is_done(MINE, replicate, proof.root)
  methods = {round_.method for round_ in proof.evidence.rounds}
  assert methods == {"dense", "ticket", "random_reinit", "shuffled_mask"}
  assert not proof.evidence.unfinished


def test_it_prints_a_verdict_on_each_level(proof):
  text = str(proof)
  for verdict in proof.verdicts:
    assert f"{100 * verdict.density:.3g}" in text
    assert verdict.word in text
  assert f"proof.model() and proof.ticket() take Level {proof.level}: " in text
  assert repr(proof).startswith("Proof('A small model', ")


def test_it_writes_the_report(proof, tmp_path):
  made = proof.report(tmp_path)
  assert made.paths[0].read_text().count("A small model")


def test_it_gives_the_trained_model(proof):
  assert proof.level in (0, 1, 2)
  for replicate in (0, 2):
    model = proof.model(2, replicate)
    ticket = proof.ticket(2, replicate)
    (kernel, *_) = (w.numpy() for w in model.trainable_weights)
    key = next(iter(ticket.mask))
    assert np.array_equal(kernel != 0, ticket.mask[key])
    _, _, test = mine.load_data(replicate)
    _, accuracy = model.evaluate(*test, verbose=0)
    expected = proof.round(2, replicate).metrics["test_accuracy"]
    assert accuracy == pytest.approx(expected)
  with pytest.raises(ValueError, match=r"\[0, 1, 2\]; got 9"):
    proof.model(9)
  with pytest.raises(ValueError, match="must be 0 to 2, got 7"):
    proof.ticket(replicate=7)


def test_again_it_trains_nothing(proof, monkeypatch):
  def fail(*args, **kwargs):
    raise AssertionError("trained again")

  monkeypatch.setattr(tf_lottery.Trainer, "train", fail)
  again = experiments.prove(MINE, proof.root, progress=False)
  assert str(again) == str(proof)


def test_a_changed_model_is_not_taken_for_the_old_one(proof):
  changed = dataclasses.replace(
    MINE, name=MINE.id, model_args={"units": 9}, replicates=5
  )
  path = proof.directory / "experiment.json"
  declared = path.read_text()
  for processes in (1, 2):
    with pytest.raises(ValueError, match="holds another run"):
      experiments.prove(changed, proof.root, processes=processes)
    assert path.read_text() == declared
  assert not experiments.run_dir(changed, 4, proof.root).exists()


def test_what_is_missing_is_counted(proof):
  more = dataclasses.replace(MINE, replicates=5)
  more.declare(proof.directory, experiments.chosen_levels(more, proof.root))
  missing = len(more.rounds(experiments.chosen_levels(more, proof.root)))
  assert proof.evidence.unfinished == 2 * missing
  MINE.declare(proof.directory, experiments.chosen_levels(MINE, proof.root))
  assert not proof.evidence.unfinished


def test_one_that_diverges_does_not_stop_the_others(tmp_path):
  wild = dataclasses.replace(
    MINE, load_data=mine.load_some_broken, replicates=2, controls=()
  )
  proof = experiments.prove(wild, tmp_path, progress=False)
  assert [name[-2:] for name in proof.failed] == ["00"]
  assert experiments.is_done(wild, 1, tmp_path)


def test_a_replicate_more_keeps_the_others(proof):
  more = dataclasses.replace(MINE, replicates=4)
  experiments.prove(more, proof.root, progress=False)
  assert experiments.is_done(more, 3, proof.root)


@pytest.mark.slow
def test_processes_give_what_this_process_gives(proof, tmp_path, capsys):
  two = dataclasses.replace(MINE, replicates=2)
  there = experiments.prove(two, tmp_path, processes=2, progress=True)
  assert not there.failed
  assert "A small model" in capsys.readouterr().err
  for level in range(3):
    theirs = there.round(level, 1).final.weights
    ours = proof.round(level, 1).final.weights
    for key, value in ours.items():
      np.testing.assert_allclose(theirs[key], value, atol=1e-5)


def test_functions_that_cannot_be_imported_run_here(tmp_path, caplog):
  local = dataclasses.replace(
    MINE, make_model=lambda: mine.make_model(), replicates=1, controls=()
  )
  with caplog.at_level(logging.WARNING):
    proof = experiments.prove(local, tmp_path, processes=2, progress=False)
  assert "All replicates run in this process" in caplog.text
  assert experiments.is_done(local, 0, tmp_path)
  assert "replicate" in str(proof)


@pytest.mark.slow
def test_a_failed_replicate_is_told(tmp_path):
  broken = dataclasses.replace(MINE, load_data=mine.fail)
  proof = experiments.prove(broken, tmp_path, processes=3, progress=False)
  assert len(proof.failed) == 3
  assert "OSError: the disk of the data is gone" in str(proof)


@pytest.mark.slow
@pytest.mark.parametrize(
  "guarded", [pytest.param(True, marks=pytest.mark.slow), False]
)
def test_a_script_proves_its_own_functions(tmp_path, guarded):
  guard = "if __name__ == '__main__':" if guarded else "if True:"
  text = SCRIPT.format(guard=guard).replace("\nprint", "\n  print")
  (tmp_path / "proof.py").write_text(text)
  done = subprocess.run(
    [sys.executable, "proof.py", "runs"],
    cwd=tmp_path,
    env={**mine_environment()},
    capture_output=True,
    text=True,
    check=False,
  )
  if guarded:
    assert done.returncode == 0, done.stderr
    assert "All replicates run in this process" not in done.stderr
  else:
    assert "Call it under `if __name__ == '__main__':`" in (
      done.stderr + done.stdout
    )


def mine_environment():
  import os
  import pathlib

  root = pathlib.Path(__file__).parents[2]
  return {**os.environ, "PYTHONPATH": str(root)}
