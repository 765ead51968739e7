"""What trained networks say about each other, and what tickets keep.

A module is imported when one of its names is first used, because a report reads
masks without TensorFlow.
"""

import importlib
import typing
from typing import Any

if typing.TYPE_CHECKING:
  from tf_lottery.analysis.chance import AgainstChance
  from tf_lottery.analysis.connectivity import level_barriers
  from tf_lottery.analysis.masks import Overlap
  from tf_lottery.analysis.masks import overlap
  from tf_lottery.analysis.neighbours import Adjacency
  from tf_lottery.analysis.neighbours import adjacency
  from tf_lottery.analysis.permutations import match_units
  from tf_lottery.analysis.permutations import permute
  from tf_lottery.analysis.stability import InstabilityTable
  from tf_lottery.analysis.stability import instability
  from tf_lottery.analysis.structure import Kept
  from tf_lottery.analysis.structure import KeptAxis
  from tf_lottery.analysis.structure import kept
  from tf_lottery.search.instability import Instability
  from tf_lottery.training.lines import Line
  from tf_lottery.training.lines import interpolate

# Name -> the module that has it, below tf_lottery.
_HOMES = {
  "Adjacency": "analysis.neighbours",
  "AgainstChance": "analysis.chance",
  "Instability": "search.instability",
  "InstabilityTable": "analysis.stability",
  "Kept": "analysis.structure",
  "KeptAxis": "analysis.structure",
  "Line": "training.lines",
  "Overlap": "analysis.masks",
  "adjacency": "analysis.neighbours",
  "instability": "analysis.stability",
  "interpolate": "training.lines",
  "kept": "analysis.structure",
  "level_barriers": "analysis.connectivity",
  "match_units": "analysis.permutations",
  "overlap": "analysis.masks",
  "permute": "analysis.permutations",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
  if name in _HOMES:
    return getattr(importlib.import_module(f"tf_lottery.{_HOMES[name]}"), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *_HOMES})
