"""Find, prove and ship winning lottery tickets in Keras models.

The rooms `analysis`, `controls`, `experiments`, `export`, `papers` and
`report`, and `Experiment` and `prove`, are imported when they are first used.

Reference: Frankle and Carbin, "The Lottery Ticket Hypothesis", arXiv
1803.03635.
"""

import importlib
import typing
from typing import Any

from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.objective import Objective
from tf_lottery.pruning import prune_and_rewind
from tf_lottery.rewinding import Rewind
from tf_lottery.rewinding import Snapshot
from tf_lottery.rewinding import Step
from tf_lottery.rewinding import to_init
from tf_lottery.rewinding import to_step
from tf_lottery.schedules import geometric
from tf_lottery.schedules import linear
from tf_lottery.schedules import one_shot
from tf_lottery.scopes import erdos_renyi
from tf_lottery.scopes import global_
from tf_lottery.scopes import lamp
from tf_lottery.scopes import layerwise
from tf_lottery.search.divergence import DivergedError
from tf_lottery.search.finding import find_ticket
from tf_lottery.search.loop import Search
from tf_lottery.search.methods import at_init
from tf_lottery.search.methods import cycles
from tf_lottery.search.methods import early_bird
from tf_lottery.search.methods import gradual
from tf_lottery.search.methods import iterative
from tf_lottery.search.rounds import Round
from tf_lottery.storage.files import FileFormatError
from tf_lottery.tickets import Ticket
from tf_lottery.training.trainer import Trainer
from tf_lottery.weights import PrunableReport
from tf_lottery.wrappers import bind
from tf_lottery.wrappers import lottery_prune
from tf_lottery.wrappers import store_initial
from tf_lottery.wrappers import strip_lottery

if typing.TYPE_CHECKING:
  from tf_lottery import analysis
  from tf_lottery import experiments
  from tf_lottery import export
  from tf_lottery import papers
  from tf_lottery import report
  from tf_lottery.experiments import Experiment
  from tf_lottery.experiments import controls
  from tf_lottery.experiments import prove
  from tf_lottery.export.compaction import CompactionReport
  from tf_lottery.export.compaction import compact

__version__ = "0.1.0"

SearchResult = Search  # the name that it had before

# Name -> the module that has it, for what takes time to import.
_LATER = {
  "CompactionReport": "tf_lottery.export.compaction",
  "compact": "tf_lottery.export.compaction",
  "Experiment": "tf_lottery.experiments",
  "controls": "tf_lottery.experiments",
  "prove": "tf_lottery.experiments",
}
_ROOMS = ("analysis", "experiments", "export", "papers", "report")


def __getattr__(name: str) -> Any:
  """Imports a room, or what is in one, when it is first used."""
  if name in _ROOMS:
    return importlib.import_module(f"tf_lottery.{name}")
  if name in _LATER:
    return getattr(importlib.import_module(_LATER[name]), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *_LATER, *_ROOMS})
