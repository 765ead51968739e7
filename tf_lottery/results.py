"""What a search leaves: its Rounds, and the choice among them."""

import dataclasses
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from tf_lottery import rewinding
from tf_lottery import rundir
from tf_lottery import tickets
from tf_lottery import training


@dataclasses.dataclass(frozen=True)
class Round:
  """One Level's work and record.

  Attributes:
    level: how often the network has been pruned; 0 is dense.
    density: fraction of the prunable weights kept.
    metrics: of the last evaluation: `val_accuracy`, `test_accuracy`, ...
    seconds: of training and evaluation.
    steps: how many optimizer updates it trained.
    directory: where its files lie.
  """

  level: int
  density: float
  metrics: Mapping[str, float]
  seconds: float
  steps: int
  directory: rundir.LegDirectory = dataclasses.field(repr=False)

  @property
  def ticket(self) -> tickets.Ticket:
    """Its mask and start weights, read from disk."""
    return tickets.Ticket.load(self.directory.ticket)

  @property
  def final(self) -> rewinding.Snapshot:
    """Its weights after training, read from disk."""
    return rewinding.Snapshot.load(self.directory.final)

  @property
  def history(self) -> list[dict[str, float]]:
    """One row for each evaluation, read from disk."""
    return self.directory.read_metrics()


class SearchResult:
  """What `find_ticket` found.

  Attributes:
    rounds: one `Round` for each Level, the dense one first.
    monitor: the validation metric that tickets are chosen by.
    trainer: the trainer, compiled; for further trainings.
  """

  def __init__(
    self,
    rounds: Sequence[Round],
    monitor: str,
    trainer: training.Trainer,
    train: Callable[[tickets.Ticket, str, int | None], Round],
  ):
    self.rounds = tuple(rounds)
    self.monitor = monitor
    self.trainer = trainer
    self._train = train

  def smallest_matching(self, tolerance: float = 0.005) -> tickets.Ticket:
    """The smallest ticket whose validation accuracy matches the dense one.

    Args:
      tolerance: how far below the dense network's value (above, for a loss)
        the ticket's may be, in units of the metric. Defaults to `0.005`, half
        a point of accuracy.

    Returns:
      The ticket of the lowest density within the tolerance; that of Level 0,
      the dense network, if there is no other. Its provenance names the Level.
    """
    return self.rounds[self.smallest_matching_level(tolerance)].ticket

  def smallest_matching_level(self, tolerance: float = 0.005) -> int:
    """The Level of `smallest_matching`."""
    name = f"val_{self.monitor}"
    dense = self.rounds[0].metrics[name]
    sign = -1 if lower_is_better(self.monitor) else 1
    return max(
      round_.level
      for round_ in self.rounds
      if sign * (round_.metrics[name] - dense) >= -tolerance or not round_.level
    )

  def train(
    self, ticket: tickets.Ticket, name: str, *, steps: int | None = None
  ) -> Round:
    """Trains a ticket from its start weights, as long as the final training.

    For a ticket found with a short `search_steps`, and for controls. Done
    once: the same name in the same run directory is read back; the same name
    for another ticket is refused.

    Args:
      ticket: what to train.
      name: the directory of the training in the run directory.
      steps: optimizer updates. Defaults to those of the final training.
    """
    return self._train(ticket, name, steps)

  def __str__(self) -> str:
    return "\n".join(
      [header(self.monitor), *(row(r, self.monitor) for r in self.rounds)]
    )


def header(monitor: str = "accuracy") -> str:
  """The head of the table that `row` gives lines of."""
  return (
    f"level  density  {'val ' + monitor:>14}  {'test ' + monitor:>14}  seconds"
  )


def row(round_: Round, monitor: str = "accuracy") -> str:
  """One Round as a line of a table."""
  cells = [
    f"{round_.metrics[name]:14.4f}"
    if name in round_.metrics
    else " " * 13 + "-"
    for name in (f"val_{monitor}", f"test_{monitor}")
  ]
  return (
    f"{round_.level:5d}  {round_.density:7.2%}  {cells[0]}  {cells[1]}"
    f"  {round_.seconds:7.1f}"
  )


_HIGHER_IS_BETTER = re.compile(
  "acc|auc|precision|recall|f1|f_?beta|iou|r2|dice"
)
_LOWER_IS_BETTER = re.compile(
  "loss|error|mse|mae|mape|msle|entropy|perplexity|hinge|log_?cosh|divergence"
)


def default_monitor(metrics: Iterable[str]) -> str:
  """The metric to choose by: an accuracy if there is one, else the loss."""
  return next((name for name in metrics if "acc" in name), "loss")


def lower_is_better(monitor: str) -> bool:
  """Whether less of a metric is better, by its name.

  Raises:
    ValueError: the name does not tell.
  """
  if _HIGHER_IS_BETTER.search(monitor):
    return False
  if _LOWER_IS_BETTER.search(monitor):
    return True
  raise ValueError(
    f"Whether {monitor!r} should be high or low cannot be told from its name."
    " Name the metric after a known one (name='..._accuracy', '..._error'), or"
    " choose by monitor='loss'."
  )
