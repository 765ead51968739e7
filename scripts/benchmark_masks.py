"""The competitors of `benchmark.py --suite=masks`.

Each trains LeNet-300-100 for 10,000 steps a round at a density of 5 %, in a
process of its own. The mask stays, or it changes 100 times between stretches of
the one compiled program.
"""

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from scripts import benchmark_train
from scripts.benchmark_train import Pause
from scripts.benchmark_train import Task

DENSITY = 0.05
CHANGES = 100
# The part of the kept weights that are others after a change.
MOVED = 0.1

prepare = benchmark_train.prepare


def control(task: Task, pause: Pause, name: str) -> None:
  """A control, as a search trains it, evaluated at its end alone."""
  from tf_lottery import controls

  search = _search(task, name)
  for draw in range(task.repeats + 1):
    controls.BY_NAME[name](search, 1, draw)
    pause()


def moving(task: Task, pause: Pause) -> None:
  """Masks that were drawn before: what holding another one takes."""
  from tf_lottery import controls

  search = _search(task, "moving")
  static = controls.random_erk(search, 1).ticket
  steps = search.search_steps
  every = max(1, steps // CHANGES)
  others = _moved(static.mask)
  changes = {
    step: lambda mask, spent=None, to=others[number % 2]: to
    for number, step in enumerate(range(every, steps, every))
  }
  provenance = {**static.provenance, "control": "moving"}
  ticket = dataclasses.replace(static, provenance=provenance)
  for draw in range(task.repeats + 1):
    search.train_control(ticket, draw, changes=changes)
    pause()


def _moved(mask: Any) -> tuple[Any, Any]:
  """Returns two masks that share all but a part of their kept weights."""
  import numpy as np

  from tf_lottery import masks

  first, second = {}, {}
  for key, kept in mask.items():
    rng = np.random.default_rng(0)
    order = rng.permutation(np.flatnonzero(kept))
    free = rng.permutation(np.flatnonzero(~kept))
    count = min(round(MOVED * len(order)), len(free))
    first[key], second[key] = kept, kept.copy()
    second[key].flat[order[:count]] = False
    second[key].flat[free[:count]] = True
  return masks.Mask(second), masks.Mask(first)


def _search(task: Task, name: str) -> Any:
  """A search of a ticket, whose controls train for 10,000 steps."""
  import tf_lottery

  cut = round(benchmark_train.TRAIN_SHARE * len(task.y))
  train, validation = (
    tf_lottery.training.data.ArrayData(
      (task.pixels[part], task.y[part]), scale=255
    )
    for part in (slice(cut), slice(cut, None))
  )
  steps = benchmark_train.ROUND_EPOCHS * task.steps
  found = tf_lottery.find_ticket(
    functools.partial(
      benchmark_train.compiled, task, "lenet_300_100", "keras", ["accuracy"]
    ),
    train,
    validation_data=validation,
    steps=1,
    batch_size=benchmark_train.BATCH_SIZE,
    schedule=[DENSITY],
    evaluate_every=steps,
    run_dir=task.directory / name,
    progress=False,
  )
  return dataclasses.replace(found, search_steps=steps)


# The suite.

FLOOR = "mask stays"
GROUPS: tuple[Mapping[str, Callable[[Task, Pause], None]], ...] = (
  {
    FLOOR: functools.partial(control, name="random_erk"),
    "100 changes": moving,
    "set": functools.partial(control, name="set"),
    "rigl": functools.partial(control, name="rigl"),
  },
)
OPTIONAL = ()


def targets(
  results: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[tuple[str, str, bool]]:
  """Yields each target: text, value, whether met; see `benchmark_train`."""
  del facts
  for name, text, limit in (
    ("100 changes", "100 mask changes take at most 2 % of a training", 0.02),
    ("set", "SET takes at most 10 % more than a static mask", 0.1),
    ("rigl", "RigL takes at most 10 % more than a static mask", 0.1),
  ):
    more = results[name].over(results[FLOOR]) - 1
    yield text, f"{more:.1%}", more <= limit
