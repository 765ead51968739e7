"""Drawing: the masks and tickets of a search, before they are trained."""

import dataclasses
import logging
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery import scopes
from tf_lottery.cost import Cost
from tf_lottery.criteria import Criterion
from tf_lottery.masks import Mask
from tf_lottery.masks import nearly_empty
from tf_lottery.patterns import Pattern
from tf_lottery.rewinding import Rewind
from tf_lottery.rewinding import Snapshot
from tf_lottery.schedules import Schedule
from tf_lottery.search import declarations
from tf_lottery.search import methods
from tf_lottery.search import scoring
from tf_lottery.search.methods import Method
from tf_lottery.search.methods.stability import Stability
from tf_lottery.search.protocol import MaskChanges
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.rounds import Round
from tf_lottery.search.starts import Starts
from tf_lottery.storage.run_directory import RunDirectory
from tf_lottery.tickets import Ticket
from tf_lottery.training.trainer import Trainer
from tf_lottery.weights import Weight

_log = logging.getLogger("tf_lottery")


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Drawing:
  """What search methods work with: they score, select, and keep tickets.

  `Search` is a drawing that also trains the tickets.

  Attributes:
    trainer: the compiled `Trainer`, which serves further trainings.
    initial: the snapshot of the initial weights.
    protocol: how every Round is trained and evaluated.
    steps: optimizer updates of the final training.
    search_steps: optimizer updates of a Level's training.
    schedule: the density of each Level after the dense one.
    criterion: gives each prunable weight a score.
    scope: which weights compete with each other.
    pattern: what is pruned together.
    rewind: where the Rounds after Level 0 start.
    method: draws the masks of the Levels.
    directory: the run directory, where every Round is kept.
    rounds: one `Round` for each Level that is trained, the dense one first.
  """

  trainer: Trainer
  initial: Snapshot
  protocol: Protocol
  steps: int
  search_steps: int
  schedule: Schedule
  criterion: Criterion
  scope: scopes.Scope
  pattern: Pattern
  rewind: Rewind
  directory: RunDirectory
  method: Method = dataclasses.field(default_factory=methods.iterative)
  rounds: Sequence[Round] = ()

  def __post_init__(self):
    self._starts = Starts(
      self.initial, self.rewind, self.protocol.steps_per_epoch, self.directory
    )
    self._drawn: dict[int, Ticket] = {}
    self._check()

  def _check(self) -> None:
    """Refuses what cannot be searched, before anything is trained."""
    if not self.prunable:
      raise ValueError(
        f"The model has no prunable weight:\n{self.trainer.binding.report}"
      )
    self.scope(self.prunable, self.schedule[-1])
    full = Mask.ones(self.trainer.binding.shapes)
    flat = {key: np.zeros(shape) for key, shape in full.shapes.items()}
    density = self.schedule[0]
    scopes.select(flat, full, density, self.scope, self.prunable, self.pattern)
    self._starts.span(1, self.search_steps, self.rewind)
    self.method.check(self)

  @property
  def prunable(self) -> tuple[Weight, ...]:
    """The weights that masks cover, in order."""
    return self.trainer.binding.report.prunable

  @property
  def ticket_steps(self) -> int:
    """Optimizer updates of a ticket's final training, from the rewind on."""
    return len(self._starts.span(1, self.steps, self.rewind))

  def draw(self, level: int) -> Ticket:
    """The ticket of a Level, drawn by the method if it is not yet."""
    if (ticket := self.drawn(level)) is None:
      self.method.draw(self, level)
      ticket = self.drawn(level)
    if ticket is None:
      raise RuntimeError(f"{self.method} drew no ticket of Level {level}.")
    return ticket

  def drawn(self, level: int) -> Ticket | None:
    """The ticket of a Level; `None` if it is not drawn yet."""
    if not level:
      start = self._starts.of_level(0, self.rewind).without_random_states()
      mask = Mask.ones(self.trainer.binding.shapes)
      return Ticket(mask, start, self._provenance(0))
    if level in self._drawn:
      return self._drawn[level]
    path = self.directory.level(level).ticket
    if not path.is_file():
      return None
    ticket = Ticket.load(path)
    # A killed process may have drawn it in a training that must go on first.
    training = self.directory.search(ticket.provenance.get("search", 0))
    begun = training.ticket.is_file() and not training.is_done
    return None if begun else ticket

  def keep(self, level: int, mask: Mask, spent: Cost, number: int) -> None:
    """Keeps the ticket of a Level that the method has drawn.

    Args:
      level: the Level, from 1 on.
      mask: what it keeps.
      spent: all training that was needed to draw it.
      number: the number of the search's training that drew it.
    """
    if warning := nearly_empty(mask, self.prunable):
      _log.warning("Level %d: %s", level, warning)
    provenance = {
      **self._provenance(level),
      "step": self._starts.span(level, self.search_steps, self.rewind).start,
      "search_cost": spent.to_json(),
      "search": number,
    }
    start = self._starts.of_level(level, self.rewind).without_random_states()
    ticket = Ticket(mask, start, provenance)
    directory = self.directory.level(level)
    directory.save(ticket, directory.ticket)
    if not directory.writes:
      self._drawn[level] = ticket

  def spent_on(self, level: int) -> Cost:
    """What it cost to draw the ticket of a Level; nothing for the dense one."""
    ticket = self.drawn(level)
    spent = ticket.provenance.get("search_cost") if ticket else None
    if spent is None and self.method == methods.iterative():
      # Earlier versions did not write it, and knew iterative pruning alone.
      return sum((r.cost for r in self.rounds if r.level < level), Cost())
    return Cost.from_json(spent or {})

  def train_search(
    self,
    number: int,
    mask: Mask,
    steps: int,
    *,
    start: Snapshot | None = None,
    changes: MaskChanges | None = None,
    evaluations: Collection[int] = (),
    stability: Stability | None = None,
  ) -> tuple[Round, Snapshot]:
    """Trains for the search itself; once, as every Round.

    Args:
      number: numbers these trainings, from 1.
      mask: the mask at the beginning.
      steps: optimizer updates.
      start: the weights to start from. Defaults to those of the rewind.
      changes: how the mask changes: step, counted from the start of this
        training -> function; see `Protocol.train_round`.
      evaluations: the steps, counted likewise, at which it is evaluated besides
        the last one.
      stability: ends the training when a mask has stopped changing; it decides
        about evaluations.

    Returns:
      The Round, and the weights at its end.
    """
    start = start or self.start()
    begin = self._starts.span(1, self.steps, self.rewind).start
    protocol = dataclasses.replace(self.protocol, test=None)
    if stability:
      evaluations = range(stability.every, steps, stability.every)
    round_, final = protocol.train_round(
      self.trainer,
      Ticket(mask, start.without_random_states(), {"search": number}),
      start,
      range(begin, begin + steps),
      self.directory.search(number),
      changes={begin + step: now for step, now in (changes or {}).items()},
      evaluations={begin + step for step in evaluations},
      observe=stability.observe if stability else None,
      until=stability.is_reached if stability else None,
    )
    return round_, final or Snapshot.load(round_.directory.final)

  def record_scoring(self, mask: Mask, spent: Cost, seconds: float) -> None:
    """Records scores of the untrained network, as the search's only Round."""
    directory = self.directory.search(1)
    record = {
      "level": 0,
      "density": mask.density,
      "metrics": {},
      "seconds": seconds,
      "steps": 0,
      "cost": spent.to_json(),
    }
    directory.finish(record)

  def charge(self, round_: Round, spent: Cost) -> None:
    """Records what scoring the weights at the end of a Round took."""
    if spent != Cost():
      record = round_.directory.read_record()
      record["scoring_cost"] = spent.to_json()
      round_.directory.finish(record)

  def start(self) -> Snapshot:
    """The snapshot from which tickets and the search's own trainings start."""
    return self._starts.of_level(1, self.rewind)

  def _provenance(self, level: int) -> dict[str, Any]:
    return {
      "level": level,
      "seed": self.protocol.seed,
      "weights": [weight.name for weight in self.trainer.binding.report],
      "versions": declarations.versions(),
    }

  def prune(
    self, snapshot: Snapshot | None, mask: Mask, density: float
  ) -> Mask:
    """Scores trained weights, and selects those to keep.

    What scoring costs is added to `trainer.spent`, and so to the Round that is
    being trained.

    Args:
      snapshot: the weights to score; `None` for those that the trainer's model
        has now.
      mask: what is kept now.
      density: the target, in (0, 1].

    Returns:
      A subset of `mask`.
    """
    scores, cost = self.score(snapshot, mask, self.criterion)
    self.trainer.spent += cost
    return self.select(scores, mask, density)

  def score(
    self, snapshot: Snapshot | None, mask: Mask, criterion: Criterion
  ) -> tuple[dict[str, np.ndarray], Cost]:
    """Scores weights by a criterion.

    Args:
      snapshot: the weights to score; `None` for those that the trainer's model
        has now.
      mask: what is kept now.
      criterion: gives the scores.

    Returns:
      The scores; and what they cost, see `scoring.price`.
    """
    binding, protocol = self.trainer.binding, self.protocol
    if snapshot is not None:
      binding.write(snapshot.weights)
    # A trainer may serve several searches, each from weights of its own.
    binding.give_initial(self.initial.weights)
    read: list[int] = []

    def batches() -> Iterator[Any]:
      for batch in protocol.train.batches(protocol.batch_size, protocol.seed):
        read.append(len(tf.nest.flatten(batch)[0]))
        yield batch

    scores = criterion(binding, mask, batches(), protocol.seed)
    counted = self.trainer.flops(protocol.train)
    dense = counted.forward() if counted else 0.0
    sparse = counted.forward(mask) if counted else 0.0
    examples, passes = scoring.price(criterion, sum(read))
    forwards = passes * examples
    return scores, Cost(0, examples, forwards * dense, forwards * sparse)

  def select(
    self, scores: Mapping[str, np.ndarray], mask: Mask, density: float
  ) -> Mask:
    """Selects what to keep by scores, in the search's scope and pattern."""
    return scopes.select(
      scores, mask, density, self.scope, self.prunable, self.pattern
    )

  def trained(self, level: int) -> Snapshot:
    """The weights at the end of a Level's training."""
    return self._starts.trained(level)

  def round(self, level: int) -> Round:
    """The Round of a Level.

    Raises:
      ValueError: there is no such Level, or it is not trained.
    """
    for round_ in self.rounds:
      if round_.level == level:
        return round_
    trained = ", ".join(str(round_.level) for round_ in self.rounds)
    raise ValueError(f"Levels {trained} are trained; got Level {level}.")
