import json

import pytest

from tf_lottery import cost
from tf_lottery.cost import Cost

DENSE = Cost(100, 6000, 3e9, 3e9)


def test_costs_add_up():
  assert Cost(1, 2, 3.0, 2.5) + Cost(10, 20, 30.0, 25.0) == Cost(
    11, 22, 33.0, 27.5
  )
  assert sum([DENSE, DENSE], Cost()) == Cost(200, 12000, 6e9, 6e9)
  assert Cost() + DENSE == DENSE + Cost() == DENSE


def test_scores_of_an_untrained_network_take_no_steps():
  scores = Cost(0, 60, 3e7, 3e7)
  assert scores.trainings(DENSE) == 0.01
  assert (scores + DENSE).trainings(DENSE) == 1.01


def test_a_sum_with_an_unknown_part_is_unknown():
  """Else it would look cheaper than it was."""
  earlier = Cost(steps=50)
  assert earlier + DENSE == DENSE + earlier == Cost(steps=150)
  assert (earlier + DENSE).trainings(DENSE) == 1.5
  uncounted = Cost(steps=50, examples=3000)
  assert uncounted + DENSE == Cost(150, 9000)


def test_the_unit_is_a_dense_training():
  part = Cost(50, 3000, 1.5e9, 0.3e9)
  assert part.trainings(DENSE) == 0.5
  assert part.sparse_trainings(DENSE) == 0.1
  # Another network costs what its FLOPs are, not its steps.
  assert Cost(100, 6000, 1.5e9, 1.5e9).trainings(DENSE) == 0.5


def test_steps_count_where_flops_are_unknown():
  assert Cost(steps=25).trainings(DENSE) == 0.25
  assert Cost(25, 1500, 1e9, 1e8).trainings(Cost(steps=100)) == 0.25
  assert Cost(25, 1500, 1e9, 1e8).sparse_trainings(Cost(steps=100)) == 0.25
  assert Cost().trainings(DENSE) == Cost().sparse_trainings(DENSE) == 0


def test_no_unit_and_negative_costs_are_refused():
  with pytest.raises(ValueError, match="at least one step; got Cost"):
    DENSE.trainings(Cost())
  with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
    Cost(-1)


def test_json_round_trip():
  uneven = Cost(3, 5, 1e17 / 3, 0.1)
  assert Cost.from_json(json.loads(json.dumps(uneven.to_json()))) == uneven
  assert list(uneven.to_json()) == [
    *("steps", "examples", "dense_flops", "sparse_flops")
  ]
  assert Cost.from_json({"steps": 7, "later": 1}) == Cost(steps=7)
  assert Cost.from_json(None) == Cost()


def test_a_training_step_is_three_forward_passes():
  assert cost.of_training(2, 10, 100.0, 40.0) == Cost(2, 10, 3000.0, 1200.0)
