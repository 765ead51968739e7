"""`prove`: runs a whole experiment, and says what it shows."""

import contextlib
import dataclasses
import functools
import importlib
import logging
import os
import pathlib
import sys
import threading
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tqdm

from tf_lottery.experiments import controls
from tf_lottery.experiments import running
from tf_lottery.experiments import sequential
from tf_lottery.experiments import sweeps
from tf_lottery.experiments import trained
from tf_lottery.experiments import values
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.search import rounds
from tf_lottery.search.divergence import DivergedError
from tf_lottery.search.rounds import Round
from tf_lottery.storage.run_directory import RunDirectory
from tf_lottery.tickets import Ticket
from tf_lottery.training.trainer import Trainer

_log = logging.getLogger("tf_lottery")


@dataclasses.dataclass(frozen=True, repr=False)
class Proof:
  """What an experiment shows. Printing it shows the verdict on each Level.

  `prove` makes it. It reads the run directories anew each time, and needs the
  extra `report`.

  Attributes:
    experiment: the declaration.
    root: the directory that holds the experiment's directory.
    failed: run directory -> the end of its output, for replicates that failed.
  """

  experiment: Experiment
  root: pathlib.Path
  failed: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def directory(self) -> pathlib.Path:
    """The directory of the experiment; its replicates are below it."""
    return self.root / self.experiment.id

  @property
  def evidence(self) -> Any:
    """The `report.evidence.Evidence` of all replicates."""
    evidence = importlib.import_module("tf_lottery.report.evidence")
    (found,) = evidence.gather([self.directory], self.experiment.tolerance)
    return found

  @property
  def verdicts(self) -> list[Any]:
    """One `report.verdicts.Verdict` for each Level, in their order."""
    return self.evidence.verdicts()

  @property
  def level(self) -> int:
    """The Level to take: the smallest that wins, else that matches.

    If no verdict says so, the smallest that matches on the validation data in
    the mean over replicates; 0, the dense network, if there is none.
    """
    return self._taken[0]

  @property
  def _taken(self) -> tuple[int, str]:
    """The Level to take, and why."""
    found = self.verdicts
    for word, shown_to in (("winning", "win"), ("matching", "match")):
      if shown := [v.level for v in found if v.word == word]:
        return max(shown), f"the smallest that is shown to {shown_to}"
    level = trained.smallest_matching_level(self.experiment, self.root)
    if not level:
      return 0, "no ticket matches it on the validation data"
    over = "the median of" if not self.experiment.trains_all else "the mean of"
    return level, (
      "none is shown to match by a test, and it is the smallest that matches on"
      f" the validation data, by {over} the replicates"
    )

  def _which_is_taken(self) -> str:
    """Says which Level `model()` takes; empty as long as it takes none."""
    try:
      level, why = self._taken
    except ValueError:
      return ""
    name = f"Level {level}" if level else "the dense network"
    return f"proof.model() and proof.ticket() take {name}: {why}."

  def round(self, level: int | None = None, replicate: int = 0) -> Round:
    """Returns the Round of a Level in a replicate.

    Args:
      level: The Level. Defaults to `None`: the Level to take.
      replicate: The number of the replicate. Defaults to `0`.

    Raises:
      ValueError: There is no such Level or replicate, or it is not trained yet.
    """
    last = trained.count_replicates(self.experiment, self.root) - 1
    if not 0 <= replicate <= last:
      raise ValueError(f"replicate must be 0 to {last}, got {replicate}.")
    level = self.level if level is None else level
    path = trained.run_dir(self.experiment, replicate, self.root)
    found = {
      round_.level: round_
      for round_ in rounds.read_levels(RunDirectory(path, writes=False))
    }
    if level not in found:
      raise ValueError(
        f"level must be one that is trained, {sorted(found)}; got {level}."
      )
    return found[level]

  def ticket(self, level: int | None = None, replicate: int = 0) -> Ticket:
    """Returns the ticket of a Level; for the arguments see `round`."""
    return self.round(level, replicate).ticket

  def model(self, level: int | None = None, replicate: int = 0) -> Any:
    """Returns the trained sparse model of a Level, with its mask held.

    For the arguments see `round`. Pass it to `tf_lottery.export`.
    """
    return self.round(level, replicate).restore(self.experiment.make())

  def report(self, out: str | os.PathLike) -> Any:
    """Writes the report into a folder; see `report.write`."""
    report = importlib.import_module("tf_lottery.report")
    return report.write([self.directory], out, self.experiment.tolerance)

  def __repr__(self) -> str:
    return f"Proof({self.experiment.heading!r}, {str(self.directory)!r})"

  def __str__(self) -> str:
    tables = importlib.import_module("tf_lottery.report.tables")
    headlines = importlib.import_module("tf_lottery.report.headlines")
    chosen = importlib.import_module("tf_lottery.report.chosen")
    costs = importlib.import_module("tf_lottery.report.costs")
    wording = importlib.import_module("tf_lottery.report.wording")
    transfer = importlib.import_module("tf_lottery.report.transfer")
    matters = importlib.import_module("tf_lottery.report.matters")
    stable_steps = importlib.import_module("tf_lottery.report.stable_steps")
    try:
      evidence = self.evidence
    except FileNotFoundError:  # every replicate failed at once
      parts = [f"No replicate is trained in {self.directory}."]
    else:
      parts = [
        tables.verdicts_as_text(evidence),
        headlines.headline(evidence),
        wording.looks(evidence),
        stable_steps.sentence(evidence),
        transfer.answer(evidence),
        matters.answer(evidence),
        self._which_is_taken(),
        chosen.sentences(evidence),
        str(costs.Price.of(evidence) or ""),
      ]
    parts += [f"{run} failed:\n{text}" for run, text in self.failed.items()]
    return "\n\n".join(part for part in parts if part)


def prove(
  experiment: Experiment,
  root: str | os.PathLike,
  *,
  processes: int = 1,
  ray: bool = False,
  progress: bool | None = None,
) -> Proof:
  """Runs all replicates of an experiment with their controls.

  The same call goes on where it stopped, and trains what was added since:
  replicates, controls, Levels. In this process the replicates share one
  compiled program.

  With `replicates="auto"` it trains and judges in turns, and stops when the
  verdicts are settled; see `report.looks.is_settled`.

  Args:
    experiment: the declaration.
    root: the directory that holds the experiment's directory.
    processes: how many replicates run at a time. More than one run in processes
      of their own, which import the experiment's functions; where they cannot,
      all run in this one, and a line says so. In a script, call `prove` under
      `if __name__ == "__main__":`. Defaults to `1`.
    ray: whether to run the replicates on a Ray cluster. Defaults to `False`.
    progress: whether to show a progress bar over all Rounds. Defaults to
      `None`: only on a terminal.

  Returns:
    The `Proof`; print it, or write its report.

  Raises:
    ImportError: `replicates="auto"` needs the extra `report`.
    RuntimeError: a process that `prove` started calls it again.
    ValueError: the model, its data or a field cannot be used, or looks were
      taken, and a field that their verdicts depend on has changed since.

  Example:
  ```python
  proof = prove(Experiment(make_model=make_model, load_data=load, epochs=5),
                "runs")
  print(proof)
  proof.report("report")
  tf_lottery.export.to_tflite(proof.model(), "ticket.tflite")
  ```

  Reference: Frankle and Carbin, arXiv 1803.03635.
  """
  if sweeps.IN_TASK in os.environ:
    raise RuntimeError(
      "A process that trains a replicate imported a module that calls prove()."
      " Call it under `if __name__ == '__main__':`."
    )
  root = pathlib.Path(root)
  runner: sweeps.Runner = sweeps.run_ray
  if not ray:
    runner = functools.partial(sweeps.run_local, processes=processes)
  here = (processes == 1 and not ray) or not _is_portable(experiment)
  trainers: dict[str, Trainer] = {}

  def train(
    replicates: Sequence[int], only: Collection[str] | None = None
  ) -> dict[str, str]:
    if here:
      return _run_here(experiment, root, replicates, trainers, only)
    threads = _threads(processes)
    todo = [
      sweeps.Task(experiment, n, str(root), threads, only=only)
      for n in replicates
    ]
    # What is done is compared with the declaration, and read back, here.
    done = [task.replicate for task in todo if task.is_done]
    failed = _run_here(experiment, root, done, trainers, only)
    return failed | sweeps.run_all(todo, runner)

  if experiment.source and not running.needs_source(experiment):
    _log.warning(
      "The source is not used: name controls that take its tickets, %s.",
      ", ".join(controls.WITH_SOURCE),
    )
  sequential.check_looks(experiment, root)
  with _bar(experiment, root, progress):
    if len(experiment.looks) > 1:
      failed = sequential.train_in_looks(experiment, root, train)
    else:
      failed = train(range(experiment.looks[0]))
  for run, text in failed.items():
    _log.warning("%s failed:\n%s", run, text)
  return Proof(experiment, root, failed)


def _is_portable(experiment: Experiment) -> bool:
  """Whether other processes can train it; a line says why they cannot."""
  try:
    experiment.to_json()
  except values.NotPortableError as error:
    _log.warning("All replicates run in this process: %s", error)
    return False
  return True


def _run_here(
  experiment: Experiment,
  root: pathlib.Path,
  replicates: Sequence[int],
  trainers: dict[str, Trainer],
  only: Collection[str] | None = None,
  passes: Sequence[bool] = (False, True),
) -> dict[str, str]:
  """Runs replicates in this process; those that diverge stop no others.

  The passes are without controls and with them; `only` names the controls.
  `trainers` holds the trainers that are made so far, by the ids of their
  experiments: all replicates share one compiled program.
  """
  failed: dict[str, str] = {}
  if not replicates:
    return failed
  source = experiment.source if running.needs_source(experiment) else None
  part = trained.with_some_controls(experiment, only)
  for with_controls in passes:
    if with_controls and source and running.needs_source(part):
      failed |= _run_here(source, root, replicates, trainers, passes=(False,))
    for replicate in replicates:
      name = str(trained.run_dir(experiment, replicate, root))
      if name in failed:
        continue
      try:
        running.run(
          experiment,
          replicate,
          root,
          with_controls=with_controls,
          only=only,
          trainer=_trainer(experiment, trainers),
          source_trainer=_trainer(source, trainers) if source else None,
          progress=False,
        )
      except DivergedError as error:
        failed[name] = f"{type(error).__name__}: {error}"
  return failed


def _trainer(experiment: Experiment, trainers: dict[str, Trainer]) -> Trainer:
  """Returns the trainer of an experiment, which is made once."""
  if experiment.id not in trainers:
    trainers[experiment.id] = experiment.make_trainer()
  return trainers[experiment.id]


def _threads(processes: int) -> int:
  return max(1, (os.cpu_count() or 1) // processes)


@contextlib.contextmanager
def _bar(
  experiment: Experiment, root: pathlib.Path, progress: bool | None
) -> Iterator[None]:
  """Shows how many Rounds are trained, wherever they are."""
  if not (sys.stderr.isatty() if progress is None else progress):
    yield
    return
  ended = threading.Event()

  def show(bar: tqdm.tqdm) -> None:
    bar.n, bar.total = trained.count_done(experiment, root)
    bar.refresh()

  def follow(bar: tqdm.tqdm) -> None:
    while not ended.wait(1):
      # A file that is being replaced is read again a second later.
      with contextlib.suppress(OSError):
        show(bar)

  done, total = trained.count_done(experiment, root)
  with tqdm.tqdm(
    total=total, initial=done, desc=experiment.heading, unit="Round"
  ) as bar:
    watcher = threading.Thread(target=follow, args=(bar,), daemon=True)
    watcher.start()
    try:
      yield
    finally:
      ended.set()
      watcher.join()
      show(bar)
