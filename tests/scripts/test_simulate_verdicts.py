"""The real verdicts keep their error rate on experiments of known truth."""

import dataclasses

import pytest

from scripts import simulate_verdicts as simulation

SIMULATIONS = 150
# 5 %, and three standard deviations of a rate over that many simulations.
NOMINAL = 0.05 + 3 * (0.05 * 0.95 / SIMULATIONS) ** 0.5


@pytest.fixture(scope="module")
def base():
  return simulation.measured("lenet_fashion_mnist", 10_000)


@pytest.mark.parametrize("number", range(5))
def test_any_word_is_wrong_in_at_most_one_of_twenty(base, number):
  setting = simulation.nulls(base)[number]
  found = simulation.simulate(setting, 3, SIMULATIONS, seed=number)
  words = list(map(simulation.in_sequence, found))
  assert simulation.wrong(setting, words) <= NOMINAL


def test_each_level_by_itself_did_not_keep_it(base):
  """So the test above can fail."""
  setting = simulation.nulls(base)[0]
  found = simulation.simulate(setting, 3, 100, seed=0)
  words = list(map(simulation.by_itself, found))
  assert simulation.wrong(setting, words) > 3 * NOMINAL


def test_replicates_that_have_more_in_common_show_more(base):
  def shown(correlation):
    setting = dataclasses.replace(base, correlation=correlation)
    found = simulation.simulate(setting, 3, 100, seed=0)
    return sum(len(simulation.in_sequence(one)) for one in found)

  assert shown(0.9) > 1.2 * shown(0.0)


def test_the_truth_is_what_was_measured(base):
  assert base.dense == pytest.approx(0.88477, abs=1e-5)
  assert base.density[20] == pytest.approx(0.0119, abs=1e-4)
  assert list(base.reinit) == [3, 7, 9, 15, 20]
  assert base.is_true(15, "winning")
  assert not base.is_true(3, "winning")
  assert base.is_true(3, "matching")
  assert not base.is_true(20, "matching")


def test_both_tables_are_written(monkeypatch):
  monkeypatch.setattr(simulation, "REPLICATES", (2,))
  text = simulation.document(simulations=2, seed=0)
  rows = [line for line in text.splitlines() if line.startswith("|")]
  assert len(rows) == (2 + 5) + (2 + 4 * 2)
  assert "\n\n| truth | replicates | sequence, paired |" in text
