"""The search: train, score, select, rewind, Level after Level."""

import dataclasses
import functools
import importlib.metadata
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from tf_lottery import criteria as criteria_lib
from tf_lottery import data as data_lib
from tf_lottery import legs
from tf_lottery import masks
from tf_lottery import prunable as prunable_lib
from tf_lottery import rewinding
from tf_lottery import rundir
from tf_lottery import schedules
from tf_lottery import scopes
from tf_lottery import tickets
from tf_lottery import training
from tf_lottery.wrappers import binding as binding_lib

_log = logging.getLogger("tf_lottery")


@dataclasses.dataclass(frozen=True)
class Round:
  """One Level's work and record.

  Attributes:
    level: how often the network has been pruned; 0 is dense.
    density: fraction of the prunable weights kept.
    metrics: of the last evaluation: `val_accuracy`, `test_accuracy`, ...
    seconds: of training and evaluation.
    steps: how many optimizer updates it trained.
    directory: where its files lie.
  """

  level: int
  density: float
  metrics: Mapping[str, float]
  seconds: float
  steps: int
  directory: rundir.LegDirectory = dataclasses.field(repr=False)

  @property
  def ticket(self) -> tickets.Ticket:
    """Its mask and start weights, read from disk."""
    return tickets.Ticket.load(self.directory.ticket)

  @property
  def final(self) -> rewinding.Snapshot:
    """Its weights after training, read from disk."""
    return rewinding.Snapshot.load(self.directory.final)

  @property
  def history(self) -> list[dict[str, float]]:
    """One row for each evaluation, read from disk."""
    return self.directory.read_metrics()


class SearchResult:
  """What `find_ticket` found.

  Attributes:
    rounds: one `Round` for each Level, the dense one first.
    monitor: the validation metric that tickets are chosen by.
    trainer: the trainer, compiled; for further trainings.
  """

  def __init__(self, search: "_Search", rounds: Sequence[Round]):
    self.rounds = tuple(rounds)
    self.monitor = search.monitor
    self.trainer = search.trainer
    self._search = search

  def smallest_matching(self, tolerance: float = 0.005) -> tickets.Ticket:
    """The smallest ticket whose validation accuracy matches the dense one.

    Args:
      tolerance: how far below the dense network's value (above, for a loss)
        the ticket's may be, in units of the metric. Defaults to `0.005`, half
        a point of accuracy.

    Returns:
      The ticket of the lowest density within the tolerance; that of Level 0,
      the dense network, if there is no other. Its provenance names the Level.
    """
    return self.rounds[self.smallest_matching_level(tolerance)].ticket

  def smallest_matching_level(self, tolerance: float = 0.005) -> int:
    """The Level of `smallest_matching`."""
    name = f"val_{self.monitor}"
    dense = self.rounds[0].metrics[name]
    sign = -1 if _lower_is_better(self.monitor) else 1
    return max(
      round_.level
      for round_ in self.rounds
      if sign * (round_.metrics[name] - dense) >= -tolerance or not round_.level
    )

  def train(
    self, ticket: tickets.Ticket, name: str, *, steps: int | None = None
  ) -> Round:
    """Trains a ticket from its start weights, as long as the final training.

    For a ticket found with a short `search_steps`, and for controls. Done
    once: the same name in the same run directory is read back.

    Args:
      ticket: what to train.
      name: the directory of the training in the run directory.
      steps: optimizer updates. Defaults to those of the final training.
    """
    return self._search.train_ticket(ticket, name, steps)

  def __str__(self) -> str:
    return "\n".join(
      [header(self.monitor), *(row(r, self.monitor) for r in self.rounds)]
    )


def header(monitor: str = "accuracy") -> str:
  """The head of the table that `row` gives lines of."""
  return (
    f"level  density  {'val ' + monitor:>14}  {'test ' + monitor:>14}  seconds"
  )


def row(round_: Round, monitor: str = "accuracy") -> str:
  """One Round as a line of a table."""
  cells = [
    f"{round_.metrics[name]:14.4f}"
    if name in round_.metrics
    else " " * 13 + "-"
    for name in (f"val_{monitor}", f"test_{monitor}")
  ]
  return (
    f"{round_.level:5d}  {round_.density:7.2%}  {cells[0]}  {cells[1]}"
    f"  {round_.seconds:7.1f}"
  )


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
  on_round: Callable[[Round], None] | None = None,
) -> SearchResult:
  """Finds winning tickets by iterative pruning with rewinding.

  Trains the dense network, prunes it by the criterion, rewinds what is left,
  trains again, and so on down the schedule. Calling it again with the same
  arguments and `run_dir` goes on where it stopped, bit for bit.

  Args:
    make_model: returns a compiled Keras model, of Keras 3 or tf_keras; or a
      `Trainer`, whose compiled program is then shared.
    train_data: `(x, y)` or `(x, y, sample_weight)` arrays, nested as the model
      takes them; or a batched `tf.data.Dataset`; or epoch -> dataset.
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
      was compiled with, else its first metric, else its loss.
    class_weight: class -> weight in the loss.
    prunable: see `lottery_prune`.
    strategy: see `Trainer`; ignored when a `Trainer` is given.
    jit: see `Trainer`; ignored when a `Trainer` is given.
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
  _check_positive("search_steps", search_steps or steps)
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
    search_steps=min(search_steps or steps, steps),
    schedule=schedules.check_schedule(schedule or schedules.geometric(10)),
    criterion=criteria_lib.get(criterion),
    scope=scope or scopes.global_(),
    rewind=rewind or rewinding.to_init(),
    monitor=monitor or _default_monitor(trainer, protocol),
    run_dir=run_dir,
    progress=progress,
  )
  return search.run(on_round or (lambda round_: None))


class _Search:
  """One search: its settings, and the loop over Levels."""

  def __init__(
    self,
    *,
    trainer: training.Trainer,
    protocol: legs.Protocol,
    steps: int,
    search_steps: int,
    schedule: schedules.Schedule,
    criterion: criteria_lib.Criterion,
    scope: scopes.Scope,
    rewind: rewinding.Rewind,
    monitor: str,
    run_dir: str | os.PathLike | None,
    progress: bool | None,
  ):
    self.trainer = trainer
    self.protocol = protocol
    self.steps = steps
    self.search_steps = search_steps
    self.schedule = schedule
    self.criterion = criterion
    self.scope = scope
    self.rewind = rewind
    self.monitor = monitor
    self._progress = sys.stderr.isatty() if progress is None else progress
    if run_dir is None:
      self._temporary = tempfile.TemporaryDirectory(
        prefix="tf_lottery-", ignore_cleanup_errors=True
      )
      run_dir = self._temporary.name
    self.directory = rundir.RunDirectory(
      run_dir, writes=_is_chief(trainer.strategy)
    )

  def run(self, on_round: Callable[[Round], None]) -> SearchResult:
    """Trains, scores, selects and rewinds, Level after Level."""
    weights = self.trainer.binding.report.prunable
    # Refuses a scope that fits no layer before anything is trained.
    self.scope(weights, self.schedule[-1])
    with self.directory.locked():
      self.directory.declare(self._declaration())
      mask = masks.Mask.ones(self.trainer.binding.shapes)
      snapshot = self.trainer.initial
      rounds = []
      for level in range(len(self.schedule) + 1):
        if level:
          mask = self._next_mask(rounds[-1], mask, self.schedule[level - 1])
          snapshot = self._rewound(rounds[-1])
        rounds.append(self._round(level, snapshot, mask))
        _log.info("%s", row(rounds[-1], self.monitor))
        on_round(rounds[-1])
    return SearchResult(self, rounds)

  def train_ticket(
    self, ticket: tickets.Ticket, name: str, steps: int | None
  ) -> Round:
    """See `SearchResult.train`."""
    directory = self.directory.leg(name)
    start = ticket.provenance.get("step", 0)
    stop = self.steps if steps is None else start + steps
    random_states = {
      key: value
      for key, value in self.trainer.initial.weights.items()
      if key.startswith(binding_lib.RANDOM)
    }
    snapshot = rewinding.Snapshot(start, {**ticket.start, **random_states})
    leg = legs.Leg(snapshot, ticket.mask, start, stop)
    level = ticket.provenance.get("level", 0)
    with self.directory.locked():
      return self._trained(level, leg, directory, ticket.provenance)

  def _round(
    self, level: int, snapshot: rewinding.Snapshot, mask: masks.Mask
  ) -> Round:
    start, stop = self._leg_of(level)
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
      "versions": versions(),
    }
    return self._trained(level, leg, self.directory.level(level), provenance)

  def _trained(
    self,
    level: int,
    leg: legs.Leg,
    directory: rundir.LegDirectory,
    provenance: Mapping[str, Any],
  ) -> Round:
    """Trains a leg unless it is done, and returns its record."""
    if not directory.is_done:
      record = self._train(level, leg, directory, provenance)
    else:
      record = directory.read_record()
    return Round(
      level,
      record["density"],
      record["metrics"],
      record["seconds"],
      record["steps"],
      directory,
    )

  def _train(self, level, leg, directory, provenance) -> dict[str, Any]:
    began = time.perf_counter()
    start = {
      key: value
      for key, value in leg.snapshot.weights.items()
      if not key.startswith(binding_lib.RANDOM)
    }
    if directory.writes and not directory.ticket.is_file():
      tickets.Ticket(leg.mask, start, provenance).save(directory.ticket)
    with tqdm.tqdm(
      total=leg.stop - leg.start,
      desc=directory.path.name,
      unit="it",
      leave=False,
      disable=not self._progress,
    ) as bar:
      history = legs.run(self.trainer, self.protocol, leg, directory, bar)
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
      "versions": versions(),
    }
    directory.finish(record)
    return record

  def _next_mask(
    self, previous: Round, mask: masks.Mask, density: float
  ) -> masks.Mask:
    """The mask of the next Level, from the weights at the end of this one."""
    done = self.directory.level(previous.level + 1).ticket
    if done.is_file():
      return tickets.Ticket.load(done).mask
    binding = self.trainer.binding
    binding.write(previous.final.weights)
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

  def _rewound(self, previous: Round) -> rewinding.Snapshot:
    if self.rewind.weights is None:
      final = previous.final
      keep = self.rewind.keep_optimizer
      return final if keep else dataclasses.replace(final, optimizer=None)
    if self._rewind_step() is None:
      return self.trainer.initial
    return rewinding.Snapshot.load(self.directory.rewind)

  def _rewind_step(self) -> int | None:
    """The step at which to capture on Level 0; None for its very start."""
    if self.rewind.weights is None:
      return None
    return self.rewind.weights.iterations(self.protocol.steps_per_epoch) or None

  def _save_rewind(self, snapshot: rewinding.Snapshot) -> None:
    if self.directory.writes:
      snapshot.save(self.directory.rewind)

  def _leg_of(self, level: int) -> tuple[int, int]:
    if not level:
      # Refuses a step beyond the end before anything is trained.
      self.rewind.leg(self.search_steps, self.protocol.steps_per_epoch)
      return 0, self.search_steps
    return self.rewind.leg(self.search_steps, self.protocol.steps_per_epoch)

  def _declaration(self) -> dict[str, Any]:
    protocol = self.protocol
    return {
      **self._model_declaration(),
      "train_data": protocol.train.fingerprint(),
      "validation_data": protocol.validation.fingerprint(),
      "test_data": protocol.test.fingerprint() if protocol.test else None,
      "batch_size": protocol.batch_size,
      "steps": self.steps,
      "search_steps": self.search_steps,
      "evaluate_every": protocol.evaluate_every,
      "schedule": self.schedule,
      "criterion": _name(self.criterion),
      "scope": _name(self.scope),
      "rewind": str(self.rewind),
      "monitor": self.monitor,
      "seed": protocol.seed,
      "replicas": self.trainer.strategy.num_replicas_in_sync,
    }

  def _model_declaration(self) -> dict[str, Any]:
    model = self.trainer.model
    optimizer = {
      name: value
      for name, value in model.optimizer.get_config().items()
      if name != "name"
    }
    return {
      "model": [
        f"{type(layer).__name__}"
        for layer in binding_lib.walk(model, self.trainer.binding.generation)
      ],
      "weights": [
        [weight.key, list(weight.shape), weight.prunable]
        for weight in self.trainer.binding.report
      ],
      "initial": self.trainer.initial.fingerprint(),
      "optimizer": _plain(
        {"class": type(model.optimizer).__name__, **optimizer}
      ),
      "loss": _name(model.loss),
    }


def versions() -> dict[str, str]:
  """What the results depend on besides the declaration."""
  packages = ("tensorflow", "keras", "tf-keras", "numpy")
  return {
    "python": platform.python_version(),
    "machine": platform.machine(),
    **_package_versions(packages),
  }


@functools.cache
def _package_versions(packages: tuple[str, ...]) -> dict[str, str]:
  return {name: importlib.metadata.version(name) for name in packages}


def _trainer(make_model, strategy, seed, prunable, jit) -> training.Trainer:
  if isinstance(make_model, training.Trainer):
    make_model.initialise(seed)
    return make_model
  return training.Trainer(
    make_model, strategy=strategy, seed=seed, prunable=prunable, jit=jit
  )


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


def _default_monitor(trainer: training.Trainer, protocol: legs.Protocol) -> str:
  names = list(trainer.evaluate(protocol.validation))
  accuracies = [name for name in names if "acc" in name]
  others = [name for name in names if name != "loss"]
  return (accuracies + others + names)[0]


def _lower_is_better(monitor: str) -> bool:
  return any(word in monitor for word in ("loss", "error", "perplexity"))


def _is_chief(strategy: tf.distribute.Strategy) -> bool:
  resolver = strategy.cluster_resolver
  if resolver is None or resolver.task_type in (None, "chief"):
    return True
  return resolver.task_type == "worker" and resolver.task_id == 0


def _name(value: Any) -> Any:
  """A function, object or structure as a declaration shows it."""
  if dataclasses.is_dataclass(value):
    return {"name": type(value).__name__, **dataclasses.asdict(value)}
  if isinstance(value, functools.partial):
    return [_name(value.func), _plain(value.args), _plain(value.keywords)]
  if hasattr(value, "__qualname__"):
    return f"{value.__module__}.{value.__qualname__}"
  if hasattr(value, "get_config"):
    return _plain({"class": type(value).__name__, **value.get_config()})
  return _plain(value)


def _plain(value: Any) -> Any:
  """What JSON can hold, without the addresses that a repr may show."""
  if isinstance(value, Mapping):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  if value is None or isinstance(value, bool | int | str):
    return value
  if isinstance(value, float | np.floating):
    return float(value)
  return _name(value) if callable(value) else type(value).__name__
