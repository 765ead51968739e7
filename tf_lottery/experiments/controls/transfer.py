"""Controls with the ticket of another experiment: does a ticket travel?

The experiment of the search is the *target*; its field `source` is the other
one, which may have other data, another seed, or a network of another depth.
"""

import logging
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery import patterns
from tf_lottery import rewinding
from tf_lottery.analysis import permutations
from tf_lottery.experiments.controls import changed
from tf_lottery.experiments.controls import seeds
from tf_lottery.masks import Mask
from tf_lottery.rewinding import Rewind
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round
from tf_lottery.tickets import Ticket
from tf_lottery.training.trainer import Trainer

if typing.TYPE_CHECKING:
  from tf_lottery.experiments.experiment import Experiment

_log = logging.getLogger("tf_lottery")


def transferred(
  search: Search, level: int, draw: int = 0, *, source: Search
) -> Round:
  """The source's ticket of the same Level: its mask and its start weights.

  It trains on the target's data, as the target's own ticket does. What the
  source does not have, such as another output layer, starts from the target's
  own weights and is dense.

  Args:
    search: the search of the target.
    level: the Level of the ticket.
    draw: numbers the draws of a control.
    source: the search of the source.

  Raises:
    ValueError: the source's network does not fit, see `Ticket.transfer`; or the
      control was trained with the ticket of another source.

  Reference: Morcos et al., "One ticket to win them all", arXiv 1906.02773.
  """
  ticket = _ticket(search, source, level, "transferred")
  return _train(search, ticket, draw)


def transferred_mask(
  search: Search, level: int, draw: int = 0, *, source: Search
) -> Round:
  """The source's mask, with the target's own start weights.

  For the arguments see `transferred`.
  """
  own = search.dense_start()
  ticket = _ticket(search, source, level, "transferred_mask", start=own)
  return _train(search, ticket, draw)


def transferred_reinit(
  search: Search, level: int, draw: int = 0, *, source: Search
) -> Round:
  """The source's mask, with weights drawn anew from the initialisers.

  It differs from `transferred` in the weights alone, as `random_reinit` differs
  from the ticket. For the arguments see `transferred`.
  """
  name = "transferred_reinit"
  seed = seeds.of_control(search, name, level, draw)
  weights = search.trainer.draw(seed)
  ticket = _ticket(search, source, level, name, seed, start=weights)
  # New weights need the learning rates of a whole training.
  fresh = search.rewind.position is None
  rewind = rewinding.to_init() if fresh else None
  return _train(search, ticket, draw, rewind)


def transferred_shuffled(
  search: Search, level: int, draw: int = 0, *, source: Search
) -> Round:
  """The transferred ticket, with as many weights of each layer elsewhere.

  The start weights are the source's, also at the other places. For the
  arguments see `transferred`.
  """
  name = "transferred_shuffled"
  seed = seeds.of_control(search, name, level, draw)
  whole = source.ticket(level)
  match = whole.match(search.trainer.binding)
  mask = patterns.shuffled(
    match.carry_mask(whole.mask), search.prunable, search.pattern, seed
  )
  start = match.carry_values(source.dense_start(), search.dense_start())
  ticket = _ticket(search, source, level, name, seed, mask=mask, start=start)
  return _train(search, ticket, draw)


def transferred_permuted(
  search: Search, level: int, draw: int = 0, *, source: Search
) -> Round:
  """The source's mask with its units in the order of the target's.

  The order is that which brings the source's trained dense network closest to
  the target's; see `analysis.match_units`. The start weights are the target's
  own, so it differs from `transferred_mask` in the order of the units alone.
  For the arguments see `transferred`.

  Raises:
    ValueError: the networks differ, or are no chain of layers.

  Reference: Adnan et al., arXiv 2505.05143.
  """
  name = "transferred_permuted"
  if done := search.find_control(level, name, draw):
    _check_read_back(done, source.ticket(level).fingerprint())
    return done
  order = permutations.match_units(
    search.trainer.binding, source.trained(0).weights, search.trained(0).weights
  )
  mask = permutations.permute(source.ticket(level).mask, order)
  own = search.dense_start()
  ticket = _ticket(search, source, level, name, mask=mask, start=own)
  return _train(search, ticket, draw)


def check(
  experiment: "Experiment", trainer: Trainer, source_trainer: Trainer
) -> None:
  """Refuses a source whose tickets do not fit, before anything is trained.

  Args:
    experiment: the target.
    trainer: the trainer of the target.
    source_trainer: the trainer of its source.

  Raises:
    ValueError: the networks do not fit, or units cannot be matched.
  """
  there, here = source_trainer.binding, trainer.binding
  names = [weight.name for weight in there.report]
  whole = Ticket(Mask.ones(there.shapes), there.read(), {"weights": names})
  carried = whole.transfer(here).mask
  if carried.shapes != here.shapes:
    raise ValueError(
      "The source must prune the same weights as its target; transferred, its"
      f" tickets cover {sorted(carried)}, and the target prunes"
      f" {sorted(here.shapes)}. Give both the same prunable."
    )
  if "transferred_permuted" not in experiment.controls:
    return
  permutations.chain(here)
  shapes = {key: value.shape for key, value in whole.start.items()}
  if shapes != {weight.key: weight.shape for weight in here.report}:
    raise ValueError(
      "The control transferred_permuted needs a source of the same network,"
      " with as many outputs. Leave it out."
    )
  pattern = patterns.get(experiment.pattern or "unstructured")
  if not isinstance(pattern, patterns.Unstructured | patterns.Channel):
    raise ValueError(
      "The control transferred_permuted moves units apart that are pruned"
      f" together, got pattern={experiment.pattern!r}. Leave it out."
    )


def warn_of_steps(search: Search, source: Search) -> None:
  """Warns if the source's tickets start from another step than the target's.

  With `rewind="auto"` it is known only once both are found.

  Args:
    search: the search of the target.
    source: the search of the source.
  """
  here, there = _start_of_tickets(search), _start_of_tickets(source)
  if here != there:
    _log.warning(
      "The source's tickets have the weights of %s, and its target's those of"
      " %s. A transferred ticket keeps the source's weights, and is trained by"
      " the learning rates of the target's ticket. Give both one rewind.",
      there,
      here,
    )


def warn_of_weights(search: Search, source: Search) -> None:
  """Warns if both start from the same weights: then masks travel with them.

  Args:
    search: the search of the target.
    source: the search of the source.
  """
  here, there = search.dense_start(), source.dense_start()
  shared = [
    key
    for key, shape in search.trainer.binding.shapes.items()
    if key in there and there[key].shape == shape
  ]
  if shared and all(np.array_equal(here[k], there[k]) for k in shared):
    _log.warning(
      "The source and its target start from the same weights, of seed %d, so"
      " that transferred_mask trains the same ticket as transferred. Give the"
      " source another seed to see if a mask travels alone.",
      search.seed,
    )


def _start_of_tickets(search: Search) -> str:
  """Says at which step of training tickets have their weights."""
  if search.rewind.weights is None:
    return "the end of training"
  per_epoch = search.protocol.steps_per_epoch
  return f"step {search.rewind.weights.iterations(per_epoch)}"


def _train(
  search: Search, ticket: Ticket, draw: int, rewind: Rewind | None = None
) -> Round:
  """Trains a ticket of the source, or reads it back."""
  told: Mapping[str, Any] = ticket.provenance
  if done := search.find_control(told["level"], told["control"], draw):
    _check_read_back(done, told["source"]["fingerprint"])
  return search.train_control(ticket, draw, rewind=rewind)


def _check_read_back(done: Round, fingerprint: str) -> None:
  """Refuses a Round that was trained with a ticket of another source.

  Args:
    done: the Round.
    fingerprint: that of the ticket in the source.
  """
  if done.ticket.provenance["source"]["fingerprint"] != fingerprint:
    raise ValueError(
      f"{done.directory.path} was trained with a ticket of another source. Give"
      " the target another name, or the source that it had."
    )


def _ticket(
  search: Search,
  source: Search,
  level: int,
  control: str,
  seed: int | None = None,
  *,
  mask: Mask | None = None,
  start: Mapping[str, np.ndarray] | None = None,
) -> Ticket:
  """The source's ticket for the target, with another mask or other weights."""
  carried = source.ticket(level).transfer(
    search.trainer.binding, start=search.dense_start()
  )
  told = ("source", "drawn_anew", "left_out")
  return changed.ticket(
    search,
    level,
    control,
    seed,
    mask=carried.mask if mask is None else mask,
    start=carried.start if start is None else start,
    **{name: carried.provenance[name] for name in told},
  )
