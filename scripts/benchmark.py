"""Measures how fast and how large training is, beside its alternatives.

    python scripts/benchmark.py --suite=train --json=FILE

Suite `train`: an epoch of LeNet-300-100 (60,000 images, batches of 60, Adam)
in `Trainer.train` with a 20 % mask held, in a hand-written XLA loop without
masks or Keras (the floor), in `fit()`, in stock tfmot, and in PyTorch where it
is installed; 100 steps of Conv-2; the share of a Level that is neither
training nor evaluation; the share of evaluating every 100 steps, in Rounds of
10,000 steps; and the memory of a search on Fashion-MNIST.
Suite `masks`: trainings of LeNet-300-100 whose mask changes 100 times, and RigL
and SET, beside one whose mask stays.
Suite `sweep`: replicates in processes of one thread, or one after the other.
Suite `report`: the report of 10,000 Rounds.
Suite `export`: sizes, errors, memory and speed of exported trained tickets.
`--smoke` runs all of it at a size that means nothing.

Each competitor has a process of its own, so that its peak memory is its own.
After an epoch to warm up, each trains one epoch a round, in turns and in
rotated order, and all others wait: a machine that slows down slows all of them.
Ratios are medians of the ratios within a round. Run it on a machine that does
nothing else.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

# So that suites are found, from whatever folder this is run.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import benchmark_export
from scripts import benchmark_masks
from scripts import benchmark_report
from scripts import benchmark_sweep
from scripts import benchmark_train
from scripts import startup

_SUITES = {
  "export": benchmark_export,
  "masks": benchmark_masks,
  "report": benchmark_report,
  "sweep": benchmark_sweep,
  "train": benchmark_train,
}

_SUITE = flags.DEFINE_enum("suite", "train", list(_SUITES), "What to measure.")
_JSON = flags.DEFINE_string("json", None, "Where to write the results.")
_REPEATS = flags.DEFINE_integer(
  "repeats", 5, "Timed epochs of each competitor.", lower_bound=5
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where tfds keeps its data. Defaults to tfds's default."
)
_SMOKE = flags.DEFINE_bool("smoke", False, "Whether to run at a tiny size.")
_WORKER = flags.DEFINE_string(
  "worker", None, "Internal: the competitor that this process is."
)
_WORK_DIR = flags.DEFINE_string("work_dir", None, "Internal: where data lie.")

# The worker that writes the data: loading takes memory, and on Linux a process
# inherits its parent's peak.
_PREPARE = "prepare"
_PACKAGES = (
  "tensorflow",
  "keras",
  "tf_keras",
  "tensorflow-model-optimization",
  "torch",
  "numpy",
)


class _FinishedError(Exception):
  """No more epochs are asked for."""


@dataclasses.dataclass
class Result:
  """What was measured of one competitor.

  Attributes:
    seconds: of each round; for bookkeeping, those that count.
    wall: of each round, from request to answer.
    peak_rss_mb: the most memory that the process held.
  """

  seconds: list[float]
  wall: list[float]
  peak_rss_mb: float = 0.0

  def over(self, other: "Result") -> float:
    """The median over rounds of the ratio to another's seconds."""
    pairs = zip(self.seconds, other.seconds, strict=True)
    return statistics.median(own / theirs for own, theirs in pairs)

  @property
  def share(self) -> float:
    """The median over rounds of the part of the wall time that counts."""
    pairs = zip(self.seconds, self.wall, strict=True)
    return statistics.median(part / whole for part, whole in pairs)


class Worker:
  """A competitor's process, which trains an epoch when asked to."""

  def __init__(self, name: str, directory: pathlib.Path):
    command = [sys.executable, __file__, f"--worker={name}"]
    command += [f"--suite={_SUITE.value}", f"--work_dir={directory}"]
    command += [f"--repeats={_REPEATS.value}", f"--smoke={_SMOKE.value}"]
    if _DATA_DIR.value:
      command.append(f"--data_dir={_DATA_DIR.value}")
    self.name = name
    # With a name of its own and no file left, whatever becomes of this process.
    self._log = tempfile.TemporaryFile("w+", dir=directory)  # noqa: SIM115
    self._process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._log,
      text=True,
    )

  def receive(self) -> dict[str, Any]:
    """Its next message: that it is ready, or what it measured."""
    line = self._process.stdout.readline()
    if not line:
      self._log.seek(0)
      log = self._log.read()[-2000:]
      raise RuntimeError(f"The process of {self.name!r} died:\n{log}")
    return json.loads(line)

  def run(self) -> dict[str, Any]:
    """Has it train an epoch."""
    self._process.stdin.write("run\n")
    self._process.stdin.flush()
    return self.receive()

  def finish(self) -> dict[str, Any]:
    """Ends it; returns its last message."""
    self._process.stdin.close()
    message = self.receive()
    self._process.wait()
    return message

  def kill(self) -> None:
    """Ends it, whatever it does."""
    self._process.kill()
    self._process.wait()


# In the workers' processes.


def work(name: str, directory: pathlib.Path) -> None:
  """Is a competitor: answers requests on stdin until there are no more."""
  # Whatever a library prints must not look like an answer.
  answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
  began = None

  def answer(**message):
    print(json.dumps(message), file=answers, flush=True)

  def pause(uncounted: float = 0.0) -> None:
    nonlocal began
    if began is None:
      answer(ready=True)
    else:
      wall = time.perf_counter() - began
      answer(seconds=wall - uncounted, wall=wall)
    if not sys.stdin.readline():
      raise _FinishedError
    began = time.perf_counter()

  suite = _SUITES[_SUITE.value]
  if name == _PREPARE:
    data, facts = suite.prepare(directory, _DATA_DIR.value, _SMOKE.value)
    answer(data=data, facts=facts)
    return
  competitor = {k: v for group in suite.GROUPS for k, v in group.items()}[name]
  try:
    competitor(suite.Task.load(directory, _repeats()), pause)
  except _FinishedError:
    answer(peak_rss_mb=_peak_rss_mb())
  except ModuleNotFoundError as error:
    if error.name not in suite.OPTIONAL:
      raise
    answer(skipped=str(error))


def _peak_rss_mb() -> float:
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _repeats() -> int:
  return 1 if _SMOKE.value else _REPEATS.value


# In the process that asks.


def main(argv: list[str]) -> None:
  """Measures, prints a table and the targets, and writes JSON."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  if _WORKER.value:
    work(_WORKER.value, pathlib.Path(_WORK_DIR.value))
    return
  suite = _SUITES[_SUITE.value]
  with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
    directory = pathlib.Path(name)
    prepared = _prepare(directory)
    about = {**_about_machine(), "data": prepared["data"]}
    print("\n".join(f"{key}: {value}" for key, value in about.items()) + "\n")
    results = {}
    for group in suite.GROUPS:
      results |= measure(list(group), directory)
  rows = list(_rows(results, suite))
  targets = [
    {"target": text, "value": value, "met": met}
    for text, value, met in suite.targets(results, prepared["facts"])
  ]
  _print_table(rows)
  _print_targets(targets)
  if _JSON.value:
    report = {
      **about,
      "smoke": _SMOKE.value,
      "rows": rows,
      "facts": prepared["facts"],
      "targets": targets,
    }
    text = json.dumps(report, indent=2) + "\n"
    pathlib.Path(_JSON.value).write_text(text)


def measure(names: list[str], directory: pathlib.Path) -> dict[str, Result]:
  """Runs a group of competitors, round by round; leaves out what is missing."""
  workers = []
  try:
    for name in names:
      _say(f"{name}: warming up")
      worker = Worker(name, directory)
      workers.append(worker)
      skipped = worker.receive().get("skipped")
      if skipped:
        print(f"{name} is skipped: {skipped}.")
        workers.remove(worker)
        worker.kill()
    results = {worker.name: Result([], []) for worker in workers}
    for index in range(_repeats()):
      first = index % len(workers)
      _say(f"round {index + 1} of {_repeats()}")
      for worker in workers[first:] + workers[:first]:
        measured = worker.run()
        results[worker.name].seconds.append(measured["seconds"])
        results[worker.name].wall.append(measured["wall"])
    for worker in workers:
      results[worker.name].peak_rss_mb = worker.finish()["peak_rss_mb"]
  finally:
    for worker in workers:
      worker.kill()
  return results


def _prepare(directory: pathlib.Path) -> dict[str, Any]:
  worker = Worker(_PREPARE, directory)
  try:
    return worker.receive()
  finally:
    worker.kill()


def _about_machine() -> dict[str, Any]:
  try:
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    lines = dict(
      [part.strip() for part in line.split(":", 1)]
      for line in cpuinfo.splitlines()
      if ":" in line
    )
    processor = lines.get("model name", platform.machine())
  except FileNotFoundError:
    processor = platform.processor()
  return {
    "machine": f"{processor}, {os.cpu_count()} cores, {platform.system()}",
    "load before": round(os.getloadavg()[0], 2),
    "versions": f"python {platform.python_version()}, "
    + ", ".join(f"{name} {version}" for name, version in _versions()),
  }


def _versions() -> Iterator[tuple[str, str]]:
  for name in _PACKAGES:
    try:
      yield name, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      yield name, "absent"


def _rows(results: dict[str, Result], suite: Any) -> Iterator[dict[str, Any]]:
  """One JSON row for each competitor."""
  reference = results[suite.FLOOR]
  beside_floor = next(group for group in suite.GROUPS if suite.FLOOR in group)
  for name, result in results.items():
    median = statistics.median(result.seconds)
    ratio = of_medians = None
    if name in beside_floor:
      ratio = result.over(reference)
      of_medians = median / statistics.median(reference.seconds)
    yield {
      "name": name,
      "median_s": median,
      "min_s": min(result.seconds),
      "max_s": max(result.seconds),
      "ratio_to_floor": ratio,
      "ratio_of_medians": of_medians,
      "peak_rss_mb": result.peak_rss_mb,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
  columns = ("median s", "min s", "max s", "x floor", "of medians", "peak MB")
  print(f"{'':26}" + "".join(f"{column:>11}" for column in columns))
  for row in rows:
    values = list(row.values())[1:]
    cells = [f"{'':11}" if v is None else f"{v:11.3f}" for v in values[:-1]]
    print(f"{row['name']:26}" + "".join(cells) + f"{values[-1]:11.0f}")


def _print_targets(targets: list[dict[str, Any]]) -> None:
  print("\nTargets" + " (at this size they mean nothing):" * _SMOKE.value)
  for target in targets:
    verdict = "met" if target["met"] else "MISSED"
    print(f"  {target['target']}: {target['value']}, {verdict}")


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
  startup.run(main)
