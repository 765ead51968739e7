"""Looks: after how many replicates an experiment is judged."""

import re

# Few replicates more tell little, and a t test of 3 shows next to nothing at
# its share of the 5 %; docs/results/sequential.md tells what these cost.
_NUMBERS = (4, 6, 8, 12, 16, 24, 32, 48)
_MOST = 12
_AUTO = re.compile(r"auto(?::(\d{1,4}))?")


def planned(replicates: int | str) -> tuple[int, ...]:
  """Returns the numbers of replicates after which an experiment is judged.

  Args:
    replicates: A number; or `"auto"` or `"auto:N"`, see `Experiment`.

  Returns:
    One number, or several that rise.

  Raises:
    ValueError: It is something else, or the number is too small.

  Example:
  >>> planned(5), planned("auto"), planned("auto:7")
  ((5,), (4, 6, 8, 12), (4, 6, 7))
  """
  if not isinstance(replicates, str):
    if replicates < 1:
      raise ValueError(f"replicates must be at least 1, got {replicates}.")
    return (replicates,)
  match = _AUTO.fullmatch(replicates)
  most = int(match[1] or _MOST) if match else 0
  if most <= _NUMBERS[0]:
    raise ValueError(
      "replicates must be a number, 'auto', or 'auto:N' for at most N"
      f" replicates, N at least {_NUMBERS[0] + 1}; got {replicates!r}."
    )
  return (*(n for n in _NUMBERS if n < most), most)
