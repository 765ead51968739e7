"""Compares scopes on models of many kinds: the evidence for the default scope.

    python scripts/scope_study.py

It searches each model of `scope_study_tasks.py` under each scope and seed, and
writes a line of docs/results/default_scope.csv for each Level, then the tables
of docs/results/default_scope.md. The same command again goes on where it
stopped; when all is there, it only writes the tables. Processes may share the
work: give each its own `--seeds`. Beside other work on two cores, 20 minutes
for each seed.
"""

from __future__ import annotations

import pathlib
import sys
import time
import typing
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import csv_rows
from scripts import startup

if typing.TYPE_CHECKING:
  from scripts import scope_study_tasks

_OUT = flags.DEFINE_string(
  "out", str(startup.ROOT / "docs" / "results"), "The folder to write into."
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "The seeds.")
_TASKS = flags.DEFINE_list("tasks", None, "Only these models. Default: all.")
_SCOPES = flags.DEFINE_list("scopes", None, "Only these scopes. Default: all.")

DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02)
CHANNELS = (0.7, 0.5, 0.3, 0.2, 0.1)
FIELDS = (
  "model",
  "scope",
  "seed",
  "target",
  "density",
  "value",
  "dense",
  "chance",
  "kept_of_gain",
  "smallest_layer",
  "smallest_density",
  "smallest_count",
  "seconds",
)


def candidates() -> Mapping[str, tuple[Callable, Any]]:
  """Name -> scope and criterion.

  `global_(), spared` never prunes embeddings and the first and last weight. So
  its masks keep more than they are asked to.
  """
  import dataclasses

  import numpy as np

  from tf_lottery import criteria
  from tf_lottery import scopes

  def by_rms(weights, density):
    (group,) = scopes.global_()(weights, density)

    def compare(scores):
      return scores / max(np.sqrt(np.mean(np.square(scores))), 1e-30)

    return [dataclasses.replace(group, compare=compare)]

  def spared(weights, density):
    exempt = [weights[0].key, "output"]
    if any(weight.kind == "embedding" for weight in weights):
      exempt.append("embedding")
    return scopes.global_(exempt)(weights, density)

  def by_initial(binding, mask, batches, seed):
    now, initial = binding.read(), binding.initial()
    return {
      key: np.abs(now[key]) / (np.std(initial[key]) or 1.0) for key in mask
    }

  magnitude = criteria.magnitude
  return {
    "global_()": (scopes.global_(), magnitude),
    "global_(), spared": (spared, magnitude),
    "global_(), by RMS": (by_rms, magnitude),
    "global_(), by initial scale": (scopes.global_(), by_initial),
    "layerwise()": (scopes.layerwise(), magnitude),
    "erdos_renyi()": (scopes.erdos_renyi(), magnitude),
    "lamp()": (scopes.lamp(), magnitude),
  }


def main(argv: list[str]) -> None:
  """Runs what is not in the CSV yet, then writes the page."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import scope_study_page
  from scripts import scope_study_tasks

  folder = pathlib.Path(_OUT.value)
  path = folder / "default_scope.csv"
  done = {(r["model"], r["scope"], int(r["seed"])) for r in csv_rows.read(path)}
  for name in _TASKS.value or scope_study_tasks.TASKS:
    todo = [
      (scope, seed)
      for seed in map(int, _SEEDS.value)
      for scope in _SCOPES.value or candidates()
      if (name, scope, seed) not in done
    ]
    if todo:
      study(name, scope_study_tasks.TASKS[name], todo, path)
  page = scope_study_page.write(csv_rows.read(path), scope_study_tasks.TASKS)
  (folder / "default_scope.md").write_text(page, "utf-8")


def study(
  name: str,
  task: scope_study_tasks.Task,
  todo: list[tuple[str, int]],
  path: pathlib.Path,
) -> None:
  """Searches one model under scopes and seeds; one compile serves them all."""
  import tf_lottery

  trainer = tf_lottery.Trainer(task.make_model)
  train, validation = task.load()
  for scope, seed in todo:
    began = time.perf_counter()
    chosen, criterion = candidates()[scope]
    try:
      search = tf_lottery.find_ticket(
        trainer,
        train,
        validation_data=validation,
        steps=task.steps,
        batch_size=task.batch_size,
        evaluate_every=task.steps,
        schedule=CHANNELS if task.pattern == "channel" else DENSITIES,
        method="iterative",
        criterion=criterion,
        scope=chosen,
        pattern=task.pattern,
        objective=task.objective,
        seed=seed,
      )
    except ValueError as error:
      print(name, scope, seed, error, flush=True)
      continue
    rows = rows_of(search, task.chance(train, validation))
    seconds = time.perf_counter() - began
    for row in rows:
      row |= {"model": name, "scope": scope, "seed": seed}
      row |= {"seconds": round(seconds / len(rows), 2)}
    csv_rows.append(path, FIELDS, rows)
    last = ", ".join(f"{row['kept_of_gain']:.2f}" for row in rows)
    print(
      f"{name:20} {scope:28} seed {seed}: {last}; {seconds:.1f} s", flush=True
    )


def rows_of(search: Any, chance: float) -> list[dict[str, Any]]:
  """A row for each pruned Level."""
  metric = f"val_{search.monitor}"
  dense, *others = search.rounds
  rows = []
  for target, round_ in zip(search.schedule, others, strict=True):
    smallest = min(round_.ticket.mask.table(), key=lambda row: row.density)
    gain = round_.metrics[metric] - chance
    rows.append(
      {
        "target": target,
        "density": round(round_.density, 5),
        "value": round(round_.metrics[metric], 5),
        "dense": round(dense.metrics[metric], 5),
        "chance": round(chance, 5),
        "kept_of_gain": round(gain / (dense.metrics[metric] - chance), 4),
        "smallest_layer": search.trainer.binding.report[smallest.key].name,
        "smallest_density": round(smallest.density, 5),
        "smallest_count": smallest.kept,
      }
    )
  return rows


if __name__ == "__main__":
  startup.run(main)
