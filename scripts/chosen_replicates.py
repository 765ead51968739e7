"""The flag `--only` of studies: some replicates of some tasks."""

import re
from collections.abc import Mapping
from collections.abc import Sequence

from absl import app


def parse(
  only: Sequence[str] | None, counts: Mapping[str, int]
) -> list[tuple[str, range]]:
  """Returns tasks, each with the replicates to be trained.

  Args:
    only: Texts such as `"lenet:0-4"`. None stands for all.
    counts: Name of a task -> the number of its replicates.

  Raises:
    UsageError: A text is another, or names no task.

  >>> parse(["lenet:0-1", "cnn:3-3", "lenet:4-4"], {"lenet": 5, "cnn": 5})
  [('lenet', range(0, 2)), ('cnn', range(3, 4)), ('lenet', range(4, 5))]
  """
  if only is None:
    return [(name, range(count)) for name, count in counts.items()]
  wanted = []
  for text in only:
    match = re.fullmatch(r"(\w+):(\d+)-(\d+)", text)
    if not match or match[1] not in counts:
      raise app.UsageError(
        f"--only takes {', '.join(counts)} with replicates, such as"
        f" {next(iter(counts))}:0-2; got {text!r}."
      )
    wanted.append((match[1], range(int(match[2]), int(match[3]) + 1)))
  return wanted
