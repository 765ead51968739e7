"""Which metric to choose by, and whether more or less of it is better."""

import re
from collections.abc import Iterable

_HIGHER_IS_BETTER = re.compile(
  "acc|auc|precision|recall|f1|f_?beta|iou|(?<![a-z])r2|dice"
)
_LOWER_IS_BETTER = re.compile(
  "loss|error|mse|mae|mape|msle|entropy|perplexity|hinge|log_?cosh|divergence"
)


def default_monitor(metrics: Iterable[str]) -> str:
  """The metric to choose by: an accuracy if there is one, else the loss."""
  return next((name for name in metrics if "acc" in name), "loss")


def lower_is_better(monitor: str) -> bool:
  """Whether less of a metric is better, by its name.

  Raises:
    ValueError: the name does not tell.
  """
  if re.search("(loss|error)$", monitor):
    return True  # of whatever: dice_loss
  if _HIGHER_IS_BETTER.search(monitor):
    return False
  if _LOWER_IS_BETTER.search(monitor):
    return True
  raise ValueError(
    f"Whether {monitor!r} should be high or low cannot be told from its name."
    " Name the metric after a known one (name='..._accuracy', '..._error'), or"
    " choose by monitor='loss'."
  )
