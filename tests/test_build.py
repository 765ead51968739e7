"""Each library of BUILD depends on what its sources import, and on no more.

Neither Bazel nor import-linter sees that. BUILD is written in Python's syntax,
so it is read by `ast`, as the sources are.
"""

import ast
import pathlib
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What pip calls a package that is imported by another name.
DISTRIBUTIONS = {
  "absl": {"absl_py"},
  "ai_edge_litert": set(),  # an extra that is used where it is installed
  "sklearn": {"scikit_learn"},
  "tensorboard": set(),  # likewise
  # It imports importlib_resources, and does not declare it.
  "tensorflow_datasets": {"importlib_resources", "tensorflow_datasets"},
}


def libraries() -> dict[str, tuple[list[pathlib.Path], set[str]]]:
  """The sources and the dependencies of each library of the package."""
  found = {}
  for statement in ast.parse((ROOT / "BUILD").read_text("utf-8")).body:
    match statement:
      case ast.Expr(ast.Call(ast.Name("py_library"), keywords=keywords)):
        given = {keyword.arg: keyword.value for keyword in keywords}
        name = ast.literal_eval(given["name"])
        if name not in ("scripts", "tests"):
          srcs = given["srcs"]
          patterns = ast.literal_eval(
            srcs.args[0] if isinstance(srcs, ast.Call) else srcs
          )
          sources = [path for p in patterns for path in ROOT.glob(p)]
          deps = ast.literal_eval(given.get("deps", ast.List([])))
          found[name] = (sources, set(deps))
  return found


def imported(source: pathlib.Path) -> Iterator[str]:
  """The dotted names that a source imports, also inside of functions."""
  for node in ast.walk(ast.parse(source.read_text("utf-8"))):
    match node:
      case ast.Import(names=names):
        yield from (alias.name for alias in names)
      case ast.ImportFrom(module=package, names=names):
        yield from (f"{package}.{alias.name}" for alias in names)
      case ast.Call(
        ast.Attribute(attr="import_module"), [ast.Constant(str(name)), *_]
      ):
        yield name


LIBRARIES = libraries()
HOME = {
  path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): name
  for name, (sources, _) in LIBRARIES.items()
  for path in sources
}


def labels(name: str) -> set[str]:
  """The labels that an imported name stands for; none for Python's own."""
  top = name.partition(".")[0]
  if top == "tf_lottery":
    while name and name not in HOME and f"{name}.__init__" not in HOME:
      name = name.rpartition(".")[0]
    return {f":{HOME.get(name) or HOME[f'{name}.__init__']}"}
  if top in sys.stdlib_module_names:
    return set()
  return {f"@pypi//{one}" for one in DISTRIBUTIONS.get(top, {top})}


def test_every_source_is_in_one_library():
  sources = [path for found, _ in LIBRARIES.values() for path in found]
  assert sorted(sources) == sorted(ROOT.glob("tf_lottery/**/*.py"))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_depends_on_what_it_imports(library):
  sources, deps = LIBRARIES[library]
  names = {name for source in sources for name in imported(source)}
  needed = set().union(*map(labels, names)) - {f":{library}"}
  missing, idle = sorted(needed - deps), sorted(deps - needed)
  assert not missing, f"Add to the deps of {library} in BUILD: {missing}."
  assert not idle, f"Remove from the deps of {library} in BUILD: {idle}."
