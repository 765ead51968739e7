"""Processes that share work, such as the drawing of figures.

A worker imports the report and not the whole package, so it does not wait for
TensorFlow. It does not import the program that wants the report either, which
therefore needs no `if __name__ == "__main__"`.
"""

import concurrent.futures
import os
import pathlib
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Sequence
from typing import IO
from typing import Any
from typing import TypeVar

_Result = TypeVar("_Result")

# Jobs that one process does before a second one has started.
_FEW = 16
_PROGRAM = """
import sys, types
package = types.ModuleType("tf_lottery")
package.__path__ = [sys.argv[1]]
sys.modules["tf_lottery"] = package
from tf_lottery.report import workers
workers.serve(sys.stdin.buffer, sys.stdout.buffer)
"""


def run(
  jobs: Sequence[Callable[[], _Result]], processes: int | None = None
) -> list[_Result]:
  """Calls functions, in this process if they are few, else in several.

  Args:
    jobs: The functions. `pickle` must know them and what they return.
    processes: The number of processes, at least 1. Defaults to the number of
      cores that this process may use.

  Returns:
    What each function returned, in the order of the functions.

  Raises:
    Exception: What a function raised.
    RuntimeError: A process ended before its work.
  """
  processes = processes or len(os.sched_getaffinity(0))
  if processes == 1 or len(jobs) <= _FEW:
    return [job() for job in jobs]
  idle: queue.SimpleQueue[subprocess.Popen] = queue.SimpleQueue()
  started = [_start() for _ in range(processes)]
  try:
    for worker in started:
      idle.put(worker)

    def delegate(job: Callable[[], _Result]) -> _Result:
      worker = idle.get()
      result = _ask(worker, job)
      idle.put(worker)
      return result

    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
      return list(pool.map(delegate, jobs))
  finally:
    for worker in started:
      worker.kill()
      worker.communicate()


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
  """Is a worker: calls the functions that it reads until there are no more."""
  # Whatever a function prints must not look like an answer.
  sys.stdout = sys.stderr
  while True:
    try:
      job = pickle.load(requests)
    except EOFError:
      return
    try:
      answer = job(), None
    except Exception as error:
      answer = None, error
    pickle.dump(answer, answers)
    answers.flush()


def _start() -> subprocess.Popen:
  package = pathlib.Path(__file__).parents[1]
  return subprocess.Popen(
    [sys.executable, "-c", _PROGRAM, str(package)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    # Figures do not gain from the threads of NumPy.
    env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
  )


def _ask(worker: subprocess.Popen, job: Callable[[], Any]) -> Any:
  try:
    pickle.dump(job, worker.stdin)
    worker.stdin.flush()
    result, error = pickle.load(worker.stdout)
  except (BrokenPipeError, EOFError) as ended:
    raise RuntimeError("A process of the report ended early.") from ended
  if error is not None:
    raise error
  return result
