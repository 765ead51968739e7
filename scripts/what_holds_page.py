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

The first table counts the lines below. Its commands train each study anew; then
the command above writes this page.
"""

_WORDS = ("holds", "does not hold", "cannot tell")
# Study -> its command, without `--data_dir=~/data`.
_COMMANDS = {
  "search_cost": "search_cost.py",
  "stability": "stability_study.py",
  "transfer": "transfer_study.py",
  "tuned_dense": "tuned_dense.py --replicates=3",
  "what_matters": "what_matters.py",
}


def write(claims: Sequence[Claim], folder: pathlib.Path) -> None:
  """Writes `what_holds.md`.

  Args:
    claims: The claims, with their tests.
    folder: The folder to write into.
  """
  parts = [_HEAD, _overview(claims)]
  for claim in claims:
    lines = [
      f"## {claim.says}",
      "",
      f"{claim.source} From [{claim.page}]({claim.page}).",
      "",
      "| where | | difference | may lose | p for | p against | replicates | |",
      "| --- | --- | --- | --- | --- | --- | --- | --- |",
      *(
        f"| {test.where} | {test.compares} |"
        f" {test.scale * test.difference:+.2f} {test.unit} |"
        f" {test.scale * test.margin:.2f} |"
        f" {wording.p_value(test.p_for)} | {wording.p_value(test.p_against)} |"
        f" {test.n} | **{test.word}** |"
        for test in claim.tests
      ),
      "",
    ]
    parts.append("\n".join(lines))
  text = "\n".join(parts)
  files.write_bytes(folder / "what_holds.md", text.encode())


def _overview(claims: Sequence[Claim]) -> str:
  """Returns the table with one row for each claim."""
  lines = [
    f"| claim | {' | '.join(_WORDS)} | command |",
    "| --- | ---: | ---: | ---: | --- |",
  ]
  for claim in claims:
    found = [test.word for test in claim.tests]
    counts = " | ".join(str(found.count(word)) for word in _WORDS)
    command = _COMMANDS[pathlib.PurePosixPath(claim.page).parts[0]]
    lines.append(
      f"| {claim.says} | {counts} |"
      f" `python scripts/{command} --data_dir=~/data` |"
    )
  return "\n".join(lines) + "\n"
