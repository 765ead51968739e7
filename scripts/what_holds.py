"""Writes the page "What holds": the claims of papers and press, tested here.

    pip install '.[all]'
    python scripts/what_holds.py

It reads the tables of the studies in docs/results, and trains nothing. Run the
studies before.
"""

from __future__ import annotations

import pathlib
import sys

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

_RESULTS = flags.DEFINE_string(
  "results",
  str(startup.ROOT / "docs" / "results"),
  "The folder of the results.",
)


def main(argv: list[str]) -> None:
  """Writes what_holds.md into the folder of the results."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import what_holds_claims
  from scripts import what_holds_page

  folder = pathlib.Path(_RESULTS.value)
  what_holds_page.write(what_holds_claims.claims(folder), folder)


if __name__ == "__main__":
  startup.run(main)
