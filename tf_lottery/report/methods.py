"""Search methods in words, as declarations name them."""

from collections.abc import Mapping
from typing import Any

from tf_lottery.report import run_folders

# What a sentence calls the classes that declarations name.
_NAMES = {
  "Cycles": "cycles",
  "EarlyBird": "early-bird",
  "Iterative": "iterative",
}


def words(run: run_folders.Run) -> str:
  """Says how a run searches, as its declarations do.

  Returns:
    Such as `"iterative"`, `"gradual, 0.1 of a training"`, `"8 cycles of 0.25"`,
    `"at initialisation: snip"`, `"within 4 trainings"`.
  """
  if budget := _budget(run):
    return f"within {budget:g} trainings"
  name, fields = _method(run)
  kind, length = family(run), _length(fields.get("steps"))
  if name == "AtInit":
    rounds = fields.get("rounds", 1)
    return kind + f", {rounds} rounds" * (rounds > 1)
  if name == "Cycles" and kind == "cycles":
    each = length.removesuffix(" of a training") or "1"
    return f"{fields['n']} cycles of {each}"
  if length or name in (*_NAMES, ""):
    return ", ".join(filter(None, [kind, length]))
  # A method of the user's own.
  settings = [f"{k} {v}" for k, v in fields.items() if v is not None]
  return ", ".join([kind, *settings])


def with_choice(run: run_folders.Run) -> str:
  """Says the same, and whether Levels are chosen by bisection."""
  chosen = run.experiment_declaration.get("choose", run.outcome.get("choose"))
  return words(run) + ", by bisection" * (chosen == "bisect")


def family(run: run_folders.Run) -> str:
  """Returns what methods are called that differ by how much they train."""
  if _budget(run):
    return "within a budget"
  name, fields = _method(run)
  if name == "AtInit":
    return f"at initialisation: {_plain(fields.get('criterion'))}"
  if name == "Cycles" and fields.get("n") == 1:
    return "gradual"
  return _NAMES.get(name, name.replace("_", " ") or "iterative")


def _budget(run: run_folders.Run) -> float | None:
  declared = run.experiment_declaration.get("budget")
  return run.outcome.get("budget") if declared is None else declared


def _method(run: run_folders.Run) -> tuple[str, Mapping[str, Any]]:
  """Returns the name of the method's class, and its fields.

  The declaration of a run leaves out the default.
  """
  method = run.experiment_declaration.get("method")
  if not isinstance(method, Mapping):
    # By its name alone: the run's own declaration says what that stands for.
    method = run.declaration.get("method") or {}
  name = method.get("@class", method.get("name")) or ""
  fields = {k: v for k, v in method.items() if k not in ("@class", "name")}
  return _last(str(name)), fields


def _length(steps: Any) -> str:
  """Writes the length of a training, which may be of several forms."""
  if steps is None:
    return ""
  if isinstance(steps, float):
    return f"{steps:g} of a training"
  return f"{steps:,} steps" if isinstance(steps, int) else str(steps)


def _plain(value: Any) -> str:
  """Writes a name, or that of a function as JSON holds it."""
  if isinstance(value, Mapping):
    value = value.get("@function", value.get("name", "custom"))
  return _last(str(value))


def _last(name: str) -> str:
  return name.rpartition(":")[2].rpartition(".")[2]
