"""From training to the verdict, for what is not a classifier's accuracy."""

import json

import keras
import numpy as np
import pytest

import tf_lottery
from tests import small
from tf_lottery.report import evidence
from tf_lottery.report import headlines

SEEDS = 3
X, _ = small.examples(240)
TOKENS = np.arange(240) % 5


class Perplexity(keras.metrics.Mean):
  """e to the power of the cross-entropy, as language models report it."""

  def update_state(self, y_true, y_pred, sample_weight=None):
    losses = keras.losses.sparse_categorical_crossentropy(
      y_true, y_pred, from_logits=True
    )
    return super().update_state(losses, sample_weight)

  def result(self):
    return keras.ops.exp(super().result())


def negative(y_true, y_pred):
  return -keras.losses.mean_absolute_error(y_true, y_pred)


def network(outputs, activation=None, scale=1.0):
  layers = keras.layers
  return keras.Sequential(
    [
      keras.Input((6,)),
      layers.Dense(12, "relu"),
      layers.Dense(outputs, activation),
      layers.Rescaling(scale),
    ]
  )


def compiled(model, loss, metrics=()):
  model.compile(keras.optimizers.Adam(0.03), loss, metrics=list(metrics))
  return model


def regression():
  score = keras.metrics.MeanMetricWrapper(negative, name="score")
  return compiled(network(1, scale=1000.0), "mse", ["mae", score])


def scorer():
  auc = keras.metrics.AUC(name="auc")
  return compiled(network(1, "sigmoid"), "binary_crossentropy", [auc])


def tagger():
  return compiled(
    network(3, "sigmoid"), "binary_crossentropy", ["binary_accuracy"]
  )


def language_model():
  layers = keras.layers
  model = keras.Sequential(
    [keras.Input((), dtype="int32"), layers.Embedding(5, 8), layers.Dense(5)]
  )
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  return compiled(model, loss, [Perplexity(name="perplexity")])


SUMS = (1000 * X.sum(-1, keepdims=True), X.sum(-1, keepdims=True) > 0)
KINDS = {
  "mean squared error, by the loss": (regression, (X, SUMS[0]), None),
  "mean absolute error": (regression, (X, SUMS[0]), "mae"),
  "negative values": (
    regression,
    (X, SUMS[0]),
    tf_lottery.Objective("score", "max"),
  ),
  "AUC": (scorer, (X, SUMS[1].astype("float32")), "auc"),
  "multi-label": (tagger, (X, (X[:, :3] > 0).astype("float32")), None),
  "perplexity": (
    language_model,
    (TOKENS, (TOKENS * 2 + 1) % 5),
    tf_lottery.Objective("perplexity", "min"),
  ),
}
SLOW = {"mean absolute error", "AUC", "perplexity"}
TRAINERS = {}


@pytest.fixture(
  scope="module",
  params=[
    pytest.param(kind, marks=[pytest.mark.slow] if kind in SLOW else [])
    for kind in KINDS
  ],
)
def searched(request, tmp_path_factory):
  """The folder of an experiment of three replicates, and their searches."""
  make_model, data, objective = KINDS[request.param]
  home = tmp_path_factory.mktemp("experiment")
  (home / "experiment.json").write_text(json.dumps({"id": "mine"}))
  trainer = TRAINERS.setdefault(make_model, tf_lottery.Trainer(make_model))
  results = [
    tf_lottery.find_ticket(
      trainer,
      data,
      validation_data=data,
      steps=80,
      batch_size=48,
      schedule=(0.95, 0.05),
      method="iterative",
      objective=objective,
      seed=seed,
      run_dir=home / f"replicate_{seed:02d}",
    )
    for seed in range(SEEDS)
  ]
  return home, results


def test_a_ticket_of_hardly_any_weights_is_below(searched):
  home, results = searched
  (found,) = evidence.gather([home])
  sign = results[0].objective.sign
  assert found.monitor == results[0].objective.name
  last = found.verdicts("end")[-1]
  assert last.word == "below"
  assert sign * last.difference < 0
  assert (last.n_ticket, last.pairs) == (SEEDS, SEEDS)
  assert "cannot be told" not in headlines.headline(found)


def test_search_and_report_compare_the_same_values(searched):
  home, results = searched
  (found,) = evidence.gather([home])
  name = f"val_{results[0].objective.name}"
  last = found.verdicts("end")[-1]
  differences = [
    result.rounds[2].metrics[name] - result.rounds[0].metrics[name]
    for result in results
  ]
  assert last.difference == pytest.approx(np.mean(differences))


def test_search_and_report_have_one_default_tolerance(searched):
  home, results = searched
  name = f"val_{results[0].objective.name}"
  dense = np.mean([result.rounds[0].metrics[name] for result in results])
  starts = [r.rounds[0].untrained.get(name) for r in results]
  start = None if None in starts else np.mean(starts)
  (found,) = evidence.gather([home])
  assert found.tolerance_at("end") == pytest.approx(
    tf_lottery.objective.default_tolerance(dense, start)
  )


def test_the_search_chooses_no_ticket_that_is_below(searched):
  _, results = searched
  for result in results:
    assert result.smallest_matching_level() < 2
    level = result.smallest_matching_level()
    # The last line tells the price.
    last = str(result).splitlines()[-2]
    if level:
      assert last.startswith("The smallest matching ticket is Level 1, with")
    else:
      assert last.startswith("No ticket matches the dense network: the best")
