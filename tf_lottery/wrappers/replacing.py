"""Attributes of Keras objects that are replaced while a program is traced."""

import contextlib
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

# An object, the name of an attribute of it, and the value to give it.
Change = tuple[Any, str, Any]

_ABSENT = object()


@contextlib.contextmanager
def replaced(changes: Iterable[Change]) -> Iterator[None]:
  """Replaces attributes while the context is open, and puts them back."""
  changes = list(changes)
  before = [
    (target, name, vars(target).get(name, _ABSENT))
    for target, name, _ in changes
  ]
  try:
    for change in changes:
      _set(*change)
    yield
  finally:
    for change in reversed(before):
      _set(*change)


def _set(target: Any, name: str, value: Any) -> None:
  # In the dictionary itself: Keras would track what is set as an attribute.
  if value is _ABSENT:
    vars(target).pop(name, None)
  else:
    vars(target)[name] = value
