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
