"""`find_ticket`: it completes its arguments, and runs a search."""

import inspect
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
from tf_lottery.search import arguments
from tf_lottery.search import methods
from tf_lottery.search.loop import Search
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.rounds import Round
from tf_lottery.training.data import Augment
from tf_lottery.training.data import as_data
from tf_lottery.training.trainer import Trainer
from tf_lottery.weights import Override


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
  """Finds winning tickets by pruning and rewinding.

  Trains the dense network, draws sparse masks, rewinds the surviving weights
  under them, and trains these tickets. Each training is a Round; its Level is
  the number of its density in the schedule, 0 for the dense network. By
  default the search has a `budget` of four trainings of the dense network, and
  trains only some Levels. `method="iterative"` is the search of the paper: it
  prunes the trained network of each Level for the next one, so it trains every
  Level, and its tickets may be smaller.

  The same call with the same `run_dir` goes on where it stopped. On the same
  machine it gives the same result bit for bit, if the data are arrays or a
  dataset that repeats its order.

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
      most those of the final training; for `iterative()` alone. A short
      training is often enough to find a ticket; then train the chosen one
      longer, with `Search.train`. Defaults to the length of the final training.
    batch_size: Examples in a step, over all replicas. The last examples of an
      epoch that do not fill a batch are left out. A `tf.data.Dataset` has its
      own batches. Defaults to `32`.
    schedule: The density of each Level after the dense one, in (0, 1] and
      falling. Defaults to `geometric(10)`: each Level prunes 20 % of the
      remaining weights.
    method: Where the masks of the Levels come from: `iterative(...)`,
      `gradual(...)`, `cycles(...)`, `early_bird(...)` or `at_init(...)`, also
      by name. Defaults to `iterative()`, if there is no `budget`.
    choose: Which Levels are trained: `"all"`; or `"bisect"`, those that are
      needed to find the smallest ticket that matches the dense network. The
      second needs a method that draws masks without training the Levels.
      Defaults to `"all"`, for a search without a budget.
    budget: What the search may cost, in trainings of the dense network, at
      least 2.5. Everything counts: the dense network, the search and the
      trainings of tickets. It finds the smallest matching ticket that it can,
      and decides about `method` and `choose` itself; see `anytime.Within`. The
      same call with a larger budget goes on. Defaults to `4` if `method`,
      `choose` and `search_steps` are left out. Even then, a search with one
      Level, or with a rewind to trained weights or to the step that `"auto"`
      finds, is `iterative()`.
    criterion: A name such as `"magnitude"`, or a function; it gives each
      prunable weight a score. See `criteria`. `at_init` has one of its own.
      Defaults to `"magnitude"`.
    scope: Which weights compete with each other. Defaults to
      `scopes.default()`, which is `lamp()`: all do, each relative to its own
      layer. The papers' are `layerwise(...)` and `global_(...)`.
    pattern: Which weights are pruned together; see `prune_and_rewind`.
    rewind: Where the Rounds after the dense one start, also by name; see
      `rewinding.get`. `"auto"` finds the earliest step from which training is
      stable, and counts what that costs. Defaults to `to_init()`.
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
  known = list(inspect.signature(find_ticket).parameters)[:-1]
  arguments.check_names(unknown, known, validation_data)
  train = as_data(train_data)
  if augment is not None:
    train = train.with_augment(augment)
  if class_weight:
    train = train.with_class_weight(class_weight)
  per_epoch = train.steps_per_epoch(batch_size)
  steps = arguments.length(epochs, steps, per_epoch)
  arguments.check_tolerance(tolerance)
  every = rewinding.Step.parse(evaluate_every).iterations(per_epoch)
  arguments.check_positive("evaluate_every", every)
  rewind = rewinding.get("init" if rewind is None else rewind)
  densities = schedules.check_schedule(
    schedules.geometric(10) if schedule is None else schedule
  )
  if budget is None:
    budget = arguments.default_budget(
      method=method,
      choose=choose,
      search_steps=search_steps,
      schedule=densities,
      rewind=rewind,
    )
  level_steps = arguments.search_length(search_steps, steps)
  method, chooses = arguments.method_and_choice(method, choose, budget)
  arguments.check_search_steps(level_steps, steps, method, chooses)
  trainer, initial = arguments.trainer_and_start(
    make_model, strategy, seed, prunable, jit
  )
  validation = as_data(validation_data)
  test = None if test_data is None else as_data(test_data)
  trainer.check(train, "train_data", batch_size=batch_size)
  trainer.check(validation, "validation_data")
  if test is not None:
    trainer.check(test, "test_data")
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
  search = Search(
    trainer=trainer,
    initial=initial,
    protocol=protocol,
    steps=steps,
    search_steps=level_steps,
    schedule=densities,
    criterion=arguments.criterion_of(criterion, method),
    scope=scopes.default() if scope is None else scopes.get(scope),
    pattern=wrappers.pattern_of(trainer.model)
    if pattern is None
    else patterns.get(pattern),
    rewind=rewind,
    objective=arguments.objective_of(
      objective, monitor, trainer, protocol.validation
    ),
    method=method,
    choose=chooses,
    tolerance=tolerance,
    directory=arguments.directory_of(run_dir, trainer),
  )
  return search.run(on_round or (lambda round_: None))
