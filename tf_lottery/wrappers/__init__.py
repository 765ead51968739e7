"""The bridge to Keras: the only code that knows a Keras generation.

`keras` (Keras 3, on TensorFlow) is served in place by `keras3.py`; `tf_keras`
(Keras 2) by `keras2.py`, which extends tfmot's pruning wrapper. The latter is
imported when an object of its generation is met, and not before.
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
from tf_lottery.wrappers import binding as binding_lib

if "keras" in sys.modules:
  # TensorFlow has imported it already, unless it was told to use tf_keras.
  # Keras 3 loads a file only when its classes are registered; tf_keras would
  # import them.
  importlib.import_module("tf_lottery.wrappers.keras3_lottery")


def generation_of(target: Any) -> types.ModuleType:
  """The module that knows the generation of a Keras model or layer.

  Raises:
    TypeError: the target is of neither generation, or Keras 3 runs on another
      backend than TensorFlow.
  """
  packages = {
    ancestor.__module__.split(".")[0] for ancestor in type(target).__mro__
  }
  if "tf_keras" in packages:
    return importlib.import_module("tf_lottery.wrappers.keras2")
  if "keras" not in packages:
    raise TypeError(
      "Expected a model or layer of keras (Keras 3) or tf_keras, got"
      f" {type(target).__module__}.{type(target).__qualname__}."
    )
  keras3 = importlib.import_module("tf_lottery.wrappers.keras3")
  backend = keras3.keras.backend.backend()
  if backend != "tensorflow":
    raise TypeError(
      f"Keras 3 must run on TensorFlow, got the backend {backend!r}. Set"
      " KERAS_BACKEND=tensorflow before Keras is imported."
    )
  return keras3


def lottery_prune(
  target: Any,
  *,
  prunable: Override | None = None,
  **tfmot_arguments: Any,
) -> Any:
  """Makes a Keras model, or one layer, lottery-ready.

  Lottery-ready means: the initial weights are stored, and a mask, at first of
  ones, is held on each prunable weight, under `fit()` and any loop that uses
  a Keras optimizer. As `prune_low_magnitude` does in tfmot, but with masks
  that you set (`prune_and_rewind`), no work in the forward pass, and pruned
  weights that are zero after every update.

  Keras 3: any built model is made ready in place and returned. tf_keras: a
  new Sequential or functional model is returned around the same layers, each
  wrapped in `LotteryPrune`; authors of subclassed models wrap layers.

  Args:
    target: a built model, or a layer (which may still be unbuilt).
    prunable: overrides the rules on which weights are pruned: a function of a
      `Weight` that returns True, False or None (the rules decide), or layer
      name -> bool. Defaults to `None`.
    **tfmot_arguments: for tf_keras, the arguments of tfmot's wrapper.

  Returns:
    The lottery-ready model or layer. What is pruned, and why the rest is not,
    is shown by `print(bind(model).report)`.

  Raises:
    TypeError: the target is of no known Keras generation.
    ValueError: the model is not built, or is a subclassed tf_keras model.

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
  check_optimizer(getattr(target, "optimizer", None))
  is_model = hasattr(target, "compile")
  lottery = _lottery_of(generation)
  prune = lottery.prune_model if is_model else lottery.prune_layer
  return prune(target, prunable, **tfmot_arguments)


def strip_lottery(model: Any) -> Any:
  """Gives back a plain model of the same generation, the masks applied.

  Keras 3 models are stripped in place; for tf_keras a new model is returned
  around the same layers. A model that is not lottery-ready, but on which a
  mask is held, is stripped too.

  Returns:
    A model without masks: training it again makes it dense.
  """
  return _lottery_of(generation_of(model)).strip(model)


def _lottery_of(generation: types.ModuleType) -> types.ModuleType:
  """The module that makes models of a generation lottery-ready."""
  if generation.__name__ == "tf_lottery.wrappers.keras2":
    return importlib.import_module("tf_lottery.wrappers.keras2_lottery")
  return importlib.import_module("tf_lottery.wrappers.keras3_lottery")


def bind(
  model: Any, *, prunable: Override | None = None
) -> binding_lib.Binding:
  """Sees a Keras model of either generation as named weights.

  Args:
    model: a built model, lottery-ready or plain.
    prunable: see `lottery_prune`; a lottery-ready model keeps what was
      decided then.

  Raises:
    TypeError: the model is of no known Keras generation.
    ValueError: the model is not built.
  """
  generation = generation_of(model)
  if not model.built:
    raise ValueError(
      f"bind() needs a model whose weights exist, and {model.name!r} is not"
      " built. Give it an Input, or call it on data once."
    )
  return binding_lib.Binding(model, generation, prunable)


def pattern_of(model: Any) -> patterns.Pattern:
  """What tfmot's arguments of `lottery_prune` ask to prune together.

  Raises:
    ValueError: layers were given different ones.
  """
  generation = generation_of(model)
  layers = binding_lib.walk(model, generation)
  asked = {generation.pattern(layer) for layer in layers} - {None}
  if len(asked) > 1:
    raise ValueError(
      f"The layers must ask for one pattern, got {sorted(map(str, asked))}."
      " Give pattern= instead."
    )
  return asked.pop() if asked else patterns.unstructured()


def check_optimizer(optimizer: Any) -> None:
  """Refuses optimizers under which a mask would not hold.

  Raises:
    ValueError: the optimizer averages the weights: averages are taken before
      the mask is applied, and written back at the end.
  """
  if getattr(optimizer, "use_ema", False):
    raise ValueError(
      "Masks do not hold under an optimizer with use_ema=True, which writes"
      " averages of unmasked weights back. Use use_ema=False."
    )


def set_seed(seed: int) -> None:
  """Seeds Python, NumPy, TensorFlow and both Keras generations.

  Both, because a model's generation is known only once it is made, and its
  initial weights must be the same every time.
  """
  for name in ("keras", "tf_keras"):
    importlib.import_module(name).utils.set_random_seed(seed)


def store_initial(model: Any) -> None:
  """Makes the weights of now the initial ones of a lottery-ready model.

  Call it after k steps of training to rewind to step k ("late rewinding",
  Frankle et al., arXiv 1912.05671) instead of to initialisation.
  """
  bind(model).store_initial()


def load(model: Any, path: str | os.PathLike) -> Any:
  """Loads a `.keras` file with the Keras generation of a model, uncompiled."""
  library = generation_of(model).LIBRARY
  return library.models.load_model(path, compile=False)


def load_any(path: str | os.PathLike) -> Any:
  """Loads a `.keras` file with the Keras generation that wrote it."""
  with zipfile.ZipFile(path) as archive:
    version = json.loads(archive.read("metadata.json"))["keras_version"]
  name = "tf_keras" if version.startswith("2.") else "keras"
  return importlib.import_module(name).models.load_model(path, compile=False)


def graph(model: Any) -> tuple[list[Any], list[int]]:
  """The calls of a Sequential or functional model, in order, and its outputs.

  Returns:
    For each call the layer, the ids of its input tensors, that of its output
    tensor, and the shapes of all of them without the batch; and the ids of the
    model's outputs. A call of several outputs is there once for each.

  Raises:
    ValueError: the model has no graph.
  """
  generation = generation_of(model)
  nodes = generation.nodes(model)
  if nodes is None:
    raise ValueError(
      f"{model.name!r} must be a Sequential or functional model, whose layers"
      " and connections are known; it is a subclassed one."
    )
  calls = []
  for layer, inputs, outputs in nodes:
    for output in outputs:
      tensors = (*inputs, output)
      calls.append(
        (
          layer,
          tuple(map(id, inputs)),
          id(output),
          tuple(tuple(tensor.shape[1:]) for tensor in tensors),
        )
      )
  return calls, [id(output) for output in model.outputs]


def rebuild(model: Any, changes: Mapping[str, Mapping[str, Any]]) -> Any:
  """The same architecture, untrained, with some layers configured otherwise.

  Args:
    model: Sequential or functional, not lottery-ready.
    changes: layer name -> what changes in its configuration.

  Returns:
    A model that is not compiled.
  """
  generation = generation_of(model)

  def make(layer):
    with warnings.catch_warnings():  # of lambdas, which are not saved here
      warnings.simplefilter("ignore", UserWarning)
      config = {**layer.get_config(), **changes.get(layer.name, {})}
    activation = getattr(layer, "activation", None)
    is_own = type(layer).__module__.split(".")[0] == generation.LIBRARY.__name__
    if is_own and isinstance(activation, types.FunctionType):
      # By its name a user's function is not found.
      config["activation"] = activation
    return generation.remake(layer, config)

  return generation.clone(model, make)


def walk(model: Any) -> Iterator[Any]:
  """Yields a model and all layers below it, each once."""
  return binding_lib.walk(model, generation_of(model))
