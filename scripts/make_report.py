r"""Makes the report of some runs: one HTML page, tables and figures.

  python scripts/make_report.py --out=report RUN...

RUN is a run directory, or a folder that contains some at any depth. Replicates
of an experiment go into one section. Runs may still be going on.
"""

import pathlib
import sys

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

_OUT = flags.DEFINE_string("out", None, "The folder to write into.")
_TOLERANCE = flags.DEFINE_float(
  "tolerance",
  None,
  "How much worse than the dense network a ticket may be and still match it, in"
  " units of the metric. By default it may lose 1 % of what training gained.",
)


def main(argv: list[str]) -> None:
  """Writes the report, and prints the headlines and the paths."""
  runs = argv[1:]
  if not runs:
    raise app.UsageError("Name one run directory or more.")
  startup.import_tensorflow()
  try:
    from tf_lottery import report
    from tf_lottery.papers import claims

    made = report.write(runs, _OUT.value, _TOLERANCE.value, claims.BY_RECIPE)
  except (FileNotFoundError, ImportError, ValueError) as error:
    sys.exit(str(error))
  for section in made.sections:
    print(f"{section.evidence.experiment}: {section.headline}\n")
  print("\n".join(map(str, made.paths)))


if __name__ == "__main__":
  flags.mark_flag_as_required("out")
  startup.run(main)
