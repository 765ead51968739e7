"""Find, prove and ship winning lottery tickets in Keras models.

Reference: Frankle and Carbin, "The Lottery Ticket Hypothesis", arXiv
1803.03635.
"""

from tf_lottery.export.compaction import CompactionReport
from tf_lottery.export.compaction import compact
from tf_lottery.files import FileFormatError
from tf_lottery.levels import SearchResult
from tf_lottery.masks import Mask
from tf_lottery.prunable import PrunableReport
from tf_lottery.rewinding import Rewind
from tf_lottery.rewinding import Snapshot
from tf_lottery.rewinding import prune_and_rewind
from tf_lottery.rewinding import to_init
from tf_lottery.rewinding import to_step
from tf_lottery.rounds import Round
from tf_lottery.schedules import Step
from tf_lottery.schedules import geometric
from tf_lottery.schedules import linear
from tf_lottery.schedules import one_shot
from tf_lottery.scopes import erdos_renyi
from tf_lottery.scopes import global_
from tf_lottery.scopes import layerwise
from tf_lottery.search import find_ticket
from tf_lottery.tickets import Ticket
from tf_lottery.training import Trainer
from tf_lottery.wrappers import bind
from tf_lottery.wrappers import lottery_prune
from tf_lottery.wrappers import store_initial
from tf_lottery.wrappers import strip_lottery

__version__ = "0.1.0"
