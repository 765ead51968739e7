"""Sweeps: the replicates of many experiments, each in a process of its own.

A process trains one replicate, and goes on where an earlier process stopped. A
replicate that fails is tried again, and does not stop the others.
"""

import concurrent.futures
import dataclasses
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery import _optional
from tf_lottery.experiments import running
from tf_lottery.experiments.experiment import GROWING
from tf_lottery.experiments.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Task:
  """One replicate of an experiment, to be trained in a process.

  Attributes:
    experiment: The experiment.
    replicate: The number of the replicate, from 0.
    root: The directory that holds the experiment's directory. On a cluster, all
      machines must share it.
    data_dir: See `datasets.load_data`.
    threads: Number of threads that the process may use.
    retries: How often to try again.
  """

  experiment: Experiment
  replicate: int
  root: str
  data_dir: str | None = None
  threads: int = 1
  retries: int = 1

  def __str__(self) -> str:
    return str(self.run_dir.relative_to(self.root))

  @property
  def is_done(self) -> bool:
    """Whether every Round is trained."""
    return running.is_done(self.experiment, self.replicate, self.root)

  @property
  def run_dir(self) -> pathlib.Path:
    """The run directory of the replicate."""
    return running.run_dir(self.experiment, self.replicate, self.root)

  @property
  def log(self) -> pathlib.Path:
    """The file with the output of the process."""
    return self.run_dir.with_name(f"{self.run_dir.name}.log")


def grid(
  base: Experiment, axes: Mapping[str, Sequence[Any]]
) -> list[Experiment]:
  """Returns one experiment for each combination of values.

  Args:
    base: The experiment with all other fields.
    axes: Field -> its values.

  Raises:
    ValueError: There is no field of that name, or a value is out of range.
  """
  names = {field.name for field in dataclasses.fields(base)}
  names -= set(GROWING)  # one experiment, whatever they are
  for name in axes:
    if name not in names:
      raise ValueError(
        f"A grid is over fields that make an Experiment another one,"
        f" {sorted(names)}; got {name!r}."
      )
  return [
    dataclasses.replace(base, **dict(zip(axes, values, strict=True)))
    for values in itertools.product(*axes.values())
  ]


def tasks(
  declared: Iterable[Experiment], root: str | os.PathLike, **fields
) -> list[Task]:
  """Returns the tasks of all replicates, each experiment's first one first."""
  made = [
    Task(experiment, replicate, str(root), **fields)
    for experiment in declared
    for replicate in range(experiment.replicates)
  ]
  return sorted(made, key=lambda task: task.replicate)


def run_local(
  todo: Sequence[Task],
  *,
  processes: int,
  on_done: Callable[[Task, str | None], None] = lambda task, error: None,
) -> dict[str, str]:
  """Runs tasks on this machine.

  Args:
    todo: The tasks. Those that are done already cost nothing.
    processes: Number of tasks that run at a time.
    on_done: A function that is called with each task as it ends, and with the
      end of its output if it failed.

  Returns:
    Task -> the end of its output, for the tasks that failed.
  """
  failed = {}
  with concurrent.futures.ThreadPoolExecutor(processes) as pool:
    futures = {pool.submit(run_task, task): task for task in todo}
    try:
      for future in concurrent.futures.as_completed(futures):
        task, error = futures[future], _result(future)
        if error is not None:
          failed[str(task)] = error
        on_done(task, error)
    except BaseException:  # Ctrl-C, which the processes got too
      pool.shutdown(wait=False, cancel_futures=True)
      raise
  return failed


def _result(future: concurrent.futures.Future) -> str | None:
  try:
    return future.result()
  except OSError as error:  # for example, the disk is full
    return str(error)


def run_ray(
  todo: Sequence[Task],
  *,
  on_done: Callable[[Task, str | None], None] = lambda task, error: None,
) -> dict[str, str]:
  """Runs tasks on the Ray cluster that `ray.init` joined, or a local one.

  Each task takes as many CPUs as it has threads. The arguments and the return
  value are the same as in `run_local`.

  Raises:
    ImportError: Ray is not installed.
  """
  with _optional.needs("ray", "A sweep on a cluster"):
    import ray
  if not ray.is_initialized():
    ray.init(log_to_driver=False)
  remote = ray.remote(run_task)
  pending = {
    remote.options(num_cpus=task.threads).remote(task): task for task in todo
  }
  failed = {}
  while pending:
    (reference, *_), _ = ray.wait(list(pending))
    task = pending.pop(reference)
    try:
      error = ray.get(reference)
    except ray.exceptions.RayError as lost:  # for example, its machine
      error = str(lost)
    if error is not None:
      failed[str(task)] = error
    on_done(task, error)
  return failed


def run_task(task: Task) -> str | None:
  """Runs a task in a process; returns the end of its output if it fails."""
  if task.is_done:
    return None
  task.log.parent.mkdir(parents=True, exist_ok=True)
  argument = json.dumps(dataclasses.asdict(task), default=str)
  for _ in range(1 + task.retries):
    with open(task.log, "ab") as log:
      process = subprocess.run(
        [sys.executable, "-m", "tf_lottery.experiments.sweeps", argument],
        env={
          **os.environ,
          "OMP_NUM_THREADS": str(task.threads),
          # Several processes may share a GPU.
          "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        },
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        check=False,
      )
    if not process.returncode:
      return None
    if process.returncode == -signal.SIGINT:
      break  # Ctrl-C is meant for the whole sweep.
  lines = task.log.read_text(encoding="utf-8", errors="replace").splitlines()
  return "\n".join(lines[-20:])


def _main(argument: str) -> None:
  """Runs the task of this process."""
  import tensorflow as tf

  fields = json.loads(argument)
  experiment = Experiment(**fields.pop("experiment"))
  task = Task(experiment, **fields)
  tf.config.threading.set_intra_op_parallelism_threads(task.threads)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  running.run(experiment, task.replicate, task.root, data_dir=task.data_dir)


if __name__ == "__main__":
  _main(sys.argv[1])
