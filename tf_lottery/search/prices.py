"""The price of a search's answer: what was spent on which part of it."""

from collections.abc import Mapping
from typing import Any

from tf_lottery.cost import Cost
from tf_lottery.storage.run_directory import RunDirectory

# The name, among a Level's directories, of a training that another replaced.
SUPERSEDED = "superseded"
PARTS = ("dense", "search", "choosing", "final", "controls")

Price = Mapping[str, Cost]


def superseded(control: str, draw: int) -> str:
  """Returns the name of a control of a ticket that was drawn again."""
  return f"{SUPERSEDED}_{control}_{draw}"


def is_superseded(control: str) -> bool:
  """Whether this is the name of what belongs to a ticket that was drawn again.

  >>> is_superseded("superseded"), is_superseded(superseded("one_shot", 0))
  (True, True)
  """
  return control == SUPERSEDED or control.startswith(f"{SUPERSEDED}_")


def price(directory: RunDirectory, level: int, iterative: bool) -> Price:
  """Adds up the cost of the Rounds of a run that are done, in five parts.

  Args:
    directory: the run directory.
    level: the Level that is chosen; 0 if none is.
    iterative: whether the masks come from the trainings of the Levels.

  Returns:
    The cost of each part:
    - `dense`: the training of the dense network;
    - `search`: the trainings that draw masks, and scoring. In iterative pruning
      these are those of the Levels down to the one before the chosen one;
    - `choosing`: the trainings of the other Levels' tickets;
    - `final`: the training of the chosen Level's ticket;
    - `controls`: the trainings of controls, and the searches on their damaged
      data.
  """
  parts = dict.fromkeys(PARTS, Cost())
  for searched in directory.searches():
    if searched.is_done:
      record = searched.read_record()
      parts["search"] += Cost.of_record(record) + _scoring(record)
  for number, control, _, round_ in directory.rounds():
    if not round_.is_done:
      continue
    part = "controls" if control not in ("", SUPERSEDED) else "choosing"
    if not control and not number:
      part = "dense"
    elif not control and number == level:
      part = "final"
    elif not control and iterative and number < level:
      part = "search"
    record = round_.read_record()
    parts[part] += Cost.of_record(record)
    parts["search"] += _scoring(record)
  for other in directory.searches_on():
    parts["controls"] += sum(price(other, 0, iterative).values(), Cost())
  return parts


def _scoring(record: Mapping[str, Any]) -> Cost:
  """What scoring the weights at the end of a Round took, to draw a mask."""
  return Cost.from_json(record.get("scoring_cost"))


def total(parts: Price) -> Cost:
  """Returns the cost of the answer: all parts but the controls."""
  costs = (cost for name, cost in parts.items() if name != "controls")
  return sum(costs, Cost())


def in_words(parts: Price) -> str:
  """Says what the answer cost, in trainings of the dense network."""
  dense, whole = parts["dense"], total(parts)
  if not dense.steps:
    return ""
  names = {
    "dense": "for the dense network",
    "search": "for drawing masks",
    "choosing": "for choosing",
    "final": "for the ticket",
  }
  spent = [
    f"{parts[name].trainings(dense):.2f} {words}"
    for name, words in names.items()
    if parts[name] != Cost()
  ]
  text = (
    f"This cost {whole.trainings(dense):.2f} trainings of the dense network:"
    f" {', '.join(spent)}."
  )
  sparse = whole.sparse_trainings(dense)
  if whole.dense_flops and dense.dense_flops:
    text += f" Hardware that skips zeros would spend {sparse:.2f} trainings."
  return text
