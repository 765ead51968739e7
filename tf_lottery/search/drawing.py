"""Drawing: the masks and tickets of a search, before they are trained."""

import dataclasses
import logging
import math
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
from tf_lottery.rewinding import Auto
from tf_lottery.rewinding import Rewind
from tf_lottery.rewinding import Snapshot
from tf_lottery.schedules import Schedule
from tf_lottery.search import declarations
from tf_lottery.search import instability
from tf_lottery.search import methods
from tf_lottery.search import scoring
from tf_lottery.search import stable_step
from tf_lottery.search.methods import Method
from tf_lottery.search.methods.stability import Stability
from tf_lottery.search.protocol import MaskChanges
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.rounds import Round
from tf_lottery.search.starts import Starts
from tf_lottery.storage.run_directory import RunDirectory
from tf_lottery.storage.schemas import StableStep
from tf_lottery.tickets import Ticket
from tf_lottery.tickets import TicketFile
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
    stable_step: the step to rewind to, if the search has found it.
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
  stable_step: StableStep | None = None

  def __post_init__(self):
    self._starts = Starts(
      self.initial, self.rewind, self.protocol.steps_per_epoch, self.directory
    )
    # Tickets of a process that does not write: the bits of each mask, and the
    # provenance. Their start weights are those of the rewind.
    self._held: dict[int, tuple[dict[str, np.ndarray], dict[str, Any]]] = {}
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
    if isinstance(self.rewind, Auto):
      instability.in_order(self.protocol.train, 1)  # refuses one order only

  @property
  def prunable(self) -> tuple[Weight, ...]:
    """The weights that masks cover, in order."""
    return self.trainer.binding.report.prunable

  @property
  def ticket_steps(self) -> int:
    """Optimizer updates of a ticket's final training, from the rewind on.

    As long as the search has not found the step, it is the last one that it may
    find.
    """
    if isinstance(self.rewind, Auto):
      return self.steps - max(stable_step.candidates(self.steps), default=0)
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
      mask = Mask.ones(self.trainer.binding.shapes)
      return Ticket(mask, self._start_of(0), self._provenance(0))
    if level in self._held:
      return Ticket(
        self._held_mask(level), self._start_of(level), self._held[level][1]
      )
    path = self.directory.level(level).ticket
    if not path.is_file():
      return None
    ticket = Ticket.load(path)
    # A killed process may have drawn it in a training that must go on first.
    training = self.directory.search(ticket.provenance.get("search", 0))
    begun = training.ticket.is_file() and not training.is_done
    return None if begun else ticket

  def is_drawn(self, level: int) -> bool:
    """Whether a Level has a ticket already."""
    return level in self._held or self.drawn(level) is not None

  def mask(self, level: int) -> Mask:
    """What the ticket of a Level keeps, drawn by the method if need be."""
    if level in self._held:
      return self._held_mask(level)
    return self.draw(level).mask

  def trained_from(self, level: int) -> int | None:
    """The number of the search's training whose ticket a Level is trained from.

    Returns:
      The number; 0 if it is not known; `None` if no training of the Level has
      begun.
    """
    for round_ in self.rounds:
      if round_.level == level and round_.search is not None:
        return round_.search
    directory = self.directory.level(level)
    if not directory.has_begun:
      return None
    record = directory.read_record() if directory.is_done else {}
    if "search" not in record:
      record = TicketFile(directory.ticket).provenance
    return int(record.get("search", 0))

  def keep(self, level: int, mask: Mask, spent: Cost, number: int) -> None:
    """Keeps the ticket of a Level that the method has drawn.

    Args:
      level: the Level, from 1 on.
      mask: what it keeps.
      spent: all training that was needed to draw it.
      number: the number of the search's training that drew it.

    Raises:
      RuntimeError: the Level is trained already, from another ticket.
    """
    if warning := nearly_empty(mask, self.prunable):
      _log.warning("Level %d: %s", level, warning)
    provenance = {
      **self._provenance(level),
      "step": self._starts.span(level, self.search_steps, self.rewind).start,
      "search_cost": spent.to_json(),
      "search": number,
    }
    directory = self.directory.level(level)
    if not directory.writes:
      bits = {key: np.packbits(kept) for key, kept in mask.items()}
      self._held[level] = bits, provenance
    elif not (directory.has_begun and directory.ticket.is_file()):
      ticket = Ticket(mask, self._start_of(level), provenance)
      directory.save(ticket, directory.ticket)
    elif TicketFile(directory.ticket).mask != mask:
      raise RuntimeError(
        f"{directory.path} holds the training of another ticket, so the ticket"
        f" of Level {level} cannot be drawn again. Delete the directory, or"
        " give another run_dir."
      )

  def _start_of(self, level: int) -> dict[str, np.ndarray]:
    return self._starts.of_level(level, self.rewind).without_random_states()

  def _held_mask(self, level: int) -> Mask:
    bits = self._held[level][0]
    return Mask(
      {
        key: np.unpackbits(bits[key], count=math.prod(shape))
        .reshape(shape)
        .astype(bool)
        for key, shape in self.trainer.binding.shapes.items()
      }
    )

  def spent_on(self, level: int) -> Cost:
    """What it cost to draw the ticket of a Level.

    For the dense network it is what it took to find the step to rewind to.
    """
    if not level:
      found = self.stable_step
      return Cost.from_json(found["cost"]) if found else Cost()
    if level in self._held:
      provenance: Mapping[str, Any] = self._held[level][1]
    else:
      ticket = self.drawn(level)
      provenance = ticket.provenance if ticket else {}
    spent = provenance.get("search_cost")
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
    stability: Stability | None = None,
  ) -> tuple[Round, Snapshot, Mask]:
    """Trains for the search itself; once, as every Round.

    Args:
      number: numbers these trainings, from 1.
      mask: the mask at the beginning.
      steps: optimizer updates.
      start: the weights to start from. Defaults to those of the rewind.
      changes: how the mask changes: step, counted from the start of this
        training -> function; see `Protocol.train_round`.
      stability: ends the training when a mask has stopped changing; it decides
        when to evaluate. Otherwise only the last step is evaluated.

    Returns:
      The Round, and the weights and the mask at its end.
    """
    start = start or self.start()
    begin = self._starts.span(1, self.steps, self.rewind).start
    protocol = dataclasses.replace(self.protocol, test=None)
    every = stability.every if stability else steps
    evaluations = range(begin + every, begin + steps, every)
    round_, final = protocol.train_round(
      self.trainer,
      Ticket(mask, start.without_random_states(), {"search": number}),
      start,
      range(begin, begin + steps),
      self.directory.search(number),
      changes={begin + step: now for step, now in (changes or {}).items()},
      evaluations=evaluations,
      observe=stability.observe if stability else None,
      until=stability.is_reached if stability else None,
    )
    if final is None:
      directory = round_.directory
      return round_, Snapshot.load(directory.final), round_.ticket.mask
    # Not from disk: in a cluster the chief may not have written it yet.
    return round_, final, self.trainer.binding.mask

  def begin_scoring(self, mask: Mask) -> None:
    """Begins the search's only Round: no ticket counts before it is recorded.

    Args:
      mask: what is kept before weights are scored.
    """
    directory = self.directory.search(1)
    start = self.start().without_random_states()
    directory.save(Ticket(mask, start, {"search": 1}), directory.ticket)

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
