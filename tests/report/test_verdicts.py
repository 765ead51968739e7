import dataclasses
import warnings

import pytest
from scipy import stats

from tf_lottery.papers import claims as paper_claims
from tf_lottery.report import claims
from tf_lottery.report import comparisons
from tf_lottery.report import summaries
from tf_lottery.report import verdicts
from tf_lottery.report.records import RoundRecord

DENSITIES = {0: 1.0, 1: 0.5, 2: 0.2107, 3: 0.1352, 4: 0.0358}


def round_(method, level, replicate, value, *, draw=0, step=100, **changes):
  fields = {
    "run": f"run{replicate}",
    "experiment": "e",
    "replicate": replicate,
    "method": method,
    "draw": draw,
    "level": level,
    "density": DENSITIES[level],
    "steps": 200,
    "seconds": 1.0,
    "done": True,
    "monitor": "vaccine_mse",  # its name must not matter
    "direction": "max",
    "early_stop_step": step,
    "val_early": value,
    "test_early": value,
    "val_end": value,
    "test_end": value,
  }
  return RoundRecord(**{**fields, **changes})


def rounds(dense, ticket=(), reinit=(), level=1, **changes):
  return [
    *(round_("dense", 0, i, v, **changes) for i, v in enumerate(dense)),
    *(round_("ticket", level, i, v, **changes) for i, v in enumerate(ticket)),
    *(
      round_("random_reinit", level, i, v, **changes)
      for i, v in enumerate(reinit)
    ),
  ]


def word(*args, **changes):
  (verdict,) = verdicts.verdicts(rounds(*args, **changes))
  return verdict.word


@pytest.mark.parametrize("margin", [0.0, -0.5])
def test_welch_is_scipys_one_sided_test(margin):
  first, second = [3.1, 2.9, 3.4], [2.5, 2.8, 2.2, 2.6]
  shifted = [value + margin for value in second]
  expected = stats.ttest_ind(
    first, shifted, equal_var=False, alternative="greater"
  )
  assert comparisons.welch(first, second, margin) == pytest.approx(
    expected.pvalue
  )


@pytest.mark.parametrize(
  ("first", "second"),
  [
    ([0.9, 0.9], [0.8, 0.8]),
    ([0.0, 0.0], [0.0, 0.0]),
    ([0.9], [0.8, 0.8]),
    ([], [0.8, 0.8]),
  ],
)
def test_samples_that_do_not_vary_or_are_too_few_show_nothing(first, second):
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert comparisons.welch(first, second) is None


def test_one_sample_that_does_not_vary_is_tested_without_a_warning():
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert comparisons.welch([0.9, 0.9, 0.9], [0.8, 0.81, 0.79]) < 0.01


@pytest.mark.parametrize(
  ("dense", "ticket", "reinit", "expected"),
  [
    ([0.9, 0.901, 0.899], [0.91, 0.911, 0.909], [0.88, 0.881], "winning"),
    ([0.9, 0.901, 0.899], [0.91, 0.911, 0.909], [0.92, 0.921], "matching"),
    ([0.9, 0.901, 0.899], [0.91, 0.911, 0.909], [], "matching"),
    ([0.9, 0.901, 0.899], [0.91, 0.911, 0.909], [0.88], "matching"),
    ([0.9, 0.901, 0.899], [0.88, 0.881, 0.879], [0.8, 0.8], "below"),
    ([0.9, 0.92, 0.88], [0.89, 0.93, 0.87], [0.8, 0.81], "cannot tell"),
    ([0.9], [0.95, 0.951], [0.8, 0.81], "cannot tell"),
    ([0.9, 0.9], [0.95, 0.95], [0.8, 0.8], "cannot tell"),
  ],
)
def test_words(dense, ticket, reinit, expected):
  assert word(dense, ticket, reinit) == expected


def test_one_replicate_is_said_to_be_too_few():
  (verdict,) = verdicts.verdicts(rounds([0.9], [0.95]))
  assert verdict.word == "cannot tell"
  assert verdict.reason == "1 replicate so far; a test needs at least 2"
  assert verdict.p_matching is None
  assert verdict.difference == pytest.approx(0.05)


def test_of_a_loss_less_is_better():
  low, high = [0.3, 0.301, 0.299], [0.4, 0.401, 0.399]
  assert word(high, low, high, direction="min") == "winning"
  assert word(low, high, high, direction="min") == "below"
  (verdict,) = verdicts.verdicts(rounds(high, low, direction="min"))
  assert verdict.difference == pytest.approx(-0.1)


def test_a_metric_without_a_direction_is_refused():
  unknown = rounds([0.9], [0.9], direction=None)
  with pytest.raises(ValueError, match="'vaccine_mse' is better, got no direc"):
    verdicts.verdicts(unknown)
  with pytest.raises(ValueError, match=r"better, got \['max', 'min'\]"):
    verdicts.verdicts([*rounds([0.9]), *rounds([0.9], direction="min")])


def test_a_run_that_does_not_know_the_direction_follows_the_others():
  old = rounds([0.4, 0.41], [0.3, 0.31], direction=None)
  new = rounds([0.4, 0.41], [0.3, 0.31], direction="min")
  (verdict,) = verdicts.verdicts([*old, *new])
  assert verdict.word == "matching"


@pytest.mark.parametrize("tolerance", [-0.1, float("nan")])
def test_a_tolerance_must_not_be_negative(tolerance):
  with pytest.raises(ValueError, match="tolerance must be at least 0, got"):
    verdicts.verdicts([], tolerance)


def test_draws_are_averaged_within_a_replicate_first():
  several = [
    round_("random_reinit", 1, 0, 0.2, draw=0),
    round_("random_reinit", 1, 0, 0.4, draw=1),
    round_("random_reinit", 1, 1, 0.9, draw=0),
  ]
  (row,) = summaries.summarise(several, "test_early")
  assert (row.low, row.high, row.n, row.draws) == (0.2, 0.9, 2, 3)
  assert row.mean == pytest.approx((0.3 + 0.9) / 2)


def test_only_what_is_done_counts():
  unfinished = round_("ticket", 1, 1, 0.1, done=False)
  rows = summaries.summarise([*rounds([0.9], [0.8]), unfinished], "test_early")
  assert [(row.method, row.mean) for row in rows] == [
    ("dense", 0.9),
    ("ticket", 0.8),
  ]


def test_without_test_data_validation_is_compared():
  tested = rounds([0.9])
  untested = rounds([0.9], test_early=None, test_end=None)
  assert summaries.measure_at("early", tested) == "test_early"
  assert summaries.measure_at("end", untested) == "val_end"
  with pytest.raises(ValueError, match="must be 'early' or 'end', got 'now'"):
    summaries.measure_at("now", tested)


def words(found):
  return {(f.claim.sentence.split(",")[0], f.measure): f.word for f in found}


def test_a_faithful_lenet_bears_out_the_claims():
  noise = (0.0, 0.001, -0.001)
  values = {
    ("dense", 0): (0.9, 500),
    ("ticket", 2): (0.91, 300),
    ("ticket", 3): (0.915, 300),
    ("ticket", 4): (0.902, 450),
    ("random_reinit", 2): (0.89, 500),
    ("one_shot", 1): (0.905, 500),
    ("shuffled_mask", 2): (0.88, 500),
  }
  made = [
    round_(method, level, i, value + e, step=step + 10 * i)
    for (method, level), (value, step) in values.items()
    for i, e in enumerate(noise)
  ]
  made += [round_("ticket", 1, i, 0.9 + e) for i, e in enumerate(noise)]
  found = claims.findings(made, paper_claims.LENET)
  assert {f.word for f in found} == {"holds"}
  # No random mask was trained, and no one-shot ticket as small as 5.17 %.
  assert len(found) == 1 + 2 * 5
  assert found[0].measure == "early_stop_step"
  assert (found[0].level, found[0].first, found[0].second) == (2, 310, 510)


def test_a_claim_can_fail_or_stay_open():
  failing = rounds([0.9, 0.901], [0.8, 0.801], [0.95, 0.951], level=2)
  found = words(claims.findings(failing, paper_claims.LENET))
  assert found["Random reinits are worse than dense", "test_early"] == (
    "does not hold"
  )
  single = rounds([0.9], [0.8], [0.95], level=2)
  found = words(claims.findings(single, paper_claims.LENET))
  assert set(found.values()) == {"cannot tell"}


def test_a_claim_at_no_such_density_is_left_out():
  made = rounds([0.9, 0.9], [0.9, 0.9], level=1)
  found = claims.findings(made, paper_claims.LENET)
  assert found == []


def test_one_bad_level_decides_about_a_range():
  made = rounds([0.9, 0.901], [0.9, 0.901], level=1)
  made += [round_("one_shot", 1, i, 0.91 + i / 1000) for i in range(2)]
  made += [round_("ticket", 3, i, 0.9) for i in range(2)]
  made += [round_("one_shot", 3, i, 0.8 + i / 1000) for i in range(2)]
  (claim,) = (c for c in paper_claims.LENET if c.first == "one_shot")
  found = claims.findings(made, [claim])
  assert found == []  # the range was not gone through
  reached = dataclasses.replace(claim, densities=(0.95, DENSITIES[3]))
  found = claims.findings(made, [reached])
  assert [(f.word, f.level) for f in found] == [("does not hold", 3)] * 2
