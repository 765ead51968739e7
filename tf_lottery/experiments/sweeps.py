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
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery import _optional
from tf_lottery.experiments import running
from tf_lottery.experiments import trained
from tf_lottery.experiments.checking import CHOSEN
from tf_lottery.experiments.experiment import Experiment

_COMMAND = (
  "import sys; from tf_lottery.experiments import sweeps;"
  " sweeps.main(sys.argv[1])"
)
# Set in the processes of tasks.
IN_TASK = "TF_LOTTERY_TASK"

# Called with each task as it ends, and with the end of its output if it failed.
OnDone = Callable[["Task", str | None], None]
# A function that runs tasks, and returns the errors of those that failed.
Runner = Callable[[Sequence["Task"], OnDone], dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Task:
  """One replicate of an experiment, to be trained in a process.

  Attributes:
    experiment: The experiment.
    replicate: The number of the replicate, from 0.
    root: The directory that holds the experiment's directory. On a cluster, all
      machines must share it.
    threads: Number of threads that the process may use.
    retries: How often to try again.
    with_controls: Whether to train the controls too.
    only: The controls to train now; None for all, and `retrain`.
  """

  experiment: Experiment
  replicate: int
  root: str
  threads: int = 1
  retries: int = 1
  with_controls: bool = True
  only: Collection[str] | None = None

  def __str__(self) -> str:
    return str(self.run_dir.relative_to(self.root))

  @property
  def is_done(self) -> bool:
    """Whether every Round is trained."""
    return trained.is_done(
      self.experiment,
      self.replicate,
      self.root,
      with_controls=self.with_controls,
      only=self.only,
    )

  @property
  def run_dir(self) -> pathlib.Path:
    """The run directory of the replicate."""
    return trained.run_dir(self.experiment, self.replicate, self.root)

  @property
  def log(self) -> pathlib.Path:
    """The file with the output of the process."""
    return self.run_dir.with_name(f"{self.run_dir.name}.log")

  def to_json(self) -> str:
    """Returns the task as text; `from_json` turns it back.

    Raises:
      NotPortableError: Another process cannot import what it needs.
    """
    fields = vars(self) | {"experiment": self.experiment.to_json()}
    return json.dumps(fields)

  @classmethod
  def from_json(cls, text: str) -> "Task":
    """Returns the task of a text."""
    fields = json.loads(text)
    experiment = Experiment.from_json(fields.pop("experiment"))
    return cls(experiment, **fields)


def grid(
  make: Callable[..., Experiment],
  fields: Mapping[str, Any],
  axes: Mapping[str, Sequence[Any]],
) -> list[Experiment]:
  """Returns one experiment for each combination of values.

  Args:
    make: Makes an experiment of fields: `Experiment` or `papers.experiment`.
    fields: The fields that all of them have.
    axes: Field -> its values.

  Raises:
    ValueError: There is no field of that name, a value is out of range, or two
      combinations are the same experiment.
  """
  for name in axes:
    if name not in fields:
      raise ValueError(
        f"A grid is over fields of the experiment, {sorted(fields)}; got"
        f" {name!r}."
      )
  made = [
    make(**{**fields, **dict(zip(axes, values, strict=True))})
    for values in itertools.product(*axes.values())
  ]
  if len({experiment.id for experiment in made}) < len(made):
    raise ValueError(
      "A grid is over fields that make another experiment, with a directory of"
      f" its own; got {sorted(axes)}. Controls, replicates and the tolerance do"
      " not, and an experiment with a name has one directory only."
    )
  return made


def tasks(
  declared: Iterable[Experiment], root: str | os.PathLike, **fields: Any
) -> list[Task]:
  """Returns the tasks of all replicates, each experiment's first one first.

  Raises:
    ValueError: The number of replicates of an experiment is not fixed.
  """
  declared = list(declared)
  if any(len(experiment.looks) > 1 for experiment in declared):
    raise ValueError(
      "A sweep needs a fixed number of replicates, such as 3. An experiment"
      " with replicates='auto' is judged while it is trained, by"
      " tf_lottery.prove(experiment, root)."
    )
  made = [
    Task(experiment, replicate, str(root), **fields)
    for experiment in declared
    for replicate in range(experiment.looks[-1])
  ]
  return sorted(made, key=lambda task: task.replicate)


def run_all(
  todo: Sequence[Task], runner: Runner, on_done: OnDone = lambda *_: None
) -> dict[str, str]:
  """Runs tasks; those whose controls need all replicates in two passes.

  With `control_levels="chosen"` the Levels that have controls are chosen when
  all replicates are found.

  Args:
    todo: The tasks.
    runner: `run_local` or `run_ray` with its options.
    on_done: Called with each task as it ends.

  Returns:
    Task -> the end of its output, for the tasks that failed.
  """
  first = [
    dataclasses.replace(task, with_controls=False)
    for task in todo
    if task.experiment.control_levels == CHOSEN
  ]
  failed = runner([task for task in first if not task.is_done], lambda *_: None)
  rest = [task for task in todo if str(task) not in failed]
  for task in todo:
    if str(task) in failed:
      on_done(task, failed[str(task)])
  return failed | runner(rest, on_done)


def run_local(
  todo: Sequence[Task], on_done: OnDone = lambda *_: None, *, processes: int = 1
) -> dict[str, str]:
  """Runs tasks on this machine, each in a process of its own.

  Args:
    todo: The tasks. Those that are done already cost nothing.
    on_done: Called with each task as it ends.
    processes: Number of tasks that run at a time. Defaults to `1`.

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
  todo: Sequence[Task], on_done: OnDone = lambda *_: None
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
  remote = ray.remote(_run_text)
  pending = {
    remote.options(num_cpus=task.threads).remote(task.to_json(), sys.path): task
    for task in todo
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


def _run_text(text: str, path: list[str]) -> str | None:
  """Runs a task on a worker of Ray, which must find the user's modules."""
  sys.path[:] = list(dict.fromkeys([*sys.path, *path]))
  return run_task(Task.from_json(text))


def run_task(task: Task) -> str | None:
  """Runs a task in a process; returns the end of its output if it fails.

  It is the output of the last attempt alone: an error of an earlier one is not
  its reason.
  """
  if task.is_done:
    return None
  text = task.to_json()
  task.log.parent.mkdir(parents=True, exist_ok=True)
  for _ in range(1 + task.retries):
    with open(task.log, "ab") as log:
      begin = log.tell()
      process = subprocess.run(
        [sys.executable, "-c", _COMMAND, text],
        env={
          "TF_CPP_MIN_LOG_LEVEL": "2",
          **os.environ,
          IN_TASK: "1",
          # The user's modules are found as they are found here.
          "PYTHONPATH": os.pathsep.join(
            part or os.getcwd() for part in sys.path
          ),
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
  output = task.log.read_bytes()[begin:].decode(errors="replace")
  return "\n".join(output.splitlines()[-20:]) or (
    f"The process wrote nothing, and ended with {process.returncode}."
  )


def main(text: str) -> None:
  """Runs a task in this process, which was started for it."""
  import tensorflow as tf

  threads = json.loads(text)["threads"]
  # Before the user's modules are imported, which may start TensorFlow.
  tf.config.threading.set_intra_op_parallelism_threads(threads)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  task = Task.from_json(text)
  running.run(
    task.experiment,
    task.replicate,
    task.root,
    with_controls=task.with_controls,
    only=task.only,
  )
