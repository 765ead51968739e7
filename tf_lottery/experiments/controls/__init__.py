"""Controls: a ticket with one thing changed, trained as the ticket was.

Each control is one function of a search, a Level and a draw. It trains once:
called again on the same run directory, it reads back what is there. Each module
has the controls that change one kind of thing; their names are listed here.
"""

from collections.abc import Callable
from collections.abc import Mapping

from tf_lottery.experiments.controls.averaging import weight_average
from tf_lottery.experiments.controls.damaged_data import half_data
from tf_lottery.experiments.controls.damaged_data import other_order
from tf_lottery.experiments.controls.damaged_data import shuffled_labels
from tf_lottery.experiments.controls.gradual_pruning import gradual
from tf_lottery.experiments.controls.gradual_pruning import gradual_equal_cost
from tf_lottery.experiments.controls.other_masks import one_shot
from tf_lottery.experiments.controls.other_masks import random_mask
from tf_lottery.experiments.controls.other_masks import shuffled_mask
from tf_lottery.experiments.controls.other_rewinds import fine_tune
from tf_lottery.experiments.controls.other_rewinds import learning_rate_rewind
from tf_lottery.experiments.controls.other_rewinds import rewind_to_init
from tf_lottery.experiments.controls.small_networks import small_dense
from tf_lottery.experiments.controls.small_networks import (
  small_dense_equal_cost,
)
from tf_lottery.experiments.controls.sparse_training import random_erk
from tf_lottery.experiments.controls.sparse_training import rigl
from tf_lottery.experiments.controls.sparse_training import rigl_equal_cost
from tf_lottery.experiments.controls.sparse_training import set_
from tf_lottery.experiments.controls.start_weights import magnitudes
from tf_lottery.experiments.controls.start_weights import permuted
from tf_lottery.experiments.controls.start_weights import random_reinit
from tf_lottery.experiments.controls.start_weights import signs
from tf_lottery.experiments.controls.start_weights import supermask
from tf_lottery.experiments.controls.tfmot_pruning import gradual_tfmot
from tf_lottery.experiments.controls.transfer import transferred
from tf_lottery.experiments.controls.transfer import transferred_mask
from tf_lottery.experiments.controls.transfer import transferred_permuted
from tf_lottery.experiments.controls.transfer import transferred_reinit
from tf_lottery.experiments.controls.transfer import transferred_shuffled
from tf_lottery.search.loop import Search
from tf_lottery.search.rounds import Round

Control = Callable[[Search, int, int], Round]

# Controls that need a function that makes a model.
WITH_MODEL: Mapping[str, Callable[..., Round]] = {
  "gradual_tfmot": gradual_tfmot,
  "small_dense": small_dense,
  "small_dense_equal_cost": small_dense_equal_cost,
}

# Of these, the controls whose function must take a width.
WITH_WIDTH = ("small_dense", "small_dense_equal_cost")

# Controls that need the search of another experiment, the source.
WITH_SOURCE: Mapping[str, Callable[..., Round]] = {
  control.__name__: control
  for control in (
    transferred,
    transferred_mask,
    transferred_reinit,
    transferred_shuffled,
    transferred_permuted,
  )
}

BY_NAME: Mapping[str, Control] = {
  control.__name__.rstrip("_"): control
  for control in (
    random_reinit,
    shuffled_mask,
    random_mask,
    one_shot,
    fine_tune,
    learning_rate_rewind,
    rewind_to_init,
    gradual,
    gradual_equal_cost,
    random_erk,
    rigl,
    rigl_equal_cost,
    set_,
    signs,
    magnitudes,
    permuted,
    supermask,
    weight_average,
    shuffled_labels,
    half_data,
    other_order,
  )
}
