"""Ships a ticket of a run: as TFLite, SavedModel or .keras, checked.

  python scripts/export_ticket.py --run=runs/digits --format=tflite,saved_model

Takes the smallest ticket that matches the dense network, or that of `--level`,
as trained in its Round. Each file is loaded and compared with the model before
it is put in place; then, for a model of one input and one output on data in
memory, the metrics on the test data are measured through it.
"""

from __future__ import annotations

import pathlib
import sys
import typing
from typing import Any

# So that the library is found, from whatever folder this is run.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

if typing.TYPE_CHECKING:
  from tf_lottery import export
  from tf_lottery.search.rounds import Round
  from tf_lottery.storage import run_directory
  from tf_lottery.training.data import Data

_FORMATS = ("tflite", "saved_model", "keras")
# The most examples that a file is compared on before it is put in place.
_EXAMPLES = 256
# Those of tf_lottery.export.tflite, which takes seconds to import.
DTYPES = ("float32", "float16", "int8")

_RUN = flags.DEFINE_string(
  "run", None, "The run directory of find_ticket.py, or a replicate's."
)
_LEVEL = flags.DEFINE_integer(
  "level", None, "Which Level. Default: the smallest that matches."
)
_TOLERANCE = flags.DEFINE_float(
  "tolerance",
  None,
  "How much worse than the dense network (validation) a ticket still matches."
  " Default: the experiment's.",
)
_FORMAT = flags.DEFINE_list(
  "format", ["tflite", "saved_model"], f"Some of {', '.join(_FORMATS)}."
)
_DTYPE = flags.DEFINE_enum(
  "dtype", "float32", DTYPES, "Of the weights of the TFLite file."
)
_CARRY_TICKET = flags.DEFINE_bool(
  "carry_ticket", True, "Whether the SavedModel carries mask and start weights."
)
_OUT = flags.DEFINE_string(
  "out", None, "Where to write. Default: the folder `export` of the run."
)


def main(argv: list[str]) -> None:
  """Exports one ticket, and prints what the files hold and how they do."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  if unknown := sorted(set(_FORMAT.value) - set(_FORMATS)):
    sys.exit(
      f"--format must be some of {', '.join(_FORMATS)}; got"
      f" {', '.join(unknown)}."
    )
  startup.import_tensorflow()
  try:
    _export()
  except (ImportError, OSError, ValueError, RuntimeError) as error:
    sys.exit(str(error))


def _export() -> None:
  import tf_lottery
  from tf_lottery import experiments
  from tf_lottery.storage import run_directory
  from tf_lottery.training.data import as_data

  experiment, replicate = experiments.of_run(_RUN.value)
  directory = run_directory.RunDirectory(_RUN.value, writes=False)
  chosen = _choose(directory, experiment.tolerance)
  data = experiment.load(replicate)
  model = tf_lottery.lottery_prune(experiment.make())
  chosen.restore(model)
  objective = tf_lottery.Objective.from_declaration(
    directory.read_declaration()
  )
  print(
    f"{experiment.heading}, level {chosen.level}: {chosen.density:.2%} of the"
    f" weights, {_values(chosen, objective.name)}.\n"
  )
  test = as_data(data.get("test_data", data["validation_data"]))
  for kind in _FORMAT.value:
    report = _write(
      kind, model, _some(test), _some(as_data(data["train_data"]))
    )
    print(f"{report}\n{_through_file(report.path, model, test)}")


def _values(chosen: Round, name: str) -> str:
  """Says what the ticket reached, on test data where there were any."""
  value = chosen.metrics.get(f"test_{name}")
  if value is not None:
    return f"test {name} {value:.4g}"
  return f"validation {name} {chosen.metrics[f'val_{name}']:.4g}"


def _some(data: Data) -> Any:
  """Returns the inputs of the first batch of data."""
  x, *_ = next(iter(data.batches(_EXAMPLES)))
  return x


def _through_file(path: pathlib.Path, model: Any, data: Data) -> str:
  """Says what the compiled metrics are on predictions of the file."""
  import tensorflow as tf

  from tf_lottery import export
  from tf_lottery.training.data import ArrayData

  if not isinstance(data, ArrayData):
    return ""
  x, y, weight = data.take(slice(None))
  if tf.nest.is_nested(x) or tf.nest.is_nested(y):
    return ""
  answers = export.predict(path, x)
  model.reset_metrics()
  model.compute_metrics(x, y, tf.constant(answers), weight)
  found = {k: v for k, v in model.get_metrics_result().items() if k != "loss"}
  if not found:
    loss = model.compute_loss(x, y, tf.constant(answers), weight)
    found = {"loss": loss}
  metrics = ", ".join(f"{k} {float(v):.4f}" for k, v in found.items())
  return f"Through the file, on the test data: {metrics}.\n"


def _choose(
  directory: run_directory.RunDirectory, tolerance: float | None
) -> Round:
  """The Round to ship."""
  from tf_lottery import Objective
  from tf_lottery.search import rounds

  levels = rounds.read_levels(directory)
  if _LEVEL.value is None:
    objective = Objective.from_declaration(directory.read_declaration())
    if _TOLERANCE.value is not None:
      tolerance = _TOLERANCE.value
    return rounds.smallest_matching_round(levels, objective, tolerance)
  by_level = {round_.level: round_ for round_ in levels}
  if _LEVEL.value not in by_level:
    raise ValueError(
      f"--level must be one of {sorted(by_level)}, got {_LEVEL.value}."
    )
  return by_level[_LEVEL.value]


def _write(
  kind: str, model: Any, inputs: Any, training: Any
) -> export.ExportReport:
  """One file, compared with the model on test images."""
  from tf_lottery import export

  out = pathlib.Path(_OUT.value or pathlib.Path(_RUN.value) / "export")
  if kind == "saved_model":
    return export.to_saved_model(
      model,
      out / "saved_model" / "1",  # the version, to TensorFlow Serving
      inputs=inputs,
      carry_ticket=_CARRY_TICKET.value,
    )
  if kind == "keras":
    return export.to_keras(model, out / "ticket.keras", inputs=inputs)
  return export.to_tflite(
    model,
    out / f"ticket-{_DTYPE.value}.tflite",
    dtype=_DTYPE.value,
    inputs=inputs,
    representative_data=training if _DTYPE.value == "int8" else None,
  )


if __name__ == "__main__":
  flags.mark_flag_as_required("run")
  startup.run(main)
