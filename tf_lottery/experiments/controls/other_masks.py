"""Controls with another mask, and the ticket's start weights."""

from tf_lottery import criteria
from tf_lottery import patterns
from tf_lottery import scopes
from tf_lottery.experiments.controls import changed
from tf_lottery.experiments.controls import seeds
from tf_lottery.masks import Mask
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round


def shuffled_mask(search: Search, level: int, draw: int = 0) -> Round:
  """As many weights kept in each layer, at other places, in the same pattern.

  A search that prunes blocks or channels shuffles blocks or channels.
  """
  seed = seeds.of_control(search, "shuffled_mask", level, draw)
  mask = patterns.shuffled(
    search.ticket(level).mask, search.prunable, search.pattern, seed
  )
  ticket = changed.ticket(search, level, "shuffled_mask", seed, mask=mask)
  return search.train_control(ticket, draw)


def random_mask(search: Search, level: int, draw: int = 0) -> Round:
  """As many weights kept in the whole network, at other places.

  The mask is drawn from all prunable weights, also from those that the scope
  exempts. A search that prunes blocks or channels draws blocks or channels.
  """
  seed = seeds.of_control(search, "random_mask", level, draw)
  mask = _random_mask(search, search.ticket(level).mask, seed)
  ticket = changed.ticket(search, level, "random_mask", seed, mask=mask)
  return search.train_control(ticket, draw)


def _random_mask(search: Search, mask: Mask, seed: int) -> Mask:
  if search.pattern == patterns.unstructured():
    return Mask.random(mask.shapes, mask.density, seed)
  full = Mask.ones(mask.shapes)
  scores = criteria.random(search.trainer.binding, full, seed=seed)
  scope = scopes.global_()
  return scopes.select(
    scores, full, mask.density, scope, search.prunable, search.pattern
  )


def one_shot(search: Search, level: int, draw: int = 0) -> Round:
  """The same density in one step, from the dense network's trained weights."""
  dense = search.rounds[0].ticket.mask
  density = search.schedule[level - 1]
  mask = search.prune(search.trained(0), dense, density)
  ticket = changed.ticket(search, level, "one_shot", mask=mask)
  return search.train_control(ticket, draw)
