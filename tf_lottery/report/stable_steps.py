"""Where tickets rewind to, in searches that find the step themselves."""

from tf_lottery.report import wording
from tf_lottery.report.evidence import Evidence
from tf_lottery.report.run_folders import read_or_note


def sentence(evidence: Evidence) -> str:
  """Says which step each replicate rewinds to, and if none was found stable.

  It is empty if the step was declared, or is not known yet.
  """
  found = {
    run.replicate: step
    for run in evidence.runs
    if (step := read_or_note(run.directory.read_stable_step, []))
  }
  if not found:
    return ""
  steps = [str(step["step"]) for step in found.values()]
  numbers = f"replicate {next(iter(found))}"
  if len(found) > 1:
    numbers = f"replicates {wording.listed([str(n) for n in found])}"
  text = (
    f"The tickets of {numbers} rewind to step {wording.listed(steps)}, by"
    " rewind='auto': the earliest that was tried from which training is stable."
  )
  unstable = [str(n) for n, step in found.items() if not step["is_stable"]]
  if unstable:
    text += (
      f" In {wording.count(len(unstable), 'replicate')}"
      f" ({wording.listed(unstable)}) none is stable, and the last one is"
      " taken."
    )
  return text
