"""What `load_data` returns: the parts of the data of a replicate."""

from collections.abc import Mapping
from typing import Any


def parts(loaded: Any) -> dict[str, Any]:
  """Names the parts of the data that `load_data` returned.

  Args:
    loaded: (train, validation, test), (train, validation), or a dict with
      these keys.

  Returns:
    The parts as arguments of `find_ticket`: `train_data` and so on.

  Raises:
    ValueError: It is something else.
  """
  if isinstance(loaded, tuple | list) and 2 <= len(loaded) <= 3:
    named = dict(zip(("train", "validation", "test"), loaded, strict=False))
  elif isinstance(loaded, Mapping):
    named = dict(loaded)
  else:
    named = {}
  missing = {"train", "validation"} - named.keys()
  unknown = named.keys() - {"train", "validation", "test"}
  if missing or unknown or hasattr(named["train"], "shape"):
    kind = type(loaded).__name__
    if isinstance(loaded, tuple | list):
      kind += f" of {len(loaded)}: {[type(x).__name__ for x in loaded]}"
    elif isinstance(loaded, Mapping):
      kind += f" with the keys {sorted(map(str, loaded))}"
    raise ValueError(
      "load_data must return (train, validation, test) or (train, validation),"
      " each in a form that find_ticket takes, such as (x, y); or a dict with"
      f" the keys train, validation and, if there is any, test. Got a {kind}."
    )
  return {f"{name}_data": data for name, data in named.items()}
