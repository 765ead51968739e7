"""What trained networks say about each other."""

from tf_lottery.analysis.connectivity import Line
from tf_lottery.analysis.connectivity import interpolate
from tf_lottery.analysis.connectivity import level_barriers

__all__ = ["Line", "interpolate", "level_barriers"]
