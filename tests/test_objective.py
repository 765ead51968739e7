import pytest

from tf_lottery import metrics


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    (["loss", "auc", "accuracy"], "accuracy"),
    (["loss", "sparse_categorical_accuracy"], "sparse_categorical_accuracy"),
    (["loss", "auc"], "loss"),
    (["loss"], "loss"),
  ],
)
def test_the_default_metric_to_choose_by(names, expected):
  assert metrics.default_monitor(dict.fromkeys(names, 0.0)) == expected


@pytest.mark.parametrize(
  ("name", "lower"),
  [
    ("accuracy", False),
    ("r2_score", False),
    ("dice", False),
    ("dice_loss", True),
    ("layer2_mse", True),
    ("iou_error", True),
  ],
)
def test_the_direction_of_a_metric(name, lower):
  assert metrics.lower_is_better(name) is lower
