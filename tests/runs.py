"""Small run directories for tests, written by the writers of a search."""

import numpy as np

from tf_lottery import masks
from tf_lottery import report
from tf_lottery import tickets
from tf_lottery.storage import files
from tf_lottery.storage import run_directory

SHAPES = {"0/kernel": (64, 6), "1/kernel": (6, 3)}
LAYERS = [{"class": "Sequential"}, {"class": "Flatten"}, {"class": "Dense"}]
VERSIONS = {"python": "3.11.7", "machine": "x86_64", "tensorflow": "2.21.0"}

# By how much a replicate is above a value, before each method's own factor.
NOISE = (0.0, 0.002, -0.001)


def gather_values(root, methods, monitor="accuracy", replicates=3):
  """Writes replicates whose methods reach given values at Level 1.

  Args:
    root: The folder of the run directories.
    methods: `"dense"`, `"ticket"` or a control -> its value.
    monitor: The metric.
    replicates: How many, at most 3.

  Returns:
    Their `Evidence`.
  """
  for seed in range(replicates):
    values = {
      name: [value + NOISE[seed] * (1 + 0.1 * place)]
      for place, (name, value) in enumerate(methods.items())
    }
    path = root / f"seed_{seed}"
    write_run(path, values, seed=seed, monitor=monitor, schedule=(0.2,))
  (found,) = report.gather([root], 0.005)
  return found


def write_run(
  path, methods, *, monitor="accuracy", seed=0, schedule=(0.5, 0.2)
):
  """Writes a run whose Rounds reach given values at their early stop.

  Args:
    path: The run directory.
    methods: `"dense"`, `"ticket"` or a control -> its value at each Level (one
      for dense). The value of a control may be a list, one for each draw.
    monitor: The metric.
    seed: The seed of the run.
    schedule: The density of each Level.
  """
  directory = run_directory.RunDirectory(path)
  declaration = {
    "monitor": monitor,
    "seed": seed,
    "schedule": schedule,
    "layers": LAYERS,
    "weights": [[key, shape, True] for key, shape in SHAPES.items()],
    "batch_size": 60,
  }
  directory.write_declaration(declaration)
  for method, values in methods.items():
    for number, value in enumerate(values):
      level = number + (method != "dense")
      if method in ("dense", "ticket"):
        write_round(
          directory.level(level), value, (1.0, *schedule)[level], monitor
        )
        continue
      for draw, one in enumerate(value if isinstance(value, list) else [value]):
        round_ = directory.control(level, method, draw)
        write_round(round_, one, schedule[number], monitor)
  return directory


def write_round(
  round_, value, density, monitor="accuracy", *, start=0, done=True
):
  """Writes three evaluations: `value` at the second, 0.01 less at the third."""
  for step, loss, reached in (
    (10, 0.9, value - 0.1),
    (20, 0.5, value),
    (30, 0.6, value - 0.01),
  ):
    metrics = {f"test_{monitor}": reached, f"val_{monitor}": reached + 0.001}
    round_.append_metrics(row(start + step, loss, **metrics))
  write_ticket(round_, masks.Mask.random(SHAPES, density, seed=0))
  if done:
    level = int(round_.path.name[6:8])
    round_.finish(record(level=level, density=density, start=start))


def row(step, val_loss, **metrics):
  """Returns a line of metrics."""
  return {
    "step": step,
    "loss": 0.4,
    "val_loss": val_loss,
    **metrics,
    "seconds": step / 10,
  }


def record(**fields):
  """Returns the record that a Round leaves at its end."""
  return {
    "level": 0,
    "density": 1.0,
    "metrics": {"loss": 0.4, "val_loss": 0.6},
    "seconds": 3.5,
    "steps": 30,
    "versions": VERSIONS,
    **fields,
  }


def write_ticket(round_, mask):
  """Writes a ticket with start weights that count up from 1."""
  start = {
    key: np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    for key, shape in mask.shapes.items()
  }
  names = ["dense/kernel", "dense_1/kernel"][: len(mask)]
  tickets.Ticket(mask, start, {"weights": names}).save(round_.ticket)


def write_experiment(root, name="lenet-1a2b", replicates=3):
  """Writes an experiment: its first ticket wins, its second is below dense."""
  home = root / name
  declared = {"id": name, "summary": "A small <net> on digits.", "steps": 30}
  files.write_json(home / run_directory.EXPERIMENT, declared)
  for number in range(replicates):
    noise = (0.0, 0.001, -0.001, 0.0005)[number % 4]
    methods = {
      "dense": [0.9 + noise],
      "ticket": [0.91 + noise, 0.85 - noise],
      "random_reinit": [[0.88 + noise, 0.882], [0.8, 0.81 + noise]],
      "shuffled_mask": [0.87 + noise, 0.79],
    }
    write_run(home / f"replicate_{number:02d}", methods, seed=number)
  return home
