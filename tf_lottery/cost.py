"""Cost: what training took, in steps, examples and floating-point operations.

A floating-point operation (FLOP) is one addition or one multiplication, so a
multiply-add counts 2. A step of training costs three forward passes for each
of its examples: one forward, and two for the gradients by the activations and
by the weights, as Evci et al. count (arXiv 1911.11134, appendix). Evaluations
are not counted: how often to evaluate is the user's choice, and it does not
change what is found.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

# Forward passes that a training step is worth.
PASSES = 3


@dataclasses.dataclass(frozen=True)
class Cost:
  """What a training, a search or a part of them took.

  Costs can be added. `Cost()` is no cost. A cost of steps without FLOPs is one
  of which the FLOPs are unknown, because an earlier version trained or the
  model could not be counted. Then those of a sum are unknown, too. The same
  holds for examples.

  Attributes:
    steps: Number of optimizer updates. Scoring an untrained network takes
      examples and FLOPs, and no steps.
    examples: Number of examples that were trained or scored on, each as often
      as it was; 0 if unknown.
    dense_flops: FLOPs of hardware that multiplies by zeros; 0 if unknown.
    sparse_flops: FLOPs of hardware that skips multiplications by pruned
      weights, at most `dense_flops`; 0 if unknown.

  >>> dense = Cost(100, 6000, 3e9, 3e9)
  >>> search = Cost(25, 1500, 7.5e8, 3e8) + Cost(25, 1500, 7.5e8, 4.5e8)
  >>> search.trainings(dense), search.sparse_trainings(dense)
  (0.5, 0.25)
  """

  steps: int = 0
  examples: int = 0
  dense_flops: float = 0.0
  sparse_flops: float = 0.0

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if not getattr(self, field.name) >= 0:
        raise ValueError(
          f"{field.name} must be at least 0, got {getattr(self, field.name)}."
        )

  def __add__(self, other: "Cost") -> "Cost":
    if not isinstance(other, Cost):
      return NotImplemented
    parts = (self, other)
    knows_flops = all(part.dense_flops or not part.steps for part in parts)
    knows_examples = all(part.examples or not part.steps for part in parts)
    return Cost(
      self.steps + other.steps,
      knows_examples * (self.examples + other.examples),
      knows_flops * (self.dense_flops + other.dense_flops),
      knows_flops * (self.sparse_flops + other.sparse_flops),
    )

  def scaled(self, factor: float) -> "Cost":
    """Returns the cost of a part of a training under one mask.

    Args:
      factor: The part, in [0, 1].
    """
    return Cost(
      round(factor * self.steps),
      round(factor * self.examples),
      factor * self.dense_flops,
      factor * self.sparse_flops,
    )

  def trainings(self, dense: "Cost") -> float:
    """Returns this cost in units of one full training of the dense network.

    It compares dense FLOPs, or steps if the FLOPs of either are unknown.

    Args:
      dense: The cost of the dense network's training, of at least one step.

    Raises:
      ValueError: `dense` is no cost.
    """
    return self._ratio(dense, self.dense_flops)

  def sparse_trainings(self, dense: "Cost") -> float:
    """Returns the same for hardware that skips multiplications by zero.

    It compares the sparse FLOPs to the dense FLOPs of the dense training. If
    the FLOPs of either are unknown, it is `trainings`, an upper bound.

    Args:
      dense: The cost of the dense network's training, of at least one step.

    Raises:
      ValueError: `dense` is no cost.
    """
    return self._ratio(dense, self.sparse_flops)

  def _ratio(self, dense: "Cost", flops: float) -> float:
    unknown = self.steps and not self.dense_flops
    if dense.dense_flops and not unknown:
      return flops / dense.dense_flops
    if not dense.steps:
      raise ValueError(
        "A cost is told in units of the dense network's training, which must"
        f" have at least one step; got {dense}."
      )
    return self.steps / dense.steps

  def to_json(self) -> dict[str, float]:
    """Returns the four numbers by name, as `round.json` has them."""
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, numbers: Mapping[str, Any] | None) -> "Cost":
    """Returns the cost that `to_json` wrote.

    Args:
      numbers: The numbers by name. Those that are missing are 0; `None` is no
        cost.
    """
    names = {field.name for field in dataclasses.fields(cls)}
    given = (numbers or {}).items()
    return cls(**{name: value for name, value in given if name in names})

  @classmethod
  def of_record(cls, record: Mapping[str, Any]) -> "Cost":
    """Returns the cost of a Round from its `round.json`.

    Earlier versions recorded the steps alone.

    Args:
      record: The content of the file.
    """
    return cls.from_json({"steps": record["steps"], **record.get("cost", {})})


def of_training(steps: int, examples: int, dense: float, sparse: float) -> Cost:
  """Returns the cost of some steps under one mask.

  Args:
    steps: Number of optimizer updates.
    examples: Number of examples in all of these steps.
    dense: FLOPs of a forward pass of one example, dense.
    sparse: The same where multiplications by pruned weights are skipped.
  """
  count = PASSES * examples
  return Cost(steps, examples, count * dense, count * sparse)
