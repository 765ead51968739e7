"""Two trainings from one step, in two orders of the data."""

import numpy as np
import pytest

from tests import small
from tests import spirals
from tf_lottery import analysis
from tf_lottery import report


@pytest.fixture(scope="module")
def result(tmp_path_factory):
  """Rewinds to step 150 of 600."""
  return spirals.search(tmp_path_factory.mktemp("spirals"), rewind="150it")


@pytest.fixture(scope="module")
def found(result):
  return analysis.instability(
    result, steps=(0, "7.5ep"), levels=(0, 1), points=7
  )


def test_the_order_decides_at_first_and_not_later(found):
  assert [(one.level, one.step) for one in found] == [
    (0, 0),
    (0, 150),
    (1, 0),
    (1, 150),
  ]
  at_init, later = found[0], found[1]
  assert not at_init.is_stable and later.is_stable
  assert at_init.barrier > 2 * at_init.threshold > 2 * later.barrier
  dense = result_gain(found)
  assert at_init.threshold == pytest.approx(0.02 * dense, abs=0.004)
  text = str(found)
  assert "from step" in text and "The barriers are of accuracy" in text


def result_gain(found):
  """What training gained: from one half of the points to all of them."""
  return found[0].line.values["accuracy"][0] - 0.5


def test_ends_of_lines_are_the_trainings(result, found):
  ticket = found[3]
  assert ticket.density == result.round(1).density
  first = ticket.line.values["accuracy"][0]
  # The first end is the Level's own Round, as it rewound to that step.
  assert first == pytest.approx(result.round(1).metrics["val_accuracy"])


def test_it_trains_once_and_nothing_is_traced_again(result, found):
  traces = result.trainer.traces
  again = analysis.instability(result, steps=(0, 150), levels=(0, 1), points=7)
  assert result.trainer.traces == traces
  for one, other in zip(found, again, strict=True):
    np.testing.assert_array_equal(
      one.line.values["accuracy"], other.line.values["accuracy"]
    )


def test_another_step_goes_on_from_an_earlier_one(result, found):
  (later,) = analysis.instability(result, steps=(300,), points=3)
  assert later.step == 300
  # The dense network is trained again from step 150 to step 300 alone.
  assert result.directory.denses()[300].read_record()["steps"] == 150


def test_the_search_is_as_it_was(result, found):
  assert [round_.level for round_ in result.rounds] == [0, 1]
  assert result.price()["controls"].steps == 0


def test_batch_normalisation_and_trained_starts(tmp_path):
  result = small.search(tmp_path, levels=1, rewind="finetune")
  train = result.protocol.train
  found = analysis.instability(
    result, steps=(6,), levels=(0, 1), points=2, statistics_data=train
  )
  assert all(one.barrier >= 0 for one in found)


def test_figures_are_drawn(found, tmp_path):
  lines = {f"from step {one.step}": one.line for one in found.measured[:2]}
  for paths in (
    report.draw_instability(found, tmp_path / "instability"),
    report.draw_lines(lines, "accuracy", tmp_path / "lines"),
  ):
    assert [path.suffix for path in paths] == [".svg", ".png"]
    assert all(path.stat().st_size > 1000 for path in paths)
  text = (tmp_path / "instability.svg").read_text()
  assert "dense network" in text and "80.0% of the weights" in text


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"steps": (600,)}, "from 0 to 599, before the end of the training; got"),
    ({"levels": (2,)}, "Levels 0, 1 are trained; got Level 2"),
    ({"points": 1}, "points must be at least 2, got 1"),
    ({"steps": ("soon",)}, "A step must be like"),
    ({"steps": ()}, "at least one step and one Level"),
  ],
)
def test_bad_arguments_are_refused(result, arguments, message):
  with pytest.raises(ValueError, match=message):
    analysis.instability(result, **{"points": 2, **arguments})


def test_nothing_to_draw_is_refused(tmp_path, found):
  with pytest.raises(ValueError, match="nothing to draw"):
    report.draw_instability([], tmp_path / "none")
  with pytest.raises(ValueError, match="are loss, accuracy; got 'auc'"):
    report.draw_lines({"one": found[0].line}, "auc", tmp_path / "none")
