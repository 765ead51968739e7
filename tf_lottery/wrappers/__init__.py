"""The bridge to Keras: the only code that knows a Keras generation.

`keras3_lottery.py` makes a model of `keras` (Keras 3, on TensorFlow)
lottery-ready in place. `keras2_lottery.py` does so for a model of `tf_keras`
(Keras 2), by an extension of tfmot's pruning wrapper; it is imported only when
an object of tf_keras is met.

How a mask is held: a constraint on each weight zeroes its pruned entries after
every update of an optimizer. Where a mask was held on a model, its `fit()`,
`set_weights()` and `load_weights()` keep the mask, even if somebody has
replaced the constraint. A training loop of one's own can still lose it then:
`bind` warns of a lost mask, and `Binding.check_held` raises an error.
"""

import importlib
import json
import os
import sys
import types
import warnings
import zipfile
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from tf_lottery import patterns
from tf_lottery.weights import Override
from tf_lottery.wrappers import copying
from tf_lottery.wrappers import optimizers
from tf_lottery.wrappers import walking
from tf_lottery.wrappers.binding import Binding
from tf_lottery.wrappers.generation import Generation

if "keras" in sys.modules:
  # TensorFlow has imported it already, unless it was told to use tf_keras.
  # Keras 3 loads a file only when its classes are registered; tf_keras would
  # import them.
  importlib.import_module("tf_lottery.wrappers.keras3_lottery")


def generation_of(target: Any) -> Generation:
  """Returns the Keras generation of a model, layer or optimizer.

  Raises:
    TypeError: The target is of neither generation, or Keras 3 runs on another
      backend than TensorFlow.
  """
  packages = {
    ancestor.__module__.split(".")[0] for ancestor in type(target).__mro__
  }
  if "tf_keras" in packages:
    lottery = importlib.import_module("tf_lottery.wrappers.keras2_lottery")
    return lottery.TF_KERAS
  if "keras" not in packages:
    raise TypeError(
      "Expected a model or layer of keras (Keras 3) or tf_keras, got"
      f" {type(target).__module__}.{type(target).__qualname__}."
    )
  lottery = importlib.import_module("tf_lottery.wrappers.keras3_lottery")
  backend = lottery.keras.backend.backend()
  if backend != "tensorflow":
    raise TypeError(
      f"Keras 3 must run on TensorFlow, got the backend {backend!r}. Set"
      " KERAS_BACKEND=tensorflow before Keras is imported."
    )
  return lottery.KERAS_3


def lottery_prune(
  target: Any,
  *,
  prunable: Override | None = None,
  **tfmot_arguments: Any,
) -> Any:
  """Makes a Keras model, or one layer, lottery-ready.

  A lottery-ready model stores its initial weights, and holds a mask on each
  prunable weight: at first a mask of ones. The mask holds in `fit()` and in any
  loop that uses a Keras optimizer. You call this function as you would call
  tfmot's `prune_low_magnitude`. But you set the masks (`prune_and_rewind`),
  nothing is computed in the forward pass, and pruned weights are zero after
  every update.

  Keras 3: any built model is made ready in place and returned. tf_keras: the
  function returns a new Sequential or functional model around the same layers,
  each wrapped in `LotteryPrune`. Wrap the layers of a subclassed model of
  tf_keras yourself.

  Args:
    target: A built model, or a layer, which may still be unbuilt.
    prunable: Overrides the rules on which weights are pruned: a function of a
      `Weight` that returns True, False or None (the rules decide), or a
      mapping of layer name to bool. Defaults to `None`.
    **tfmot_arguments: Arguments of tfmot's wrapper, for tf_keras only.

  Returns:
    The lottery-ready model or layer. `print(bind(model).report)` shows which
    weights are pruned, and why the others are not.

  Raises:
    TypeError: The target is of no known Keras generation, or arguments of
      tfmot are given for Keras 3.
    ValueError: The model is not built, or is a subclassed tf_keras model, or
      is compiled with an optimizer that averages weights.

  Example:
  ```python
  model = lottery_prune(model)
  model.fit(x, y, epochs=5)
  prune_and_rewind(model, density=0.2)
  model.fit(x, y, epochs=5)
  model = strip_lottery(model)
  ```

  Reference: Frankle and Carbin, arXiv 1803.03635.
  """
  generation = generation_of(target)
  if not hasattr(target, "compile"):
    return generation.prune_layer(target, prunable, **tfmot_arguments)
  optimizers.check(getattr(target, "optimizer", None))
  _check_built("lottery_prune()", target)
  return generation.prune_model(target, prunable, **tfmot_arguments)


def strip_lottery(model: Any) -> Any:
  """Returns a plain model, in which pruned weights are zeros.

  Keras 3 models are stripped in place. For tf_keras, a new model is returned
  around the same layers. A model that is not lottery-ready, but on which a
  mask is held, is stripped too.

  Returns:
    A model without masks: training it again makes it dense.

  Raises:
    RuntimeError: The mask does not hold; see `Binding.check_held`.
  """
  generation = generation_of(model)
  Binding(model, generation).check_held()
  return generation.strip(model)


def bind(model: Any, *, prunable: Override | None = None) -> Binding:
  """Returns the `Binding` of a Keras model of either generation.

  Args:
    model: A built model, lottery-ready or plain.
    prunable: See `lottery_prune`. It has no effect on a lottery-ready model,
      whose prunable weights are known.

  Raises:
    TypeError: The model is of no known Keras generation.
    ValueError: The model is not built.

  Warns:
    UserWarning: The model has a mask that does not hold.
  """
  generation = generation_of(model)
  _check_built("bind()", model)
  binding = Binding(model, generation, prunable)
  try:
    binding.check_held()
  except (RuntimeError, ValueError) as error:
    warnings.warn(str(error), stacklevel=2)
  return binding


def _check_built(caller: str, model: Any) -> None:
  if not model.built:
    raise ValueError(
      f"{caller} needs a model whose weights exist, and {model.name!r} is not"
      " built. Give it an Input, or call it on data once."
    )


def pattern_of(model: Any) -> patterns.Pattern:
  """Returns the pattern that the arguments of tfmot's wrappers ask for.

  Raises:
    ValueError: They ask for different patterns in different layers.
  """
  generation = generation_of(model)
  patterns_of_layers = map(generation.pattern, walking.walk(model, generation))
  asked = {pattern for pattern in patterns_of_layers if pattern is not None}
  if len(asked) > 1:
    raise ValueError(
      f"The layers must ask for one pattern, got {sorted(map(str, asked))}."
      " Give pattern= instead."
    )
  return asked.pop() if asked else patterns.unstructured()


def set_seed(seed: int) -> None:
  """Seeds Python, NumPy, TensorFlow and both Keras generations.

  The generation of a model is known only after the model is made, and its
  initial weights must be the same every time.
  """
  for name in ("keras", "tf_keras"):
    importlib.import_module(name).utils.set_random_seed(seed)


def store_initial(model: Any) -> None:
  """Stores the current weights as the initial ones of a lottery-ready model.

  Call it after k steps of training to rewind to step k ("late rewinding",
  Frankle et al., arXiv 1912.05671) instead of to initialisation.

  Raises:
    ValueError: `lottery_prune` was not called on the model.
  """
  bind(model).store_initial()


def load(path: str | os.PathLike) -> Any:
  """Loads a `.keras` file with the generation that wrote it, uncompiled."""
  with zipfile.ZipFile(path) as archive:
    version = json.loads(archive.read("metadata.json"))["keras_version"]
  name = "tf_keras" if version.startswith("2.") else "keras"
  return importlib.import_module(name).models.load_model(path, compile=False)


def graph(model: Any) -> tuple[list[Any], list[int]]:
  """Lists the calls of a Sequential or functional model, in order.

  Returns:
    A list of calls, and a list of the ids of the model's outputs. A call is
    the layer, the ids of its input tensors, the id of its output tensor, and
    the shapes of these tensors without the batch. A call with several outputs
    appears once per output.

  Raises:
    ValueError: The model has no graph.
  """
  generation = generation_of(model)
  nodes = generation.nodes(model)
  if nodes is None:
    raise ValueError(
      f"{model.name!r} must be a Sequential or functional model, whose layers"
      " and connections are known; it is a subclassed one."
    )
  calls = [
    (
      layer,
      tuple(map(id, inputs)),
      id(output),
      tuple(tuple(tensor.shape[1:]) for tensor in (*inputs, output)),
    )
    for layer, inputs, outputs in nodes
    for output in outputs
  ]
  return calls, [id(output) for output in model.outputs]


def rebuild(model: Any, changes: Mapping[str, Mapping[str, Any]]) -> Any:
  """Builds the same architecture, with other arguments for some layers.

  Args:
    model: A Sequential or functional model. Of a lottery-ready model, masks
      and initial weights are not copied.
    changes: Layer name -> the entries of its configuration that change.

  Returns:
    A model that is not trained and not compiled.
  """
  generation = generation_of(model)

  def make(layer):
    with warnings.catch_warnings():  # of lambdas, which are not saved here
      warnings.simplefilter("ignore", UserWarning)
      config = {**layer.get_config(), **changes.get(layer.name, {})}
    activation = getattr(layer, "activation", None)
    is_own = type(layer).__module__.split(".")[0] == generation.library.__name__
    if is_own and isinstance(activation, types.FunctionType):
      # Keras would look a user's function up by its name, and not find it.
      config["activation"] = activation
    return generation.remake(layer, config)

  return generation.clone(model, make)


def walk(model: Any) -> Iterator[Any]:
  """Yields a model and all layers below it, each once."""
  return walking.walk(model, generation_of(model))


def config_of(layer: Any) -> dict[str, Any]:
  """Returns the configuration of a layer, for reading: it warns of no copy."""
  with copying.without_warning():
    return layer.get_config()
