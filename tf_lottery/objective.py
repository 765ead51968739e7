"""The objective: the metric that tickets are chosen by, and its direction.

A direction is never guessed from a part of a name. The caller gives it, or the
Keras metric knows it, or the whole name is a name of Keras's.
"""

import dataclasses
import math
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Literal

Direction = Literal["max", "min"]


def _plain(name: str) -> str:
  """Returns a name without case and underscores: to Keras, `MSE` is `mse`."""
  return name.replace("_", "").lower()


def _names(text: str) -> frozenset[str]:
  return frozenset(map(_plain, text.split()))


# The names that metrics and losses have in the two Keras generations.
_ACCURACIES = _names("""
  acc accuracy binary_accuracy categorical_accuracy sparse_categorical_accuracy
  sparse_top_k_categorical_accuracy top_k_categorical_accuracy
""")
# Higher is better here too, but these metrics can be negative.
_CORRELATIONS = _names("""
  concordance_correlation cosine_similarity pearson_correlation r2_score
""")
_HIGHER_IS_BETTER = (
  _ACCURACIES
  | _CORRELATIONS
  | _names("""
  auc binary_io_u f1_score fbeta_score io_u mean_io_u one_hot_io_u
  one_hot_mean_io_u precision precision_at_recall recall recall_at_precision
  sensitivity_at_specificity specificity_at_sensitivity
""")
)
_LOWER_IS_BETTER = _names("""
  bce binary_crossentropy binary_focal_crossentropy categorical_crossentropy
  categorical_focal_crossentropy categorical_hinge ce crossentropy hinge huber
  huber_loss kl_divergence kld kullback_leibler_divergence log_cosh
  log_cosh_error loss mae mape mean_absolute_error
  mean_absolute_percentage_error mean_relative_error mean_squared_error
  mean_squared_logarithmic_error mse msle poisson root_mean_squared_error
  sparse_categorical_crossentropy squared_hinge
""")


@dataclasses.dataclass(frozen=True)
class Objective:
  """The metric that tickets are chosen by, and whether more of it is better.

  Args:
    name: The metric's name as `evaluate` reports it, without `val_`.
    direction: `"max"` if higher is better, `"min"` if lower is better.

  Raises:
    ValueError: `direction` is neither.

  Example:
  >>> Objective("error_accumulated", "min").sign
  -1
  """

  name: str
  direction: Direction

  def __post_init__(self):
    if self.direction not in ("max", "min"):
      raise ValueError(
        f"direction must be 'max' or 'min', got {self.direction!r}."
      )

  @property
  def sign(self) -> int:
    """1 if higher is better, -1 if lower is better."""
    return 1 if self.direction == "max" else -1

  def to_declaration(self) -> dict[str, str]:
    """Returns the fields of a run's declaration that hold the objective."""
    return {"monitor": self.name, "direction": self.direction}

  @classmethod
  def from_declaration(cls, declaration: Mapping[str, Any]) -> "Objective":
    """Returns the objective that a run declares.

    Early versions declared no direction. The direction of their runs is known
    if the metric's name is a name of Keras's.

    Raises:
      ValueError: Neither the declaration nor the name tells the direction.
    """
    name = str(declaration.get("monitor"))
    direction = declaration.get("direction") or known_direction(name)
    if direction is None:
      raise ValueError(_unknown(name))
    return cls(name, direction)


@dataclasses.dataclass(frozen=True)
class Metric:
  """A description of one metric that a model was compiled with.

  Attributes:
    name: The name as `evaluate` reports it, such as `"head_accuracy"`.
    kinds: Names that may tell the kind of metric, the surest one first: the
      name of its class, if the class is Keras's, then the metric's own name,
      without the name of the output.
    direction: `"max"`, `"min"`, or None if the metric does not know it.
  """

  name: str
  kinds: tuple[str, ...]
  direction: Direction | None = None

  @classmethod
  def of(
    cls,
    metric: Any,
    name: str,
    own_name: str,
    direction: Direction | None = None,
  ) -> "Metric":
    """Describes a metric object of either Keras generation.

    Args:
      metric: The object.
      name: The name as `evaluate` reports it.
      own_name: The metric's own name, without the name of the output.
      direction: The direction, if the caller knows it. Defaults to the
        direction that the object has; metrics of Keras 3 have one.
    """
    directions: dict[Any, Direction] = {"up": "max", "down": "min"}
    own = directions.get(getattr(metric, "_direction", None))
    home = type(metric).__module__.split(".")[0]
    is_keras = home in ("keras", "tf_keras")
    kinds = (type(metric).__name__, own_name) if is_keras else (own_name,)
    return cls(name, kinds, direction or own)

  @property
  def is_accuracy(self) -> bool:
    """Whether this is one of Keras's accuracies, and higher is better."""
    accuracies = [kind for kind in self.kinds if _plain(kind) in _ACCURACIES]
    return bool(accuracies) and self.direction != "min"

  def resolved_direction(self) -> Direction | None:
    """Returns the metric's own direction, else the direction of its kind."""
    known = map(known_direction, self.kinds)
    return self.direction or next(filter(None, known), None)


def choose(
  asked: str | Objective | None,
  reported: Iterable[str],
  metrics: Iterable[Metric],
) -> Objective:
  """Returns the objective for a search.

  Args:
    asked: An objective, or the name of a metric. `None` means the first
      accuracy that the model was compiled with, else the loss.
    reported: The names that `evaluate` reports, in its order.
    metrics: Descriptions of the model's metrics.

  Raises:
    ValueError: No metric has that name, or its direction is not known.
  """
  known = {metric.name: metric for metric in metrics}
  found = {name: known.get(name, Metric(name, (name,))) for name in reported}
  if asked is None:
    accuracies = [name for name, one in found.items() if one.is_accuracy]
    asked = accuracies[0] if accuracies else "loss"
  name = asked.name if isinstance(asked, Objective) else asked
  if name not in found:
    raise ValueError(
      "objective must name a metric that the model was compiled with, one of"
      f" {sorted(found)}, without 'val_'; got {name!r}."
    )
  if isinstance(asked, Objective):
    return asked
  direction = found[name].resolved_direction()
  if direction is None:
    raise ValueError(_unknown(name))
  return Objective(name, direction)


def known_direction(name: str) -> Direction | None:
  """Returns the direction of a metric of Keras's; None for other names.

  >>> known_direction("mae"), known_direction("leaf1_mae")
  ('min', None)
  """
  if _plain(name) in _HIGHER_IS_BETTER:
    return "max"
  return "min" if _plain(name) in _LOWER_IS_BETTER else None


def default_name(reported: Iterable[str]) -> str:
  """Returns the first name that is an accuracy of Keras's, else `"loss"`."""
  return next(
    (name for name in reported if _plain(name) in _ACCURACIES), "loss"
  )


def default_tolerance(dense: float, untrained: float | None = None) -> float:
  """Returns how much worse than the dense network a ticket may be by default.

  A ticket matches if it keeps 99 % of what training gained: the tolerance is
  1 % of the distance between the untrained and the trained dense network, so
  that it does not depend on the unit of the metric. It is at most 5 % of the
  dense network's value, because an untrained network may be bad without a
  limit, as regressions are. If the value of the untrained network is not known,
  the tolerance is 1 % of the dense network's value.

  Args:
    dense: The value of the trained dense network.
    untrained: Its value before training, None if that was not evaluated.
      Defaults to `None`.

  Returns:
    A number of at least 0, in units of the metric; 0 if the value of the dense
    network is not finite.

  Example:
  >>> round(default_tolerance(0.9, 0.1), 6), round(default_tolerance(0.9), 6)
  (0.008, 0.009)
  >>> round(default_tolerance(0.2, 5000.0), 6)
  0.01
  """
  if not math.isfinite(dense):
    return 0.0
  if untrained is None or not math.isfinite(untrained):
    return 0.01 * abs(dense)
  return min(0.01 * abs(dense - untrained), 0.05 * abs(dense))


def can_be_negative(name: str) -> bool:
  """Whether this is a metric of Keras's that can be below 0."""
  return _plain(name) in _CORRELATIONS


def _unknown(name: str) -> str:
  return (
    f"It is not known whether more or less of {name!r} is better. Give the"
    f" direction: find_ticket(..., objective=tf_lottery.Objective({name!r},"
    " 'min')), or 'max'."
  )
