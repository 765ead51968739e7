"""The ticket of a Level with one thing changed, as controls train it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery.masks import Mask
from tf_lottery.search.loop import Search
from tf_lottery.tickets import Ticket


def ticket(
  search: Search,
  level: int,
  control: str,
  seed: int | None = None,
  *,
  mask: Mask | None = None,
  start: Mapping[str, np.ndarray] | None = None,
  **provenance: Any,
) -> Ticket:
  """Returns the Level's ticket with another mask or other start weights.

  Args:
    search: The search.
    level: The Level of the ticket, from 1 on.
    control: The name of the control.
    seed: The seed of what the control draws. Defaults to `None`: it draws
      nothing.
    mask: Another mask. Defaults to the ticket's.
    start: Other start weights by key, also of entries that are pruned. Defaults
      to those of the dense network where Rounds start.
    **provenance: What else the ticket says about how it was made, in values
      that JSON can hold.

  Raises:
    ValueError: There is no such Level, or it is the dense one.
  """
  found = search.ticket(level)
  if start is None:
    # A ticket is zero where it prunes: another mask needs the dense weights.
    start = search.dense_start()
  return Ticket(
    found.mask if mask is None else mask,
    {key: start[key] for key in found.start},
    {
      **found.provenance,
      "control": control,
      "control_seed": seed,
      **provenance,
    },
  )
