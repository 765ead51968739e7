import pytest

from tests import runs
from tf_lottery.experiments.experiment import Experiment
from tf_lottery.report import evidence
from tf_lottery.report import methods
from tf_lottery.report import run_folders
from tf_lottery.report import tables
from tf_lottery.search import declarations
from tf_lottery.search.methods import at_init
from tf_lottery.search.methods import cycles
from tf_lottery.search.methods import early_bird
from tf_lottery.search.methods import gradual
from tf_lottery.search.methods import iterative


def declared(tmp_path, **fields):
  """A run of an experiment that declares these fields."""
  experiment = Experiment(make_model="m:m", load_data="d:d", steps=1, **fields)
  experiment.declare(tmp_path)
  runs.write_run(tmp_path / "replicate_00", {})
  return run_folders.Run.at(tmp_path / "replicate_00")


CASES = [
  (iterative(), "iterative", "iterative"),
  (iterative(0.1), "iterative, 0.1 of a training", "iterative"),
  (iterative("stable"), "iterative, stable", "iterative"),
  (gradual(), "gradual", "gradual"),
  (gradual(0.1), "gradual, 0.1 of a training", "gradual"),
  (gradual(1000), "gradual, 1,000 steps", "gradual"),
  (cycles(8, 0.25), "8 cycles of 0.25", "cycles"),
  (cycles(3), "3 cycles of 0.5", "cycles"),
  (cycles(3, None), "3 cycles of 1", "cycles"),
  (cycles(3, "2ep"), "3 cycles of 2ep", "cycles"),
  (early_bird(), "early-bird", "early-bird"),
  (at_init("snip"), "at initialisation: snip", "at initialisation: snip"),
  (
    at_init("synflow", 100),
    "at initialisation: synflow, 100 rounds",
    "at initialisation: synflow",
  ),
]


@pytest.mark.parametrize(("method", "words", "family"), CASES)
def test_a_method_in_words(tmp_path, method, words, family):
  run = declared(tmp_path, method=method)
  assert (methods.words(run), methods.family(run)) == (words, family)


@pytest.mark.parametrize(("method", "words", "family"), CASES[1:])
def test_a_run_without_an_experiment_has_the_same_words(
  tmp_path, method, words, family
):
  directory = runs.write_run(tmp_path, {})
  plain = declarations.plain(method)
  directory.write_declaration({**directory.read_declaration(), "method": plain})
  run = run_folders.Run.at(tmp_path)
  assert (methods.words(run), methods.family(run)) == (words, family)


def test_a_budget_and_a_choice_in_words(tmp_path):
  run = declared(tmp_path / "budget", budget=4)
  assert methods.words(run) == methods.with_choice(run) == "within 4 trainings"
  assert methods.family(run) == "within a budget"
  (found,) = evidence.gather([run.path])
  facts = dict(tables.declaration(found).rows)
  assert facts["method"] == "within 4 trainings"
  assert not {"declared method", "declared choose"} & set(facts)
  run = declared(tmp_path / "bisect", method=gradual(0.1), choose="bisect")
  assert methods.words(run) == "gradual, 0.1 of a training"
  assert methods.with_choice(run) == methods.words(run) + ", by bisection"


def test_early_runs_were_iterative(tmp_path):
  runs.write_run(tmp_path, {})
  assert methods.words(run_folders.Run.at(tmp_path)) == "iterative"
