"""The objective: what a metric's direction comes from, with real models."""

import math
import re

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tf_lottery import objective
from tf_lottery.training.trainer import Trainer

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}


def own_class(library, direction=None, name="mine"):
  """A metric class of the user's, which may say its direction."""

  class Mine(library.metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
      return super().update_state(abs(y_pred - 0.3))

  metric = Mine(name=name)
  if direction is not None:
    metric._direction = direction
  return metric


def column(labels):
  return labels.astype(np.float32)[:, None]


def search(make_model, targets=column, **arguments):
  """Trains the dense network and one ticket for two steps each."""
  x, labels = small.examples(48)
  data = (x, targets(labels))
  return tf_lottery.find_ticket(
    make_model,
    data,
    validation_data=data,
    steps=2,
    batch_size=24,
    schedule=(0.2,),
    **arguments,
  )


def classifier(library, metrics):
  """Returns a function that makes a classifier of two classes."""

  def make_model():
    layers = library.layers
    model = library.Sequential(
      [
        library.Input((6,)),
        layers.Dense(8, "relu"),
        layers.Dense(1, "sigmoid"),
      ]
    )
    optimizer = library.optimizers.SGD(0.3)
    model.compile(optimizer, "binary_crossentropy", metrics=metrics())
    return model

  return make_model


def regression(library, metrics=("mae",)):
  def make_model():
    model = library.Sequential(
      [library.Input((6,)), library.layers.Dense(4), library.layers.Dense(1)]
    )
    model.compile("sgd", "mse", metrics=list(metrics))
    return model

  return make_model


def two_outputs(library, names=("head", "size")):
  """Two outputs that are called as told: a classifier and a regression."""

  def make_model():
    inputs = library.Input((6,))
    hidden = library.layers.Dense(4, activation="relu")(inputs)
    softmax = library.layers.Dense(2, activation="softmax", name=names[0])
    size = library.layers.Dense(1, name=names[1])
    model = library.Model(inputs, [softmax(hidden), size(hidden)])
    model.compile(
      library.optimizers.SGD(0.1),
      ["sparse_categorical_crossentropy", "mse"],
      metrics=[["accuracy"], ["mae"]],
      weighted_metrics=[["accuracy"], []],
    )
    return model

  return make_model


def both(labels):
  return [labels, column(labels)]


def assert_chosen_by(result, name, direction):
  """The result is chosen by that metric, and in that direction."""
  assert result.objective == tf_lottery.Objective(name, direction)
  assert result.monitor == name
  dense, ticket = (r.metrics[f"val_{name}"] for r in result.rounds)
  assert dense != ticket
  better = ticket > dense if direction == "max" else ticket < dense
  assert result.smallest_matching_level(0.0) == int(better)


@pytest.fixture(scope="module", params=LIBRARIES)
def misleading(request):
  """A trainer of a model whose metrics' names mislead those who guess."""
  library = LIBRARIES[request.param]

  def wrapped(function, name):
    return library.metrics.MeanMetricWrapper(function, name=name)

  def metrics():
    return [
      wrapped(library.losses.mean_squared_error, "vaccine_mse"),
      library.metrics.MeanAbsoluteError(name="leaf1_mae"),
      wrapped(library.losses.Huber(), "predicted_recall_mse"),
      library.metrics.BinaryAccuracy(name="error_free"),
      own_class(library, "down", "accuracy_drop"),
      own_class(library, None, "error_accumulated"),
    ]

  return Trainer(classifier(library, metrics))


@pytest.mark.parametrize(
  ("name", "direction"),
  [
    ("vaccine_mse", "min"),
    ("leaf1_mae", "min"),
    ("predicted_recall_mse", "min"),
    ("error_free", "max"),
    ("accuracy_drop", "min"),
  ],
)
def test_the_metric_itself_tells_not_its_name(misleading, name, direction):
  assert_chosen_by(search(misleading, objective=name), name, direction)


def test_a_metric_that_nothing_tells_of_is_refused_with_the_way_out(misleading):
  with pytest.raises(
    ValueError, match="more or less of 'error_accumu"
  ) as error:
    search(misleading, objective="error_accumulated")
  (way_out,) = re.findall(r"objective=(\S+, \S+\))\)", str(error.value))
  asked = eval(way_out, {"tf_lottery": tf_lottery})
  result = search(misleading, objective=asked)
  assert_chosen_by(result, "error_accumulated", "min")


def test_the_argument_decides_against_keras(misleading):
  asked = tf_lottery.Objective("error_free", "min")
  assert_chosen_by(search(misleading, objective=asked), "error_free", "min")


def test_the_default_is_an_accuracy_whatever_it_is_called(misleading):
  # vaccine_mse and accuracy_drop have "acc" in them, and are no accuracies.
  assert search(misleading).objective.name == "error_free"


def test_monitor_is_another_name_of_objective(misleading):
  assert search(misleading, monitor="loss").objective.name == "loss"
  with pytest.raises(
    ValueError, match="give one of them, got objective='loss'"
  ):
    search(misleading, objective="loss", monitor="loss")


def test_without_an_accuracy_the_loss_decides(keras):
  def metrics():
    return [own_class(keras, name="accuracy_drop")]

  result = search(classifier(keras, metrics))
  assert_chosen_by(result, "loss", "min")


def test_of_a_regression_less_is_better(keras):
  trainer = Trainer(regression(keras))
  assert_chosen_by(search(trainer, objective="mae"), "mae", "min")
  assert search(trainer).objective.name == "loss"
  with pytest.raises(
    ValueError, match=r"\['loss', 'mae'\], without 'val_'; got"
  ):
    search(trainer, objective="val_mae")


def test_metrics_of_several_outputs(keras):
  trainer = Trainer(two_outputs(keras))
  for name, direction in {
    "head_accuracy": "max",
    "head_weighted_accuracy": "max",
    "size_mae": "min",
    "size_loss": "min",
  }.items():
    result = search(trainer, both, objective=name)
    assert_chosen_by(result, name, direction)
  assert search(trainer, both).objective.name == "head_accuracy"


def test_the_name_of_an_output_tells_nothing(keras):
  trainer = Trainer(two_outputs(keras, names=("mean", "accuracy")))
  assert search(trainer, both).objective.name == "mean_accuracy"
  for name in ("accuracy_loss", "accuracy_mae"):
    assert_chosen_by(search(trainer, both, objective=name), name, "min")


def test_a_loss_is_known_only_of_an_output_that_is_there(keras):
  def metrics():
    return [own_class(keras, name="dice_loss")]

  with pytest.raises(ValueError, match="more or less of 'dice_loss' is better"):
    search(classifier(keras, metrics), objective="dice_loss")


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_class_of_ones_own_may_tell(keras, direction):
  def metrics():
    return [own_class(keras, direction)]

  result = search(classifier(keras, metrics), objective="mine")
  assert_chosen_by(result, "mine", {"up": "max", "down": "min"}[direction])


@pytest.mark.parametrize(
  ("name", "direction"),
  [
    ("accuracy", "max"),
    ("sparse_top_k_categorical_accuracy", "max"),
    ("mean_io_u", "max"),
    ("MeanIoU", "max"),
    ("r2_score", "max"),
    ("loss", "min"),
    ("MSE", "min"),
    ("kl_divergence", "min"),
    ("head_accuracy", None),
    ("leaf1_mae", None),
    ("vaccine_mse", None),
    ("dice_loss", None),
    ("", None),
  ],
)
def test_only_whole_names_of_kerases_own_metrics_are_known(name, direction):
  assert objective.known_direction(name) == direction


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_every_metric_with_a_direction_is_known_by_its_class(library):
  """All of Keras's metrics, but for those that only count or average."""
  undirected = (
    "FalseNegatives",
    "FalsePositives",
    "Mean",
    "MeanMetricWrapper",
    "MeanTensor",
    "Metric",
    "Sum",
    "TrueNegatives",
    "TruePositives",
  )
  classes = [
    name
    for name, value in vars(library.metrics).items()
    if isinstance(value, type) and name not in undirected
  ]
  assert len(classes) > 25
  unknown = [n for n in classes if objective.known_direction(n) is None]
  assert unknown == []


def test_keras_3_agrees_on_the_directions_of_its_metrics():
  arguments = {
    "IoU": {"num_classes": 2, "target_class_ids": [0]},
    "MeanIoU": {"num_classes": 2},
    "OneHotIoU": {"num_classes": 2, "target_class_ids": [0]},
    "OneHotMeanIoU": {"num_classes": 2},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
  }
  for name, value in vars(keras.metrics).items():
    direction = isinstance(value, type) and objective.known_direction(name)
    if direction:
      said = value(**arguments.get(name, {}))._direction
      assert {"up": "max", "down": "min"}[said] == direction, name


@pytest.mark.parametrize("direction", ["up", "lower", None, "MAX"])
def test_a_direction_is_max_or_min(direction):
  with pytest.raises(ValueError, match="direction must be 'max' or 'min', got"):
    tf_lottery.Objective("mine", direction)


def test_a_declaration_holds_the_objective():
  one = tf_lottery.Objective("mine", "min")
  assert tf_lottery.Objective.from_declaration(one.to_declaration()) == one


def test_a_declaration_without_a_direction_has_that_of_a_known_name():
  declared = tf_lottery.Objective.from_declaration({"monitor": "mae"})
  assert declared == tf_lottery.Objective("mae", "min")
  with pytest.raises(ValueError, match="not known whether more or less of"):
    tf_lottery.Objective.from_declaration({"monitor": "leaf1_mae"})


@pytest.mark.parametrize(
  ("dense", "untrained", "tolerance"),
  [
    (0.9, 0.1, 0.008),
    (0.1, 0.9, 0.005),  # at most 5 % of the dense network's value
    (-2.0, -9.0, 0.07),
    (-2.0, -900.0, 0.1),
    (0.9, None, 0.009),
    (-40.0, None, 0.4),
    (0.9, math.nan, 0.009),
    (0.9, math.inf, 0.009),
    (math.nan, 0.1, 0.0),
    (math.inf, None, 0.0),
    (0.0, 5.0, 0.0),
  ],
)
def test_the_default_tolerance_keeps_99_percent_of_what_training_gained(
  dense, untrained, tolerance
):
  found = objective.default_tolerance(dense, untrained)
  assert found == pytest.approx(tolerance)


@pytest.mark.parametrize("unit", [1e-6, 100.0, -1.0])
def test_the_default_tolerance_does_not_depend_on_the_unit(unit):
  one = objective.default_tolerance(0.4, 2.3)
  assert objective.default_tolerance(0.4 * unit, 2.3 * unit) == pytest.approx(
    one * abs(unit)
  )
