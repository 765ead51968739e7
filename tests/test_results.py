import pytest

from tf_lottery import results


def result(values, monitor="accuracy"):
  rounds = [
    results.Round(
      level, 0.5**level, {f"val_{monitor}": value}, 1.0, 10, directory=None
    )
    for level, value in enumerate(values)
  ]
  return results.SearchResult(rounds, monitor, trainer=None, train=None)


@pytest.mark.parametrize(
  ("values", "tolerance", "level"),
  [
    ([0.9, 0.91, 0.92], 0.0, 2),
    ([0.9, 0.91, 0.89], 0.0, 1),
    ([0.9, 0.91, 0.89], 0.02, 2),
    ([0.9, 0.8, 0.895], 0.01, 2),  # a worse one in between does not matter
    ([0.9, 0.8, 0.7], 0.01, 0),
    ([0.9], 0.0, 0),
  ],
)
def test_the_smallest_matching_level(values, tolerance, level):
  assert result(values).smallest_matching_level(tolerance) == level


@pytest.mark.parametrize("monitor", ["loss", "mae", "mean_squared_error"])
def test_of_losses_and_errors_lower_is_better(monitor):
  losses = result([0.5, 0.4, 0.6], monitor=monitor)
  assert losses.smallest_matching_level(0.0) == 1
  assert losses.smallest_matching_level(0.2) == 2


def test_a_metric_whose_name_does_not_tell_is_refused():
  with pytest.raises(ValueError, match="'mine' should be high or low"):
    result([0.5, 0.4], monitor="mine").smallest_matching_level()


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
  assert results.default_monitor(dict.fromkeys(names, 0.0)) == expected


def test_rows_line_up_with_the_header():
  round_ = results.Round(
    3, 0.512, {"val_accuracy": 0.5, "test_accuracy": 0.25}, 12.3, 10, None
  )
  header, row = results.header(), results.row(round_)
  assert len(header) == len(row)
  assert row.split() == ["3", "51.20%", "0.5000", "0.2500", "12.3"]
  without_test = results.Round(0, 1.0, {"val_accuracy": 0.5}, 1.0, 10, None)
  assert results.row(without_test).split()[3] == "-"
