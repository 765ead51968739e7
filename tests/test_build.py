"""BUILD says what the imports say, and imports point to lower rooms.

BUILD is written in Python's syntax, so it is read as the sources are: by
`ast`, with nothing imported. A failure prints the line or stanza to paste.
"""

import ast
import graphlib
import json
import os
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# A module may import from its own row, without a cycle, and from those above.
ROOMS = (
  (
    "coding",
    "files",
    "masks",
    "metrics",
    "patterns",
    "prunable",
    "rundir",
    "schedules",
    "text_table",
  ),
  (
    "wrappers",
    "wrappers.binding",
    "wrappers.holding",
    "wrappers.keras2",
    "wrappers.keras2_gradual",
    "wrappers.keras2_lottery",
    "wrappers.keras3",
    "wrappers.keras3_lottery",
  ),
  (
    "augmentation",
    "criteria",
    "data",
    "distribution",
    "evaluation",
    "rewinding",
    "scopes",
  ),
  ("tickets", "training"),
  (
    "analysis",
    "controls",
    "declarations",
    "export",
    "export.channels",
    "export.compaction",
    "export.exportable",
    "export.keras_file",
    "export.layer_calls",
    "export.prediction",
    "export.quiet",
    "export.reports",
    "export.runtimes",
    "export.saved_model",
    "export.saved_model_graph",
    "export.saved_model_weights",
    "export.signatures",
    "export.tflite",
    "export.tflite_advice",
    "export.tflite_converter",
    "export.tflite_csr",
    "export.tflite_encoding",
    "export.tflite_flatbuffer",
    "export.verification",
    "export.weight_names",
    "legs",
    "levels",
    "results",
    "rounds",
    "search",
  ),
  ("datasets", "experiments", "networks", "sweeps", "workloads"),
  (
    "index",
    "report",
    "report.claims",
    "report.drawing",
    "report.evidence",
    "report.figures",
    "report.gallery",
    "report.summaries",
    "report.tables",
    "report.verdicts",
    "report.wording",
    "trials",
  ),
  ("tf_lottery",),  # the public names
)

# What pip calls a package whose name to import is another.
DISTRIBUTIONS = {
  "absl": ["absl_py"],
  "sklearn": ["scikit_learn"],
  # It imports importlib_resources, and does not declare it.
  "tensorflow_datasets": ["importlib_resources", "tensorflow_datasets"],
}

RULES = ("py_binary", "py_library", "py_test")

# Run in a fresh process. What TensorFlow and Keras change and load is their
# own: they are imported before the comparison starts.
IMPORT_ALONE = """
import json
import os
import sys

import keras
import tensorflow

before = dict(os.environ)
loaded_before = set(sys.modules)

import tf_lottery

heavy = [
  "matplotlib",
  "tensorflow_datasets",
  "tensorflow_model_optimization",
  "tf_keras",
]
print(json.dumps({
  "changed": sorted(set(before.items()) ^ set(os.environ.items())),
  "loaded": sorted(set(heavy) & (set(sys.modules) - loaded_before)),
}))
"""


def _sources() -> list[str]:
  """Every module, script and test, as a path from the top."""
  return sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("scripts", "tests", "tf_lottery")
    for path in (ROOT / folder).rglob("*.py")
  )


def _dotted(source: str) -> str:
  return source.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


SOURCES = _sources()
SOURCE_OF = {_dotted(source): source for source in SOURCES}
LIBRARY = [source for source in SOURCES if source.startswith("tf_lottery/")]


def _target(source: str) -> str:
  """`tf_lottery/wrappers/keras3.py` is `wrappers/keras3` in BUILD."""
  return _dotted(source).replace(".", "/").removeprefix("tf_lottery/")


def _imported(text: str) -> Iterator[tuple[str, int]]:
  """The dotted names that a source imports, each with its line.

  Those count that are imported inside a function, by `import_module` or
  `importorskip`, by a program held in a string, for another process, or by
  the path of their source, as configs are.
  """
  tree = ast.parse(text)
  parts = {  # of f-strings: no whole programs
    part
    for node in ast.walk(tree)
    if isinstance(node, ast.JoinedStr)
    for part in node.values
  }
  for node in ast.walk(tree):
    match node:
      case ast.Import(names=names):
        yield from ((alias.name, node.lineno) for alias in names)
      case ast.ImportFrom(module=package, names=names, level=0):
        yield from ((f"{package}.{alias.name}", node.lineno) for alias in names)
      case ast.ImportFrom():
        raise ValueError(f"line {node.lineno}: import by the full name")
      case ast.Call(
        func=ast.Attribute(attr=function) | ast.Name(function),
        args=[argument, *_],
      ) if function in ("import_module", "importorskip"):
        # A name in a variable is always that of a Keras generation.
        names = ["keras", "tf_keras"]
        if isinstance(argument, ast.Constant):
          names = [argument.value]
        yield from ((name, node.lineno) for name in names)
      case ast.Constant(str(path)) if path in SOURCES:
        yield _dotted(path), node.lineno
      case ast.Constant(str(program)) if node not in parts:
        try:
          inner = list(_imported(textwrap.dedent(program)))
        except (SyntaxError, ValueError):  # prose
          continue
        yield from ((name, node.lineno) for name, _ in inner)


def _labels(name: str, source: str) -> list[str]:
  """The BUILD labels of an imported dotted name; none for the stdlib's."""
  top = name.partition(".")[0]
  beside = f"{source.rpartition('/')[0].replace('/', '.')}.{top}"
  while name and name not in SOURCE_OF:
    name = name.rpartition(".")[0]
  if name:
    return [f":{_target(SOURCE_OF[name])}"]
  if beside in SOURCE_OF and not source.startswith("tf_lottery/"):
    return [f":{_target(SOURCE_OF[beside])}"]
  if top in sys.stdlib_module_names:
    return []
  return [f"@pypi//{package}" for package in DISTRIBUTIONS.get(top, [top])]


def _dependencies(source: str) -> dict[str, int]:
  """The labels that a source depends on, each with a line that says so."""
  found = {}
  try:
    for name, line in _imported((ROOT / source).read_text(encoding="utf-8")):
      for label in _labels(name, source):
        found.setdefault(label, line)
  except ValueError as error:
    pytest.fail(f"{source}, {error}.", pytrace=False)
  if _rule(source) == "py_test":  # what pytest itself needs
    found.setdefault("@pypi//pytest", 1)
    if "tests.conftest" in SOURCE_OF:
      found.setdefault(":tests/conftest", 1)
  found.pop(f":{_target(source)}", None)
  return dict(sorted(found.items()))


def _rule(source: str) -> str:
  folder, _, name = source.rpartition("/")
  if source.startswith("tests/") and name.startswith("test_"):
    return "py_test"
  is_script = folder == "scripts" and name != "__init__.py"
  return "py_binary" if is_script else "py_library"


def _expected(source: str) -> dict[str, object]:
  attributes = {"name": _target(source), "srcs": [source]}
  if _rule(source) == "py_test":
    attributes |= {"args": [source], "main_module": "pytest"}
  return attributes | {"deps": list(_dependencies(source))}


def _stanza(source: str) -> str:
  """The target of a source, as `buildifier` would lay it out."""
  attributes = _expected(source)
  if _rule(source) == "py_test":
    attributes["data"] = ["pyproject.toml"]
  order = ["name", "srcs", "args", "data", "main_module", "deps"]
  lines = [f"{_rule(source)}("]
  for key in sorted(attributes, key=order.index):
    value = attributes[key]
    if isinstance(value, list) and len(value) > 1:
      lines += [f"    {key} = ["]
      lines += [f'        "{item}",' for item in value]
      lines += ["    ],"]
    elif value:
      lines += [f"    {key} = {json.dumps(value)},"]
  return "\n".join([*lines, ")"])


def _declared() -> list[tuple[str, dict[str, object]]]:
  """The targets in BUILD: the rule of each, and what it says in literals."""
  targets = []
  for statement in ast.parse((ROOT / "BUILD").read_text("utf-8")).body:
    match statement:
      case ast.Expr(ast.Call(func=ast.Name(rule), keywords=keywords)) if (
        rule in RULES
      ):
        checked = ("args", "deps", "main_module", "name", "srcs")
        attributes = {
          keyword.arg: ast.literal_eval(keyword.value)
          for keyword in keywords
          if keyword.arg in checked
        }
        targets.append((rule, {"deps": []} | attributes))
  return targets


@pytest.mark.parametrize("source", SOURCES)
def test_target_equals_imports(source):
  target = _target(source)
  stanza = f'The stanza of "{target}" in BUILD should be:\n\n{_stanza(source)}'
  found = [item for item in _declared() if item[1]["name"] == target]
  if len(found) != 1:
    pytest.fail(
      f'{source} has {len(found)} targets named "{target}", not one.\n{stanza}',
      pytrace=False,
    )
  rule, declared = found[0]
  real = _dependencies(source)
  problems = [
    f'{source}:{line} needs {label}: add this line to deps of "{target}":\n'
    f'        "{label}",'
    for label, line in real.items()
    if label not in declared["deps"]
  ]
  problems += [
    f'"{target}" has the dep "{label}", which {source} does not import:'
    " remove that line."
    for label in declared["deps"]
    if label not in real
  ]
  declared["deps"] = sorted(declared["deps"])
  if not problems and (rule, declared) != (_rule(source), _expected(source)):
    problems.append(f'"{target}" is a {rule} that says {declared}.')
  if problems:
    pytest.fail("\n".join([*problems, stanza]), pytrace=False)


def test_every_target_has_its_source():
  known = {_target(source) for source in SOURCES}
  strays = [
    attributes["name"]
    for _, attributes in _declared()
    if attributes["name"] not in known
  ]
  assert not strays, f"BUILD has targets without a source; remove {strays}."


def _room(label: str) -> int:
  """The number of the room that a label of the library stands in."""
  module = label.removeprefix(":").replace("/", ".")
  for number, room in enumerate(ROOMS):
    if module in room:
      return number
  pytest.fail(
    f'the module "{module}" is in no room: add it to ROOMS in'
    " tests/test_build.py, to the first row that is not above any of its"
    " imports.",
    pytrace=False,
  )


@pytest.mark.parametrize("source", LIBRARY)
def test_imports_point_to_lower_rooms(source):
  room = _room(_target(source))
  for label, line in _dependencies(source).items():
    if label.startswith(":") and _room(label) > room:
      pytest.fail(
        f"{source}:{line} (room {room}) imports {label[1:]} (room"
        f" {_room(label)}). Imports point to lower rooms: move what is needed"
        " down, or pass it as an argument.",
        pytrace=False,
      )


def test_imports_have_no_cycle():
  graph = {
    f":{_target(source)}": [
      label for label in _dependencies(source) if label.startswith(":")
    ]
    for source in SOURCES
  }
  cycle = None
  try:
    graphlib.TopologicalSorter(graph).prepare()
  except graphlib.CycleError as error:
    cycle = " <- ".join(error.args[1])
  assert not cycle, f"Each of these is imported by the next: {cycle}."


@pytest.mark.parametrize("module", ROOMS[0])
def test_values_know_nothing_of_tensorflow(module):
  source = SOURCE_OF[f"tf_lottery.{module}"]
  packages = {label for label in _dependencies(source) if label.startswith("@")}
  allowed = {"@pypi//numpy", "@pypi//safetensors"}
  assert packages <= allowed, f"{source} is in room 0: no {packages - allowed}."


def test_the_import_of_the_package_changes_nothing():
  search = os.pathsep.join([str(ROOT), *sys.path])
  done = subprocess.run(
    [sys.executable, "-c", IMPORT_ALONE],
    env=os.environ | {"PYTHONPATH": search},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout) == {"changed": [], "loaded": []}


def test_hidden_imports_are_seen():
  # "fetch" keeps these from being imports of this test.
  text = """
def function():
  from tf_lottery fetch masks

  importlib.fetch_module(request.param)
importlib.fetch_module("tf_lottery.files")
pytest.fetchorskip("matplotlib")
program = "fetch json"
path = "tf_lottery/" "data.py"
f"{before} fetch prose"
"""
  found = [name for name, _ in _imported(text.replace("fetch", "import"))]
  assert sorted(found) == [
    "json",
    "keras",
    "matplotlib",
    "tf_keras",
    "tf_lottery.data",
    "tf_lottery.files",
    "tf_lottery.masks",
  ]
