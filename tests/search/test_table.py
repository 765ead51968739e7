from tf_lottery import results
from tf_lottery import rounds


def test_rows_line_up_with_the_header():
  round_ = rounds.Round(
    3, 0.512, {"val_accuracy": 0.5, "test_accuracy": 0.25}, 12.3, 10, None
  )
  header, row = results.header(), results.row(round_)
  assert len(header) == len(row)
  assert row.split() == ["3", "51.20%", "0.5000", "0.2500", "12.3"]
  without_test = rounds.Round(0, 1.0, {"val_accuracy": 0.5}, 1.0, 10, None)
  assert results.row(without_test).split()[3] == "-"
