"""What trained networks say about each other."""

from tf_lottery.analysis.connectivity import Line
from tf_lottery.analysis.connectivity import interpolate
from tf_lottery.analysis.connectivity import level_barriers
from tf_lottery.analysis.permutations import match_units
from tf_lottery.analysis.permutations import permute

__all__ = ["Line", "interpolate", "level_barriers", "match_units", "permute"]
