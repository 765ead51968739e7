"""Each example proves its model, at a size that takes seconds."""

import dataclasses
import importlib.util
import pathlib
import sys

import pytest

import tf_lottery

EXAMPLES = sorted((pathlib.Path(__file__).parents[1] / "examples").glob("*.py"))


# MNIST-1D has eight controls, which take long.
PARAMETERS = [
  pytest.param(
    path,
    id=path.stem,
    marks=pytest.mark.slow if path.stem == "mnist_1d" else (),
  )
  for path in EXAMPLES
]


@pytest.fixture(params=PARAMETERS)
def example(request, monkeypatch):
  name = f"example_{request.param.stem}"
  spec = importlib.util.spec_from_file_location(name, request.param)
  module = importlib.util.module_from_spec(spec)
  monkeypatch.setitem(sys.modules, name, module)
  spec.loader.exec_module(module)
  return module


@pytest.mark.slow
def test_an_example_proves_its_model(example, tmp_path):
  small = dataclasses.replace(
    example.EXPERIMENT,
    epochs=None,
    steps=6,
    evaluate_every="3it",
    schedule=(0.5, 0.2),
    control_levels=(1,),
    replicates=2,
  )
  proof = tf_lottery.prove(small, tmp_path / "runs", progress=False)
  assert [verdict.level for verdict in proof.verdicts] == [1, 2]
  methods = {round_.method for round_ in proof.evidence.rounds}
  assert methods == {"dense", "ticket", *small.controls}
  assert not proof.evidence.unfinished
  page = proof.report(tmp_path / "report").paths[0]
  assert small.title in page.read_text(encoding="utf-8")
  model = proof.model(2)
  report = tf_lottery.export.to_keras(model, tmp_path / "ticket.keras")
  assert report.path.is_file()


def test_an_example_is_short(example):
  code = pathlib.Path(example.__file__).read_text(encoding="utf-8")
  _, _, rest = code.partition('"""\n\n')
  assert len([line for line in rest.splitlines() if line.strip()]) <= 60
