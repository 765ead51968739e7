"""The loop over Levels: train, score, select, rewind."""

import dataclasses
import logging
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_lottery import criteria as criteria_lib
from tf_lottery import declarations
from tf_lottery import legs
from tf_lottery import masks
from tf_lottery import objective as objective_lib
from tf_lottery import patterns
from tf_lottery import prunable as prunable_lib
from tf_lottery import results
from tf_lottery import rewinding
from tf_lottery import rounds as rounds_lib
from tf_lottery import rundir
from tf_lottery import schedules
from tf_lottery import scopes
from tf_lottery import tickets
from tf_lottery import training

_log = logging.getLogger("tf_lottery")


@dataclasses.dataclass(kw_only=True)
class Search:
  """One search: its settings, and the loop over Levels.

  `search_steps` is the length of a Level's training, `steps` that of the final
  one; the other fields are `find_ticket`'s arguments, with defaults filled in.
  """

  trainer: training.Trainer
  initial: rewinding.Snapshot
  protocol: legs.Protocol
  steps: int
  search_steps: int
  schedule: schedules.Schedule
  criterion: criteria_lib.Criterion
  scope: scopes.Scope
  pattern: patterns.Pattern
  rewind: rewinding.Rewind
  objective: objective_lib.Objective
  directory: rundir.RunDirectory

  def __post_init__(self):
    # What was just trained: in a cluster only the chief writes, and the others
    # must not read too soon.
    self._finals: dict[pathlib.Path, rewinding.Snapshot] = {}
    self._captured: rewinding.Snapshot | None = None
    # Before anything is trained: do scope and pattern fit, does the step exist?
    weights = self._prunable()
    self.scope(weights, self.schedule[-1])
    full = masks.Mask.ones({weight.key: weight.shape for weight in weights})
    flat = {key: np.zeros(shape) for key, shape in full.shapes.items()}
    scopes.select(
      flat, full, self.schedule[0], self.scope, weights, self.pattern
    )
    self._span(1, self.search_steps, self.rewind)

  def _prunable(self) -> tuple[prunable_lib.Weight, ...]:
    report = self.trainer.binding.report
    if not report.prunable:
      raise ValueError(f"The model has no prunable weight:\n{report}")
    return report.prunable

  def run(self, on_round: Callable[[rounds_lib.Round], None]) -> "SearchResult":
    """Trains, scores, selects and rewinds, Level after Level."""
    with self.directory.locked():
      self.directory.declare(self._declaration())
      mask = masks.Mask.ones(self.trainer.binding.shapes)
      snapshot = self.initial
      rounds = []
      for level in range(len(self.schedule) + 1):
        if level:
          mask = self._next_mask(rounds[-1], mask)
          snapshot = self._start_of(level, self.rewind)
        rounds.append(self._round(level, snapshot, mask))
        _log.info("%s", results.row(rounds[-1], self.objective.name))
        on_round(rounds[-1])
    return SearchResult(rounds, self)

  def train(
    self,
    ticket: tickets.Ticket,
    name: str,
    *,
    steps: int | None = None,
    rewind: rewinding.Rewind | None = None,
    final: bool = True,
  ) -> rounds_lib.Round:
    """See `SearchResult.train`; if not `final`, as long as a Level's."""
    level = ticket.provenance.get("level", 0)
    rewind = rewind or self.rewind
    if rewind.weights not in (None, schedules.Step(0), self.rewind.weights):
      raise ValueError(
        f"This search has no weights of step {rewind.weights}: it rewinds to"
        f" {self.rewind.weights}. Rewind to initialisation or to that step."
      )
    length = self.steps if final else self.search_steps
    start, stop = self._span(level, length, rewind)
    if steps is not None:
      stop = start + steps
    # Random states, and slots where they are kept, are those of the Round.
    before = self._start_of(level, rewind)
    snapshot = dataclasses.replace(
      before, weights={**before.weights, **ticket.start}
    )
    leg = legs.Leg(snapshot, ticket.mask, start, stop)
    provenance = {**ticket.provenance, "step": start}
    with self.directory.locked():
      return self._complete(leg, self.directory.leg(name), provenance)

  def pruned(
    self, snapshot: rewinding.Snapshot, mask: masks.Mask, density: float
  ) -> masks.Mask:
    """What the criterion and the scope keep of trained weights."""
    binding = self.trainer.binding
    binding.write(snapshot.weights)
    # A trainer may serve several searches, each from weights of its own.
    binding.give_initial(self.initial.weights)
    scores = self.criterion(
      binding,
      mask,
      self.protocol.train.batches(self.protocol.batch_size),
      self.protocol.seed,
    )
    return scopes.select(
      scores,
      mask,
      density,
      self.scope,
      binding.report.prunable,
      self.pattern,
    )

  def dense_start(self) -> Mapping[str, np.ndarray]:
    """The dense network's weights where Rounds start.

    Those of initialisation or of step k; where Rounds go on from trained
    weights, those at the end of Level 0.
    """
    if self.rewind.weights is not None:
      return self._rewind_snapshot().weights
    return self._final(0).weights

  def _round(
    self, level: int, snapshot: rewinding.Snapshot, mask: masks.Mask
  ) -> rounds_lib.Round:
    start, stop = self._span(level, self.search_steps, self.rewind)
    leg = legs.Leg(
      snapshot,
      mask,
      start,
      stop,
      capture_at=self._rewind_step() if not level else None,
      keep_optimizer=self.rewind.keep_optimizer,
      on_capture=self._save_rewind,
    )
    provenance = {
      "level": level,
      "step": start,
      "seed": self.protocol.seed,
      "weights": [weight.name for weight in self.trainer.binding.report],
      "versions": declarations.versions(),
    }
    return self._complete(leg, self.directory.level(level), provenance)

  def _complete(
    self,
    leg: legs.Leg,
    directory: rundir.LegDirectory,
    provenance: Mapping[str, Any],
  ) -> rounds_lib.Round:
    round_, final = legs.complete(
      self.trainer, self.protocol, leg, directory, provenance
    )
    self._finals = {} if final is None else {directory.path: final}
    return round_

  def _final(self, level: int) -> rewinding.Snapshot:
    directory = self.directory.level(level)
    if directory.path in self._finals:
      return self._finals[directory.path]
    return rewinding.Snapshot.load(directory.final)

  def _next_mask(
    self, previous: rounds_lib.Round, mask: masks.Mask
  ) -> masks.Mask:
    """The mask of the next Level, from the weights at the end of this one."""
    done = self.directory.level(previous.level + 1).ticket
    if done.is_file():
      return tickets.Ticket.load(done).mask
    density = self.schedule[previous.level]
    pruned = self.pruned(self._final(previous.level), mask, density)
    for part in pruned.table():
      if not part.kept:
        _log.warning(
          "%s has no weight left at density %.4f: nothing passes it. A scope"
          " can spare it, such as layerwise() or global_(exempt=[...]).",
          self.trainer.binding.report[part.key].name,
          density,
        )
    return pruned

  def _start_of(
    self, level: int, rewind: rewinding.Rewind
  ) -> rewinding.Snapshot:
    """Where a Level starts: weights, random states, slots if they are kept."""
    if not level or rewind == rewinding.to_init():
      return self.initial
    if rewind.weights is not None:
      return self._rewind_snapshot()
    final = self._final(level - 1)
    if rewind.keep_optimizer:
      return final
    return dataclasses.replace(final, optimizer=None)

  def _rewind_snapshot(self) -> rewinding.Snapshot:
    if self._rewind_step() is None:
      return self.initial
    return self._captured or rewinding.Snapshot.load(self.directory.rewind)

  def _rewind_step(self) -> int | None:
    """The step at which to capture on Level 0; None for its very start."""
    if self.rewind.weights is None:
      return None
    return self.rewind.weights.iterations(self.protocol.steps_per_epoch) or None

  def _save_rewind(self, snapshot: rewinding.Snapshot) -> None:
    self._captured = snapshot
    if self.directory.writes:
      snapshot.save(self.directory.rewind)

  def _declaration(self) -> dict[str, Any]:
    protocol = self.protocol
    pattern = {}
    if self.pattern != patterns.unstructured():
      # Runs of before there were patterns go on as they are.
      pattern["pattern"] = declarations.plain(self.pattern)
    return {
      **pattern,
      **declarations.of_model(self.trainer),
      "initial": self.initial.fingerprint(),
      "train_data": protocol.train.fingerprint(),
      "validation_data": protocol.validation.fingerprint(),
      "test_data": protocol.test.fingerprint() if protocol.test else None,
      "batch_size": protocol.batch_size,
      "steps": self.steps,
      "search_steps": self.search_steps,
      "evaluate_every": protocol.evaluate_every,
      "schedule": self.schedule,
      "criterion": declarations.plain(self.criterion),
      "scope": declarations.plain(self.scope),
      "rewind": declarations.plain(self.rewind),
      **self.objective.to_declaration(),
      "jit": self.trainer.jit,
      "seed": protocol.seed,
    }

  def _span(
    self, level: int, steps: int, rewind: rewinding.Rewind
  ) -> tuple[int, int]:
    """The first step of a Level's training, and the one at which it ends."""
    if not level:
      return 0, steps
    return rewind.leg(steps, self.protocol.steps_per_epoch)


class SearchResult:
  """What `find_ticket` found.

  Attributes:
    rounds: one `Round` for each Level, the dense one first.
    objective: the metric that tickets are chosen by, of validation data, and
      whether more of it is better.
    monitor: the name of that metric.
    search: how they were found.
  """

  def __init__(self, rounds: Sequence[rounds_lib.Round], search: Search):
    self.rounds = tuple(rounds)
    self.objective = search.objective
    self.monitor = search.objective.name
    self.search = search

  @property
  def trainer(self) -> training.Trainer:
    """The trainer, compiled; for further trainings."""
    return self.search.trainer

  def smallest_matching(self, tolerance: float = 0.005) -> tickets.Ticket:
    """Returns the smallest ticket that matches the dense network.

    Their validation values of the objective are compared.

    Args:
      tolerance: how much worse than the dense network's value the ticket's
        may be, in units of the metric. Defaults to `0.005`, half a point of
        accuracy.

    Returns:
      The ticket of the lowest density within the tolerance; that of Level 0,
      the dense network, if there is no other. Its provenance names the Level.
    """
    return self.rounds[self.smallest_matching_level(tolerance)].ticket

  def smallest_matching_level(self, tolerance: float = 0.005) -> int:
    """The Level of `smallest_matching`."""
    found = rounds_lib.smallest_matching(self.rounds, self.objective, tolerance)
    return found.level

  def train(
    self,
    ticket: tickets.Ticket,
    name: str,
    *,
    steps: int | None = None,
    rewind: rewinding.Rewind | None = None,
  ) -> rounds_lib.Round:
    """Trains a ticket from its start weights, as long as the final training.

    For a ticket found with a short `search_steps`, and for controls. Done
    once: the same name in the same run directory is read back; the same name
    for another ticket is refused.

    Args:
      ticket: what to train.
      name: the directory of the training in the run directory.
      steps: optimizer updates. Defaults to those of the final training.
      rewind: where the learning-rate schedule and the order of the data
        start. Defaults to the search's.
    """
    return self.search.train(ticket, name, steps=steps, rewind=rewind)

  def __str__(self) -> str:
    lines = [results.row(round_, self.monitor) for round_ in self.rounds]
    return "\n".join([results.header(self.monitor), *lines])
