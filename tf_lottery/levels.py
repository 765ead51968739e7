"""The loop over Levels: train, score, select, rewind."""

import dataclasses
import logging
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import tqdm

from tf_lottery import criteria as criteria_lib
from tf_lottery import declarations
from tf_lottery import legs
from tf_lottery import masks
from tf_lottery import prunable as prunable_lib
from tf_lottery import results
from tf_lottery import rewinding
from tf_lottery import rundir
from tf_lottery import schedules
from tf_lottery import scopes
from tf_lottery import tickets
from tf_lottery import training
from tf_lottery.wrappers import binding as binding_lib

_log = logging.getLogger("tf_lottery")


@dataclasses.dataclass(kw_only=True)
class Search:
  """One search: its settings, and the loop over Levels.

  `search_steps` is the length of a Level's training, `steps` that of the final
  one; the other fields are `find_ticket`'s arguments, with defaults filled in.
  """

  trainer: training.Trainer
  protocol: legs.Protocol
  steps: int
  search_steps: int
  schedule: schedules.Schedule
  criterion: criteria_lib.Criterion
  scope: scopes.Scope
  rewind: rewinding.Rewind
  monitor: str
  directory: rundir.RunDirectory
  progress: bool

  def __post_init__(self):
    self.initial = self.trainer.initial
    # Of the leg just trained, and of Level 0: in a cluster only the chief
    # writes, and the others must not read too soon.
    self._final: rewinding.Snapshot | None = None
    self._captured: rewinding.Snapshot | None = None
    # Before anything is trained: does the scope fit, and the step exist?
    self.scope(self._prunable(), self.schedule[-1])
    self._span(1, self.search_steps)

  def _prunable(self) -> tuple[prunable_lib.Weight, ...]:
    report = self.trainer.binding.report
    if not report.prunable:
      raise ValueError(f"The model has no prunable weight:\n{report}")
    return report.prunable

  def run(
    self, on_round: Callable[[results.Round], None]
  ) -> results.SearchResult:
    """Trains, scores, selects and rewinds, Level after Level."""
    with self.directory.locked():
      self.directory.declare(self._declaration())
      mask = masks.Mask.ones(self.trainer.binding.shapes)
      snapshot = self.initial
      rounds = []
      for level in range(len(self.schedule) + 1):
        if level:
          mask = self._next_mask(rounds[-1], mask, self.schedule[level - 1])
          snapshot = self._rewound(rounds[-1])
        rounds.append(self._round(level, snapshot, mask))
        _log.info("%s", results.row(rounds[-1], self.monitor))
        on_round(rounds[-1])
    return results.SearchResult(
      rounds, self.monitor, self.trainer, self.train_ticket
    )

  def train_ticket(
    self, ticket: tickets.Ticket, name: str, steps: int | None
  ) -> results.Round:
    """See `results.SearchResult.train`."""
    level = ticket.provenance.get("level", 0)
    start, stop = self._span(level, self.steps)
    if steps is not None:
      stop = start + steps
    if self.rewind.weights is None and level:
      before = rewinding.Snapshot.load(self.directory.level(level - 1).final)
    else:
      before = self._rewind_snapshot() if level else self.initial
    # Random states, and slots where they are kept, are those of the Round.
    snapshot = dataclasses.replace(
      before, weights={**before.weights, **ticket.start}
    )
    if not self.rewind.keep_optimizer:
      snapshot = dataclasses.replace(snapshot, optimizer=None)
    leg = legs.Leg(snapshot, ticket.mask, start, stop)
    directory = self.directory.leg(name)
    with self.directory.locked():
      return self._trained(level, leg, directory, ticket.provenance)

  def _round(
    self, level: int, snapshot: rewinding.Snapshot, mask: masks.Mask
  ) -> results.Round:
    start, stop = self._span(level, self.search_steps)
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
    return self._trained(level, leg, self.directory.level(level), provenance)

  def _trained(
    self,
    level: int,
    leg: legs.Leg,
    directory: rundir.LegDirectory,
    provenance: Mapping[str, Any],
  ) -> results.Round:
    """Trains a leg unless it is done, and returns its record."""
    start = {
      key: value
      for key, value in leg.snapshot.weights.items()
      if not key.startswith(binding_lib.RANDOM)
    }
    ticket = tickets.Ticket(leg.mask, start, provenance)
    if not directory.ticket.is_file():
      if directory.writes:
        ticket.save(directory.ticket)
    elif not ticket.equals(tickets.Ticket.load(directory.ticket)):
      raise ValueError(
        f"{directory.path} holds the training of another ticket. Give another"
        " name."
      )
    if directory.is_done:
      record, self._final = directory.read_record(), None
      if record["steps"] != leg.stop - leg.start:
        raise ValueError(
          f"{directory.path} holds a training of {record['steps']} steps, and"
          f" {leg.stop - leg.start} are asked for. Give another name."
        )
    else:
      record = self._train(level, leg, directory)
    return results.Round(
      level,
      record["density"],
      record["metrics"],
      record["seconds"],
      record["steps"],
      directory,
    )

  def _train(
    self, level: int, leg: legs.Leg, directory: rundir.LegDirectory
  ) -> dict[str, Any]:
    began = time.perf_counter()
    with tqdm.tqdm(
      total=leg.stop - leg.start,
      desc=directory.path.name,
      unit="it",
      leave=False,
      disable=not self.progress,
    ) as bar:
      history, self._final = legs.run(
        self.trainer, self.protocol, leg, directory, bar
      )
    last = {
      name: value
      for name, value in history[-1].items()
      if name not in ("step", "seconds")
    }
    record = {
      "level": level,
      "density": leg.mask.density,
      "metrics": last,
      "seconds": history[-1]["seconds"],
      "wall_seconds": time.perf_counter() - began,
      "steps": leg.stop - leg.start,
      "seed": self.protocol.seed,
      "versions": declarations.versions(),
    }
    directory.finish(record)
    return record

  def _next_mask(
    self, previous: results.Round, mask: masks.Mask, density: float
  ) -> masks.Mask:
    """The mask of the next Level, from the weights at the end of this one."""
    done = self.directory.level(previous.level + 1).ticket
    if done.is_file():
      return tickets.Ticket.load(done).mask
    binding = self.trainer.binding
    binding.write((self._final or previous.final).weights)
    scores = self.criterion(
      binding,
      mask,
      self.protocol.train.batches(self.protocol.batch_size),
      self.protocol.seed,
    )
    pruned = scopes.select(
      scores, mask, density, self.scope, binding.report.prunable
    )
    for part in pruned.table():
      if not part.kept:
        _log.warning(
          "%s has no weight left at density %.4f: nothing passes it.",
          binding.report[part.key].name,
          density,
        )
    return pruned

  def _rewound(self, previous: results.Round) -> rewinding.Snapshot:
    if self.rewind.weights is not None:
      return self._rewind_snapshot()
    final = self._final or previous.final
    keep = self.rewind.keep_optimizer
    return final if keep else dataclasses.replace(final, optimizer=None)

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
    return {
      **declarations.of_model(self.trainer),
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
      "monitor": self.monitor,
      "jit": self.trainer.jit,
      "seed": protocol.seed,
    }

  def _span(self, level: int, steps: int) -> tuple[int, int]:
    """The first step of a Level's training, and the one at which it ends."""
    if not level:
      return 0, steps
    return self.rewind.leg(steps, self.protocol.steps_per_epoch)
