"""What trained networks say about each other, and what tickets keep."""

from tf_lottery.analysis.chance import AgainstChance
from tf_lottery.analysis.connectivity import Line
from tf_lottery.analysis.connectivity import interpolate
from tf_lottery.analysis.connectivity import level_barriers
from tf_lottery.analysis.masks import Overlap
from tf_lottery.analysis.masks import overlap
from tf_lottery.analysis.neighbours import Adjacency
from tf_lottery.analysis.neighbours import adjacency
from tf_lottery.analysis.structure import Kept
from tf_lottery.analysis.structure import KeptAxis
from tf_lottery.analysis.structure import kept

__all__ = [
  "Adjacency",
  "AgainstChance",
  "Kept",
  "KeptAxis",
  "Line",
  "Overlap",
  "adjacency",
  "interpolate",
  "kept",
  "level_barriers",
  "overlap",
]
