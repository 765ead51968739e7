"""The report's reading of Rounds: all trainings of all runs, finished or not.

A file that is damaged is treated as if it were absent, and is noted as damage.
So the report also reads runs that go on, and runs that were killed.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery.cost import Cost
from tf_lottery.objective import Direction
from tf_lottery.objective import Objective
from tf_lottery.objective import default_name
from tf_lottery.report.run_folders import Run
from tf_lottery.report.run_folders import read_or_note
from tf_lottery.search.prices import SUPERSEDED
from tf_lottery.search.prices import is_superseded
from tf_lottery.search.rounds import early_stop
from tf_lottery.storage import run_directory
from tf_lottery.tickets import TicketFile


@dataclasses.dataclass(frozen=True)
class RoundRecord:
  """One Round, as far as it can be read.

  Values are of the monitored metric. They are None before the first evaluation,
  without test data, and where they are not finite.

  Attributes:
    run: The run directory.
    experiment: The id of its experiment.
    replicate: The number of the replicate in its experiment.
    method: `"dense"`, `"ticket"`, or the name of the control; `"search"` for a
      training of the search itself, or of a search on the damaged data of a
      control, and `"superseded"` for one of a ticket that the search has drawn
      again.
    draw: The number of the draw of a control.
    level: How often the network has been pruned; 0 is dense.
    density: The fraction of the prunable weights that is kept.
    steps: The last step that was evaluated, counted from the start of this
      Round.
    seconds: The time of training and evaluation up to there.
    done: Whether the Round is trained to its end.
    stopped: Whether it was stopped before its end: it matched already, or a
      budget was spent. Then its values are not those of a whole training.
    monitor: The name of the metric.
    direction: `"max"` if more of the metric is better, `"min"` if less of it
      is; None if that is not known.
    early_stop_step: The step at which the validation loss is at its minimum,
      counted from the start of this Round. It is found after training, as
      Frankle and Carbin (arXiv 1803.03635, section 2) do it. None for a Round
      of 0 steps, whose only values are those of its start and of its end.
    val_early: The validation value at that step.
    test_early: The test value at that step.
    val_end: The validation value at the last step.
    test_end: The test value at the last step.
    val_start: The validation value before the first step; None if the Round was
      not evaluated there, as those of early versions.
    test_start: The test value before the first step.
    damage: Which of its files could not be read, and why; one sentence a line.
    start: The step of the weights that this Round began with. It is above 0 if
      the Round goes on from weights that other Rounds trained.
    versions: The versions and the machine that the Round was trained with.
    curve: The step and the validation value of each evaluation, of the dense
      network and of tickets. Steps count from the start of this Round.
    ended: When its last file was written, in seconds since 1970; None if it is
      neither done nor stopped.
    cost: What its training took. Of Rounds that earlier versions trained, and
      of those that go on, only the steps are known.
    search_cost: What it took to draw its mask; None if that is not recorded.
  """

  run: str
  experiment: str
  replicate: int
  method: str
  draw: int
  level: int
  density: float | None
  steps: int
  seconds: float
  done: bool
  monitor: str
  direction: Direction | None = None
  early_stop_step: int | None = None
  val_early: float | None = None
  test_early: float | None = None
  val_end: float | None = None
  test_end: float | None = None
  val_start: float | None = None
  test_start: float | None = None
  damage: str = ""
  start: int = 0
  versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  curve: tuple[tuple[int, float], ...] = dataclasses.field(
    default=(), compare=False, repr=False
  )
  ended: float | None = dataclasses.field(default=None, compare=False)
  stopped: bool = False
  cost: Cost = Cost()  # noqa: RUF009  It cannot be changed.
  search_cost: Cost | None = None


def read_rounds(run: Run | str | os.PathLike) -> list[RoundRecord]:
  """Reads the Rounds of Levels and controls, finished or not, by Level.

  A ticket that is drawn and not trained is no Round.
  """
  run = run if isinstance(run, Run) else Run.at(run)
  return [
    _read_round(run, *found)
    for found in run.directory.rounds()
    if not is_superseded(found[1]) and not _is_only_drawn(found[3])
  ]


def read_beside(run: Run | str | os.PathLike) -> list[RoundRecord]:
  """Reads the Rounds that count by their cost alone.

  These are the search's own trainings; those of searches on the damaged data
  of controls; and those of tickets that the search has drawn again since, with
  the controls of such tickets.
  """
  run = run if isinstance(run, Run) else Run.at(run)
  own = [
    _read_round(run, 0, "search", number, directory)
    for number, directory in enumerate(_search_rounds(run.directory), 1)
  ]
  replaced = [
    _read_round(run, level, SUPERSEDED, draw, directory)
    for level, control, draw, directory in run.directory.rounds()
    if is_superseded(control)
  ]
  # An early-bird training is stopped, too, and that is its end.
  own = [
    dataclasses.replace(r, done=r.done or r.stopped, stopped=False) for r in own
  ]
  return own + replaced


def read_rows(
  directory: run_directory.RoundDirectory, damage: list[str] | None = None
) -> list[dict[str, float]]:
  """Reads the evaluations of a Round, without damaged lines.

  Args:
    directory: The files of the Round.
    damage: A list to which a sentence is added for each line, or for the file,
      that cannot be read. Defaults to `None`: damage is not noted.
  """
  noted: list[str] = [] if damage is None else damage
  read = functools.partial(
    directory.read_metrics, lambda error: noted.append(str(error))
  )
  return read_or_note(read, noted) or []


def read_ticket(
  directory: run_directory.RoundDirectory, damage: list[str] | None = None
) -> TicketFile | None:
  """Reads the ticket of a Round; its mask is built on first use.

  Args:
    directory: The files of the Round.
    damage: A list to which a sentence is added if the file cannot be read.
      Defaults to `None`: damage is not noted.

  Returns:
    None if there is no ticket, or if it cannot be read.
  """
  return read_or_note(
    lambda: TicketFile(directory.ticket), [] if damage is None else damage
  )


def number(row: Mapping[str, float], name: str) -> float | None:
  """Returns a number of a row; None if it is absent or not finite."""
  value = row.get(name)
  return value if value is not None and math.isfinite(value) else None


def _read_round(
  run: Run,
  level: int,
  control: str,
  draw: int,
  directory: run_directory.RoundDirectory,
) -> RoundRecord:
  damage: list[str] = []
  # Before the rows: a Round that ends between the two is then not done yet.
  record = read_or_note(directory.read_record, damage) or {}
  rows = read_rows(directory, damage)
  ticket = functools.cache(lambda: read_ticket(directory, damage))
  monitor, direction = _objective(run.declaration, rows)
  start = _start(record, control, ticket)
  untrained = _untrained(rows, start)
  # A Round of 0 steps, which trains nothing, is at its end where it starts.
  trains = record.get("steps") != 0
  trained = rows[1:] if untrained and trains else rows
  last = trained[-1] if trained else {}
  early = early_stop(trained)
  return RoundRecord(
    run=str(run.path),
    experiment=run.experiment,
    replicate=run.replicate,
    method=control or ("ticket" if level else "dense"),
    draw=draw,
    level=level,
    density=_density(record, ticket, run.declaration, level),
    steps=int(last["step"]) - start if last else 0,
    seconds=record.get("seconds") or last.get("seconds") or 0.0,
    done=bool(record) and not record.get("stopped", False),
    monitor=monitor,
    direction=direction,
    early_stop_step=int(early["step"]) - start if early and trains else None,
    val_early=number(early, f"val_{monitor}"),
    test_early=number(early, f"test_{monitor}"),
    val_end=number(last, f"val_{monitor}"),
    test_end=number(last, f"test_{monitor}"),
    val_start=number(untrained, f"val_{monitor}"),
    test_start=number(untrained, f"test_{monitor}"),
    damage="\n".join(damage),
    start=start,
    versions=record.get("versions", {}),
    curve=() if control else _curve(trained, f"val_{monitor}", start),
    ended=directory.ended,
    stopped=bool(record.get("stopped")),
    cost=Cost.of_record(record)
    if record
    else Cost(int(last["step"]) - start if last else 0),
    search_cost=_search_cost(record),
  )


def _search_rounds(
  directory: run_directory.RunDirectory,
) -> list[run_directory.RoundDirectory]:
  """Returns the search's own trainings, and all of searches on damaged data."""
  found = directory.searches()
  for other in directory.searches_on():
    levels = (round_ for *_, round_ in other.rounds())
    found += [*other.searches(), *(r for r in levels if not _is_only_drawn(r))]
  return found


def _is_only_drawn(directory: run_directory.RoundDirectory) -> bool:
  """Whether a ticket is there, and nothing of its training."""
  damage: list[str] = []
  begun = directory.is_done or bool(read_rows(directory, damage))
  return not begun and not damage


def _search_cost(record: Mapping[str, Any]) -> Cost | None:
  spent = record.get("search_cost")
  return None if spent is None else Cost.from_json(spent)


def _curve(
  rows: Sequence[Mapping[str, float]], name: str, start: int
) -> tuple[tuple[int, float], ...]:
  """Returns the steps and the values of a metric where it is finite."""
  values = ((int(row["step"]) - start, number(row, name)) for row in rows)
  return tuple((step, value) for step, value in values if value is not None)


def _untrained(
  rows: Sequence[Mapping[str, float]], start: int
) -> Mapping[str, float]:
  """Returns the row before the first step; empty if there is none."""
  if rows and rows[0]["step"] == start and "loss" not in rows[0]:
    return rows[0]
  return {}


def _start(
  record: Mapping[str, Any],
  control: str,
  ticket: Callable[[], TicketFile | None],
) -> int:
  """Returns the step of the weights that a Round began with."""
  if "start" in record:
    return record["start"]
  if control == "gradual":
    return 0  # Early versions recorded no start, and trained from step 0.
  file = ticket()
  step = file.provenance.get("step") if file else None
  # A ticket of the user's own may say anything.
  return step if isinstance(step, int) and 0 <= step < 2**53 else 0


def _objective(
  declaration: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[str, Direction | None]:
  """Returns the name of the metric, and its direction if that is known."""
  reported = [name.removeprefix("val_") for row in rows[:1] for name in row]
  name = declaration.get("monitor") or default_name(reported)
  try:
    objective = Objective.from_declaration({**declaration, "monitor": name})
  except ValueError:
    return str(name), None
  return objective.name, objective.direction


def _density(
  record: Mapping[str, Any],
  ticket: Callable[[], TicketFile | None],
  declaration: Mapping[str, Any],
  level: int,
) -> float | None:
  """Returns the density that a Round recorded, or the best guess at it."""
  if "density" in record:
    return record["density"]
  if file := ticket():
    return file.mask.density
  if not level:
    return 1.0
  schedule = declaration.get("schedule", [])
  return schedule[level - 1] if level <= len(schedule) else None
