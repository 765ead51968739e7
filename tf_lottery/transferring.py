"""Matches the layers of two networks, to carry a ticket from one to the other.

A layer is known by its *signature*: the roles and the shapes of its weights,
and whether it is the output layer. So the two networks may be of different
Keras generations, and nothing but a ticket is needed of the first one.
"""

import dataclasses
import itertools
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from tf_lottery import masks
from tf_lottery import text_table
from tf_lottery.weights import Weight

_Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Match:
  """Says which weight of a ticket each weight of a model comes from.

  `str` gives a table.

  Attributes:
    weights: The weights of the model, in order.
    sources: Key in the model -> key in the ticket. Weights of the model that
      are not in it are drawn anew.
    names: Key in the ticket -> name, for all weights of the ticket.
  """

  weights: Sequence[Weight]
  sources: Mapping[str, str]
  names: Mapping[str, str]

  @property
  def anew(self) -> tuple[Weight, ...]:
    """The weights of the model that do not come from the ticket."""
    return tuple(w for w in self.weights if w.key not in self.sources)

  @property
  def left_out(self) -> tuple[str, ...]:
    """The names of the ticket's weights that have no place in the model."""
    used = set(self.sources.values())
    return tuple(name for key, name in self.names.items() if key not in used)

  def carry_values(
    self, values: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]
  ) -> dict[str, np.ndarray]:
    """Returns values for all weights of the model.

    Args:
      values: Key in the ticket -> array.
      own: Key in the model -> array: the values of weights that are drawn anew.
    """
    return {
      weight.key: np.asarray(values[self.sources[weight.key]]).astype(
        own[weight.key].dtype
      )
      if weight.key in self.sources
      else own[weight.key]
      for weight in self.weights
    }

  def carry_mask(
    self, mask: masks.Mask, *, sparse: bool = False, seed: int = 0
  ) -> masks.Mask:
    """Returns a mask for the model.

    It covers the weights whose source is covered, and the prunable ones that
    are drawn anew.

    Args:
      mask: The mask of the ticket.
      sparse: Whether to prune the weights that are drawn anew, at random and to
        the density of `mask`. Defaults to `False`: they are dense.
      seed: Seed of that draw. Defaults to `0`.
    """
    shapes = {w.key: w.shape for w in self.anew if w.prunable}
    new = masks.Mask.ones(shapes)
    if sparse and shapes:
      new = masks.Mask.random(shapes, mask.density, seed)
    carried = {
      key: mask[source]
      for key, source in self.sources.items()
      if source in mask
    }
    arrays = {**carried, **new}
    return masks.Mask(
      {w.key: arrays[w.key] for w in self.weights if w.key in arrays}
    )

  def __str__(self) -> str:
    rows = [
      (
        weight.name,
        "x".join(map(str, weight.shape)) or "scalar",
        self.names[self.sources[weight.key]]
        if weight.key in self.sources
        else "drawn anew",
      )
      for weight in self.weights
    ]
    table = text_table.render(["weight", "shape", "from"], rows, "<<<")
    return f"{table}\n{self.sentence()}"

  def sentence(self) -> str:
    """Names the layers that are drawn anew, and those that are left out."""
    anew = _layer_names(weight.name for weight in self.anew)
    left = _layer_names(self.left_out)
    return f"Drawn anew: {anew}. Left out of the ticket: {left}."


def match(
  shapes: _Shapes,
  names: Mapping[str, str],
  weights: Sequence[Weight],
  anew: Sequence[str] = (),
) -> Match:
  """Matches the weights of a ticket with those of a model, layer by layer.

  The layers of the model are read from the first to the last. Each stretch of
  them takes the longest stretch of the ticket's layers with the same
  signatures, the first one of several. So a network of the same architecture
  takes all layers in their order. A deeper one repeats the last blocks of each
  width, and a shallower one keeps the first; within a residual block, the order
  of the layers is kept, and batch normalisation stays with its convolution.

  Args:
    shapes: Key -> shape of the ticket's weights, in order.
    names: Key -> name of the same weights.
    weights: The weights of the model, in order.
    anew: Selectors of layers of the model that take nothing from the ticket;
      see `Weight.matches`. Layers without a counterpart need not be named if
      no layer after them has one. Defaults to `()`.

  Raises:
    ValueError: A layer has no counterpart, and is neither named nor among the
      last; no layer has one; or a selector selects no layer.

  Reference: Chen et al., "The Elastic Lottery Ticket Hypothesis", arXiv
  2103.16547, section 3.
  """
  _check_selectors(anew, weights)
  source = _layers(shapes)
  target = _layers({weight.key: weight.shape for weight in weights})
  by_layer = _by_layer(weights)
  wanted = [
    None
    if any(w.matches(selector) for w in by_layer[index] for selector in anew)
    else signature
    for index, signature in target.items()
  ]
  places = list(_read(list(source.values()), wanted))
  _check_places(places, wanted, list(by_layer.values()), anew)
  indices = list(source)
  sources = {
    weight.key: f"{indices[place]}/{_split(weight.key)[1]}"
    for place, layer in zip(places, by_layer.values(), strict=True)
    if place is not None
    for weight in layer
  }
  return Match(tuple(weights), sources, dict(names))


# Whether it is the output layer, and role and shape of each weight.
_Signature = tuple[bool, tuple[tuple[str, tuple[int, ...]], ...]]


def _layers(shapes: _Shapes) -> dict[str, _Signature]:
  """Returns index -> signature of each layer, in order."""
  layers: dict[str, dict[str, tuple[int, ...]]] = {}
  output = None
  for key, shape in shapes.items():
    index, role = _split(key)
    layers.setdefault(index, {})[role] = tuple(shape)
    # A normalisation after the last kernel is not the output layer.
    output = index if len(shape) > 1 else output
  return {
    index: (index == output, tuple(sorted(roles.items())))
    for index, roles in layers.items()
  }


def _by_layer(weights: Sequence[Weight]) -> dict[str, list[Weight]]:
  layers: dict[str, list[Weight]] = {}
  for weight in weights:
    layers.setdefault(_split(weight.key)[0], []).append(weight)
  return layers


def _layer_names(names: Iterable[str]) -> str:
  layers = dict.fromkeys(name.rpartition("/")[0] or name for name in names)
  return ", ".join(layers) or "nothing"


def _split(key: str) -> tuple[str, str]:
  index, _, role = key.partition("/")
  return index, role


def _read(
  source: Sequence[_Signature], target: Sequence[_Signature | None]
) -> Iterator[int | None]:
  """Yields the place in the source of each layer; None where there is none."""
  done = 0
  while done < len(target):
    rest = target[done:]
    starts = range(len(source))
    if not done and source[:1] == target[:1]:
      starts = range(1)  # The first layer is the first layer's.
    lengths = {start: _common(source[start:], rest) for start in starts}
    best = max(lengths, key=lambda start: lengths[start], default=0)
    length = lengths.get(best, 0)
    yield from range(best, best + length) if length else [None]
    done += max(length, 1)


def _common(
  source: Sequence[_Signature], target: Sequence[_Signature | None]
) -> int:
  """Counts the layers with which both begin."""
  pairs = zip(source, target, strict=False)
  return sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], pairs))


def _check_selectors(anew: Sequence[str], weights: Sequence[Weight]) -> None:
  if isinstance(anew, str):
    raise TypeError(f"anew must be a list of selectors, got {anew!r}.")
  for selector in anew:
    if not any(weight.matches(selector) for weight in weights):
      layers = dict.fromkeys(weight.layer for weight in weights)
      raise ValueError(
        "anew must name layers of the model, 'output' or a kind of layer; got"
        f" {selector!r}. The layers are {', '.join(layers)}."
      )


def _check_places(
  places: Sequence[int | None],
  wanted: Sequence[_Signature | None],
  layers: Sequence[Sequence[Weight]],
  anew: Sequence[str],
) -> None:
  """Refuses layers without a counterpart that nobody would expect."""
  known = [number for number, place in enumerate(places) if place is not None]
  if not known:
    raise ValueError(
      "No layer of the model has a counterpart in the ticket, of the same roles"
      f" and shapes. The model has {_words(layers)}."
    )
  missing = [
    layer
    for number, layer in enumerate(layers[: known[-1]])
    if places[number] is None and wanted[number] is not None
  ]
  if missing:
    names = [layer[0].layer for layer in missing]
    raise ValueError(
      "Only the last layers of the model may lack a counterpart in the ticket,"
      f" of the same roles and shapes; {_words(missing)} lacks one as well. A"
      " ticket does not fit a wider or narrower network. To draw these layers"
      f" anew, give anew={[*anew, *names]}."
    )


def _words(layers: Sequence[Sequence[Weight]]) -> str:
  return ", ".join(
    f"{weight.name} of shape {weight.shape}"
    for layer in layers
    for weight in layer
  )
