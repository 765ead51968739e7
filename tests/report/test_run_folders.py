import functools
import shutil

import keras
import pytest

import tf_lottery
from tests import runs
from tests import small
from tf_lottery import report
from tf_lottery.report import run_folders


def found(path):
  return [
    (run.experiment, run.replicate, run.path.name)
    for run in run_folders.find_runs([path])
  ]


def write(path, seed, **options):
  runs.write_run(path, {"dense": [0.9], "ticket": [0.9]}, seed=seed, **options)


def test_runs_that_differ_in_the_seed_alone_are_replicates(tmp_path):
  for seed in (7, 1, 12):
    write(tmp_path / f"mine_seed{seed}", seed)
  assert found(tmp_path) == [
    ("mine", 0, "mine_seed1"),
    ("mine", 1, "mine_seed7"),
    ("mine", 2, "mine_seed12"),
  ]


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    (("conv2-0", "conv2-1"), "conv2"),
    (("seed_0", "seed_1"), "parent"),
    (("0", "1"), "parent"),
    (("run-10", "run-11"), "parent"),
    (("mine.first", "mine.second"), "mine"),
  ],
)
def test_the_name_is_what_the_folders_share(tmp_path, names, expected):
  for seed, name in enumerate(names):
    write(tmp_path / "parent" / name, seed)
  assert [run[0] for run in found(tmp_path)] == [expected] * 2


def test_other_settings_and_other_folders_make_other_experiments(tmp_path):
  write(tmp_path / "a" / "0", 0)
  write(tmp_path / "a" / "1", 1, schedule=(0.5, 0.1))
  write(tmp_path / "b" / "2", 2)
  assert [run[:2] for run in found(tmp_path)] == [("0", 0), ("1", 0), ("2", 0)]


def test_a_copy_of_a_run_is_no_replicate(tmp_path):
  for seed in range(2):
    write(tmp_path / f"mine-{seed}", seed)
  shutil.copytree(tmp_path / "mine-0", tmp_path / "mine-0-copy")
  assert found(tmp_path) == [
    ("mine", 0, "mine-0"),
    ("mine", 1, "mine-1"),
    ("mine-0-copy", 0, "mine-0-copy"),
  ]


def test_runs_of_find_ticket_with_several_seeds_are_one_experiment(tmp_path):
  data = small.examples(64)
  for seed in (3, 0):
    tf_lottery.find_ticket(
      functools.partial(small.make_model, keras),
      data,
      validation_data=data,
      steps=4,
      batch_size=16,
      schedule=[0.5],
      seed=seed,
      run_dir=tmp_path / "runs" / f"mine-{seed}",
      progress=False,
    )
  made = report.write([tmp_path / "runs"], tmp_path / "out")
  (section,) = made.sections
  assert section.title == "mine"
  assert [run.replicate for run in section.evidence.runs] == [0, 1]
  assert section.evidence.replicates == 2
  assert "their declarations differ in the seed alone" in (
    made.paths[0].read_text("utf-8")
  )
