"""Lays out cells of text in aligned columns."""

from collections.abc import Iterable
from collections.abc import Sequence


def render(
  header: Sequence[str], rows: Iterable[Sequence[str]], align: str
) -> str:
  """Lays out a table whose columns are as wide as their widest cell.

  Args:
    header: The name of each column.
    rows: The cells of each row.
    align: One character for each column, `"<"` for left and `">"` for right.

  Returns:
    One line for the header and one for each row.

  Raises:
    ValueError: A row has more or fewer cells than the header.

  >>> rows = [["hidden", "300"], ["out", "10"]]
  >>> print(render(["layer", "units"], rows, "<>"))
  layer   units
  hidden    300
  out        10
  """
  lines = [header, *rows]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(_line(cells, widths, align) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int], align: str) -> str:
  padded = [
    f"{cell:{side}{width}}"
    for cell, width, side in zip(cells, widths, align, strict=True)
  ]
  return "  ".join(padded).rstrip()
