"""What trained networks say about each other."""

from tf_lottery.analysis.connectivity import level_barriers
from tf_lottery.analysis.stability import Stability
from tf_lottery.analysis.stability import instability
from tf_lottery.search.instability import Instability
from tf_lottery.training.lines import Line
from tf_lottery.training.lines import interpolate

__all__ = [
  "Instability",
  "Line",
  "Stability",
  "instability",
  "interpolate",
  "level_barriers",
]
