"""Rounds: what is kept of one training, and how it is written on the way."""

import dataclasses
import importlib
import importlib.util
import re
import shutil
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_lottery import declarations
from tf_lottery import objective as objective_lib
from tf_lottery import rewinding
from tf_lottery import rundir
from tf_lottery import tickets
from tf_lottery import wrappers


@dataclasses.dataclass(frozen=True)
class Round:
  """One training and its record: a Level's, or a control's.

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

  @classmethod
  def of(
    cls, record: Mapping[str, Any], directory: rundir.LegDirectory
  ) -> "Round":
    """From what `record_of` made."""
    names = ("level", "density", "metrics", "seconds", "steps")
    return cls(**{name: record[name] for name in names}, directory=directory)

  @classmethod
  def read(cls, directory: rundir.LegDirectory) -> "Round":
    """The record of a training that is done."""
    return cls.of(directory.read_record(), directory)

  @property
  def ticket(self) -> tickets.Ticket:
    """Its mask and start weights, read from disk."""
    return tickets.Ticket.load(self.directory.ticket)

  @property
  def final(self) -> rewinding.Snapshot:
    """Its weights after training, read from disk."""
    return rewinding.Snapshot.load(self.directory.final)

  def restore(self, model: Any) -> Any:
    """Puts the trained sparse network on a model of its architecture.

    Its weights after training, and its mask, held; on a lottery-ready model
    its start weights too, as the initial ones.

    Args:
      model: built, of either Keras generation.

    Returns:
      The model.
    """
    self.ticket.apply(model)
    binding = wrappers.bind(model)
    final = self.final.weights
    binding.write({key: final[key] for key in binding.variables})
    return model

  @property
  def history(self) -> list[dict[str, float]]:
    """One row for each evaluation, read from disk."""
    return self.directory.read_metrics()


def read_levels(directory: rundir.RunDirectory) -> list[Round]:
  """The Levels of a run that are done, the dense one first.

  Raises:
    FileNotFoundError: none is.
  """
  levels = [
    Round.read(leg)
    for _, control, _, leg in directory.legs()
    if not control and leg.is_done
  ]
  if not levels or levels[0].level:
    raise FileNotFoundError(
      f"{directory.path} holds no finished search. Give the run_dir of"
      " find_ticket, once its dense network is trained."
    )
  return levels


def smallest_matching(
  levels: Sequence[Round],
  objective: objective_lib.Objective,
  tolerance: float,
) -> Round:
  """Returns the Level of the lowest density that matches the dense network.

  Args:
    levels: The Levels of a search, the dense one first.
    objective: The metric to choose by; its validation value is compared.
    tolerance: How much worse than the dense network's value a Level's value
      may be, in units of the metric.
  """
  name = f"val_{objective.name}"
  sign = objective.sign
  dense, *others = levels
  least = sign * dense.metrics[name] - tolerance
  matching = [r for r in others if sign * r.metrics[name] >= least]
  return max([dense, *matching], key=lambda round_: round_.level)


def record_of(
  history: Sequence[Mapping[str, float]], **fields: Any
) -> dict[str, Any]:
  """What `round.json` holds: the last row of metrics, and given fields."""
  last = dict(history[-1])
  seconds = last.pop("seconds")
  del last["step"]
  return {
    "metrics": last,
    "seconds": seconds,
    "versions": declarations.versions(),
    **fields,
  }


class Recorder:
  """What a leg tells on its way: lines of metrics, and TensorBoard events.

  Args:
    directory: where.
    step: where it begins; later lines of an earlier process are dropped.
    density: a hyperparameter to TensorBoard, where that is installed.

  Attributes:
    history: the rows so far, those before the checkpoint included.
    seconds: of training and evaluation so far.
  """

  def __init__(self, directory: rundir.LegDirectory, step: int, density: float):
    self._directory = directory
    directory.keep_metrics_up_to(step)
    # Filtered here too: a worker that only reads may be before the chief.
    self.history = [
      row for row in directory.read_metrics() if row["step"] <= step
    ]
    self.seconds = self.history[-1]["seconds"] if self.history else 0.0
    self._writer = tf.summary.create_noop_writer()
    if directory.writes:
      # Written anew, so that no step is there twice.
      shutil.rmtree(directory.tensorboard, ignore_errors=True)
      path = str(directory.tensorboard)
      self._writer = tf.summary.create_file_writer(path)
      self._write_hyperparameters(density)
    for row in self.history:
      self._write_events(row)

  def __enter__(self) -> "Recorder":
    return self

  def __exit__(self, *exception: object) -> None:
    self._writer.close()

  def add(self, row: dict[str, float]) -> None:
    """Records one evaluation."""
    row = {**row, "seconds": self.seconds}
    self.history.append(row)
    self._directory.append_metrics(row)
    self._write_events(row)

  def _write_events(self, row: dict[str, float]) -> None:
    # tf.summary.scalar asks for TensorBoard to be installed; this does not.
    scalar = tf.compat.v1.SummaryMetadata(
      plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR"
    )
    with self._writer.as_default(step=int(row["step"])):
      for name, value in row.items():
        if name != "step":
          tf.summary.write(name, value, metadata=scalar)
    self._writer.flush()

  def _write_hyperparameters(self, density: float) -> None:
    if importlib.util.find_spec("tensorboard") is None:
      return
    api = importlib.import_module("tensorboard.plugins.hparams.api")
    name = self._directory.path.name
    method = re.sub(r"^level_\d+-?|-\d+$", "", name) or "ticket"
    with self._writer.as_default(step=0):
      api.hparams({"density": density, "method": method}, trial_id=name)
