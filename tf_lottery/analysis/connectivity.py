"""Linear mode connectivity of the Rounds of a search."""

import itertools
from typing import Any

from tf_lottery.search.loop import Search
from tf_lottery.training.lines import interpolate


def level_barriers(
  search: Search,
  data: Any = None,
  *,
  points: int = 30,
  statistics_data: Any = None,
) -> dict[tuple[int, int], float]:
  """Barriers between the trained networks of successive Levels.

  Nothing is trained. Paul et al. (arXiv 2210.03044) find no barrier between
  Levels that both match the dense network.

  Args:
    search: What `find_ticket` returned.
    data: What to evaluate on. Defaults to the test data of the search, else its
      validation data.
    points: See `interpolate`.
    statistics_data: See `interpolate`.

  Returns:
    (Level, next trained Level) -> barrier, in units of the objective. Rounds
    that were stopped before their ends are left out.
  """
  if data is None:
    data = search.protocol.test or search.protocol.validation
  rounds = [round_ for round_ in search.rounds if not round_.stopped]
  return {
    (one.level, other.level): interpolate(
      search.trainer,
      one,
      other,
      data,
      points=points,
      statistics_data=statistics_data,
    ).barrier(search.objective)
    for one, other in itertools.pairwise(rounds)
  }
