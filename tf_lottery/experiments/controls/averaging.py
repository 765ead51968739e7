"""The control `weight_average`: Levels are averaged, and nothing is trained."""

import math
from collections.abc import Iterator
from collections.abc import Mapping

import numpy as np

from tf_lottery import rewinding
from tf_lottery.experiments.controls import changed
from tf_lottery.masks import Mask
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round
from tf_lottery.training.lines import between

_Weights = Mapping[str, np.ndarray]

# The shares of another Level in an average that are tried.
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


def weight_average(search: Search, level: int, draw: int = 0) -> Round:
  """The Level's trained weights, averaged with those of other trained Levels.

  Starts from the weights w at the end of the Level's training. For each other
  Level that is trained to its end, the nearest first and the dense network too,
  it tries

      (1 - a) * w + a * v,  a = 0.1, 0.3, 0.5, 0.7, 0.9

  where v are the weights at the end of that Level under the mask of this one.
  The best of them replaces w if its objective on validation data is better.
  Moving statistics are averaged likewise. So it costs evaluations and no
  training: the Round has 0 steps. The provenance of its ticket names the Levels
  that went in, as `"averaged"`: each Level and its share, in this order.

  Args:
    search: the search. Levels that are trained later change nothing.
    level: the Level of the ticket.
    draw: numbers the directory; nothing is drawn.

  Raises:
    ValueError: The training of the Level was stopped before its end.

  Reference: Yin et al., AAAI 2023, arXiv 2208.10842.
  """
  name = "weight_average"
  search.ticket(level)  # refuses the dense Level
  if done := search.find_control(level, name, draw):
    return done
  if search.round(level).stopped:
    raise ValueError(
      f"The control {name} needs Levels that are trained to their ends, and the"
      f" training of Level {level} was stopped. Go on with it by"
      f" search.train_level({level})."
    )
  weights, averaged = _averaged(search, level)
  ticket = changed.ticket(search, level, name, start=weights, averaged=averaged)
  # It stands where the trainings of the averaged weights ended.
  ended = rewinding.Rewind(weights=rewinding.Step(0), position=None)
  return search.train_control(ticket, draw, rewind=ended, steps=0)


def _averaged(
  search: Search, level: int
) -> tuple[_Weights, list[dict[str, float]]]:
  """Returns the average, and each Level that went in with its share."""
  mask = search.round(level).ticket.mask
  snapshot = search.trained(level)
  search.trainer.restore(snapshot, mask, snapshot.step)
  best: _Weights = snapshot.without_random_states()
  highest = _value(search, best)
  averaged = []
  for other in _nearest(search, level):
    own, chosen = best, 0.0
    theirs = _under(mask, search.trained(other).without_random_states())
    for share in _SHARES:
      tried = between(own, theirs, share)
      value = _value(search, tried)
      if value > highest:
        best, highest, chosen = tried, value, share
    if chosen:
      averaged.append({"level": other, "share": chosen})
  return best, averaged


def _nearest(search: Search, level: int) -> Iterator[int]:
  """Yields the other Levels that are trained to their ends, by distance."""
  others = [r.level for r in search.rounds if not r.stopped]
  for other in sorted(others, key=lambda other: abs(other - level)):
    if other != level:
      yield other


def _value(search: Search, weights: _Weights) -> float:
  """Returns the objective on validation data; the more, the better."""
  search.trainer.binding.write(weights)
  metrics = search.protocol.validated(search.trainer.evaluate)
  value = search.objective.sign * metrics[f"val_{search.objective.name}"]
  return value if math.isfinite(value) else -math.inf


def _under(mask: Mask, weights: _Weights) -> _Weights:
  """Returns weights with zeros where a mask prunes."""
  return {
    key: np.where(mask[key], value, 0) if key in mask else value
    for key, value in weights.items()
  }
