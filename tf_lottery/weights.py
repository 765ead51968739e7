"""Rules that say which weights may be pruned, and why the others may not.

The rules look at class names and roles only, so that one table serves both
Keras generations. A `PrunableReport` shows their decisions.
"""

import dataclasses
import fnmatch
import math
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from tf_lottery import text_table

# The prefix of the keys of random states, such as those of dropout layers.
RANDOM_STATE = "random/"

# A layer class, its kind in scopes, and the roles that do the layer's work. A
# layer follows the row of its own class, or of its nearest ancestor in a row.
_RULES: dict[str, tuple[str, frozenset[str]]] = {
  class_name: (kind, frozenset(roles))
  for class_name, kind, *roles in (
    ("SeparableConv1D", "conv", "pointwise_kernel"),
    ("SeparableConv2D", "conv", "pointwise_kernel"),
    ("DepthwiseConv1D", "depthwise"),
    ("DepthwiseConv2D", "depthwise"),
    ("Conv1D", "conv", "kernel"),
    ("Conv2D", "conv", "kernel"),
    ("Conv3D", "conv", "kernel"),
    ("Conv1DTranspose", "conv", "kernel"),
    ("Conv2DTranspose", "conv", "kernel"),
    ("Conv3DTranspose", "conv", "kernel"),
    ("Dense", "dense", "kernel"),
    ("EinsumDense", "dense", "kernel"),
    ("Embedding", "embedding", "embeddings"),
    ("SimpleRNNCell", "recurrent", "kernel", "recurrent_kernel"),
    ("LSTMCell", "recurrent", "kernel", "recurrent_kernel"),
    ("GRUCell", "recurrent", "kernel", "recurrent_kernel"),
    ("ConvLSTMCell", "recurrent", "kernel", "recurrent_kernel"),
  )
}


@dataclasses.dataclass(frozen=True)
class Weight:
  """A description of one weight of a model, for the rules and the scopes.

  Attributes:
    key: The key in masks and snapshots, such as `"0/kernel"`: the position of
      the layer among the layers that own weights, and the role. It is the same
      whenever the architecture is built, and in both Keras generations.
    layer: The name of the layer.
    role: The role in the layer: `"kernel"`, `"bias"`, `"gamma"`, ...
    kind: The kind of layer: `"conv"`, `"dense"`, `"embedding"`,
      `"recurrent"`, `"depthwise"` or `"other"`.
    shape: The shape.
    prunable: Whether masks cover the weight.
    reason: Why it is prunable or not.
    trainable: Whether optimizers update it.
    is_output: Whether it is the last prunable weight: the output layer's.
    is_transposed: Whether outputs come before inputs in the shape, as in
      transposed convolutions.
  """

  key: str
  layer: str
  role: str
  kind: str
  shape: tuple[int, ...]
  prunable: bool
  reason: str
  trainable: bool = True
  is_output: bool = False
  is_transposed: bool = False

  @property
  def name(self) -> str:
    """`layer/role`, for messages and tables."""
    return f"{self.layer}/{self.role}"

  @property
  def size(self) -> int:
    """The number of entries."""
    return math.prod(self.shape)

  def matches(self, selector: str) -> bool:
    """Whether a scope's selector selects this weight.

    Args:
      selector: `"output"`, a kind, a key, or a layer's name with the wildcards
        of `fnmatch`.
    """
    return (
      (selector == "output" and self.is_output)
      or selector in (self.kind, self.key)
      or fnmatch.fnmatchcase(self.layer, selector)
    )


# Overrides the rules: a function of a Weight that returns True, False or None
# (the rules decide), or a mapping of layer names to True or False.
Override = Callable[[Weight], bool | None] | Mapping[str, bool]


def decide(
  key: str,
  layer: str,
  class_names: Sequence[str],
  role: str,
  shape: tuple[int, ...],
  trainable: bool,
  override: Override | None = None,
) -> Weight:
  """Applies the rules, then the user's override, to one weight.

  Args:
    key: The key of the weight.
    layer: The name of its layer.
    class_names: Names of the layer's class and its ancestors, nearest first.
    role: The role of the weight in the layer.
    shape: The shape of the weight.
    trainable: Whether optimizers update the weight.
    override: The user's choice. It cannot make a weight prunable that is not
      trainable.
  """
  kind, prunable, reason = _rule(class_names, role, shape)
  weight = Weight(
    key,
    layer,
    role,
    kind,
    tuple(shape),
    prunable,
    reason,
    is_transposed=any(name.endswith("Transpose") for name in class_names),
  )
  if not trainable:
    return dataclasses.replace(
      weight,
      prunable=False,
      reason="not trainable: no optimizer updates it",
      trainable=False,
    )
  wanted = _ask(override, weight)
  if wanted is None or wanted == prunable:
    return weight
  reason = "chosen by the caller" if wanted else "excluded by the caller"
  return dataclasses.replace(weight, prunable=wanted, reason=reason)


def _rule(
  class_names: Sequence[str], role: str, shape: tuple[int, ...]
) -> tuple[str, bool, str]:
  known = next((name for name in class_names if name in _RULES), None)
  if known is None:
    if len(shape) < 2:
      return "other", False, "a vector or scalar, such as a bias or a scale"
    return (
      "other",
      False,
      f"layers of class {class_names[0]} are not known: choose it by prunable=",
    )
  kind, roles = _RULES[known]
  if role in roles:
    return kind, True, f"the {role} of {known} layers"
  if len(shape) < 2:
    return kind, False, "a vector or scalar, such as a bias or a scale"
  if kind == "depthwise" or role == "depthwise_kernel":
    return kind, False, "depthwise kernels are small: choose it by prunable="
  return kind, False, f"the {role} of {known} layers: choose it by prunable="


def _ask(override: Override | None, weight: Weight) -> bool | None:
  if override is None:
    return None
  if callable(override):
    return override(weight)
  wanted = override.get(weight.layer)
  # The name of a layer selects its kernels, not its biases.
  return wanted if wanted is None or len(weight.shape) > 1 else None


class PrunableReport(Sequence[Weight]):
  """All weights of a model, each with its decision: prunable, or why not.

  An index is a position, a slice or a key. `str` gives a table.
  """

  def __init__(self, weights: Sequence[Weight]):
    last = max((i for i, w in enumerate(weights) if w.prunable), default=None)
    self._weights = tuple(
      dataclasses.replace(weight, is_output=index == last)
      for index, weight in enumerate(weights)
    )
    self._by_key = {weight.key: weight for weight in self._weights}

  def __getitem__(self, index):
    if isinstance(index, str):
      return self._by_key[index]
    return self._weights[index]

  def __len__(self) -> int:
    return len(self._weights)

  def __iter__(self) -> Iterator[Weight]:
    return iter(self._weights)

  @property
  def prunable(self) -> tuple[Weight, ...]:
    """The weights that masks cover, in order."""
    return tuple(weight for weight in self if weight.prunable)

  def __str__(self) -> str:
    rows = [
      (
        weight.name,
        "x".join(map(str, weight.shape)) or "scalar",
        "yes" if weight.prunable else "no",
        weight.reason,
      )
      for weight in self
    ]
    header = ["weight", "shape", "prunable", "because"]
    table = text_table.render(header, rows, "<<<<")
    pruned = sum(weight.size for weight in self.prunable)
    total = sum(weight.size for weight in self)
    return f"{table}\n{pruned:,} of {total:,} parameters are prunable."
