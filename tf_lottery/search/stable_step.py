"""The earliest step from which training is stable: where to rewind to."""

import math
import typing

from tf_lottery.cost import Cost
from tf_lottery.rewinding import Rewind
from tf_lottery.rewinding import to_init
from tf_lottery.rewinding import to_step
from tf_lottery.search import instability
from tf_lottery.search.choosing import bisection
from tf_lottery.storage.schemas import StableStep

if typing.TYPE_CHECKING:
  from tf_lottery.search.loop import Search

# The steps that are tried after initialisation, as fractions of a training.
_FRACTIONS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
_POINTS = 30


def candidates(steps: int) -> list[int]:
  """Returns the steps after initialisation that may be rewound to.

  They are a 64th of a training of so many steps, a 32nd, and so on to the half.

  >>> candidates(1000)
  [16, 31, 62, 125, 250, 500]
  """
  return sorted({round(steps * fraction) for fraction in _FRACTIONS} - {0})


def find(search: "Search") -> StableStep:
  """Finds the earliest step from which the dense network's training is stable.

  The first one tried is initialisation. If it is not stable, `candidates` are
  bisected, as a training that is stable from a step on is stable from any later
  one. For each step that is tried, the dense network is trained from there in
  another order of the data; its end is compared with the dense network's on the
  validation data. What is found lies in the run directory.

  Args:
    search: A search whose dense network is trained, with the snapshots of the
      candidates.

  Returns:
    The step; if none is stable, the last candidate.

  Reference: Frankle et al., arXiv 1912.05671, section 4.
  """
  try:
    return search.directory.read_stable_step()
  except FileNotFoundError:
    found = _find(search)
    search.directory.write_stable_step(found)
    return found


def _find(search: "Search") -> StableStep:
  barriers: dict[int, float | None] = {}
  spent = Cost()

  def is_stable(step: int) -> bool:
    nonlocal spent
    measured = instability.measure(
      search, 0, step, search.protocol.validation, points=_POINTS
    )
    spent += measured.cost
    finite = math.isfinite(measured.barrier)
    barriers[step] = measured.barrier if finite else None
    return measured.is_stable

  steps = candidates(search.search_steps)[::-1]
  step, stable = 0, is_stable(0)
  if not stable and steps:
    number = bisection(
      len(steps), lambda n: is_stable(steps[n - 1]), lambda n: False
    )
    step, stable = steps[max(number, 1) - 1], number > 0
  return {
    "step": step,
    "is_stable": stable,
    "threshold": instability.threshold(search),
    "barriers": sorted(barriers.items()),
    "cost": spent.to_json(),
  }


def rewind_to(found: StableStep) -> Rewind:
  """Returns the rewind to the step that was found."""
  return to_step(found["step"]) if found["step"] else to_init()


def in_words(search: "Search", found: StableStep) -> str:
  """Says where the tickets rewind to, why, and what it cost to find."""
  step, name = found["step"], search.objective.name
  where = f"step {step} of {search.search_steps}" if step else "initialisation"
  tried = ", ".join(
    f"{'no number' if barrier is None else f'{barrier:.3g}'} from step {at}"
    for at, barrier in found["barriers"]
  )
  limit = f"a barrier of {name} below {found['threshold']:.3g}"
  if found["is_stable"]:
    why = f"the earliest that is stable: it has {limit}"
  else:
    why = f"the last one tried, as none is stable: no step has {limit}"
  trainings = Cost.from_json(found["cost"]).trainings(search.round(0).cost)
  return (
    f"The tickets rewind to {where}, {why} between two orders of the data"
    f" ({tried}). To find it cost {trainings:.2f} trainings, which count as"
    " drawing masks."
  )
