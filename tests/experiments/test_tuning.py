"""The dense network by several recipes, and the choice among them."""

import dataclasses
import functools
import math

import numpy as np
import pytest

import tf_lottery
from tests.experiments import mine
from tf_lottery import experiments
from tf_lottery import report

MINE = experiments.Experiment(
  title="A small model",
  make_model=mine.make_model,
  load_data="tests.experiments.mine:load_data",
  epochs=2,
  batch_size=12,
  schedule=(0.6, 0.3),
  control_levels=(1, 2),
  replicates=2,
  jit=False,
)
# Too low to learn anything, and high enough.
RATES = {"learning_rate": [1e-7, 0.05], "units": [8]}
ACCURACY = tf_lottery.Objective("accuracy", "max")
tune = functools.partial(experiments.tune, progress=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def tuning(root):
  return tune(MINE, RATES, root, replicates=2)


@pytest.fixture(scope="module")
def proofs(tuning, root):
  return [
    experiments.prove(one, root, progress=False)
    for one in (MINE, tuning.experiment)
  ]


def test_candidates_are_the_product_in_either_generation(keras, tmp_path):
  few = dataclasses.replace(
    MINE, epochs=None, steps=1, model_args={"keras": keras.__name__}
  )
  grid = {"learning_rate": [0.1, 0.2], "units": [8]}
  found = tune(few, grid, tmp_path)
  product = [{"learning_rate": rate, "units": 8} for rate in (0.1, 0.2)]
  assert [one.arguments for one in found.candidates] == product
  found = tune(few, product[:1], tmp_path)
  assert [one.arguments for one in found.candidates] == product[:1]


def test_the_best_by_validation_is_chosen(tuning):
  assert tuning.chosen.arguments == {"learning_rate": 0.05, "units": 8}
  (worse, better) = tuning.candidates
  assert better.values[tuning.when] > max(worse.values.values())
  assert tuning.experiment.model_args == tuning.chosen.arguments
  assert tuning.experiment.id != MINE.id


def test_the_values_are_those_of_the_early_stop_and_the_end(tuning):
  for one in tuning.candidates:
    assert len(one.rounds) == 2
    histories = [round_.history[1:] for round_ in one.rounds]
    ends = [rows[-1]["val_accuracy"] for rows in histories]
    early = [lowest(rows)["val_accuracy"] for rows in histories]
    assert one.values["end"] == pytest.approx(np.mean(ends))
    assert one.values["early"] == pytest.approx(np.mean(early))


def lowest(rows):
  return min(rows, key=lambda row: row["val_loss"])


def candidate(arguments, **values):
  return experiments.Candidate(arguments, (), values)


def test_the_better_moment_is_chosen():
  one = candidate({"a": 1}, end=0.5, early=0.6)
  two = candidate({"a": 2}, end=0.6, early=0.4)
  lost = candidate({"a": 3}, end=math.nan, early=math.nan)
  error = tf_lottery.Objective("mae", "min")
  for objective, candidates, chosen, when in (
    (ACCURACY, (lost, one), one, "early"),
    (ACCURACY, (one, two), one, "early"),
    (ACCURACY, (two, one), two, "end"),
    (error, (lost, one, two), two, "early"),
    (error, (one,), one, "end"),
  ):
    tuning = experiments.Tuning(MINE, objective, candidates)
    assert (tuning.chosen, tuning.when) == (chosen, when)
  with pytest.raises(tf_lottery.DivergedError, match="all 1 diverged"):
    _ = experiments.Tuning(MINE, ACCURACY, (lost,)).chosen


def test_it_tells_the_cost(tuning):
  assert tuning.trainings == pytest.approx(4)
  assert tuning.cost.steps == 4 * 16
  text = str(tuning)
  assert "tuned_dense: validation accuracy" in text
  assert "mean over 2 replicates" in text
  assert "The grid cost 4.0 trainings of the dense network." in text
  (line,) = (line for line in text.splitlines() if "chosen" in line)
  assert line.split()[:2] == ["0.05", "8"]
  assert f"{tuning.chosen.values['end']:.4f}" in line


def test_again_it_trains_only_what_is_new(tuning, root, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(tf_lottery.Trainer, "train", None)
    again = tune(MINE, RATES, root, replicates=2)
  assert str(again) == str(tuning)
  more = tune(MINE, [{"learning_rate": 0.01}, tuning.chosen.arguments], root)
  assert more.candidates[1].values["end"] == pytest.approx(
    tuning.chosen.rounds[0].metrics["val_accuracy"]
  )


def test_other_data_under_the_same_name_are_refused(tuning, root, monkeypatch):
  load = mine.load_data
  monkeypatch.setattr(mine, "load_data", lambda seed: load(seed + 9))
  with pytest.raises(ValueError, match="another recipe; train_data: it was"):
    tune(MINE, RATES, root)


def test_its_dense_network_is_that_of_the_tuned_experiment(tuning, proofs):
  _, proof = proofs
  for replicate, round_ in enumerate(tuning.chosen.rounds):
    level = proof.round(0, replicate)
    assert round_.final.fingerprint() == level.final.fingerprint()


def test_a_report_does_not_take_candidates_for_replicates(proofs):
  proof, _ = proofs
  assert (proof.directory / "tuned_dense").is_dir()
  assert [run.replicate for run in proof.evidence.runs] == [0, 1]
  assert len(report.gather([proof.root])) == 2


def test_tickets_are_judged_against_the_tuned_dense_network(tuning, proofs):
  original, tuned = (proof.directory for proof in proofs)
  compared = report.against_tuned(original, tuned, when="end")
  dense = [proofs[1].round(0, n).metrics["test_accuracy"] for n in (0, 1)]
  ticket = [proofs[0].round(2, n).metrics["test_accuracy"] for n in (0, 1)]
  row = compared.rows[1]
  assert (row.level, row.density) == (2, pytest.approx(0.3, abs=0.02))
  assert row.tuned_dense == pytest.approx(np.mean(dense))
  assert row.original.mean == pytest.approx(np.mean(ticket))
  own = {v.level: v for v in proofs[1].verdicts}
  assert row.tuned.word == own[2].word
  assert row.tuned.p_matching == own[2].p_matching
  text = str(compared)
  assert "against the tuned dense network, means over replicates" in text
  assert "Tickets of the tuned recipe: " in text


def test_the_tuned_recipe_is_compared_where_it_stops(proofs):
  original, tuned = (proof.directory for proof in proofs)
  compared = report.against_tuned(original, tuned, when="early")
  early = [lowest(proofs[1].round(0, n).history[1:]) for n in (0, 1)]
  mean = np.mean([row["test_accuracy"] for row in early])
  assert compared.rows[0].tuned_dense == pytest.approx(mean)
  with pytest.raises(ValueError, match="'early' or 'end', got 'late'"):
    report.against_tuned(original, tuned, when="late")


def test_experiments_of_two_metrics_are_refused(proofs, tmp_path):
  regression = experiments.Experiment(
    make_model=mine.make_regression,
    load_data=mine.load_targets,
    steps=2,
    schedule=(0.5,),
    controls=(),
    replicates=1,
    jit=False,
  )
  proof = experiments.prove(regression, tmp_path, progress=False)
  with pytest.raises(ValueError, match="one metric, got test accuracy and"):
    report.against_tuned(proofs[0].directory, proof.directory)


def test_values_of_two_losses_are_not_compared(tmp_path):
  squared, absolute = (
    experiments.prove(
      experiments.Experiment(
        make_model=make_regression,
        model_args={"loss": loss},
        load_data=mine.load_targets,
        steps=2,
        schedule=(0.5,),
        controls=(),
        replicates=1,
        jit=False,
      ),
      tmp_path,
      progress=False,
    ).directory
    for loss in ("mse", "mae")
  )
  with pytest.raises(ValueError, match=r"one loss;.* has mse and .* mae"):
    report.against_tuned(squared, absolute)


def test_an_error_is_chosen_where_it_is_smallest(tmp_path):
  experiment = experiments.Experiment(
    make_model=make_regression,
    load_data=mine.load_targets,
    epochs=2,
    schedule=(0.5,),
    jit=False,
  )
  found = tune(experiment, {"learning_rate": [1e-7, 0.5]}, tmp_path)
  assert found.objective.direction == "min"
  assert found.chosen.arguments == {"learning_rate": 0.5}
  assert found.chosen.values[found.when] == min(
    min(one.values.values()) for one in found.candidates
  )


def make_regression(learning_rate=0.02, loss="mse"):
  import keras

  model = mine.make_regression()
  model.compile(keras.optimizers.Adam(learning_rate), loss)
  return model


def test_a_recipe_may_diverge_and_loses(tmp_path):
  experiment = experiments.Experiment(
    make_model=make_wild,
    load_data=mine.load_targets,
    epochs=2,
    schedule=(0.5,),
    jit=False,
  )
  found = tune(experiment, {"learning_rate": [1e18, 1e-3]}, tmp_path)
  assert found.chosen.arguments == {"learning_rate": 1e-3}
  assert math.isnan(found.candidates[0].values["end"])


def make_late(late=1e-3):
  """Its learning rate changes after the first of two epochs."""
  import keras

  rates = keras.optimizers.schedules.PiecewiseConstantDecay([8], [1e-2, late])
  model = mine.make_model()
  model.compile(
    keras.optimizers.SGD(rates),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
  )
  return model


def test_a_recipe_that_diverges_late_loses_at_both_moments(tmp_path):
  late = dataclasses.replace(MINE, make_model=make_late)
  found = tune(late, {"late": [1e30, 1e-3]}, tmp_path)
  wild, tame = found.candidates
  assert lowest(wild.rounds[0].history[1:2])["val_loss"] < math.inf
  assert all(math.isnan(value) for value in wild.values.values())
  assert found.chosen is tame


def make_two_headed(learning_rate=0.05):
  """A functional model of two outputs, chosen by the metric of one."""
  import keras

  inputs = keras.Input((6,))
  hidden = keras.layers.Dense(8, "relu")(inputs)
  outputs = {
    "kind": keras.layers.Dense(2, "softmax", name="kind")(hidden),
    "sum": keras.layers.Dense(1, name="sum")(hidden),
  }
  model = keras.Model(inputs, outputs)
  model.compile(
    keras.optimizers.Adam(learning_rate),
    {"kind": "sparse_categorical_crossentropy", "sum": "mse"},
    metrics={"kind": ["accuracy"]},
  )
  return model


def load_streams(seed):
  import tensorflow as tf

  return [
    tf.data.Dataset.from_tensor_slices(
      (x, {"kind": y, "sum": x.sum(-1, keepdims=True)})
    ).batch(12)
    for x, y in mine.load_data(seed)
  ]


def test_two_outputs_learn_from_streams(tmp_path):
  experiment = experiments.Experiment(
    make_model=make_two_headed,
    load_data=load_streams,
    epochs=2,
    schedule=(0.5,),
    objective="kind_accuracy",
    jit=False,
  )
  found = tune(experiment, {"learning_rate": [1e-7, 0.05]}, tmp_path)
  assert found.chosen.arguments == {"learning_rate": 0.05}
  assert "validation kind accuracy" in str(found)


def make_wild(learning_rate=1e-3):
  import keras

  model = mine.make_regression()
  model.compile(keras.optimizers.SGD(learning_rate), "mse")
  return model


def chosen_by(experiment):
  """A tuning whose one candidate is chosen."""
  one = candidate({"learning_rate": 0.05}, end=0.9, early=0.8)
  return experiments.Tuning(experiment, ACCURACY, (one,))


def test_an_experiment_whose_own_recipe_is_best_stays_as_it_is():
  declared = dataclasses.replace(MINE, model_args={"learning_rate": 0.05})
  assert chosen_by(declared).experiment is declared


def test_an_experiment_whose_defaults_are_best_stays_as_it_is():
  one = candidate({"learning_rate": 0.02, "units": 8}, end=0.9, early=0.8)
  assert experiments.Tuning(MINE, ACCURACY, (one,)).experiment is MINE


def test_a_named_experiment_is_tuned_under_another_name():
  named = dataclasses.replace(MINE, name="plants")
  tuned = chosen_by(named).experiment
  assert tuned.id.startswith("plants-learning-rate-0-05-")


@pytest.mark.parametrize(
  ("grid", "message"),
  [
    ({}, "at least one candidate"),
    ([], "at least one candidate"),
    ({"learning_rate": []}, "at least one candidate"),
    ({"learning_rate": 0.1}, r"grid\['learning_rate'\] must be a list"),
    ({"keras": "keras"}, r"grid\['keras'\] must be a list"),
    (
      {"learning_rat": [0.1]},
      "'learning_rat', which make_model does not take. Did you mean"
      " 'learning_rate'",
    ),
    ({"units": [object()]}, "values that JSON can hold"),
    ({"learning_rate": [0.1, 0.1]}, "a candidate twice"),
    ({"units": [9]}, r"the network of the experiment.*\(6, 8\).*\(6, 9\)"),
    ({"units": ["many"]}, "make_model fails for the candidate .*'many'"),
  ],
)
def test_bad_grids_are_refused_before_any_training(grid, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    tune(MINE, grid, tmp_path)
  assert not list(tmp_path.iterdir())


def test_replicates_must_be_positive(tmp_path):
  for number in (0, "auto"):
    with pytest.raises(ValueError, match=f"at least 1, got {number!r}"):
      tune(MINE, RATES, tmp_path, replicates=number)


def test_losses_of_two_kinds_are_no_objective(tmp_path):
  experiment = experiments.Experiment(
    make_model=make_regression, load_data=mine.load_targets, steps=1
  )
  for losses in (["mse", "mae"], ["mae"]):
    with pytest.raises(ValueError, match=r'several losses.*"mae", "mse"'):
      tune(experiment, {"loss": losses}, tmp_path)
