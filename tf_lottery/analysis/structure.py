"""Which inputs, units, channels, heads and layers a ticket keeps."""

import dataclasses
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery import text_table
from tf_lottery import wrappers
from tf_lottery.analysis.masks import Masked
from tf_lottery.analysis.masks import mask_of
from tf_lottery.wrappers import axes
from tf_lottery.wrappers.binding import Binding


@dataclasses.dataclass(frozen=True, eq=False)
class KeptAxis:
  """How many entries a mask keeps at each index along one axis of a weight.

  Attributes:
    key: The key of the weight.
    weight: The name of the weight: its layer and its role.
    axis: The name of the axis: `"inputs"`, `"units"`, `"heads"`, ...
    counts: The number of kept entries at each index, of shape `(size,)`.
  """

  key: str
  weight: str
  axis: str
  counts: np.ndarray

  @property
  def size(self) -> int:
    """The length of the axis."""
    return len(self.counts)

  @property
  def dead(self) -> np.ndarray:
    """The indices at which no entry is kept, in ascending order."""
    return np.flatnonzero(self.counts == 0)

  @property
  def alive(self) -> int:
    """The number of indices at which at least one entry is kept."""
    return int(np.count_nonzero(self.counts))


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
  """What a mask keeps along each axis of each weight; `str` gives a table.

  Attributes:
    density: Fraction of all prunable weights that is kept, in [0, 1].
    axes: One `KeptAxis` for each axis of each prunable weight, in order.
  """

  density: float
  axes: tuple[KeptAxis, ...]

  def axis(self, key: str, name: str) -> KeptAxis:
    """Returns one axis of one weight.

    Args:
      key: The key of the weight.
      name: The name of the axis.

    Raises:
      ValueError: There is no such axis; the message lists those that there are.
    """
    for found in self.axes:
      if (found.key, found.axis) == (key, name):
        return found
    known = ", ".join(f"({a.key!r}, {a.axis!r})" for a in self.axes)
    raise ValueError(
      f"There is no axis ({key!r}, {name!r}); there are {known}."
    )

  @property
  def empty(self) -> tuple[str, ...]:
    """The keys of the weights of which no entry is kept."""
    keys = [axis.key for axis in self.axes if not axis.alive]
    return tuple(dict.fromkeys(keys))

  def __str__(self) -> str:
    rows = [
      (
        axis.key,
        axis.weight,
        axis.axis,
        f"{axis.size:,}",
        f"{axis.alive:,}",
        f"{axis.alive / max(axis.size, 1):.1%}",
        f"{np.median(axis.counts[axis.counts > 0]):,.0f}"
        if axis.alive
        else "0",
      )
      for axis in self.axes
    ]
    columns = ("key", "weight", "axis", "size", "alive", "", "entries of each")
    table = text_table.render(columns, rows, "<<<>>>>")
    return (
      f"{table}\n{self.density:.2%} of the weights are kept. An index is alive"
      " if at least one of its\nentries is kept; the last column is the median"
      " over those that are alive."
    )


def kept(masked: Masked, model: Any) -> Kept:
  """Counts the kept entries along each axis of each prunable weight.

  Dense kernels have inputs and units, convolutions have the axes of their
  window, input channels and filters, attention has features, heads and head
  units, embeddings have tokens and features, and recurrent kernels have inputs
  or state, gates and units. Other axes are called `"axis 0"`, `"axis 1"`, ...

  An index without a kept entry is dead for this weight: an input that it does
  not read, or a unit that gets nothing but its bias.

  Args:
    masked: A `Mask`, or a `Ticket` or a `Round`, which has one.
    model: A built Keras model of the architecture, or its binding. It is only
      asked for its layers.

  Raises:
    TypeError: The first argument has no mask.
    ValueError: The model has no such weights.

  Example:
  ```python
  found = tf_lottery.analysis.kept(ticket, make_model())
  print(found)
  found.axis("1/kernel", "heads").dead  # the heads without a weight
  ```
  """
  mask = mask_of(masked)
  binding = model if isinstance(model, Binding) else wrappers.bind(model)
  binding.check_shapes(mask)
  lengths = axes.axes(binding)
  return Kept(
    mask.density,
    tuple(
      KeptAxis(key, binding.report[key].name, name, counts)
      for key, array in mask.items()
      for name, counts in _along_each(array, lengths[key])
    ),
  )


def _along_each(
  array: np.ndarray, lengths: Mapping[str, int]
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields each axis, and the number of kept entries at each of its indices."""
  array = array.reshape(tuple(lengths.values()))
  for number, name in enumerate(lengths):
    others = tuple(axis for axis in range(array.ndim) if axis != number)
    yield name, np.count_nonzero(array, axis=others)
