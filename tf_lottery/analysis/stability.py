"""Stability: from which step on the order of the data makes no difference."""

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from tf_lottery import text_table
from tf_lottery.rewinding import Step
from tf_lottery.search.instability import Instability
from tf_lottery.search.instability import check
from tf_lottery.search.instability import in_order
from tf_lottery.search.instability import measure
from tf_lottery.search.loop import Search
from tf_lottery.training.data import as_data
from tf_lottery.training.lines import check_points


@dataclasses.dataclass(frozen=True)
class InstabilityTable:
  """The instability of some networks at some steps. Printing it shows a table.

  Attributes:
    measured: One `Instability` for each Level and step, in their order.
  """

  measured: tuple[Instability, ...]

  def __iter__(self) -> Iterator[Instability]:
    return iter(self.measured)

  def __len__(self) -> int:
    return len(self.measured)

  def __getitem__(self, index: int) -> Instability:
    return self.measured[index]

  def __str__(self) -> str:
    rows = [
      (
        str(one.level),
        f"{one.density:.2%}",
        str(one.step),
        f"{one.barrier:.4f}",
        "yes" if one.is_stable else "no",
      )
      for one in self
    ]
    header = ("level", "density", "from step", "barrier", "stable")
    table = text_table.render(header, rows, ">>>>>")
    if not self.measured:
      return table
    name, limit = self[0].objective.name, self[0].threshold
    return f"{table}\nThe barriers are of {name}; stable is below {limit:.3g}."


def instability(
  search: Search,
  steps: Sequence[Step | int | str] = (0,),
  levels: Sequence[int] = (0,),
  data: Any = None,
  *,
  points: int = 30,
  statistics_data: Any = None,
) -> InstabilityTable:
  """Trains networks twice from a step, in two orders of the data, and compares.

  Both trainings start from the dense network's weights of the step, under the
  mask of a Level. If the networks on the line between their ends are as good as
  the ends, the training is *stable* from that step on: what it finds does not
  depend on the order of the data. Frankle et al. find that tickets match where
  they are stable.

  The trainings are compiled once, with the search. They lie in its run
  directory and go on where they stopped; the same call again trains nothing.
  For the dense network from step 0, and for a ticket from the step to which the
  search rewinds, one of the two is there already.

  Args:
    search: What `find_ticket` returned.
    steps: The steps, each as `"500it"`, `"2ep"` or a number of optimizer
      updates. Defaults to `(0,)`, initialisation.
    levels: The Levels, which must be trained; 0 is the dense network. Defaults
      to `(0,)`.
    data: The data on which networks are compared, in a form that `find_ticket`
      takes. Defaults to the test data of the search, else its validation data.
    points: How many networks on the line are evaluated, both ends included, at
      least 2. Defaults to `30`, as in the paper.
    statistics_data: Data from which the moving statistics of batch
      normalisation are computed anew at each place of a line. Defaults to
      `None`: they are interpolated, as in the paper.

  Returns:
    The `InstabilityTable`, with one `Instability` for each Level and step.

  Raises:
    ValueError: A Level is not trained, a step is not before the end of
      training, `points` is out of range, or the training data are a stream that
      has one order only.

  Example:
  ```python
  found = tf_lottery.analysis.instability(
    result, steps=(0, "1ep"), levels=(0, result.smallest_matching_level())
  )
  print(found)
  ```

  Reference: Frankle et al., arXiv 1912.05671.
  """
  per_epoch = search.protocol.steps_per_epoch
  numbers = [Step.parse(step).iterations(per_epoch) for step in steps]
  check_points(points)
  if not (numbers and levels):
    raise ValueError(
      f"Give at least one step and one Level, got steps={tuple(steps)} and"
      f" levels={tuple(levels)}."
    )
  for level in levels:
    for step in numbers:
      check(search, level, step)
  in_order(search.protocol.train, 1)  # refuses data of one order only
  if data is None:
    data = search.protocol.test or search.protocol.validation
  return InstabilityTable(
    tuple(
      measure(
        search,
        level,
        step,
        as_data(data),
        points=points,
        statistics_data=None
        if statistics_data is None
        else as_data(statistics_data),
      )
      for level in levels
      for step in numbers
    )
  )
