"""What a Round leaves while it is trained: metrics, and TensorBoard events."""

import importlib
import importlib.util
import re
import shutil
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_lottery.cost import Cost
from tf_lottery.search import declarations
from tf_lottery.storage.round_directory import RoundDirectory

_NOTHING = Cost()


class Recorder:
  """Writes a line of metrics and TensorBoard events at each evaluation.

  Args:
    directory: the directory of the Round.
    step: the step at which training begins or goes on. Later lines, which a
      killed process left, are dropped.
    density: the density of the Round, a hyperparameter in TensorBoard where
      that is installed.
    spent: the cost of the Round up to this step.
    rows: the rows of before. Defaults to those on disk.

  Attributes:
    history: the rows so far, with those before the checkpoint.
    seconds: the time of training and evaluation so far.
    spent: the cost so far.
  """

  def __init__(
    self,
    directory: RoundDirectory,
    step: int,
    density: float,
    spent: Cost = _NOTHING,
    rows: Sequence[Mapping[str, float]] | None = None,
  ):
    self.spent = spent
    self._directory = directory
    directory.keep_metrics_up_to(step)
    # Filtered here too: a worker that only reads may be before the chief.
    rows = directory.read_metrics() if rows is None else rows
    self.history = [dict(row) for row in rows if row["step"] <= step]
    self.seconds = self.history[-1]["seconds"] if self.history else 0.0
    self._writer = tf.summary.create_noop_writer()
    if directory.writes:
      # The events are written anew, so that no step appears twice.
      shutil.rmtree(directory.tensorboard, ignore_errors=True)
      path = str(directory.tensorboard)
      self._writer = tf.summary.create_file_writer(path)
      self._write_hyperparameters(density)
    for row in self.history:
      self._write_events(row)

  def __enter__(self) -> "Recorder":
    return self

  def __exit__(self, *exception: object) -> None:
    if self.history and not any(exception):
      cost = self.spent.to_json()
      row = {f"cost/{name}": float(value) for name, value in cost.items()}
      self._write_events({"step": self.history[-1]["step"], **row})
    self._writer.close()

  def add(self, row: dict[str, float]) -> None:
    """Records one evaluation."""
    row = {**row, "seconds": self.seconds}
    self.history.append(row)
    self._directory.append_metrics(row)
    self._write_events(row)

  def amend(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds metrics to the evaluation that was recorded at a step."""
    row = next(row for row in self.history if row["step"] == step)
    row |= {**metrics, "seconds": row.pop("seconds")}
    self._directory.write_metrics(self.history)
    self._write_events({"step": step, **metrics})

  def record(self, **fields: Any) -> dict[str, Any]:
    """Returns the record of the Round: its last metrics, and given fields."""
    metrics = dict(self.history[-1])
    seconds = metrics.pop("seconds")
    del metrics["step"]
    return {
      "metrics": metrics,
      "seconds": seconds,
      "cost": self.spent.to_json(),
      "versions": declarations.versions(),
      **fields,
    }

  def _write_events(self, row: dict[str, float]) -> None:
    # tf.summary.scalar needs TensorBoard to be installed; this does not.
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
