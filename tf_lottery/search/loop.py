"""The loop over Levels: train, score, select, rewind."""

import dataclasses
import logging
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_lottery import scopes
from tf_lottery.criteria import Criterion
from tf_lottery.masks import Mask
from tf_lottery.masks import nearly_empty
from tf_lottery.objective import Objective
from tf_lottery.patterns import Pattern
from tf_lottery.rewinding import Rewind
from tf_lottery.rewinding import Snapshot
from tf_lottery.schedules import Schedule
from tf_lottery.search import declarations
from tf_lottery.search.protocol import MaskChanges
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.rounds import Round
from tf_lottery.search.rounds import choice
from tf_lottery.search.rounds import smallest_matching_round
from tf_lottery.search.rounds import table
from tf_lottery.search.rounds import table_row
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
    rounds: one `Round` for each Level, the dense one first.
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
  rounds: Sequence[Round] = ()

  def __post_init__(self):
    # In a cluster only the chief writes, and the others must not read too
    # soon: the snapshots that the next Round needs stay in memory.
    self._recent: dict[pathlib.Path, Snapshot] = {}
    self._check()

  # The search.

  def run(self, on_round: Callable[[Round], None]) -> "Search":
    """Trains, scores, selects and rewinds, Level after Level.

    Args:
      on_round: called with each Round, also with those that are read back.

    Returns:
      This search.
    """
    self.rounds = ()
    with self.directory.locked():
      declarations.declare(self.directory, declarations.of_search(self))
      mask = Mask.ones(self.trainer.binding.shapes)
      for level, density in enumerate((1.0, *self.schedule)):
        if level:
          mask = self._next_mask(level, mask, density)
        round_ = self._train_level(level, mask)
        self.rounds = (*self.rounds, round_)
        _log.info("%s", table_row(round_, self.objective))
        on_round(round_)
    return self

  def _next_mask(self, level: int, mask: Mask, density: float) -> Mask:
    """Prunes the weights as they are at the end of the Level before."""
    done = self.directory.level(level).ticket
    if done.is_file():
      return Ticket.load(done).mask
    pruned = self.prune(self.trained(level - 1), mask, density)
    if warning := nearly_empty(pruned, self.prunable):
      _log.warning("Level %d: %s", level, warning)
    return pruned

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
    binding = self.trainer.binding
    if snapshot is not None:
      binding.write(snapshot.weights)
    # A trainer may serve several searches, each from weights of its own.
    binding.give_initial(self.initial.weights)
    batches = self.protocol.train.batches(self.protocol.batch_size)
    scores = self.criterion(binding, mask, batches, self.protocol.seed)
    return scopes.select(
      scores, mask, density, self.scope, self.prunable, self.pattern
    )

  def _train_level(self, level: int, mask: Mask) -> Round:
    """Rewinds to the start of a Level, and trains it under its mask."""
    start = self._start(level, self.rewind)
    provenance = {
      "level": level,
      "seed": self.protocol.seed,
      "weights": [weight.name for weight in self.trainer.binding.report],
      "versions": declarations.versions(),
    }
    round_, final = self.protocol.train_round(
      self.trainer,
      Ticket(mask, start.without_random_states(), provenance),
      start,
      self._span(level, self.search_steps, self.rewind),
      self.directory.level(level),
      captures=None if level else self._captures(),
    )
    return self._remember(round_, final)

  def _remember(self, round_: Round, final: Snapshot | None) -> Round:
    """Keeps the weights of the last Round in memory, and no others."""
    rewind = self.directory.rewind
    self._recent = {k: v for k, v in self._recent.items() if k == rewind}
    if final is not None:
      self._recent[round_.directory.path] = final
    return round_

  # Where Rounds start and end.

  def _start(self, level: int, rewind: Rewind) -> Snapshot:
    """Returns the snapshot from which a Level starts."""
    step = self._step_of(rewind)
    if not level or step == 0:
      return self.initial
    start = self._rewind_snapshot() if step else self.trained(level - 1)
    if rewind.keep_optimizer:
      return start
    return dataclasses.replace(start, optimizer=None)

  def _span(self, level: int, steps: int, rewind: Rewind) -> range:
    """The optimizer updates of a Level's training."""
    if not level:
      return range(steps)
    return rewind.span(steps, self.protocol.steps_per_epoch)

  def _captures(self):
    """Level 0 keeps the snapshot of the step to which the others rewind."""

    def keep(snapshot: Snapshot) -> None:
      self._recent[self.directory.rewind] = snapshot
      if self.directory.writes:
        snapshot.save(self.directory.rewind)

    step = self._step_of(self.rewind)
    return {step: keep} if step else None

  def _step_of(self, rewind: Rewind) -> int | None:
    """Returns the step whose weights are restored; None for trained weights."""
    if rewind.weights is None:
      return None
    return rewind.weights.iterations(self.protocol.steps_per_epoch)

  def _rewind_snapshot(self) -> Snapshot:
    if not self._step_of(self.rewind):
      return self.initial
    path = self.directory.rewind
    return self._recent.get(path) or Snapshot.load(path)

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
    self._span(1, self.search_steps, self.rewind)

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

  def model(self, level: int | None = None) -> Any:
    """Builds a model with the trained sparse network of a Level.

    Args:
      level: the Level. Defaults to `smallest_matching_level()`.

    Returns:
      Another model of `make_model`, compiled, with the weights after training.
      It holds the mask: `fit()` trains it on, and the exports take it.
    """
    level = self.smallest_matching_level() if level is None else level
    return self.rounds[level].restore(self.trainer.make_model())

  def ticket(self, level: int) -> Ticket:
    """The ticket of a pruned Level.

    Raises:
      ValueError: there is no such Level, or it is the dense one.
    """
    if not 0 < level < len(self.rounds):
      raise ValueError(
        f"Controls belong to pruned Levels, 1 to {len(self.rounds) - 1}; got"
        f" Level {level}."
      )
    return self.rounds[level].ticket

  def trained(self, level: int) -> Snapshot:
    """The weights at the end of a Level's training."""
    directory = self.directory.level(level)
    return self._recent.get(directory.path) or Snapshot.load(directory.final)

  def dense_start(self) -> Mapping[str, np.ndarray]:
    """The dense network's weights where Rounds start.

    These are the weights of initialisation or of step k. If Rounds continue
    from trained weights, these are the weights at the end of Level 0.
    """
    if self.rewind.weights is not None:
      return self._rewind_snapshot().weights
    return self.trained(0).weights

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
    rewind = self._allowed(rewind or self.rewind)
    level = ticket.provenance.get("level", 0)
    span = self._span(level, self.steps, rewind)
    if steps is not None:
      span = range(span.start, span.start + steps)
    start = self._start(level, rewind)
    directory = self.directory.named(name)
    with self.directory.locked():
      return self._remember(
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
    rewind = self._allowed(rewind or self.rewind)
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
      return self._remember(
        *(protocol or self.protocol).train_round(
          trainer or self.trainer,
          ticket,
          trainer.initial if trainer else self._start(level, rewind),
          self._span(level, steps or self.search_steps, rewind),
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
    spent = self.ticket(level).provenance.get("search_cost")
    # Earlier versions did not write it, and knew iterative pruning alone.
    earlier = sum(r.steps for r in self.rounds if r.level < level)
    (own,) = (r.steps for r in self.rounds if r.level == level)
    return (spent["steps"] if spent else earlier) + own

  def find_control(self, level: int, name: str, draw: int) -> Round | None:
    """A control that is trained already, read back; `None` if it is not."""
    directory = self.directory.control(level, name, draw)
    return Round.read(directory) if directory.is_done else None

  def _allowed(self, rewind: Rewind) -> Rewind:
    """Refuses a rewind to what this search did not keep."""
    if self._step_of(rewind) not in (None, 0, self._step_of(self.rewind)):
      raise ValueError(
        f"This search has no weights of step {rewind.weights}: it rewinds to"
        f" {self.rewind.weights}. Rewind to initialisation or to that step."
      )
    if rewind.keep_optimizer and not self.rewind.keep_optimizer:
      raise ValueError(
        "This search kept no optimizer variables, so keep_optimizer=True cannot"
        " restore them. Search with keep_optimizer=True, or leave it out."
      )
    return rewind

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
    return "\n".join(lines)
