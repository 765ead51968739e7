"""The looks of an experiment keep the error rate of a single one."""

import pytest

from scripts import simulate_looks as simulation
from scripts import simulate_verdicts

SIMULATIONS = 80
# 5 %, and three standard deviations of a rate over that many simulations.
NOMINAL = 0.05 + 3 * (0.05 * 0.95 / SIMULATIONS) ** 0.5


@pytest.fixture(scope="module")
def base():
  return simulate_verdicts.measured("lenet_fashion_mnist", 10_000)


def judged(setting, plan, simulations=SIMULATIONS):
  return [
    simulation.in_turns(setting, rounds, plan)
    for rounds in simulation.draws(setting, simulations, seed=1)
  ]


def test_looks_that_share_the_significance_keep_it(base):
  shared, full = simulation.plans()
  # Seven tickets match, and the eighth is as hard to tell as can be.
  setting = simulate_verdicts.nulls(base)[1]

  def wrong(plan):
    words = [words for words, _ in judged(setting, plan)]
    return simulate_verdicts.wrong(setting, words)

  assert wrong(shared) <= NOMINAL
  assert wrong(full) > wrong(shared)


def test_clear_tickets_need_few_replicates(base):
  shared, _ = simulation.plans()
  found = judged(base, shared, 15)
  assert simulation.power(base, [words for words, _ in found]) > 0.9
  assert sum(number for _, number in found) < 15 * 7


def test_the_fixed_number_is_interpolated(monkeypatch):
  monkeypatch.setattr(simulation, "FIXED", (3, 4, 6))
  powers = [0.2, 0.4, 0.8]
  assert simulation.as_powerful(0.1, powers) == 3
  assert simulation.as_powerful(0.3, powers) == pytest.approx(3.5)
  assert simulation.as_powerful(0.7, powers) == pytest.approx(5.5)
  assert simulation.as_powerful(0.9, powers) == float("inf")


def test_all_tables_are_written(monkeypatch):
  monkeypatch.setattr(simulation, "FIXED", (3, 12))
  text = simulation.document(simulations=2, seed=0)
  rows = [line for line in text.splitlines() if line.startswith("|")]
  assert len(rows) == (2 + 5) + (2 + 4) + (2 + 4) + (2 + 3 * 2)
  assert "| 4 | 1.67 % | 0.83 % |" in rows
