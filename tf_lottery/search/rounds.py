"""Rounds: the record of one training, and the choice among them."""

import dataclasses
import math
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_lottery.cost import Cost
from tf_lottery.objective import Objective
from tf_lottery.objective import default_tolerance
from tf_lottery.rewinding import Snapshot
from tf_lottery.storage.round_directory import RoundDirectory
from tf_lottery.storage.run_directory import RunDirectory
from tf_lottery.storage.schemas import SmallestLayer
from tf_lottery.tickets import Ticket


@dataclasses.dataclass(frozen=True)
class Round:
  """One training with its mask and its record: a Level's, or a control's.

  Attributes:
    level: the number of its density in the schedule; 0 is dense.
    density: fraction of the prunable weights that is kept, in (0, 1].
    metrics: of the last evaluation: `val_accuracy`, `test_accuracy`, ...
    seconds: the time of training and evaluation.
    steps: how many optimizer updates it trained.
    directory: where its files lie.
    cost: what its training took. Of a Round that an earlier version trained,
      only the steps are known.
    smallest_layer: `name` and `density` of the weight that keeps the smallest
      fraction of its entries; `None` in runs of before this was recorded.
    start: the step at which it began.
    stopped: whether it was stopped before its end, as its outcome was clear or
      a budget was spent.
    search: the number of the search's training that drew its ticket; `None` if
      it is not known.
    rows: its evaluations, if this process has trained it; else `None`.
    checkpoint: where a stopped Round goes on, if this process has trained it
      and does not write; else `None`.
  """

  level: int
  density: float
  metrics: Mapping[str, float]
  seconds: float
  steps: int
  directory: RoundDirectory = dataclasses.field(repr=False)
  smallest_layer: SmallestLayer | None = None
  start: int = 0
  stopped: bool = False
  cost: Cost = Cost()  # noqa: RUF009  It cannot be changed.
  search: int | None = None
  rows: Sequence[Mapping[str, float]] | None = dataclasses.field(
    default=None, repr=False, compare=False
  )
  checkpoint: Snapshot | None = dataclasses.field(
    default=None, repr=False, compare=False
  )

  @classmethod
  def of(
    cls,
    record: Mapping[str, Any],
    directory: RoundDirectory,
    rows: Sequence[Mapping[str, float]] | None = None,
    checkpoint: Snapshot | None = None,
  ) -> "Round":
    """The Round of a record, as `round.json` holds it."""
    names = ("level", "density", "metrics", "seconds", "steps")
    return cls(
      **{name: record[name] for name in names},
      directory=directory,
      smallest_layer=record.get("smallest_layer"),
      start=record.get("start", 0),
      stopped=record.get("stopped", False),
      cost=Cost.of_record(record),
      search=record.get("search"),
      rows=rows,
      checkpoint=checkpoint,
    )

  @classmethod
  def read(cls, directory: RoundDirectory) -> "Round":
    """Reads a Round that is trained to its end."""
    return cls.of(directory.read_record(), directory)

  @property
  def ticket(self) -> Ticket:
    """Its mask and start weights, read from disk."""
    return Ticket.load(self.directory.ticket)

  @property
  def final(self) -> Snapshot:
    """Its weights after training, read from disk."""
    return Snapshot.load(self.directory.final)

  @property
  def history(self) -> list[dict[str, float]]:
    """One row for each evaluation.

    It is read from disk, unless this process has trained the Round: in a
    cluster, the chief may not have written it yet.
    """
    if self.rows is not None:
      return [dict(row) for row in self.rows]
    return self.directory.read_metrics()

  @property
  def untrained(self) -> Mapping[str, float]:
    """Its evaluation before the first step.

    It is empty for Rounds that earlier versions trained.
    """
    first = next(iter(self.history), {})
    return {} if "loss" in first else first

  def restore(self, model: Any) -> Any:
    """Puts the trained sparse network on a model of its architecture.

    The model gets the weights after training, and the mask is held on it. A
    lottery-ready model also gets the start weights, as its initial ones.

    Args:
      model: a built model of either Keras generation.

    Returns:
      The model.
    """
    # Imported here, because a report reads Rounds without TensorFlow.
    from tf_lottery import wrappers

    self.ticket.apply(model)
    binding = wrappers.bind(model)
    final = self.final.weights
    binding.write({key: final[key] for key in binding.variables})
    return model


# The moments at which a training is compared: its end, and its early stop.
END = "end"
EARLY = "early"


def early_stop(rows: Iterable[Mapping[str, float]]) -> Mapping[str, float]:
  """Returns the evaluation at the early stop: of the lowest validation loss.

  It is found after training, as Frankle and Carbin (arXiv 1803.03635, section
  2) do it.

  Args:
    rows: The evaluations of a Round, without that of the untrained network.

  Returns:
    One of the rows; an empty one if no validation loss is finite.
  """
  finite = [row for row in rows if math.isfinite(row["val_loss"])]
  return min(finite, key=lambda row: row["val_loss"], default={})


def read_levels(directory: RunDirectory) -> list[Round]:
  """Reads the Levels of a run that are done, the dense one first.

  Raises:
    FileNotFoundError: the dense network is not trained to its end.
  """
  levels = [
    Round.read(round_)
    for _, control, _, round_ in directory.rounds()
    if not control and round_.is_done
  ]
  if not levels or levels[0].level:
    raise FileNotFoundError(
      f"{directory.path} holds no finished search. Give the run_dir of"
      " find_ticket, once its dense network is trained."
    )
  return levels


def smallest_matching_round(
  levels: Sequence[Round],
  objective: Objective,
  tolerance: float | None = None,
) -> Round:
  """Returns the Level of the lowest density that matches the dense network.

  Args:
    levels: the Levels of a search, the dense one first.
    objective: the metric to choose by; its validation values are compared.
    tolerance: by how much a Level's value may be worse than the dense
      network's, in units of the metric. Defaults to `None`: see `tolerance_of`.

  Returns:
    The Round; the dense network's if no ticket matches it.
  """
  name = f"val_{objective.name}"
  sign = objective.sign
  dense, *others = levels
  if tolerance is None:
    tolerance = tolerance_of(dense, objective)
  least = sign * dense.metrics[name] - tolerance
  matching = [
    r for r in others if not r.stopped and sign * r.metrics[name] >= least
  ]
  return max([dense, *matching], key=lambda round_: round_.level)


def tolerance_of(dense: Round, objective: Objective) -> float:
  """Returns the default tolerance: a ticket keeps 99 % of what training gained.

  See `objective.default_tolerance`.

  Args:
    dense: the Round of the dense network.
    objective: the metric to choose by; its validation values are compared.
  """
  name = f"val_{objective.name}"
  return default_tolerance(dense.metrics[name], dense.untrained.get(name))


def choice(
  levels: Sequence[Round],
  objective: Objective,
  tolerance: float | None = None,
) -> str:
  """Says which Level is the smallest that matches, or that none does.

  Args:
    levels: the Levels of a search, the dense one first.
    objective: the metric to choose by; its validation values are compared.
    tolerance: see `smallest_matching_round`.
  """
  dense, *others = levels
  if tolerance is None:
    tolerance = tolerance_of(dense, objective)
  key, name = f"val_{objective.name}", f"val {objective.name}"
  reached = f"{dense.metrics[key]:.4g}"
  worse = "less" if objective.sign > 0 else "more"
  allowed = f"at most {tolerance:.3g} {worse} is allowed"
  if not others:
    return f"No ticket is trained yet; dense {name} is {reached}."
  found = smallest_matching_round(levels, objective, tolerance)
  if found.level:
    return (
      f"The smallest matching ticket is Level {found.level}, with"
      f" {found.density:.2%} of the weights: {name} {found.metrics[key]:.4g}"
      f" against {reached} dense ({allowed})."
    )
  signed = [objective.sign * round_.metrics[key] for round_ in others]
  best = others[int(np.argmax(np.nan_to_num(signed, nan=-np.inf)))]
  return (
    f"No ticket matches the dense network: the best is Level {best.level},"
    f" {name} {best.metrics[key]:.4g} against {reached} dense ({allowed})."
    " Prune less in each Level, train longer, rewind to an early step of the"
    " training, choose with a larger tolerance, or give a larger budget if the"
    " search has one."
  )


def table_header(objective: Objective) -> str:
  """Returns the header line above the lines of `table_row`.

  The column "cost" has the cost of each training in units of the dense one.
  """
  val, test = (f"{split} {objective.name}" for split in ("val", "test"))
  return (
    f"level  density  {val:>14}  {test:>14}    cost  seconds  smallest layer"
  )


def table_row(round_: Round, objective: Objective, dense: Round) -> str:
  """Returns one Round as a line of a table.

  Args:
    round_: the Round.
    objective: the metric to show.
    dense: the Round of the dense network, in units of which costs are told.
  """
  cells = []
  for name in (f"val_{objective.name}", f"test_{objective.name}"):
    value = round_.metrics.get(name)
    cells.append(f"{'-':>14}" if value is None else f"{value:14.4f}")
  cost = "-"
  if dense.cost.steps:
    cost = f"{round_.cost.trainings(dense.cost):.2f}"
  smallest = "-"
  if layer := round_.smallest_layer:
    smallest = f"{layer['density']:7.2%} {layer['name']}"
  return (
    f"{round_.level:5d}  {round_.density:7.2%}  {'  '.join(cells)}"
    f"  {cost:>6}  {round_.seconds:7.1f}  {smallest}"
    f"{'  (stopped early)' if round_.stopped else ''}"
  )


def table(rounds: Iterable[Round], objective: Objective) -> str:
  """Returns the Rounds of a search as a table, the dense one first."""
  rounds = list(rounds)
  rows = [table_row(round_, objective, rounds[0]) for round_ in rounds]
  return "\n".join([table_header(objective), *rows])
