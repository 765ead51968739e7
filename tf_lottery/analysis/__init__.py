"""What trained networks say about each other, and what tickets keep."""

from tf_lottery.analysis.chance import AgainstChance
from tf_lottery.analysis.connectivity import level_barriers
from tf_lottery.analysis.masks import Overlap
from tf_lottery.analysis.masks import overlap
from tf_lottery.analysis.neighbours import Adjacency
from tf_lottery.analysis.neighbours import adjacency
from tf_lottery.analysis.permutations import match_units
from tf_lottery.analysis.permutations import permute
from tf_lottery.analysis.stability import Stability
from tf_lottery.analysis.stability import instability
from tf_lottery.analysis.structure import Kept
from tf_lottery.analysis.structure import KeptAxis
from tf_lottery.analysis.structure import kept
from tf_lottery.search.instability import Instability
from tf_lottery.training.lines import Line
from tf_lottery.training.lines import interpolate

__all__ = [
  "Adjacency",
  "AgainstChance",
  "Instability",
  "Kept",
  "KeptAxis",
  "Line",
  "Overlap",
  "Stability",
  "adjacency",
  "instability",
  "interpolate",
  "kept",
  "level_barriers",
  "match_units",
  "overlap",
  "permute",
]
