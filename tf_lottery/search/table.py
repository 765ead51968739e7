"""Rounds as lines of a table."""

from tf_lottery import rounds


def header(monitor: str = "accuracy") -> str:
  """The head of the table that `row` gives lines of."""
  return (
    f"level  density  {'val ' + monitor:>14}  {'test ' + monitor:>14}  seconds"
  )


def row(round_: rounds.Round, monitor: str = "accuracy") -> str:
  """One Round as a line of a table."""
  cells = [
    f"{round_.metrics[name]:14.4f}"
    if name in round_.metrics
    else " " * 13 + "-"
    for name in (f"val_{monitor}", f"test_{monitor}")
  ]
  return (
    f"{round_.level:5d}  {round_.density:7.2%}  {cells[0]}  {cells[1]}"
    f"  {round_.seconds:7.1f}"
  )
