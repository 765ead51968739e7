"""Packages that only some parts of the library need.

They are not installed with the core; pyproject.toml lists them as extras.
"""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needs(extra: str, part: str) -> Iterator[None]:
  """Says which extra to install if an import in the block finds no package.

  Args:
    extra: The extra of pyproject.toml that installs the packages.
    part: The part of the library that needs them: the subject of the message.

  Raises:
    ImportError: A package is not installed.

  Example:
  ```python
  with needs("report", "The report"):
    import matplotlib
  ```
  """
  try:
    yield
  except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] == "tf_lottery":
      raise
    raise ImportError(
      f"{part} needs {error.name}, which is not installed:"
      f" pip install 'tf-lottery[{extra}]'."
    ) from error
