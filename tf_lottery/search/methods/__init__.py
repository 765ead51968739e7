"""Search methods: where the masks of the Levels come from.

A method is an object with one function, `draw`. It draws the ticket of each
Level at its scheduled density, and nothing else: how tickets are trained,
judged and shipped is the same for all methods. Weights are scored before any
training (`before_training.py`), in a training in which the density falls
(`within_training.py`), or after each training (`after_training.py`).
"""

import ast
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from tf_lottery.search.methods.after_training import EarlyBird
from tf_lottery.search.methods.after_training import Iterative
from tf_lottery.search.methods.after_training import early_bird
from tf_lottery.search.methods.after_training import iterative
from tf_lottery.search.methods.base import Method
from tf_lottery.search.methods.before_training import AtInit
from tf_lottery.search.methods.before_training import at_init
from tf_lottery.search.methods.within_training import Cycles
from tf_lottery.search.methods.within_training import cycles
from tf_lottery.search.methods.within_training import gradual

_BY_NAME: Mapping[str, Callable[..., Method]] = {
  "iterative": iterative,
  "gradual": gradual,
  "cycles": cycles,
  "early_bird": early_bird,
  "at_init": at_init,
}


def get(method: str | Method) -> Method:
  """Returns the method of a name; a method is returned as it is.

  Args:
    method: A method; its name, such as `"gradual"`; or a call as a text, such
      as `"cycles(8, 0.5)"` or `"iterative(steps='stable')"`, for configs and
      flags.

  Raises:
    TypeError: `method` is a function that must be called first.
    ValueError: There is no method of that name, or its arguments are wrong.

  >>> get("gradual") == gradual(), get("cycles(8, 0.5)") == cycles(8, 0.5)
  (True, True)
  """
  if isinstance(method, Method):
    return method
  if callable(method):
    name = getattr(method, "__name__", "method")
    raise TypeError(
      f"method must be what {name}(...) returns, got the function itself. Write"
      f" method={name}(...)."
    )
  name = str(method).partition("(")[0].strip()
  if name not in _BY_NAME:
    raise ValueError(
      f"method must be one of {', '.join(_BY_NAME)}, a call such as"
      f" 'cycles(8, 0.5)', or what such a function returns; got {method!r}."
    )
  arguments, keywords = _arguments(method)
  try:
    return _BY_NAME[name](*arguments, **keywords)
  except TypeError as error:
    raise ValueError(
      f"method={method!r} has arguments that {name} does not take: {error}"
    ) from None


def _arguments(method: str) -> tuple[list[Any], dict[str, Any]]:
  """Returns the arguments in the text of a call; a name alone has none."""
  try:
    call = ast.parse(method.strip(), mode="eval").body
  except SyntaxError as error:
    raise ValueError(
      f"method={method!r} cannot be read: {error.msg}. Write it as"
      " 'cycles(8, 0.5)'."
    ) from None
  match call:
    case ast.Name():
      return [], {}
    case ast.Call(func=ast.Name(), args=args, keywords=keywords):
      return (
        [_literal(method, argument) for argument in args],
        {str(k.arg): _literal(method, k.value) for k in keywords},
      )
  raise ValueError(
    f"method={method!r} is no call of one function. Write it as"
    " 'cycles(8, 0.5)'."
  )


def _literal(method: str, argument: ast.expr) -> Any:
  try:
    return ast.literal_eval(argument)
  except ValueError:
    raise ValueError(
      f"method={method!r} has the argument {ast.unparse(argument)}, which is no"
      " number, None or quoted text. A name needs quotes, as in"
      " \"at_init('snip')\"."
    ) from None


__all__ = [
  "AtInit",
  "Cycles",
  "EarlyBird",
  "Iterative",
  "Method",
  "at_init",
  "cycles",
  "early_bird",
  "get",
  "gradual",
  "iterative",
]
