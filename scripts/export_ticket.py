"""Ships a ticket of a run: as TFLite, SavedModel or .keras, checked.

  python scripts/export_ticket.py --run=runs/digits --format=tflite,saved_model

Takes the smallest ticket that matches the dense network, or that of `--level`,
as trained in its Round. Each file is loaded and compared with the model before
it is put in place; then the accuracy on the test images is measured through it.
"""

from __future__ import annotations

import pathlib
import sys
import typing

# So that the library is found, from whatever folder this is run.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

if typing.TYPE_CHECKING:
  import numpy as np

  from tf_lottery import export
  from tf_lottery.search.rounds import Round
  from tf_lottery.storage import run_directory

_FORMATS = ("tflite", "saved_model", "keras")
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
  0.005,
  "How much worse than the dense network (validation) a ticket still matches.",
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
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where tfds keeps its data. Defaults to tfds's default."
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
  from tf_lottery import export
  from tf_lottery.papers import datasets
  from tf_lottery.storage import run_directory

  experiment, replicate = experiments.of_run(_RUN.value)
  chosen = _choose(run_directory.RunDirectory(_RUN.value, writes=False))
  splits = datasets.load_data(
    experiment.data, seed=experiment.seed + replicate, data_dir=_DATA_DIR.value
  )
  model = tf_lottery.lottery_prune(
    experiment.make_recipe().make_model(
      splits.input_shape, splits.classes, keras=experiment.keras
    )
  )
  chosen.restore(model)
  print(
    f"{experiment.recipe} on {experiment.data}, level {chosen.level}:"
    f" {chosen.density:.2%} of the weights, test accuracy"
    f" {chosen.metrics['test_accuracy']:.4f}.\n"
  )
  x, y = splits.test
  for kind in _FORMAT.value:
    report = _write(kind, model, x, splits.train[0])
    answers = export.predict(report.path, x)
    accuracy = (answers.argmax(-1) == y).mean()
    print(f"{report}\nTest accuracy through the file: {accuracy:.4f}.\n")


def _choose(directory: run_directory.RunDirectory) -> Round:
  """The Round to ship."""
  from tf_lottery import Objective
  from tf_lottery.search import rounds

  levels = rounds.read_levels(directory)
  if _LEVEL.value is None:
    objective = Objective.from_declaration(directory.read_declaration())
    return rounds.smallest_matching_round(levels, objective, _TOLERANCE.value)
  by_level = {round_.level: round_ for round_ in levels}
  if _LEVEL.value not in by_level:
    raise ValueError(
      f"--level must be one of {sorted(by_level)}, got {_LEVEL.value}."
    )
  return by_level[_LEVEL.value]


def _write(
  kind: str, model, inputs: np.ndarray, training: np.ndarray
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
