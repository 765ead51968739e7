import dataclasses
import subprocess

import pytest

from tf_lottery import experiments
from tf_lottery.experiments import sweeps

TINY = experiments.Experiment(
  data="digits", steps=20, evaluate_every="20it", levels=1
)


def test_a_grid_has_every_combination():
  made = sweeps.grid(TINY, {"steps": [20, 40], "rewind": ["init", "5it"]})
  assert [(e.steps, e.rewind) for e in made] == [
    (20, "init"),
    (20, "5it"),
    (40, "init"),
    (40, "5it"),
  ]
  assert sweeps.grid(TINY, {}) == [TINY]
  with pytest.raises(ValueError, match="got 'stepps'"):
    sweeps.grid(TINY, {"stepps": [1]})


def test_first_replicates_come_first(tmp_path):
  declared = sweeps.grid(
    dataclasses.replace(TINY, replicates=2), {"steps": [20, 40]}
  )
  todo = sweeps.tasks(declared, tmp_path)
  assert [(t.replicate, t.experiment.steps) for t in todo] == [
    (0, 20),
    (0, 40),
    (1, 20),
    (1, 40),
  ]


def test_a_broken_run_does_not_stop_the_rest(tmp_path):
  broken = dataclasses.replace(TINY, data="mnist")  # not prepared
  todo = sweeps.tasks(
    [broken, TINY], tmp_path, data_dir=str(tmp_path), retries=0
  )
  ended = []
  failed = sweeps.run_local(
    todo, processes=2, on_done=lambda task, error: ended.append(task)
  )
  assert list(failed) == [str(todo[0])]
  assert "mnist is not prepared in" in failed[str(todo[0])]
  assert set(ended) == set(todo)
  assert [task.is_done for task in todo] == [False, True]


def test_it_tries_again_and_what_is_done_costs_nothing(tmp_path, monkeypatch):
  codes = [1, 0]
  started = []

  def run(command, **options):
    started.append(command)
    return subprocess.CompletedProcess(command, codes.pop(0))

  monkeypatch.setattr(subprocess, "run", run)
  (task,) = sweeps.tasks([TINY], tmp_path, retries=1)
  assert sweeps.run_local([task], processes=1) == {}
  assert len(started) == 2
  monkeypatch.setattr(experiments, "is_done", lambda *_: True)
  assert sweeps.run_local([task], processes=1) == {}
  assert len(started) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_same_tasks_run_on_a_local_ray(tmp_path):
  ray = pytest.importorskip("ray")
  try:
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
  except Exception as error:
    pytest.skip(f"Ray cannot start on this machine: {error}")
  try:
    broken = dataclasses.replace(TINY, data="mnist")
    todo = sweeps.tasks(
      [TINY, broken], tmp_path, data_dir=str(tmp_path), retries=0
    )
    failed = sweeps.run_ray(todo)
  finally:
    ray.shutdown()
  assert list(failed) == [str(todo[1])]
  assert [task.is_done for task in todo] == [True, False]
