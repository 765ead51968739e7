"""`find_ticket`: it checks its arguments, and runs a search."""

import difflib
import inspect
import logging
import os
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_lottery import criteria
from tf_lottery import patterns
from tf_lottery import rewinding
from tf_lottery import schedules
from tf_lottery import scopes
from tf_lottery import wrappers
from tf_lottery.objective import Objective
from tf_lottery.objective import choose as choose_objective
from tf_lottery.search import anytime
from tf_lottery.search import choosing
from tf_lottery.search import methods
from tf_lottery.search.loop import Search
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.rounds import Round
from tf_lottery.storage import run_directory
from tf_lottery.training.data import Augment
from tf_lottery.training.data import Data
from tf_lottery.training.data import as_data
from tf_lottery.training.distribution import is_chief
from tf_lottery.training.trainer import Trainer
from tf_lottery.weights import Override

_log = logging.getLogger("tf_lottery")


def find_ticket(
  make_model: Callable[[], Any] | Trainer,
  train_data: Any,
  *,
  validation_data: Any = None,
  test_data: Any = None,
  epochs: float | None = None,
  steps: int | None = None,
  search_steps: int | None = None,
  batch_size: int = 32,
  schedule: Sequence[float] | None = None,
  method: str | methods.Method | None = None,
  choose: str | None = None,
  budget: float | None = None,
  criterion: str | criteria.Criterion | None = None,
  scope: str | scopes.Scope | None = None,
  pattern: str | patterns.Pattern | None = None,
  rewind: str | rewinding.Rewind | None = None,
  evaluate_every: rewinding.Step | int | str = "1ep",
  objective: str | Objective | None = None,
  monitor: str | None = None,
  tolerance: float | None = None,
  augment: Augment | None = None,
  class_weight: Mapping[int, float] | None = None,
  prunable: Override | None = None,
  strategy: tf.distribute.Strategy | str | None = None,
  jit: bool | None = None,
  seed: int = 0,
  run_dir: str | os.PathLike | None = None,
  progress: bool | None = None,
  on_round: Callable[[Round], None] | None = None,
  **unknown: Any,
) -> Search:
  """Finds winning tickets by iterative pruning with rewinding.

  Trains the dense network, prunes it by the criterion, rewinds the surviving
  weights, trains them again, and so on down the schedule. Each such training
  is a Round; its Level says how often the network has been pruned, 0 for the
  dense network. The same call with
  the same `run_dir` goes on where it stopped. On the same machine it gives the
  same result bit for bit, if the data are arrays or a dataset that repeats its
  order.

  Args:
    make_model: A function that returns a compiled Keras model, of Keras 3 or
      tf_keras; or a `Trainer`, to share its compiled program.
    train_data: `(x, y)` or `(x, y, sample_weight)` arrays, nested as the model
      takes them; an `ArrayData`; a batched `tf.data.Dataset`; or a function
      that takes the number of the epoch and returns such a dataset. A dataset
      that shuffles anew at each iteration cannot be resumed exactly: give a
      function that seeds its shuffle by the epoch.
    validation_data: The data by which tickets are chosen, in the same forms.
      It must be given.
    test_data: Data that is only reported. Defaults to `None`.
    epochs: Length of the final training in epochs. Give it or `steps`.
    steps: Length of the final training in optimizer updates.
    search_steps: Optimizer updates of each Level's training, at least 1 and at
      most those of the final training. A short training is often enough to find
      a ticket; then train the chosen one longer, with `Search.train`. Defaults
      to the length of the final training.
    batch_size: Examples in a step, over all replicas. The last examples of an
      epoch that do not fill a batch are left out. A `tf.data.Dataset` has its
      own batches. Defaults to `32`.
    schedule: The density of each Level after the dense one, in (0, 1] and
      falling. Defaults to `geometric(10)`: each Level prunes 20 % of the
      remaining weights.
    method: Where the masks of the Levels come from: `iterative(...)`,
      `gradual(...)`, `cycles(...)`, `early_bird(...)` or `at_init(...)`, also
      by name. Defaults to `iterative()`.
    choose: Which Levels are trained: `"all"`; or `"bisect"`, those that are
      needed to find the smallest ticket that matches the dense network. The
      second needs a method that draws masks without training the Levels.
      Defaults to `"all"`.
    budget: What the search may cost, in trainings of the dense network, at
      least 2.5. Everything counts: the dense network, the search and the
      trainings of tickets. It finds the smallest matching ticket that it can,
      and decides about `method` and `choose` itself; see `anytime.Within`. The
      same call with a larger budget goes on. Defaults to `None`.
    criterion: A name such as `"magnitude"`, or a function; it gives each
      prunable weight a score. See `criteria`. `at_init` has one of its own.
      Defaults to `"magnitude"`.
    scope: Which weights compete with each other. Defaults to
      `scopes.default()`, which is `lamp()`: all do, each relative to its own
      layer. The papers' are `layerwise(...)` and `global_(...)`.
    pattern: Which weights are pruned together; see `prune_and_rewind`.
    rewind: Where the Rounds after the dense one start, also by name; see
      `rewinding.get`. Defaults to `to_init()`.
    evaluate_every: Distance between evaluations: `"100it"`, `"1ep"` or a number
      of optimizer updates. Defaults to `"1ep"`.
    objective: The metric to choose by, measured on the validation data: its
      name as `evaluate` reports it, or an `Objective(name, "max")` or
      `Objective(name, "min")`. An `Objective` is needed where Keras does not
      know whether more or less of the metric is better. Defaults to the
      accuracy that the model was compiled with, else its loss.
    monitor: Another name of `objective`.
    tolerance: By how much a ticket may be worse than the dense network and
      still match it, in units of the metric, at least 0. Defaults to `None`:
      see `objective.default_tolerance`.
    augment: Changes the batches of training arrays; see `ArrayData`. Of a
      dataset, map it over its batches instead.
    class_weight: Class -> its weight in the loss.
    prunable: See `lottery_prune`. Not allowed if `make_model` is a `Trainer`.
    strategy: See `Trainer`. Not allowed if `make_model` is a `Trainer`.
    jit: See `Trainer`. Not allowed if `make_model` is a `Trainer`.
    seed: Seed of the initial weights, the order of the data, dropout and
      random criteria. Defaults to `0`.
    run_dir: The directory where every Round is kept. Defaults to a temporary
      directory, which is deleted together with the result.
    progress: Whether to show a progress bar. Defaults to `None`: only on a
      terminal.
    on_round: A function that is called with each `Round`, also with those that
      are read back.
    **unknown: Refused, with what to do instead.

  Returns:
    The `Search`, with its `rounds` and `smallest_matching()`.

  Raises:
    TypeError: `make_model` is no function that makes a model, or
      `validation_data` is missing, or there is no such argument.
    ValueError: An argument is out of range; the data do not fit the model, or
      hold values on which no training can succeed; or `run_dir` holds a run
      with other arguments.
    RuntimeError: Another process works in `run_dir`; or a training diverged,
      as a `tf_lottery.DivergedError`.

  Example:
  ```python
  result = find_ticket(make_model, (x, y), validation_data=(xv, yv), epochs=5)
  print(result)
  result.smallest_matching().save("ticket.safetensors")
  model = result.model()  # trained, with the mask held
  ```

  Reference: Frankle and Carbin, arXiv 1803.03635.
  """
  _check_arguments(unknown, validation_data)
  train = as_data(train_data)
  if augment is not None:
    train = train.with_augment(augment)
  if class_weight:
    train = train.with_class_weight(class_weight)
  per_epoch = train.steps_per_epoch(batch_size)
  steps = _length(epochs, steps, per_epoch)
  search_steps = _search_length(search_steps, steps)
  _check_tolerance(tolerance)
  every = rewinding.Step.parse(evaluate_every).iterations(per_epoch)
  _check_positive("evaluate_every", every)
  trainer, initial = _trainer(make_model, strategy, seed, prunable, jit)
  validation = as_data(validation_data)
  test = None if test_data is None else as_data(test_data)
  trainer.check(train, "train_data", batch_size=batch_size)
  trainer.check(validation, "validation_data")
  if test is not None:
    trainer.check(test, "test_data")
  rewind = rewinding.get("init" if rewind is None else rewind)
  protocol = Protocol(
    train=train,
    validation=validation,
    test=test,
    batch_size=batch_size,
    evaluate_every=every,
    seed=seed,
    keep_optimizer=rewind.keep_optimizer,
    progress=sys.stderr.isatty() if progress is None else progress,
  )
  method, chooses = _method(method, choose, budget)
  if search_steps < steps and (method, chooses) != _PLAIN:
    raise ValueError(
      "search_steps shortens the training of every Level, which is for"
      " method=iterative() without a budget. Give iterative(steps=...) instead,"
      f" or leave it out; got search_steps={search_steps}."
    )
  search = Search(
    trainer=trainer,
    initial=initial,
    protocol=protocol,
    steps=steps,
    search_steps=search_steps,
    schedule=schedules.geometric(10)
    if schedule is None
    else schedules.check_schedule(schedule),
    criterion=_criterion(criterion, method),
    scope=scopes.default() if scope is None else scopes.get(scope),
    pattern=wrappers.pattern_of(trainer.model)
    if pattern is None
    else patterns.get(pattern),
    rewind=rewind,
    objective=_objective(objective, monitor, trainer, protocol.validation),
    method=method,
    choose=chooses,
    tolerance=tolerance,
    directory=_directory(run_dir, trainer),
  )
  return search.run(on_round or (lambda round_: None))


# The search that trains every Level for the search and for the ticket at once.
_PLAIN = (methods.iterative(), choosing.train_all)

# What Keras's fit() takes and find_ticket does not -> what to do instead.
_INSTEAD = {
  "callbacks": (
    "give on_round=function, which is called after each Round; for a callback"
    " within a training, use lottery_prune(model), model.fit(...) and"
    " prune_and_rewind(model, density)"
  ),
  "validation_split": (
    "split the arrays, and give validation_data=(x[n:], y[n:])"
  ),
  "sample_weight": "give (x, y, sample_weight) as train_data",
  "loss": "compile the model with it in make_model",
  "metrics": "compile the model with them in make_model",
  "optimizer": "compile the model with it in make_model",
  "shuffle": (
    "arrays are shuffled by seed; a tf.data.Dataset keeps its own order"
  ),
  "verbose": "use progress=True or progress=False",
  "levels": "give schedule=tf_lottery.geometric(levels)",
  "density": "give schedule=tf_lottery.one_shot(density)",
}


def _check_arguments(unknown: Mapping[str, Any], validation_data: Any) -> None:
  """Says what to do instead of arguments that are unknown or missing."""
  for name in unknown:
    known = list(inspect.signature(find_ticket).parameters)[:-1]
    close = difflib.get_close_matches(name, known, 1)
    instead = _INSTEAD.get(
      name, f"did you mean {close[0]}" if close else "leave it out"
    )
    raise TypeError(f"find_ticket has no argument {name!r}: {instead}.")
  if validation_data is None:
    raise TypeError(
      "find_ticket needs validation_data, by which tickets are chosen. Keep"
      " some training examples for it, such as a tenth: n = len(x) * 9 // 10;"
      " find_ticket(make_model, (x[:n], y[:n]), validation_data=(x[n:], y[n:]),"
      " ...), in random order."
    )


def _method(
  method: str | methods.Method | None, choose: str | None, budget: float | None
) -> tuple[methods.Method, choosing.Choose]:
  """Returns the method, and what decides which Levels are trained."""
  if budget is None:
    method = methods.get("iterative" if method is None else method)
    chooses = choosing.get("all" if choose is None else choose)
    if chooses is choosing.bisect and method == methods.iterative():
      raise ValueError(
        'choose="bisect" leaves out Levels, and method=iterative() draws the'
        " mask of a Level from the training of the Level before. Give"
        " iterative(steps=...), another method, or a budget."
      )
    return method, chooses
  if method is not None or choose is not None:
    raise ValueError(
      "A search with a budget decides about method and choose itself: leave"
      f" them out, or the budget; got method={method}, choose={choose!r} and"
      f" budget={budget}."
    )
  return anytime.Anytime(), anytime.Within(budget)


def _criterion(
  criterion: str | criteria.Criterion | None, method: methods.Method
) -> criteria.Criterion:
  """Returns what scores trained weights."""
  if criterion is None:
    return criteria.magnitude
  if isinstance(method, methods.AtInit):
    raise ValueError(
      f"{method} names the criterion itself: leave out criterion="
      f"{criterion!r}, or give at_init({criterion!r})."
    )
  found = criteria.get(criterion)
  for name in criteria.AT_INITIALISATION:
    if criteria.BY_NAME[name] is found:
      _log.warning(
        "criterion=%r is meant for the untrained network, and this search"
        " scores trained weights by it. For the untrained network give"
        " method=at_init(%r).",
        name,
        name,
      )
  return found


def _search_length(search_steps: int | None, steps: int) -> int:
  search_steps = steps if search_steps is None else search_steps
  if not 0 < search_steps <= steps:
    raise ValueError(
      "search_steps must be at least 1 and at most the length of the final"
      f" training, {steps} steps, got {search_steps}."
    )
  return search_steps


def _check_tolerance(tolerance: float | None) -> None:
  if tolerance is not None and not tolerance >= 0:
    raise ValueError(
      f"tolerance must be at least 0, got {tolerance}. It is in units of the"
      " metric."
    )


def _trainer(
  make_model, strategy, seed, prunable, jit
) -> tuple[Trainer, rewinding.Snapshot]:
  """Returns the trainer, and the initial snapshot of this search's seed."""
  if isinstance(make_model, Trainer):
    if not strategy is prunable is jit is None:
      raise ValueError(
        "strategy, prunable and jit are the Trainer's; leave them out here."
      )
    return make_model, make_model.draw_snapshot(seed)
  trainer = Trainer(
    make_model, strategy=strategy, seed=seed, prunable=prunable, jit=jit
  )
  return trainer, trainer.initial


def _directory(
  run_dir: str | os.PathLike | None, trainer: Trainer
) -> run_directory.RunDirectory:
  if run_dir is None:
    return run_directory.temporary()
  writes = is_chief(trainer.strategy)
  return run_directory.RunDirectory(run_dir, writes=writes)


def _length(
  epochs: float | None, steps: int | None, steps_per_epoch: int
) -> int:
  if epochs is not None and steps is None:
    _check_positive("epochs", epochs)
    return max(1, round(epochs * steps_per_epoch))
  if steps is not None and epochs is None:
    _check_positive("steps", steps)
    return steps
  raise ValueError(
    f"Give either epochs or steps, got epochs={epochs} and steps={steps}."
  )


def _check_positive(name: str, value: float) -> None:
  if value <= 0:
    raise ValueError(f"{name} must be greater than 0, got {value}.")


def _objective(
  objective: str | Objective | None,
  monitor: str | None,
  trainer: Trainer,
  validation: Data,
) -> Objective:
  if objective is None:
    objective = monitor
  elif monitor is not None:
    raise ValueError(
      "monitor is another name of objective: give one of them, got"
      f" objective={objective!r} and monitor={monitor!r}."
    )
  # Keras builds its metrics when it first evaluates.
  reported = trainer.metric_names(validation)
  metrics = trainer.binding.generation.metrics(trainer.model)
  return choose_objective(objective, reported, metrics)
