"""The page of `what_holds.py`, from claims that were tested."""

import pathlib
from collections.abc import Sequence

from scripts.what_holds_claims import Claim
from tf_lottery.report import wording
from tf_lottery.storage import files

_HEAD = """\
# What holds

`python scripts/what_holds.py` wrote this page from the tables of the studies
beside it; nothing is typed by hand. Each line is a one-sided test over
replicates, which are seeds, on test data at the end of training. A claim
*holds* there if the test shows it at 5 %, *does not hold* if a test shows the
opposite, and otherwise one *cannot tell*. The p values are not corrected for
the number of lines. These are small networks on small data: what holds here
may not hold elsewhere.
"""


def write(claims: Sequence[Claim], folder: pathlib.Path) -> None:
  """Writes `what_holds.md`.

  Args:
    claims: The claims, with their tests.
    folder: The folder to write into.
  """
  parts = [_HEAD]
  for claim in claims:
    lines = [
      f"## {claim.says}",
      "",
      f"{claim.source} From [{claim.page}]({claim.page}).",
      "",
      "| where | | difference | p for | p against | replicates | |",
      "| --- | --- | --- | --- | --- | --- | --- |",
      *(
        f"| {test.where} | {test.compares} |"
        f" {test.scale * test.difference:+.2f} {test.unit} |"
        f" {wording.p_value(test.p_for)} | {wording.p_value(test.p_against)} |"
        f" {test.n} | **{test.word}** |"
        for test in claim.tests
      ),
      "",
    ]
    parts.append("\n".join(lines))
  text = "\n".join(parts)
  files.write_bytes(folder / "what_holds.md", text.encode())
