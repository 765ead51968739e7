"""How two declarations of a run differ, in words."""

import contextlib
import difflib
import json
import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_lottery.search import methods

# Field -> the fields that decide about it: where these differ, so does it.
_FOLLOWS = {
  "initial": ("layers", "weights", "seed"),
  "weights": ("layers",),
}
_DATA = ("train_data", "validation_data", "test_data")
# What `fingerprint` writes of arrays.
_FINGERPRINT = re.compile(r"(\d+) examples [0-9a-f]+(.*)")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
  """Returns a line for each thing that differs, with both values.

  Args:
    before: the declaration that a run directory holds.
    now: another one, in values that JSON can hold.
  """
  differing = [
    field
    for field in sorted(before.keys() | now.keys())
    if before.get(field) != now.get(field)
  ]
  lines = []
  for field in differing:
    if not set(_FOLLOWS.get(field, ())) & set(differing):
      was, is_ = before.get(field), now.get(field)
      lines += [f"{field}: {line}" for line in _lines(field, was, is_)]
  return lines


def _lines(field: str, was: Any, now: Any) -> Iterator[str]:
  if field == "layers" and was and now:
    yield from _of_layers(was, now)
  elif field == "weights" and was and now:
    yield from _of_weights(was, now)
  elif field == "method":
    yield f"it was {_method(was)}, now {_method(now)}{_instead(was, now)}"
  elif field == "initial":
    yield (
      "make_model draws other initial weights. It may load weights, or draw"
      " them by a seed of its own that has changed"
    )
  elif field in _DATA and isinstance(was, str) and isinstance(now, str):
    yield _of_data(was, now)
  elif isinstance(was, Mapping) and isinstance(now, Mapping):
    yield from _settings(was, now)
  else:
    yield f"it was {_short(was)}, now {_short(now)}"


def _of_layers(was: Sequence[Any], now: Sequence[Any]) -> Iterator[str]:
  """Numbers the layers from 1, the model itself being number 0."""
  texts = [
    [json.dumps(one, sort_keys=True) for one in row] for row in (was, now)
  ]
  # Layers of one class and name are the same layer with other settings.
  matcher = difflib.SequenceMatcher(a=texts[0], b=texts[1], autojunk=False)
  for kind, a, b, c, d in matcher.get_opcodes():
    if kind == "equal":
      continue
    pairs = min(b - a, d - c)
    for index in range(pairs):
      old, new = was[a + index], now[c + index]
      yield f"layer {a + index} was {_layer(old, new)}, now {_layer(new, old)}"
    for index in range(a + pairs, b):
      yield f"layer {index} was {_layer(was[index])}, and there is none now"
    for index in range(c + pairs, d):
      yield f"there is a new layer {index}, {_layer(now[index])}"


def _layer(layer: Any, other: Any = None) -> str:
  """A layer's class with the settings in which it differs from another."""
  known = _flat(layer)
  against = _flat(other) if other else {}
  same_class = other and other.get("class") == layer.get("class")
  if same_class:
    names = [n for n in known if known[n] != against.get(n)]
  else:
    names = [n for n in ("units", "filters", "kernel_size") if n in known]
  settings = ", ".join(f"{n}={_short(known[n])}" for n in names if n != "class")
  return f"{layer.get('class')}({settings})"


def _of_weights(was: Sequence[Any], now: Sequence[Any]) -> Iterator[str]:
  old, new = ({key: rest for key, *rest in row} for row in (was, now))
  for key in [*old, *(key for key in new if key not in old)]:
    if old.get(key) != new.get(key):
      yield f"{key} was {_weight(old.get(key))}, now {_weight(new.get(key))}"


def _method(value: Mapping[str, Any] | None) -> str:
  """A search method as it is called; `iterative()` is not declared."""
  settings = dict(value or {"name": "Iterative"})
  name = settings.pop("name")
  if name == "Anytime":
    return f"a search with a budget (version {settings.get('version', 1)})"
  kinds = (
    methods.AtInit,
    methods.Cycles,
    methods.EarlyBird,
    methods.Iterative,
  )
  for kind in kinds:
    if kind.__name__ == name:
      with contextlib.suppress(TypeError, ValueError):
        return str(kind(**settings))
  # A declaration names functions, from which no method can be made again.
  name = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
  given = (f"{key}={_short(value)}" for key, value in settings.items())
  return f"{name}({', '.join(given)})"


def _instead(
  was: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> str:
  """How a run goes on that was begun when the default was `iterative()`."""
  if was is None and now and now["name"] == "Anytime":
    return '. Give method="iterative" to go on with it'
  return ""


def _weight(facts: Sequence[Any] | None) -> str:
  if facts is None:
    return "not there"
  shape, prunable = facts
  return f"{tuple(shape)}, {'prunable' if prunable else 'not prunable'}"


def _of_data(was: str, now: str) -> str:
  old, new = _FINGERPRINT.fullmatch(was), _FINGERPRINT.fullmatch(now)
  if not old or not new:
    return f"it was {_short(was)}, now {_short(now)}"
  if old[2] != new[2]:
    augmented = (m[2].strip() or "no augmentation" for m in (old, new))
    return "it was with {}, now with {}".format(*augmented)
  if old[1] != new[1]:
    return f"it was {old[1]} examples, now {new[1]}"
  return f"other values or another shape, in as many examples ({old[1]})"


def _settings(was: Any, now: Any) -> Iterator[str]:
  """The settings that differ, each by its path: `learning_rate.class`."""
  old, new = _flat(was), _flat(now)
  for name in [*old, *(name for name in new if name not in old)]:
    if old.get(name) != new.get(name):
      yield f"{name} was {_short(old.get(name))}, now {_short(new.get(name))}"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, item in value.items():
    if isinstance(item, Mapping):
      flat |= _flat(item, f"{prefix}{name}.")
    else:
      flat[f"{prefix}{name}"] = item
  return flat


def _short(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 200 else text[:200] + "..."
