"""The search: train, score, select, rewind, Level after Level."""

import dataclasses
import logging
import os
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tqdm

from tf_lottery import criteria as criteria_lib
from tf_lottery import data as data_lib
from tf_lottery import declarations
from tf_lottery import distribution
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


def find_ticket(
  make_model: Callable[[], Any] | training.Trainer,
  train_data: Any,
  *,
  validation_data: Any,
  test_data: Any = None,
  epochs: float | None = None,
  steps: int | None = None,
  search_steps: int | None = None,
  batch_size: int = 32,
  schedule: Sequence[float] | None = None,
  criterion: str | criteria_lib.Criterion = "magnitude",
  scope: scopes.Scope | None = None,
  rewind: rewinding.Rewind | None = None,
  evaluate_every: schedules.Step | int | str = "1ep",
  monitor: str | None = None,
  class_weight: Mapping[int, float] | None = None,
  prunable: prunable_lib.Override | None = None,
  strategy: tf.distribute.Strategy | str | None = None,
  jit: bool | None = None,
  seed: int = 0,
  run_dir: str | os.PathLike | None = None,
  progress: bool | None = None,
  on_round: Callable[[results.Round], None] | None = None,
) -> results.SearchResult:
  """Finds winning tickets by iterative pruning with rewinding.

  Trains the dense network, prunes it by the criterion, rewinds what is left,
  trains again, and so on down the schedule. Calling it again with the same
  arguments and `run_dir` goes on where it stopped, bit for bit: on the same
  machine, with arrays or a dataset that repeats its order.

  Args:
    make_model: returns a compiled Keras model, of Keras 3 or tf_keras; or a
      `Trainer`, whose compiled program is then shared.
    train_data: `(x, y)` or `(x, y, sample_weight)` arrays, nested as the model
      takes them; or a batched `tf.data.Dataset`; or epoch -> dataset. A
      dataset that shuffles anew at each iteration cannot be resumed exactly:
      give a function of the epoch that seeds its shuffle by it.
    validation_data: tickets are chosen by it.
    test_data: only reported.
    epochs: length of the final training, in epochs; or give `steps`.
    steps: length of the final training, in optimizer updates.
    search_steps: length of each Level's training, when shorter than the final
      one; tickets are often found sooner than they are trained. Train the
      chosen one with `result.train`. Defaults to the full length.
    batch_size: examples in a step, over all replicas. Defaults to `32`. A
      last batch that is not whole is left out of the epoch. Ignored for
      `tf.data`, which is batched.
    schedule: the density of each Level after the dense one. Defaults to
      `geometric(10)`, 20 % of the rest at each Level.
    criterion: `"magnitude"`, `"random"` or a function. Defaults to
      `"magnitude"`.
    scope: who competes with whom. Defaults to `global_()`.
    rewind: where Rounds start. Defaults to `to_init()`.
    evaluate_every: distance of evaluations. Defaults to `"1ep"`.
    monitor: the metric to choose by. Defaults to the accuracy that the model
      was compiled with, else its loss.
    class_weight: class -> weight in the loss.
    prunable: see `lottery_prune`; not beside a `Trainer`.
    strategy: see `Trainer`; not beside one.
    jit: see `Trainer`; not beside one.
    seed: of initial weights, order of the data, dropout, random criteria.
    run_dir: where to keep every Round. Defaults to a temporary directory that
      goes with the result.
    progress: whether to show a progress bar. Defaults to `None`: on a
      terminal.
    on_round: called with each `Round`, also those read back.

  Returns:
    A `SearchResult`: its `rounds`, and `smallest_matching(tolerance)`.

  Raises:
    ValueError: an argument is out of range, or `run_dir` holds a run of other
      arguments.
    RuntimeError: another process works in `run_dir`.

  Example:
  ```python
  result = find_ticket(make_model, (x, y), validation_data=(xv, yv), epochs=5)
  print(result)
  result.smallest_matching().save("ticket.safetensors")
  ```

  Reference: Frankle and Carbin, arXiv 1803.03635.
  """
  train = data_lib.as_data(train_data)
  if class_weight:
    train = train.with_class_weight(class_weight)
  per_epoch = train.steps_per_epoch(batch_size)
  steps = _length(epochs, steps, per_epoch)
  every = schedules.Step.parse(evaluate_every).iterations(per_epoch)
  search_steps = steps if search_steps is None else search_steps
  if not 0 < search_steps <= steps:
    raise ValueError(
      "search_steps must be at least 1 and at most the length of the final"
      f" training, {steps} steps, got {search_steps}."
    )
  _check_positive("evaluate_every", every)
  trainer = _trainer(make_model, strategy, seed, prunable, jit)
  protocol = legs.Protocol(
    train,
    data_lib.as_data(validation_data),
    None if test_data is None else data_lib.as_data(test_data),
    batch_size,
    per_epoch,
    every,
    seed,
  )
  search = _Search(
    trainer=trainer,
    protocol=protocol,
    steps=steps,
    search_steps=search_steps,
    schedule=schedules.geometric(10)
    if schedule is None
    else schedules.check_schedule(schedule),
    criterion=criteria_lib.get(criterion),
    scope=scope or scopes.global_(),
    rewind=rewind or rewinding.to_init(),
    monitor=_monitor(monitor, trainer.evaluate(protocol.validation)),
    directory=_directory(run_dir, trainer),
    progress=sys.stderr.isatty() if progress is None else progress,
  )
  return search.run(on_round or (lambda round_: None))


@dataclasses.dataclass(kw_only=True)
class _Search:
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


def _trainer(make_model, strategy, seed, prunable, jit) -> training.Trainer:
  if isinstance(make_model, training.Trainer):
    if not strategy is prunable is jit is None:
      raise ValueError(
        "strategy, prunable and jit are the Trainer's; leave them out here."
      )
    make_model.initialise(seed)
    return make_model
  return training.Trainer(
    make_model, strategy=strategy, seed=seed, prunable=prunable, jit=jit
  )


def _directory(
  run_dir: str | os.PathLike | None, trainer: training.Trainer
) -> rundir.RunDirectory:
  if run_dir is None:
    return rundir.temporary()
  writes = distribution.is_chief(trainer.strategy)
  return rundir.RunDirectory(run_dir, writes=writes)


def _length(
  epochs: float | None, steps: int | None, steps_per_epoch: int
) -> int:
  if (epochs is None) == (steps is None):
    raise ValueError(
      f"Give either epochs or steps, got epochs={epochs} and steps={steps}."
    )
  if epochs is not None:
    _check_positive("epochs", epochs)
    return max(1, round(epochs * steps_per_epoch))
  _check_positive("steps", steps)
  return steps


def _check_positive(name: str, value: float) -> None:
  if value <= 0:
    raise ValueError(f"{name} must be greater than 0, got {value}.")


def _monitor(monitor: str | None, metrics: Mapping[str, float]) -> str:
  monitor = results.default_monitor(metrics) if monitor is None else monitor
  if monitor not in metrics:
    raise ValueError(
      f"monitor must be one of {sorted(metrics)}, got {monitor!r}."
    )
  results.lower_is_better(monitor)
  return monitor
