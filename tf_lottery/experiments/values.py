"""The values of an Experiment's fields, as JSON and back."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_lottery.experiments import references

# The keys of JSON objects that stand for something else.
_CLASS = "@class"
_FUNCTION = "@function"
_PAIRS = "@pairs"
_PARTIAL = "@partial"


class NotPortableError(ValueError):
  """A value that JSON cannot hold, so that no other process can have it."""


def to_json(value: Any, *, strict: bool = True) -> Any:
  """Returns a value as JSON can hold it; `from_json` turns it back.

  Args:
    value: Numbers, text, lists, mappings, functions with a reference, and the
      values of this library, such as scopes, patterns and rewinds.
    strict: Whether to refuse other values. Defaults to `True`; if not, their
      names stand for them, and `from_json` cannot turn them back.

  Raises:
    NotPortableError: The value, or one within it, is another.
  """
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, np.generic):
    return value.item()
  if isinstance(value, list | tuple):
    return [to_json(item, strict=strict) for item in value]
  if isinstance(value, Mapping):
    if all(isinstance(key, str) for key in value):
      return {key: to_json(item, strict=strict) for key, item in value.items()}
    return {_PAIRS: to_json(list(value.items()), strict=strict)}
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = {
      field.name: to_json(getattr(value, field.name), strict=strict)
      for field in dataclasses.fields(value)
    }
    return {_CLASS: references.words(type(value)), **fields}
  if isinstance(value, functools.partial):
    return {
      _PARTIAL: to_json(value.func, strict=strict),
      "args": to_json(value.args, strict=strict),
      "keywords": to_json(value.keywords, strict=strict),
    }
  if callable(value):
    if strict and references.reference(value) is None:
      raise NotPortableError(
        f"{references.words(value)} cannot be imported by another process."
        " Define it at the top level of a module, and give arguments by"
        " model_args and data_args."
      )
    return {_FUNCTION: references.words(value)}
  if strict:
    raise NotPortableError(
      f"A value of type {type(value).__name__} cannot be passed to another"
      f" process: {value!r:.100}."
    )
  return type(value).__name__


def from_json(value: Any) -> Any:
  """Returns the value that `to_json` turned into JSON.

  Raises:
    ValueError: A function or a class cannot be imported.
    TypeError: The fields of a class are not its own.
  """
  if isinstance(value, list):
    return [from_json(item) for item in value]
  if not isinstance(value, dict):
    return value
  if _FUNCTION in value:
    return references.resolve(value[_FUNCTION])
  if _PAIRS in value:
    return {key: from_json(item) for key, item in value[_PAIRS]}
  fields = {key: from_json(item) for key, item in value.items()}
  if _PARTIAL in fields:
    function = fields[_PARTIAL]
    return functools.partial(function, *fields["args"], **fields["keywords"])
  name = fields.pop(_CLASS, None)
  if name is None:
    return fields
  made = references.resolve(name)
  if not dataclasses.is_dataclass(made):
    raise ValueError(f"{name!r} names no class of settings.")
  return made(**{key: _frozen(item) for key, item in fields.items()})


def _frozen(value: Any) -> Any:
  """The settings of this library have tuples where JSON has lists."""
  if isinstance(value, list):
    return tuple(_frozen(item) for item in value)
  return value
