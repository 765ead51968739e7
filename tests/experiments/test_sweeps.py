import dataclasses
import subprocess

import pytest

from tests.experiments import mine
from tf_lottery import experiments
from tf_lottery import papers
from tf_lottery.experiments import sweeps
from tf_lottery.experiments import trained

TINY = experiments.Experiment(
  make_model=mine.make_model,
  load_data=mine.load_data,
  steps=8,
  batch_size=12,
  schedule=(0.5,),
  controls=(),
  replicates=1,
)
BROKEN = dataclasses.replace(TINY, load_data=mine.fail)


def test_a_grid_has_every_combination():
  fields = {f.name: getattr(TINY, f.name) for f in dataclasses.fields(TINY)}
  made = sweeps.grid(
    experiments.Experiment,
    fields,
    {"steps": [8, 16], "rewind": ["init", "2it"]},
  )
  assert [(e.steps, e.rewind) for e in made] == [
    (8, "init"),
    (8, "2it"),
    (16, "init"),
    (16, "2it"),
  ]
  assert sweeps.grid(experiments.Experiment, fields, {}) == [TINY]
  with pytest.raises(ValueError, match="got 'stepps'"):
    sweeps.grid(experiments.Experiment, fields, {"stepps": [1]})
  with pytest.raises(ValueError, match="make another experiment"):
    sweeps.grid(experiments.Experiment, fields, {"replicates": [1, 2]})


def test_a_grid_over_a_papers_recipe():
  fields = {"data": "digits", "steps": 20, "levels": 1}
  made = sweeps.grid(papers.experiment, fields, {"steps": [20, 40]})
  assert [e.steps for e in made] == [20, 40]
  assert len({e.id for e in made}) == 2


def test_first_replicates_come_first(tmp_path):
  two = dataclasses.replace(TINY, replicates=2)
  longer = dataclasses.replace(two, steps=16)
  todo = sweeps.tasks([two, longer], tmp_path)
  assert [(t.replicate, t.experiment.steps) for t in todo] == [
    (0, 8),
    (0, 16),
    (1, 8),
    (1, 16),
  ]


def test_a_task_is_text_and_back(tmp_path):
  (task,) = sweeps.tasks([TINY], tmp_path, threads=2)
  again = sweeps.Task.from_json(task.to_json())
  assert again.to_json() == task.to_json()
  assert again.run_dir == task.run_dir


@pytest.mark.slow
def test_a_broken_run_does_not_stop_the_rest(tmp_path):
  todo = sweeps.tasks([BROKEN, TINY], tmp_path, retries=0)
  ended = []
  failed = sweeps.run_local(
    todo, lambda task, error: ended.append(str(task)), processes=2
  )
  assert list(failed) == [str(todo[0])]
  assert "OSError: the disk of the data is gone" in failed[str(todo[0])]
  assert sorted(ended) == sorted(map(str, todo))
  assert [task.is_done for task in todo] == [False, True]


def test_it_tries_again_and_what_is_done_costs_nothing(tmp_path, monkeypatch):
  codes = [1, 0]
  started = []

  def run(command, **options):
    started.append(command)
    return subprocess.CompletedProcess(command, codes.pop(0))

  monkeypatch.setattr(subprocess, "run", run)
  (task,) = sweeps.tasks([TINY], tmp_path, retries=1)
  assert sweeps.run_local([task]) == {}
  assert len(started) == 2
  monkeypatch.setattr(trained, "is_done", lambda *_, **__: True)
  assert sweeps.run_local([task]) == {}
  assert len(started) == 2


def test_the_error_of_an_earlier_attempt_is_not_that_of_the_last(
  tmp_path, monkeypatch
):
  outputs = [b"DivergedError: nan\n", b""]

  def run(command, *, stdout, **options):
    stdout.write(outputs.pop(0))
    return subprocess.CompletedProcess(command, -9)

  monkeypatch.setattr(subprocess, "run", run)
  (task,) = sweeps.tasks([TINY], tmp_path, retries=1)
  failed = sweeps.run_local([task])
  assert failed == {str(task): "The process wrote nothing, and ended with -9."}
  assert "DivergedError" in task.log.read_text()


def test_controls_wait_until_all_replicates_are_found(tmp_path):
  chosen = dataclasses.replace(TINY, controls=("one_shot",), replicates=2)
  passes = []

  def runner(todo, on_done):
    passes.append([task.with_controls for task in todo])
    return {}

  assert sweeps.run_all(sweeps.tasks([chosen, TINY], tmp_path), runner) == {}
  assert passes == [[False, False, False], [True, True, True]]
  failing = str(sweeps.tasks([TINY], tmp_path)[0])
  ended = []

  def broken(todo, on_done):
    return {failing: "no disk"} if todo and not todo[0].with_controls else {}

  failed = sweeps.run_all(
    sweeps.tasks([TINY], tmp_path), broken, lambda *end: ended.append(end[1])
  )
  assert (failed, ended) == ({failing: "no disk"}, ["no disk"])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_same_tasks_run_on_a_local_ray(tmp_path):
  ray = pytest.importorskip("ray")
  try:
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
  except Exception as error:
    pytest.skip(f"Ray cannot start on this machine: {error}")
  try:
    todo = sweeps.tasks([TINY, BROKEN], tmp_path, retries=0)
    failed = sweeps.run_ray(todo)
  finally:
    ray.shutdown()
  assert list(failed) == [str(todo[1])]
  assert [task.is_done for task in todo] == [True, False]
