"""Tables of text have aligned columns."""

import pytest

from tf_lottery import text_table


def test_columns_are_as_wide_as_their_widest_cell():
  rows = [["dense", "1,000", "yes"], ["a longer name", "5", ""]]
  assert text_table.render(["layer", "units", "prunable"], rows, "<><") == (
    "layer          units  prunable\n"
    "dense          1,000  yes\n"
    "a longer name      5"
  )


def test_a_table_without_rows_is_its_header():
  assert text_table.render(["a", "b"], [], "<>") == "a  b"


def test_rows_have_a_cell_for_each_column():
  with pytest.raises(ValueError, match="argument 2 is shorter"):
    text_table.render(["a", "b"], [["1"]], "<<")
