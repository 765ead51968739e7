"""References: the names of functions, `"package.module:function"`, as text.

A declaration on disk, and a process that runs a replicate, know the functions
of a user by their references.
"""

import importlib
import importlib.util
import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any


def resolve(function: Callable[..., Any] | str) -> Callable[..., Any]:
  """Returns the function that a reference names; functions stay as they are.

  Args:
    function: A function, or `"package.module:function"`. The module must be
      importable: installed, or below the working directory of a script.

  Raises:
    ValueError: The reference has another form, its module cannot be imported,
      or has no such function.
  """
  if callable(function):
    return function
  module_name, colon, name = str(function).partition(":")
  if not (module_name and colon and name):
    raise ValueError(
      "A function must be given as itself or as 'package.module:function',"
      f" got {function!r}."
    )
  try:
    found: Any = importlib.import_module(module_name)
  except ImportError as error:
    raise ValueError(
      f"{function!r} names a module that cannot be imported: {error}. Install"
      " it, or work in the folder that contains it."
    ) from error
  for part in name.split("."):
    found = getattr(found, part, None)
  if not callable(found):
    raise ValueError(
      f"{function!r} names no function: {module_name} has no callable {name!r}."
    )
  return found


def reference(function: Callable[..., Any] | str) -> str | None:
  """Returns the reference of a function; None if there is none.

  Lambdas, functions inside of functions, bound arguments and functions of an
  interactive session have none: another process cannot import them.
  """
  if isinstance(function, str):
    return function
  name = getattr(function, "__qualname__", "<none>")
  module = _module_name(function)
  if module is None or "<" in name:
    return None
  if function.__module__ != "__main__":
    try:
      if resolve(f"{module}:{name}") is not function:
        return None
    except ValueError:
      return None
  return f"{module}:{name}"


def words(function: Callable[..., Any] | str) -> str:
  """Returns the name of a function for people and for declarations."""
  if known := reference(function):
    return known
  name = getattr(function, "__qualname__", type(function).__name__)
  return f"{getattr(function, '__module__', '')}:{name}"


def takes(function: Callable[..., Any], name: str) -> bool:
  """Whether a function has a parameter of a name."""
  return name in inspect.signature(function).parameters


def _module_name(function: Any) -> str | None:
  """Returns the name by which another process can import the module."""
  name = getattr(function, "__module__", None)
  if name != "__main__":
    return name
  main = sys.modules["__main__"]
  if spec := getattr(main, "__spec__", None):  # python -m package.module
    return spec.name
  file = getattr(main, "__file__", None)
  if file is None:  # an interactive session
    return None
  stem = pathlib.Path(file).stem
  try:
    found = importlib.util.find_spec(stem)
  except (ImportError, ValueError):
    return None
  same = found and found.origin and pathlib.Path(found.origin).samefile(file)
  return stem if same else None
