"""The interface to a Keras generation, for the rest of the library."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Protocol

import tensorflow as tf

from tf_lottery import objective
from tf_lottery import patterns
from tf_lottery.weights import Override
from tf_lottery.wrappers import replacing


class Generation(Protocol):
  """A Keras generation, with everything in which the two differ.

  There are two objects, `keras3_lottery.KERAS_3` and
  `keras2_lottery.TF_KERAS`. `wrappers.generation_of` finds the right one.

  Attributes:
    library: The module `keras` or `tf_keras`.
  """

  library: Any

  # Layers and their weights.

  def children(self, layer: Any) -> list[Any]:
    """Returns the layers directly below, in an order that a rebuild repeats."""
    ...

  def own_variables(self, layer: Any) -> list[tuple[str, Any, bool]]:
    """Returns `(role, variable, trainable)` of each weight of one layer.

    Weights of the layers below it are not included.
    """
    ...

  def raw(self, variable: Any) -> tf.Variable:
    """Returns the TensorFlow variable that stores a Keras variable."""
    ...

  def constraint(self, variable: Any) -> Any:
    """Returns the constraint of a variable, or None."""
    ...

  def set_constraint(self, variable: Any, constraint: Any) -> None:
    """Has optimizers apply `constraint` after each update of the variable."""
    ...

  # Making models lottery-ready.

  def initial(self, layer: Any) -> Mapping[str, Any]:
    """Returns role -> stored initial weight; empty if nothing is stored."""
    ...

  def pattern(self, layer: Any) -> patterns.Pattern | None:
    """Returns the pattern that tfmot's arguments ask for, or None."""
    del layer
    return None

  def prune_model(
    self,
    model: Any,
    prunable: Override | None = None,
    **tfmot_arguments: Any,
  ) -> Any:
    """Makes a built model lottery-ready."""
    ...

  def prune_layer(
    self,
    layer: Any,
    prunable: Override | None = None,
    **tfmot_arguments: Any,
  ) -> Any:
    """Makes one layer lottery-ready."""
    ...

  def strip(self, model: Any) -> Any:
    """Removes masks and initial weights from a model whose masks hold."""
    ...

  # The graph of a model.

  def nodes(self, model: Any) -> list[tuple[Any, list[Any], list[Any]]] | None:
    """Returns layer, input tensors and output tensors of each call.

    Returns None for a subclassed model, which has no graph.
    """
    ...

  def remake(self, layer: Any, config: dict[str, Any]) -> Any:
    """Makes a layer of the same class from a configuration."""
    return type(layer).from_config(config)

  def clone(self, model: Any, make: Callable[[Any], Any]) -> Any:
    """Copies a model, with `make` called on each layer; it is not compiled."""
    ...

  # Randomness.

  def random_states(self, model: Any) -> list[tf.Variable]:
    """Returns the states of random generators, such as those of dropout."""
    ...

  def is_random(self, layer: Any) -> bool:
    """Tells whether a layer draws random numbers of its own in training."""
    ...

  def make_randomness_resumable(self, model: Any) -> None:
    """Gives each random generator a state, unless it has one already."""
    del model

  # Training.

  def forward(self, model: Any, x: Any, *, training: bool = True) -> Any:
    """Computes the model's output."""
    ...

  def without_weight_decay(self, model: Any) -> list[replacing.Change]:
    """Returns what to replace so that no regulariser of a weight counts."""
    ...

  def in_double(self, layer: Any) -> list[replacing.Change]:
    """Returns what to replace so that a layer computes in float64."""
    ...

  def build_optimizer(self, model: Any) -> None:
    """Makes the variables of the compiled optimizer, unless it has them."""
    ...

  def optimizer_variables(self, optimizer: Any) -> list[tf.Variable]:
    """Returns all variables of an optimizer, such as momenta and iterations."""
    ...

  def step_variable(self, optimizer: Any) -> tf.Variable:
    """Returns the count of updates, which learning-rate schedules read."""
    ...

  def updated_variables(self, optimizer: Any, model: Any) -> list[Any] | None:
    """Returns the variables that an optimizer was built for, in its order.

    Returns None or an empty list if the optimizer was not built yet.
    """
    ...

  def scale_loss(self, optimizer: Any, loss: tf.Tensor) -> tf.Tensor:
    """Scales the loss for mixed precision, before it is differentiated."""
    ...

  def unscale_gradients(self, optimizer: Any, gradients: list) -> list:
    """Undoes `scale_loss`, unless the optimizer does so itself."""
    del optimizer
    return gradients

  def clip_together(self, optimizer: Any, gradients: list) -> list:
    """Clips the sum of the replicas' gradients, unless the optimizer does."""
    del optimizer
    return gradients

  def metrics(self, model: Any) -> list[objective.Metric]:
    """Describes the model's metrics, once Keras has built them."""
    ...
