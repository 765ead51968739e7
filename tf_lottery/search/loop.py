"""The loop over Levels: train, score, select, rewind."""

import dataclasses
import logging
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery.objective import Objective
from tf_lottery.rewinding import Auto
from tf_lottery.rewinding import Rewind
from tf_lottery.rewinding import Snapshot
from tf_lottery.search import choosing
from tf_lottery.search import declarations
from tf_lottery.search import instability
from tf_lottery.search import methods
from tf_lottery.search import prices
from tf_lottery.search import stable_step
from tf_lottery.search.choosing import Choose
from tf_lottery.search.drawing import Drawing
from tf_lottery.search.protocol import MaskChanges
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.protocol import Until
from tf_lottery.search.rounds import Round
from tf_lottery.search.rounds import choice
from tf_lottery.search.rounds import smallest_matching_round
from tf_lottery.search.rounds import table
from tf_lottery.search.rounds import table_row
from tf_lottery.storage.files import FileFormatError
from tf_lottery.tickets import Ticket
from tf_lottery.training.trainer import Trainer

_log = logging.getLogger("tf_lottery")


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Search(Drawing):
  """A search for winning tickets: its loop, and what it has found.

  `find_ticket` makes it, runs it and returns it. Printing it shows a table of
  its Rounds, and names the smallest ticket that matches.

  Attributes, besides those of `Drawing`:
    objective: the validation metric by which tickets are chosen, with its
      direction.
    choose: decides which Levels are trained.
    tolerance: by how much a ticket may be worse than the dense network and
      still match it, in units of the metric; None for
      `objective.default_tolerance`.
  """

  objective: Objective
  choose: Choose = choosing.train_all
  tolerance: float | None = None

  def __post_init__(self):
    super().__post_init__()
    self._on_round: Callable[[Round], None] = lambda round_: None

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
      self._settle_rewind()
      self.choose(self)
      self._keep_outcome()
    return self

  def _settle_rewind(self) -> None:
    """Finds the step to rewind to, where the search is to find it."""
    if not isinstance(self.rewind, Auto):
      return
    self.stable_step = found = stable_step.find(self)
    snapshot, _ = instability.dense_at(self, found["step"])
    self.rewind = stable_step.rewind_to(found)
    self._starts.settle(self.rewind, snapshot, self.search_steps)

  def _keep_outcome(self) -> None:
    """Writes what was found, once.

    What a search trains that finds the same again, such as controls since the
    last time, is no part of the price of its answer.
    """
    outcome, before = self._outcome(), self._outcome_before()
    if choosing.was_spent(before, outcome["budget"]):
      return
    if {**before, "price": None} != {**outcome, "price": None}:
      self.directory.write_outcome(outcome)

  def _outcome_before(self) -> dict[str, Any]:
    try:
      return self.directory.read_outcome()
    except (FileNotFoundError, FileFormatError):
      return {}

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
    own = (r for r in self.rounds if r.level == level and r.rows is not None)
    with self.directory.locked():
      round_, final = self.protocol.train_round(
        self.trainer,
        Ticket(drawn.mask, weights, drawn.provenance),
        start,
        self._starts.span(level, self.search_steps, self.rewind),
        self.directory.level(level),
        captures=None if level else self._starts.captures(self.search_steps),
        until=until,
        held=None if self.directory.writes else next(own, None),
      )
    self._starts.remember(round_, final)
    self._add(round_)
    return round_

  def _add(self, round_: Round) -> None:
    others = [other for other in self.rounds if other.level != round_.level]
    self.rounds = tuple(sorted([*others, round_], key=lambda r: r.level))
    _log.info("%s", table_row(round_, self.objective, self.rounds[0]))
    self._on_round(round_)

  def read_back(self) -> None:
    """Adds the Levels that other calls have trained in the run directory."""
    own = {round_.level for round_ in self.rounds}
    for level, control, _, directory in list(self.directory.rounds()):
      if not control and level not in own and directory.is_done:
        self._add(Round.read(directory))

  def supersede(self, level: int, draw: int) -> None:
    """Sets the training of a Level aside, because its ticket is drawn again.

    Its controls belong to that ticket, so they are set aside before it.

    Args:
      level: the Level, from 1 on.
      draw: the number of the draw of its ticket, from 1 on.
    """
    self.rounds = tuple(r for r in self.rounds if r.level != level)
    for number, control, index, directory in list(self.directory.rounds()):
      if number == level and control and not prices.is_superseded(control):
        name = prices.superseded(control, index)
        directory.move(self.directory.control(level, name, draw))
    name = prices.SUPERSEDED
    self.directory.level(level).move(self.directory.control(level, name, draw))

  # What was found, and what controls ask.

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
        network's, in units of the metric. Defaults to the search's; if that
        is `None`, the ticket keeps 99 % of what training gained, see
        `objective.default_tolerance`.

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
    tolerance = self.tolerance if tolerance is None else tolerance
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

  def notes(self) -> list[str]:
    """Sentences: what was not trained, why a budget ended, what it cost."""
    notes = [
      self.stable_step and stable_step.in_words(self, self.stable_step),
      choosing.untrained(self),
      choosing.ended(self, self._outcome_before().get("budget")),
      prices.in_words(self.price()),
    ]
    return [note for note in notes if note]

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

  def captured(self, step: int) -> Snapshot | None:
    """The dense network at a step to which a search by `auto()` may rewind.

    Returns:
      The snapshot with the optimizer's variables; `None` if there is none, or
      it was dropped because the search rewinds to another step.
    """
    return self._starts.captured(step)

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
      steps: optimizer updates of a whole training. With 0, the start weights
        are evaluated and nothing is trained. Defaults to those of a Level.
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
    span = self._starts.span(level, steps or self.search_steps, rewind)
    if steps == 0:
      span = span[:0]
    with self.directory.locked():
      return self._starts.remember(
        *(protocol or self.protocol).train_round(
          trainer or self.trainer,
          ticket,
          trainer.initial if trainer else self._starts.of_level(level, rewind),
          span,
          self.directory.control(level, name, draw),
          changes=changes,
          density=density,
        )
      )

  def equal_cost_steps(self, level: int) -> int:
    """How long rivals train "at equal cost", in optimizer updates.

    As many as the search until it drew the Level's mask, with the dense network
    if the mask comes from it, and as the Level's own training. What it took to
    choose among the tickets is not included. The updates are equal, the
    operations of one are not: those of a smaller network are fewer.

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
      density = self.round(level).density
      facts.append(
        f"smallest matching Level {level} of density {density:.4f}"
        if level
        else "nothing matches"
      )
    return f"Search({', '.join([*facts, f'seed {self.seed}'])})"

  def __str__(self) -> str:
    lines = [table(self.rounds, self.objective)]
    if self.rounds:
      found = choice(self.rounds, self.objective, self.tolerance)
      lines += [found, *self.notes()]
    return "\n".join(lines)
