"""The controls `gradual`: the density falls within one training."""

import functools
import logging

from tf_lottery import rewinding
from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.search.loop import Search
from tf_lottery.search.methods import base
from tf_lottery.search.protocol import MaskChanges
from tf_lottery.search.rounds import Round
from tf_lottery.tickets import Ticket

_log = logging.getLogger("tf_lottery")

# As Zhu and Gupta recommend, and Evci et al.: the last mask trains for the last
# quarter, and the network recovers for 100 steps between two changes.
_CHANGES_FOR = 3 / 4
_FREQUENCY = 100
# A short training has at least this many changes, if it has the steps.
_CHANGES = 10


def gradual(search: Search, level: int, draw: int = 0) -> Round:
  """Gradual pruning: what a practitioner would use instead of a ticket.

  From the search's initial weights, one training as long as a Level's goes
  from the dense network to the density of the Level, by the search's own
  criterion, scope and pattern. The density falls in the first three quarters,
  every 100 steps, or ten times in a shorter training; it is evaluated from
  then on. It resumes like other Rounds.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the directory; nothing is drawn.

  Reference: Zhu and Gupta, arXiv 1710.01878.
  """
  done = search.find_control(level, "gradual", draw)
  if done and "control_seed" not in done.ticket.provenance:
    _log.warning(
      "%s was trained by an earlier version, by tfmot's gradual pruning,"
      " which is now the control gradual_tfmot. Delete it to train it anew.",
      done.directory.path,
    )
  return done or _train(search, level, draw, "gradual", search.search_steps)


def gradual_equal_cost(search: Search, level: int, draw: int = 0) -> Round:
  """`gradual`, trained for as many updates as search and ticket together.

  `Search.equal_cost_steps` says how many these are: what it took to choose
  among tickets is not included.

  The density falls for three quarters of that time. A learning-rate schedule
  that the model was compiled with is not stretched: if it falls to its end
  within a Level's steps, the longer training goes on at its last rate.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the directory; nothing is drawn.
  """
  name, steps = "gradual_equal_cost", search.equal_cost_steps(level)
  done = search.find_control(level, name, draw)
  return done or _train(search, level, draw, name, steps)


def _train(
  search: Search, level: int, draw: int, name: str, steps: int
) -> Round:
  provenance = {
    **search.ticket(level).provenance,
    "control": name,
    "control_seed": None,
  }
  dense = search.rounds[0].ticket
  return search.train_control(
    Ticket(dense.mask, dense.start, provenance),
    draw,
    rewind=rewinding.to_init(),
    steps=steps,
    changes=_changes(search, search.schedule[level - 1], steps),
  )


def change_steps(steps: int) -> range:
  """Returns the steps of a training after which its mask changes.

  Args:
    steps: The length of the training in optimizer updates, at least 1.

  >>> change_steps(4000)
  range(100, 3001, 100)
  """
  end = max(1, int(steps * _CHANGES_FOR))
  every = max(1, min(_FREQUENCY, end // _CHANGES))
  return range(every, end + 1, every)


def densities(
  steps: int, density: float, highest: float = 1.0
) -> dict[int, float]:
  """Returns the steps at which the density falls, and to what.

  With n changes, the one at i / n of the way leaves

      density + (1 - density) * (1 - i / n) ** 3

  Args:
    steps: The length of the training in optimizer updates, at least 1.
    density: The last density, in (0, 1].
    highest: The highest density that the pattern allows, in (0, 1].

  Reference: Zhu and Gupta, arXiv 1710.01878, section 3.

  >>> densities(4000, 0.5)[1500], densities(4000, 0.5)[3000]
  (0.5625, 0.5)
  """
  changes = change_steps(steps)
  end = changes[-1]
  return {
    step: min(highest, density + (1 - density) * (1 - step / end) ** 3)
    for step in changes
  }


def _changes(search: Search, density: float, steps: int) -> MaskChanges:
  falling = densities(steps, density, base.highest_density(search))
  return {
    step: functools.partial(_pruned, search, now)
    for step, now in falling.items()
  }


def _pruned(search: Search, density: float, mask: Mask, spent: Cost) -> Mask:
  del spent
  return search.prune(None, mask, density)
