"""Runs the Python of the README, one block after the other.

As a program it needs neither pytest nor this checkout's library, and takes a
user's own arrays. So it tells whether an installed wheel does what the README
says:

    python -I tests/readme.py
"""

import importlib.metadata
import pathlib
import re
import sys
from typing import Any

README = pathlib.Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
  """Returns the README's code blocks in a language."""
  text = README.read_text(encoding="utf-8")
  return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(train: tuple, validation: tuple) -> dict[str, Any]:
  """Runs the Python blocks in one namespace, which it returns.

  Args:
    train: The training images and labels, `(x, y)`; images of 8x8, 10 classes.
    validation: The same for validation.
  """
  names = dict(zip(("x", "y"), train, strict=True))
  names |= zip(("x_val", "y_val"), validation, strict=True)
  for block in blocks("python"):
    exec(compile(block, "README.md", "exec"), names)
  return names


def _main() -> None:
  import numpy as np

  x = np.random.default_rng(0).random((800, 8, 8), np.float32)
  y = x[:, 0].argmax(axis=-1)
  names = run((x[:600], y[:600]), (x[600:], y[600:]))
  library = names["tf_lottery"]
  installed = importlib.metadata.version("tf-lottery")
  if library.__version__ != installed:
    sys.exit(f"The version is {library.__version__}, installed: {installed}.")
  if not pathlib.Path(library.__file__).is_relative_to(sys.prefix):
    sys.exit(f"{library.__file__} is not installed in {sys.prefix}.")


if __name__ == "__main__":
  _main()
