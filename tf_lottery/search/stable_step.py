"""The earliest step from which training is stable: where to rewind to."""

import typing

from tf_lottery.cost import Cost
from tf_lottery.rewinding import Rewind
from tf_lottery.rewinding import to_init
from tf_lottery.rewinding import to_step
from tf_lottery.search import instability
from tf_lottery.search.choosing import bisection
from tf_lottery.storage.run_directory import RunDirectory

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


def find(search: "Search") -> Rewind:
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
    The rewind to that step; if none is stable, to the last candidate.

  Reference: Frankle et al., arXiv 1912.05671, section 4.
  """
  try:
    found = search.directory.read_stability()
  except FileNotFoundError:
    found = _find(search)
    search.directory.write_stability(found)
  return to_step(found["step"]) if found["step"] else to_init()


def _find(search: "Search") -> dict[str, typing.Any]:
  barriers: dict[int, float] = {}

  def is_stable(step: int) -> bool:
    measured = instability.measure(
      search, 0, step, search.protocol.validation, points=_POINTS
    )
    barriers[step] = measured.barrier
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
  }


def cost(directory: RunDirectory) -> Cost:
  """Returns what it took to find the step; nothing if it was given."""
  trainings = directory.stability_searches()
  return sum((Cost.of_record(d.read_record()) for d in trainings), Cost())


def in_words(search: "Search") -> str:
  """Says where the tickets rewind to, and why; empty if it was given."""
  try:
    found = search.directory.read_stability()
  except FileNotFoundError:
    return ""
  step, name = found["step"], search.objective.name
  barriers = dict(found["barriers"])
  where = f"step {step} of {search.search_steps}" if step else "initialisation"
  tried = ", ".join(f"{barriers[at]:.3g} from step {at}" for at in barriers)
  limit = f"{found['threshold']:.3g}"
  if found["is_stable"]:
    why = f"the earliest that is stable, with a barrier of {name} below {limit}"
  else:
    why = f"the last one tried: none is stable, with barriers below {limit}"
  return (
    f"The tickets rewind to {where}, {why} between two orders of the data"
    f" ({tried})."
  )
