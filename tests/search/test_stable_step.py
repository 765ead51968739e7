"""`rewind="auto"`: the search finds the step from which training is stable."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests import spirals
from tf_lottery.report import records
from tf_lottery.storage import run_directory

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype(np.float32)
NOISE = RNG.normal(size=(64, 1)).astype(np.float32)
LINE = (X, X @ np.array([[1], [2], [3], [4]], np.float32) + NOISE)


def make_linear():
  """Its loss has one valley, so every order of the data ends in the same."""
  model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
  model.compile(keras.optimizers.SGD(0.05), "mse")
  return model


def search(run_dir=None, make_model=make_linear, data=LINE, **arguments):
  settings = dict(schedule=[0.5], steps=60, batch_size=8, evaluate_every=60)
  return tf_lottery.find_ticket(
    make_model,
    data,
    validation_data=LINE,
    run_dir=run_dir,
    rewind="auto",
    **{**settings, **arguments},
  )


def test_it_rewinds_to_init_where_training_is_stable(tmp_path):
  result = search(tmp_path)
  assert result.rewind == tf_lottery.to_init()
  found = result.directory.read_stable_step()
  assert (found["step"], found["is_stable"]) == (0, True)
  assert [step for step, _ in found["barriers"]] == [0]
  # One more training of the dense network, which counts.
  price = result.price()
  assert price["search"].trainings(price["dense"]) == pytest.approx(1)
  assert result.spent_on(1).trainings(price["dense"]) == pytest.approx(2)
  assert "The tickets rewind to initialisation, the earliest" in str(result)


@pytest.mark.parametrize("name", ["keras", "tf_keras"])
def test_it_rewinds_later_where_training_is_not_stable(name, tmp_path):
  library = importlib.import_module(name)
  result = spirals.search(tmp_path, library, rewind="auto")
  found = result.directory.read_stable_step()
  barriers = dict(found["barriers"])
  step, threshold = found["step"], found["threshold"]
  assert 0 < step <= 300
  assert barriers[0] > 2 * threshold > 2 * barriers[step]
  assert result.rewind == tf_lottery.to_step(step)
  assert f"rewind to step {step} of 600" in str(result)
  # It is the search that rewinds to that step, weight by weight.
  given = spirals.search(tmp_path / "given", library, rewind=step)
  assert given.round(1).ticket.equals(result.round(1).ticket)
  assert given.round(1).metrics == result.round(1).metrics


@pytest.mark.slow
def test_a_killed_search_finds_the_same(tmp_path, monkeypatch):
  whole = spirals.search(tmp_path / "whole", rewind="auto")
  tried = [step for step, _ in whole.directory.read_stable_step()["barriers"]]
  with monkeypatch.context() as patch:
    patch.setattr(run_directory.RunDirectory, "write_stable_step", kill)
    with pytest.raises(KeyboardInterrupt):
      spirals.search(tmp_path / "killed", rewind="auto")
  killed = run_directory.RunDirectory(tmp_path / "killed")
  ends = [killed.stability(0, step, 1).ended for step in tried]
  again = spirals.search(tmp_path / "killed", rewind="auto")
  assert [killed.stability(0, step, 1).ended for step in tried] == ends
  assert (
    again.directory.read_stable_step() == whole.directory.read_stable_step()
  )
  assert again.round(1).ticket.equals(whole.round(1).ticket)


def kill(*args):
  raise KeyboardInterrupt


def test_the_same_call_trains_nothing_more(tmp_path):
  first = search(tmp_path)
  ends = [d.ended for d in first.directory.searches()]
  again = search(tmp_path, make_model=first.trainer)
  assert again.rewind == first.rewind
  assert [d.ended for d in again.directory.searches()] == ends
  assert len(ends) == 1


def test_a_report_counts_what_it_cost(tmp_path):
  search(tmp_path)
  (beside,) = records.read_beside(tmp_path)
  assert (beside.method, beside.done, beside.cost.steps) == ("search", True, 60)


def test_a_declared_rewind_is_not_the_automatic_one(tmp_path):
  search(tmp_path)
  with pytest.raises(ValueError, match="rewind"):
    tf_lottery.find_ticket(
      make_linear,
      LINE,
      validation_data=LINE,
      run_dir=tmp_path,
      schedule=[0.5],
      steps=60,
      batch_size=8,
      evaluate_every=60,
    )


@pytest.mark.parametrize("method", ["gradual(0.5)", "early_bird"])
def test_other_methods_rewind_there_too(method):
  result = search(method=method)
  price = result.price()
  drawn = result.spent_on(1).trainings(price["dense"])
  assert drawn == pytest.approx(price["search"].trainings(price["dense"]))
  assert 1 < drawn <= 2


def test_a_budget_counts_it():
  result = search(budget=4, schedule=[0.9, 0.5])
  price = result.price()
  whole = sum(part.trainings(price["dense"]) for part in price.values())
  assert whole <= 4
  assert price["search"].trainings(price["dense"]) > 1


def test_a_stream_of_one_order_is_refused():
  stream = tf.data.Dataset.from_tensor_slices(LINE).batch(8)
  with pytest.raises(ValueError, match="so they have one order only"):
    search(data=stream)


def test_a_stream_that_is_shuffled_by_its_epoch_has_other_orders():
  def stream(epoch):
    data = tf.data.Dataset.from_tensor_slices(LINE)
    return data.shuffle(64, seed=epoch).batch(8)

  assert search(data=stream).rewind == tf_lottery.to_init()
