"""Files that earlier versions wrote are read; see tests/data/README.txt."""

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tf_lottery import experiments
from tf_lottery import papers
from tf_lottery import rewinding
from tf_lottery.report import records
from tf_lottery.search import rounds
from tf_lottery.storage import run_directory

DATA = pathlib.Path(__file__).parents[1] / "data"
SEARCHES = ("first", "format_1", "keras", "tf_keras")

SPARSE = np.zeros((20, 40), bool)
SPARSE[[3, 3, 17, 19], [0, 39, 21, 5]] = True
MASK = {"0/kernel": SPARSE, "1/kernel": np.eye(4, 3, dtype=bool)}
START = {
  "0/kernel": np.arange(800, dtype=np.float32).reshape(20, 40) / 8,
  "0/bias": np.arange(40, dtype=np.float32),
  "1/kernel": np.arange(12, dtype=np.float16).reshape(4, 3),
}
NAMES = ["dense/kernel", "dense/bias", "dense_1/kernel"]
WEIGHTS = {
  "1/kernel": START["1/kernel"],
  "0/bias": START["0/bias"][:3],
  "random/0": np.array([3, 4], np.uint32),
}


def assert_same(got, expected):
  assert list(got) == list(expected)
  for key, value in expected.items():
    assert got[key].dtype == value.dtype
    np.testing.assert_array_equal(got[key], value)


@pytest.mark.parametrize("version", ["format_1", "format_2"])
def test_a_ticket(version):
  path = DATA / "literal" / version / "ticket.safetensors"
  ticket = tf_lottery.Ticket.load(path)
  assert_same(ticket.mask, MASK)
  kept = {key: START[key] * MASK[key] for key in MASK}
  assert_same(ticket.start, {**START, **kept})
  assert ticket.provenance == {"level": 2, "weights": NAMES}


@pytest.mark.parametrize("version", ["format_1", "format_2"])
def test_a_mask(version):
  path = DATA / "literal" / version / "mask.safetensors"
  assert_same(tf_lottery.Mask.load(path), MASK)


@pytest.mark.parametrize("version", ["first", "format_1", "format_2"])
def test_a_snapshot(version):
  path = DATA / "literal" / version / "snapshot.safetensors"
  snapshot = rewinding.Snapshot.load(path)
  assert snapshot.step == 7
  # The first version wrote no order of keys.
  order = sorted(snapshot.weights) if version == "first" else snapshot.weights
  weights = {key: snapshot.weights[key] for key in order}
  expected = sorted(WEIGHTS) if version == "first" else WEIGHTS
  assert_same(weights, {key: WEIGHTS[key] for key in expected})
  step, momentum = snapshot.optimizer
  assert (step.dtype, step) == (np.int64, 7)
  np.testing.assert_array_equal(momentum, np.ones((1, 2), np.float32))


def test_an_experiment():
  home = DATA / "literal" / "format_2"
  experiment, replicate = experiments.of_run(home)
  assert replicate == 0
  assert experiment == papers.experiment(
    data="digits",
    steps=40,
    levels=2,
    rewind="6it",
    controls=("random_reinit", "one_shot"),
    control_levels=(2,),
    reinits=2,
    replicates=3,
    learning_rate=0.001,
  )
  assert run_directory.read_experiment(home)["id"] == experiment.id


@pytest.fixture(params=SEARCHES)
def search(request):
  return DATA / "searches" / request.param


@pytest.fixture
def held(search):
  """What the code that wrote the search read from it."""
  return json.loads((search / "held.json").read_text())


def test_the_rounds_of_a_search(search, held):
  directory = run_directory.RunDirectory(search, writes=False)
  by_name = {round_.path.name: round_ for *_, round_ in directory.rounds()}
  assert sorted(by_name) == sorted(held.keys() - {"rewind"})
  for name, round_ in by_name.items():
    round_, expected = rounds.Round.read(round_), held[name]
    for field in ("level", "density", "steps", "metrics", "history"):
      assert getattr(round_, field) == expected[field]
    ticket = round_.ticket
    assert ticket.provenance == expected["provenance"]
    assert expected["mask"] == {
      key: "".join("01"[kept] for kept in array.ravel().astype(int))
      for key, array in ticket.mask.items()
    }
    assert _listed(ticket.start) == expected["start"]
    assert round_.final.step == expected["final_step"]
    assert _listed(round_.final.weights) == expected["final"]


def test_the_snapshot_to_which_a_search_rewinds(search, held):
  snapshot = rewinding.Snapshot.load(run_directory.RunDirectory(search).rewind)
  assert snapshot.step == held["rewind"]["step"] == 6
  assert _listed(snapshot.weights) == held["rewind"]["weights"]
  optimizer = [value.tolist() for value in snapshot.optimizer]
  assert optimizer == held["rewind"]["optimizer"]


def _listed(weights):
  return {key: value.tolist() for key, value in weights.items()}


def test_the_report_reads_the_rounds_of_a_search(search, held):
  found = records.read_rounds(search)
  assert [(t.method, t.level) for t in found][:3] == [
    ("dense", 0),
    ("ticket", 1),
    ("ticket", 2),
  ]
  for record in found:
    name = f"level_{record.level:02d}"
    if record.method == "random_reinit":
      name += "-random_reinit-0"
    expected = held[name]
    losses = [row["val_loss"] for row in expected["history"]]
    early = expected["history"][losses.index(min(losses))]
    start = 0 if record.level == 0 else 6
    assert record.density == expected["density"]
    assert record.steps == expected["history"][-1]["step"] - start
    assert record.early_stop_step == early["step"] - start
    assert record.test_early == early["test_accuracy"]
    assert record.val_end == expected["metrics"]["val_accuracy"]
    assert (record.done, record.damage) == (True, "")
    assert record.monitor == "accuracy"


def test_the_masks_of_a_search_for_reports(search, held):
  round_ = run_directory.RunDirectory(search).level(2)
  file = records.read_ticket(round_)
  if search.name != "first":  # which wrote names and keys in different orders
    assert file.names == ["dense/kernel", "dense_1/kernel"]
  assert file.mask.kept == sum(
    text.count("1") for text in held["level_02"]["mask"].values()
  )


@pytest.mark.parametrize(
  ("name", "library"), [("keras", keras), ("tf_keras", tf_keras)]
)
def test_a_search_of_the_last_version_is_read_back_without_training(
  name, library, tmp_path
):
  run_dir = tmp_path / name
  shutil.copytree(DATA / "searches" / name, run_dir)
  before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
  result = small.search(
    run_dir,
    library=library,
    schedule=(0.5, 0.08),
    # The default of the version that wrote it.
    scope=tf_lottery.global_(),
    rewind=small.REWIND,
  )
  assert [round_.level for round_ in result.rounds] == [0, 1, 2]
  after = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
  declared = run_dir / "declaration.json"
  # Only the direction of the objective is added, which it did not declare.
  assert json.loads(after.pop(declared)) == {
    **json.loads(before.pop(declared)),
    "direction": "max",
  }
  # It did not write what the search found.
  assert json.loads(after.pop(run_dir / "outcome.json"))["trained"] == [0, 1, 2]
  assert after == before
