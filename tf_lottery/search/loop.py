"""The loop over Levels: train, score, select, rewind."""

import dataclasses
import logging
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery import cost
from tf_lottery import scopes
from tf_lottery.cost import Cost
from tf_lottery.criteria import Criterion
from tf_lottery.masks import Mask
from tf_lottery.masks import nearly_empty
from tf_lottery.objective import Objective
from tf_lottery.patterns import Pattern
from tf_lottery.rewinding import Rewind
from tf_lottery.rewinding import Snapshot
from tf_lottery.schedules import Schedule
from tf_lottery.search import choosing
from tf_lottery.search import declarations
from tf_lottery.search import methods
from tf_lottery.search import prices
from tf_lottery.search.choosing import Choose
from tf_lottery.search.methods import Method
from tf_lottery.search.methods.stability import Stability
from tf_lottery.search.protocol import MaskChanges
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.protocol import Until
from tf_lottery.search.rounds import Round
from tf_lottery.search.rounds import choice
from tf_lottery.search.rounds import smallest_matching_round
from tf_lottery.search.rounds import table
from tf_lottery.search.rounds import table_row
from tf_lottery.search.starts import Starts
from tf_lottery.storage.files import FileFormatError
from tf_lottery.storage.run_directory import RunDirectory
from tf_lottery.tickets import Ticket
from tf_lottery.training.trainer import Trainer
from tf_lottery.weights import Weight

_log = logging.getLogger("tf_lottery")


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Search:
  """A search for winning tickets: its loop, and what it has found.

  `find_ticket` makes it, runs it and returns it. Printing it shows a table of
  its Rounds, and names the smallest ticket that matches.

  Attributes:
    rounds: one `Round` for each Level that is trained, the dense one first.
    objective: the validation metric by which tickets are chosen, with its
      direction.
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
    choose: decides which Levels are trained.
    directory: the run directory, where every Round is kept.
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
  objective: Objective
  directory: RunDirectory
  method: Method = dataclasses.field(default_factory=methods.iterative)
  choose: Choose = choosing.train_all
  rounds: Sequence[Round] = ()

  def __post_init__(self):
    self._starts = Starts(
      self.initial, self.rewind, self.protocol.steps_per_epoch, self.directory
    )
    self._drawn: dict[int, Ticket] = {}
    self._on_round: Callable[[Round], None] = lambda round_: None
    self._check()

  # The search.

  def run(self, on_round: Callable[[Round], None]) -> "Search":
    """Trains the dense network, draws tickets and trains them.

    The method draws the tickets, and `choose` decides which are trained.

    Args:
      on_round: called with each Round, also with those that are read back.

    Returns:
      This search.
    """
    self.rounds = ()
    self._on_round = on_round
    with self.directory.locked():
      declarations.declare(self.directory, declarations.of_search(self))
      self.train_level(0)
      self.choose(self)
      self._keep_outcome()
    return self

  def _keep_outcome(self) -> None:
    """Writes what was found, once.

    What a search trains that finds the same again, such as controls since the
    last time, is no part of the price of its answer.
    """
    outcome = self._outcome()
    try:
      before = self.directory.read_outcome()
    except (FileNotFoundError, FileFormatError):
      before = {}
    if {**before, "price": None} != {**outcome, "price": None}:
      self.directory.write_outcome(outcome)

  def _outcome(self) -> dict[str, Any]:
    """What a reader of the run directory wants to know first."""
    return {
      **choosing.describe(self.choose),
      "level": self.smallest_matching_level(),
      "trained": [round_.level for round_ in self.rounds],
      "price": {name: cost.to_json() for name, cost in self.price().items()},
    }

  def train_level(self, level: int, until: Until | None = None) -> Round:
    """Trains the ticket of a Level, which is drawn if it is not yet.

    Args:
      level: the Level; 0 is the dense network.
      until: may stop the Round early; see `Protocol.train_round`. A Round that
        was stopped goes on when it is asked for without this.
    """
    drawn = self.draw(level)
    start = self._starts.of_level(level, self.rewind)
    weights = start.without_random_states()
    round_, final = self.protocol.train_round(
      self.trainer,
      Ticket(drawn.mask, weights, drawn.provenance),
      start,
      self._starts.span(level, self.search_steps, self.rewind),
      self.directory.level(level),
      captures=None if level else self._starts.captures(),
      until=until,
    )
    self._starts.remember(round_, final)
    others = [other for other in self.rounds if other.level != level]
    self.rounds = tuple(sorted([*others, round_], key=lambda r: r.level))
    _log.info("%s", table_row(round_, self.objective, self.rounds[0]))
    self._on_round(round_)
    return round_

  # What methods ask.

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

  def supersede(self, level: int, name: str, draw: int) -> None:
    """Sets the training of a Level aside, because its ticket is drawn again.

    Args:
      level: the Level, from 1 on.
      name: the name of its directory, as a control has it.
      draw: the number of the draw, as a control has it.
    """
    self.rounds = tuple(r for r in self.rounds if r.level != level)
    self.directory.level(level).move(self.directory.control(level, name, draw))

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

    Args:
      snapshot: the weights to score; `None` for those that the trainer's model
        has now.
      mask: what is kept now.
      density: the target, in (0, 1].

    Returns:
      A subset of `mask`.
    """
    scores, _ = self.score(snapshot, mask, self.criterion)
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
      The scores; and what they cost, where the criterion reads data.
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
    forward = counted.forward() if counted else 0.0
    sparse = counted.forward(mask) if counted else 0.0
    return scores, cost.of_training(0, sum(read), forward, sparse)

  def select(
    self, scores: Mapping[str, np.ndarray], mask: Mask, density: float
  ) -> Mask:
    """Selects what to keep by scores, in the search's scope and pattern."""
    return scopes.select(
      scores, mask, density, self.scope, self.prunable, self.pattern
    )

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

  # What was found, and what controls ask.

  @property
  def prunable(self) -> tuple[Weight, ...]:
    """The weights that masks cover, in order."""
    return self.trainer.binding.report.prunable

  @property
  def monitor(self) -> str:
    """The name of the validation metric by which tickets are chosen."""
    return self.objective.name

  @property
  def seed(self) -> int:
    """The seed of the initial weights and of the order of the data."""
    return self.protocol.seed

  def smallest_matching(self, tolerance: float | None = None) -> Ticket:
    """The smallest ticket that matches the dense network on validation data.

    Args:
      tolerance: by how much the ticket's value may be worse than the dense
        network's, in units of the metric. Defaults to `None`: the ticket
        keeps 99 % of what training gained, see `objective.default_tolerance`.

    Returns:
      The ticket of the lowest density within the tolerance. If nothing matches,
      that of Level 0, the dense network. Its provenance names the Level, and
      printing the search says so.
    """
    return self._smallest_matching(tolerance).ticket

  def smallest_matching_level(self, tolerance: float | None = None) -> int:
    """Returns the Level of `smallest_matching`; 0 if nothing matches."""
    return self._smallest_matching(tolerance).level

  def _smallest_matching(self, tolerance: float | None) -> Round:
    return smallest_matching_round(self.rounds, self.objective, tolerance)

  def price(self) -> prices.Price:
    """What was spent so far, on the search and on each other part.

    The parts are those of `prices.price`, for the Level of
    `smallest_matching_level()`. In units of the dense network's training:

        price["search"].trainings(price["dense"])
    """
    level = self.smallest_matching_level()
    iterative = self.method == methods.iterative()
    return prices.price(self.directory, level, iterative)

  def model(self, level: int | None = None) -> Any:
    """Builds a model with the trained sparse network of a Level.

    Args:
      level: the Level. Defaults to `smallest_matching_level()`.

    Returns:
      Another model of `make_model`, compiled, with the weights after training.
      It holds the mask: `fit()` trains it on, and the exports take it.
    """
    level = self.smallest_matching_level() if level is None else level
    return self.round(level).restore(self.trainer.make_model())

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

  def ticket(self, level: int) -> Ticket:
    """The ticket of a pruned Level.

    Raises:
      ValueError: there is no such Level, or it is the dense one.
    """
    if level < 1:
      raise ValueError(
        f"Controls belong to pruned Levels, from 1 on; got Level {level}."
      )
    return self.round(level).ticket

  def trained(self, level: int) -> Snapshot:
    """The weights at the end of a Level's training."""
    return self._starts.trained(level)

  def dense_start(self) -> Mapping[str, np.ndarray]:
    """The dense network's weights where Rounds start; see `Starts.dense`."""
    return self._starts.dense()

  def train(
    self,
    ticket: Ticket,
    name: str,
    *,
    steps: int | None = None,
    rewind: Rewind | None = None,
  ) -> Round:
    """Trains a ticket from its start weights, as long as the final training.

    Use it for a ticket that was found with short `search_steps`, or that you
    changed. It trains once: the same name in the same run directory is read
    back, and the same name for another ticket is refused.

    Args:
      ticket: what to train.
      name: the directory of the training in the run directory.
      steps: optimizer updates. Defaults to those of the final training.
      rewind: where the learning-rate schedule and the order of the data
        start. Defaults to the search's.
    """
    if steps is not None and steps < 1:
      raise ValueError(f"steps must be at least 1, got {steps}.")
    rewind = self._starts.check(rewind or self.rewind)
    level = ticket.provenance.get("level", 0)
    span = self._starts.span(level, self.steps, rewind)
    if steps is not None:
      span = range(span.start, span.start + steps)
    start = self._starts.of_level(level, rewind)
    directory = self.directory.named(name)
    with self.directory.locked():
      return self._starts.remember(
        *self.protocol.train_round(self.trainer, ticket, start, span, directory)
      )

  def train_control(
    self,
    ticket: Ticket,
    draw: int = 0,
    *,
    rewind: Rewind | None = None,
    trainer: Trainer | None = None,
    protocol: Protocol | None = None,
    steps: int | None = None,
    changes: MaskChanges | None = None,
    density: float | None = None,
  ) -> Round:
    """Trains a control's ticket as long as a Level; once, as `train` does.

    Args:
      ticket: what to train; its provenance names the Level and the control.
      draw: numbers the draws of a control.
      rewind: where the learning-rate schedule and the order of the data
        start. Defaults to the search's.
      trainer: trains another network, or by another optimizer or loss. Random
        states are its own. Defaults to the search's.
      protocol: the data and their batches. Defaults to the search's.
      steps: optimizer updates. Defaults to those of a Level.
      changes: how the mask changes in training; see `Protocol.train_round`.
      density: the density to record. Defaults to the mask's.
    """
    rewind = self._starts.check(rewind or self.rewind)
    level = ticket.provenance["level"]
    name = ticket.provenance["control"]
    done = self.find_control(level, name, draw)
    if done and not done.ticket.equals(ticket):
      _log.warning(
        "%s was trained by an earlier version, from another mask or other"
        " weights than this version draws. Delete it to train it anew.",
        done.directory.path,
      )
      return done
    with self.directory.locked():
      return self._starts.remember(
        *(protocol or self.protocol).train_round(
          trainer or self.trainer,
          ticket,
          trainer.initial if trainer else self._starts.of_level(level, rewind),
          self._starts.span(level, steps or self.search_steps, rewind),
          self.directory.control(level, name, draw),
          changes=changes,
          density=density,
        )
      )

  def equal_cost_steps(self, level: int) -> int:
    """The optimizer updates that it took to find a ticket and to train it.

    These are the updates of the search until it drew the Level's mask, and
    those of the Level itself. Rivals that train so long cost the same.

    Raises:
      ValueError: there is no such Level, or it is the dense one.
    """
    self.ticket(level)  # refuses the dense Level
    return self.spent_on(level).steps + self.round(level).steps

  def find_control(self, level: int, name: str, draw: int) -> Round | None:
    """A control that is trained already, read back; `None` if it is not."""
    directory = self.directory.control(level, name, draw)
    return Round.read(directory) if directory.is_done else None

  def __repr__(self) -> str:
    facts = [f"{len(self.rounds)} of {1 + len(self.schedule)} Levels done"]
    if self.rounds:
      last = self.rounds[-1]
      facts.append(f"down to density {last.density:.4f}")
    facts.append(
      f"objective {self.objective.name} ({self.objective.direction})"
    )
    if self.rounds:
      level = self.smallest_matching_level()
      density = self.rounds[level].density
      facts.append(
        f"smallest matching Level {level} of density {density:.4f}"
        if level
        else "nothing matches"
      )
    return f"Search({', '.join([*facts, f'seed {self.seed}'])})"

  def __str__(self) -> str:
    lines = [table(self.rounds, self.objective)]
    if self.rounds:
      lines.append(choice(self.rounds, self.objective))
      lines.append(choosing.untrained(self))
      lines.append(prices.in_words(self.price()))
    lines = [line for line in lines if line]
    return "\n".join(lines)
