"""Copies of lottery-ready objects that are made from their configurations.

`clone_model()` makes a copy by `from_config(get_config())`. A configuration
holds no arrays, so it would lose the mask and the initial weights.
"""

import contextlib
import contextvars
import functools
import warnings
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

_HOOK = "get_config"
_quiet = contextvars.ContextVar("quiet", default=False)


class LiveConfig(dict):
  """A configuration with a reference to the object that it describes.

  `clone_model()` passes it on as it is. Saving, and copying it, keeps the
  entries only.

  Attributes:
    source: The object that the configuration describes.
  """

  def __init__(self, config: Mapping[str, Any], source: Any):
    super().__init__(config)
    self.source = source

  def __reduce__(self):
    return dict, (dict(self),)


def source_of(config: Mapping[str, Any]) -> Any:
  """Returns the described object, or None if the configuration was saved."""
  return getattr(config, "source", None)


@contextlib.contextmanager
def without_warning() -> Iterator[None]:
  """Allows to read configurations without a warning, within a `with`."""
  token = _quiet.set(True)
  try:
    yield
  finally:
    _quiet.reset(token)


def warn_of_copies(layer: Any) -> None:
  """Has a lottery-ready layer warn when its configuration is asked for."""
  if _HOOK in vars(layer):
    return
  plain = layer.get_config

  @functools.wraps(plain)
  def get_config():
    if not _quiet.get():
      warnings.warn(
        f"{layer.name!r} is lottery-ready, and a layer made from its"
        " configuration has neither mask nor initial weights: a model made by"
        " clone_model() is plain. Copy the model by copy.deepcopy(model), or"
        " make the clone ready by"
        " Ticket.from_model(model).apply(lottery_prune(clone)).",
        stacklevel=2,
      )
    return plain()

  # Into the dictionary itself: Keras would track what is set as an attribute.
  vars(layer)[_HOOK] = get_config


def stop_warning(layer: Any) -> None:
  """Undoes `warn_of_copies`."""
  vars(layer).pop(_HOOK, None)
