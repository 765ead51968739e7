import dataclasses

import pytest

from tf_lottery.papers import claims as paper_claims
from tf_lottery.report import claims
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


NOISE = (0.0, 0.001, -0.001)
OTHER_NOISE = (0.0005, -0.0005, 0.0)


def sequence(tickets, reinits, dense=0.9, noise=NOISE):
  """Rounds of three replicates whose Levels have given means."""
  made = [round_("dense", 0, i, dense + e) for i, e in enumerate(OTHER_NOISE)]
  for method, values in (("ticket", tickets), ("random_reinit", reinits)):
    for level, value in values.items():
      made += [
        round_(method, level, i, value + e * (1 if method == "ticket" else -2))
        for i, e in enumerate(noise)
      ]
  return made


def found_words(made, tolerance=0.01, **changes):
  return {
    v.level: v.word for v in verdicts.verdicts(made, tolerance, **changes)
  }


def test_the_end_of_training_is_judged_unless_another_moment_is_asked_for():
  made = [
    dataclasses.replace(r, test_end=r.test_end - 0.1 * (r.method == "ticket"))
    for r in sequence({1: 0.91}, {})
  ]
  assert found_words(made) == found_words(made, when="end") == {1: "below"}
  assert found_words(made, when="early") == {1: "matching"}


def test_tickets_match_down_to_the_first_that_is_not_shown_to():
  made = sequence({1: 0.91, 2: 0.91, 3: 0.8905, 4: 0.91}, {})
  found = verdicts.verdicts(made, 0.01)
  assert [v.word for v in found] == [
    "matching",
    "matching",
    "cannot tell",
    "cannot tell",
  ]
  stopped, after = found[2:]
  assert stopped.reason == "replicates vary too much, or are too few"
  assert after.reason == "not tested: a larger ticket is not shown to match"
  # By itself it would pass.
  assert after.p_matching < 0.01
  assert {v.test for v in found} == {"paired t"}
  assert {(v.pairs, v.significance) for v in found} == {(3, 0.05)}


def test_tickets_are_tested_in_the_order_of_their_densities():
  made = sequence({1: 0.91, 2: 0.8905}, {})
  swapped = [
    dataclasses.replace(r, density={0: 1.0, 1: 0.2, 2: 0.5}[r.level])
    for r in made
  ]
  found = verdicts.verdicts(swapped, 0.01)
  assert [(v.level, v.reason) for v in found] == [
    (2, "replicates vary too much, or are too few"),
    (1, "not tested: a larger ticket is not shown to match"),
  ]


def test_levels_that_are_not_declared_do_not_stop_the_tests():
  # By themselves, Level 1 would stop the sequence, and Level 3 is below.
  made = sequence({1: 0.8905, 2: 0.91, 3: 0.8, 4: 0.91}, {2: 0.8, 4: 0.8})
  assert found_words(made)[4] == "cannot tell"
  found = verdicts.verdicts(made, 0.01, levels=(2, 4))
  assert [(v.level, v.word, v.to_test) for v in found] == [
    (1, "cannot tell", False),
    (2, "winning", True),
    (3, "cannot tell", False),
    (4, "winning", True),
  ]
  other = found[2]
  assert other.reason == "not tested: the experiment declares other Levels"
  assert other.difference == pytest.approx(-0.1)
  tests = (other.p_matching, other.p_below, other.p_reinit, other.needed)
  assert tests == (None, None, None, None)


def test_declared_levels_are_tested_in_sequence_and_below_by_themselves():
  made = sequence({1: 0.8905, 2: 0.8905, 3: 0.91, 4: 0.8}, {})
  found = verdicts.verdicts(made, 0.01, levels=(2, 3, 4))
  assert [(v.word, v.reason[:11]) for v in found] == [
    ("cannot tell", "not tested:"),
    ("cannot tell", "replicates "),
    ("cannot tell", "not tested:"),
    ("below", "below dense"),
  ]
  assert "a larger ticket is not shown to match" in found[2].reason
  assert (found[0].needed, found[1].needed > 3) == (None, True)


def test_a_ticket_after_the_stop_can_be_below():
  made = sequence({1: 0.8905, 2: 0.85}, {})
  assert found_words(made) == {1: "cannot tell", 2: "below"}
  made = sequence({1: 0.85, 2: 0.91}, {})
  assert found_words(made) == {1: "below", 2: "cannot tell"}


def test_tickets_win_up_to_the_first_that_is_not_better_than_its_reinits():
  tickets = {level: 0.91 for level in DENSITIES if level}
  reinits = {1: 0.8, 2: 0.9095, 4: 0.8}  # Level 3 has none
  found = verdicts.verdicts(sequence(tickets, reinits), 0.01)
  assert [(v.word, v.reason) for v in found] == [
    ("matching", "a smaller ticket is not shown to be better than reinits"),
    ("matching", "not shown to be better than its reinits"),
    ("matching", "no random reinit was trained"),
    ("winning", "as good as dense, better than its reinits"),
  ]
  assert found[0].p_reinit < 0.025


def test_a_small_ticket_that_does_not_match_does_not_stop_the_others():
  tickets = {1: 0.91, 2: 0.91, 3: 0.85}
  made = sequence(tickets, {2: 0.8, 3: 0.7})
  assert found_words(made) == {1: "matching", 2: "winning", 3: "below"}


def test_tickets_that_collapsed_do_not_stop_the_others():
  tickets = {1: 0.91, 2: 0.91, 3: 0.1, 4: 0.1}
  made = sequence(tickets, {1: 0.8, 2: 0.8, 3: 0.1, 4: 0.1})
  assert found_words(made) == {
    1: "winning",
    2: "winning",
    3: "below",
    4: "below",
  }


def test_the_two_sequences_share_the_five_percent():
  def significances(tickets, reinits):
    (first, *_) = verdicts.verdicts(sequence(tickets, reinits), 0.01)
    return first.significance, first.reinit_significance

  good, bad, worse = {1: 0.91, 2: 0.91}, {1: 0.91, 2: 0.89}, {1: 0.8, 2: 0.8}
  assert significances(good, worse) == (0.05, 0.05)
  assert significances(good, good) == (0.025, 0.05)  # all match
  assert significances(bad, worse) == (0.05, 0.025)  # all are better
  assert significances(bad, {1: 0.91}) == (0.025, 0.025)
  assert significances(bad, {}) == (0.05, 0.025)


def test_the_half_of_a_sequence_that_is_passed_whole_decides():
  """Of two pairs of a p value between 2.5 and 5 %."""
  dense, ticket = [0.9, 0.9, 0.9], [0.8982, 0.9, 0.9018]
  made = [
    *rounds(dense, ticket),
    *(round_("ticket", 2, i, 0.85 + i / 1000) for i in range(3)),
  ]
  (first, _) = verdicts.verdicts(made, 0.0037)
  assert 0.025 < first.p_matching < 0.05
  assert found_words(made, 0.0037) == {1: "matching", 2: "below"}
  tied = [round_("random_reinit", 2, i, 0.9 - i / 100) for i in range(3)]
  assert found_words([*made, *tied], 0.0037) == {1: "cannot tell", 2: "below"}
  beaten = [round_("random_reinit", 2, i, 0.5 - i / 100) for i in range(3)]
  assert found_words([*made, *beaten], 0.0037) == {1: "matching", 2: "below"}


def test_pairs_find_what_replicates_that_vary_more_than_tickets_hide():
  dense, ticket = [0.80, 0.85, 0.90, 0.95], [0.811, 0.859, 0.911, 0.962]
  assert word(dense, ticket) == "matching"
  (verdict,) = verdicts.verdicts(rounds(dense, ticket))
  assert (verdict.test, verdict.pairs) == ("paired t", 4)
  apart = [
    dataclasses.replace(r, replicate=r.replicate + 10 * r.level)
    for r in rounds(dense, ticket)
  ]
  (verdict,) = verdicts.verdicts(apart)
  assert (verdict.word, verdict.test, verdict.pairs) == (
    "cannot tell",
    "Welch",
    0,
  )


def test_replicates_may_have_stopped_at_different_levels():
  made = sequence({1: 0.91, 2: 0.91, 3: 0.91}, {3: 0.8})
  made = [r for r in made if (r.replicate, r.level) not in ((2, 3), (1, 3))]
  made = [r for r in made if (r.replicate, r.level) != (2, 2)]
  found = verdicts.verdicts(made, 0.01)
  assert [v.pairs for v in found] == [3, 2, 0]
  assert [v.n_ticket for v in found] == [3, 2, 1]
  assert found[2].reason == "1 replicate so far; a test needs at least 2"


def test_reinits_that_are_not_trained_yet_are_no_test_that_failed():
  made = sequence({1: 0.91, 2: 0.91}, {1: 0.8, 2: 0.8})
  made = [
    r
    for r in made
    if (r.method, r.level) != ("random_reinit", 2) or not r.replicate
  ]
  found = verdicts.verdicts(made, 0.01)
  assert [(v.word, v.reason) for v in found] == [
    ("winning", "as good as dense, better than its reinits"),
    ("matching", "its random reinits are too few, or do not vary"),
  ]


def test_a_ticket_that_diverged_is_not_left_out():
  lost = {"val_early": None, "test_early": None, "val_end": None}
  made = [
    dataclasses.replace(r, **lost)
    if (r.method, r.level, r.replicate) == ("ticket", 2, 1)
    else r
    for r in sequence({1: 0.91, 2: 0.91, 3: 0.91}, {})
  ]
  found = verdicts.verdicts(made, 0.01)
  assert [v.word for v in found] == ["matching", "cannot tell", "cannot tell"]
  assert found[1].reason == "1 ticket has no finite value"
  unfinished = [dataclasses.replace(r, done=bool(r.val_end)) for r in made]
  assert found_words(unfinished) == dict.fromkeys((1, 2, 3), "matching")


def test_verdicts_say_how_many_replicates_are_likely_to_be_enough():
  (verdict,) = verdicts.verdicts(
    rounds([0.9, 0.9, 0.9], [0.897, 0.9, 0.903]), 0.003
  )
  # The effect is one standard deviation: see the tables of the t test.
  assert (verdict.word, verdict.needed) == ("cannot tell", 8)
  (verdict,) = verdicts.verdicts(rounds([0.9, 0.9], [0.5, 0.91]), 0.003)
  assert (verdict.word, verdict.needed) == ("cannot tell", None)
  (verdict,) = verdicts.verdicts(rounds([0.9], [0.9]))
  assert verdict.needed is None
  (verdict,) = verdicts.verdicts(
    rounds([0.9, 0.91, 0.9], [0.95, 0.96, 0.951], [0.94, 0.96, 0.94])
  )
  assert (verdict.word, verdict.needed > 3) == ("matching", True)


@pytest.mark.parametrize(
  ("direction", "dense", "start", "tolerance"),
  [
    ("max", 0.9, 0.1, 0.008),  # accuracy
    ("max", 0.9, None, 0.009),
    ("min", 0.4, 2.4, 0.02),  # a cross-entropy
    ("min", 25.0, 4000.0, 1.25),  # a regression whose outputs start at 0
    ("min", -3.0, 1.0, 0.04),  # a negative log likelihood
    ("max", -1.0, -100.0, 0.05),  # a log likelihood
    ("min", 180.0, 10_000.0, 9.0),  # a perplexity
  ],
)
def test_the_default_tolerance_is_relative_to_what_training_gained(
  direction, dense, start, tolerance
):
  spread = abs(tolerance) / 100
  sign = 1 if direction == "max" else -1

  def one(difference):
    made = rounds(
      [dense, dense + spread, dense - spread],
      [dense + sign * difference * tolerance + e * spread for e in (0, 2, 1)],
      direction=direction,
      test_start=start,
    )
    (verdict,) = verdicts.verdicts(made)
    return verdict

  assert one(0).tolerance == pytest.approx(tolerance)
  assert one(-0.9).word == "matching"
  assert one(-1.1).word == "below"
  assert one(+5).word == "matching"


def test_a_tolerance_that_is_given_is_kept():
  made = rounds([0.9, 0.91, 0.89], [0.9, 0.91, 0.891], test_start=0.1)
  (verdict,) = verdicts.verdicts(made, 0.5)
  assert verdict.tolerance == 0.5
