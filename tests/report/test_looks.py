"""Looks: what they show, whether they are settled, and what a report says."""

import json
import shutil

import pytest

from tests import runs
from tests.report.test_verdicts import rounds
from tf_lottery import report
from tf_lottery.report import evidence
from tf_lottery.report import headlines
from tf_lottery.report import looks
from tf_lottery.report import verdicts
from tf_lottery.report import wording
from tf_lottery.storage import run_directory

DENSE = [0.9, 0.902, 0.898, 0.901, 0.89, 0.9]
# As good as dense in the first four replicates, and not in the others.
TICKET = [0.9, 0.901, 0.899, 0.902, 0.8, 0.7]
LEVELS = {"planned": [4, 6], "significances": [[0.03, 0.015], [0.03, 0.014]]}
PLAN = [(4, (0.03, 0.015)), (6, (0.03, 0.014))]


def judged(dense, ticket, reinit=(), plan=PLAN, tolerance=0.02):
  def judge(number, *how):
    made = rounds(dense[:number], ticket[:number], reinit[:number])
    return verdicts.verdicts(made, tolerance, "end", None, *how)

  return list(looks.verdicts_at(plan, judge))


def words(dense, ticket, reinit=(), **changes):
  return [v.word for (v,) in judged(dense, ticket, reinit, **changes)]


def test_what_a_look_has_shown_stays():
  alone = verdicts.verdicts(rounds(DENSE, TICKET), 0.02)
  assert [v.word for v in alone] == ["cannot tell"]
  assert words(DENSE, TICKET) == ["matching", "matching"]
  worse = [0.8, 0.801, 0.8, 0.802, 0.95, 0.96]
  assert words(DENSE, TICKET, worse) == ["winning", "winning"]
  (_, (last,)) = judged(DENSE, TICKET, worse)
  assert last.reason == "better than its reinits, as an earlier look showed"
  assert last.p_reinit > 0.05


def test_a_look_shows_by_its_own_share():
  # A p value between 1 % and 5 %.
  ticket = [
    d - 0.0145 + e
    for d, e in zip(DENSE, (0, 0.005, -0.002, 0.003, 0, 0), strict=True)
  ]
  (verdict,) = verdicts.verdicts(rounds(DENSE[:4], ticket[:4]), 0.02)
  assert 0.01 < verdict.p_matching < 0.05
  small = [(4, (0.01, 0.005))]
  assert words(DENSE, ticket, plan=small) == ["cannot tell"]
  assert words(DENSE, ticket, plan=[(4, (0.05, 0.025))]) == ["matching"]


def settled(dense, ticket, reinit=(), levels=(), **changes):
  (found, *_) = judged(dense, ticket, reinit, **changes)
  return looks.is_settled(found, levels)


NOISY = [0.95, 0.85, 0.96, 0.88]


@pytest.mark.parametrize(
  ("ticket", "reinit", "expected"),
  [
    (TICKET, [], True),  # matches, and there are no reinits
    (TICKET, [0.8, 0.801, 0.8, 0.802], True),  # wins
    (TICKET, NOISY, True),  # the reinits are better in the mean
    (TICKET, [0.95, 0.8, 0.96, 0.8], False),  # it may win
    (NOISY, [], False),  # it may match
    ([0.8, 0.801, 0.8, 0.802], [], True),  # below
    ([0.85, 0.95, 0.7, 0.9], [], True),  # the mean is not within the tolerance
    ([0.9], [], False),  # not trained yet
  ],
)
def test_verdicts_are_settled(ticket, reinit, expected):
  assert settled(DENSE, ticket, reinit) is expected


def test_only_levels_that_have_controls_are_waited_for():
  made = rounds(DENSE[:4], TICKET[:4], level=1)
  made += rounds([], NOISY, level=2)
  found = verdicts.verdicts(made, 0.02)
  assert [v.word for v in found] == ["matching", "cannot tell"]
  assert looks.is_settled(found, (1,))
  assert not looks.is_settled(found, (2,))
  assert not looks.is_settled(found, ())
  assert looks.is_settled([], (1,))


def write(tmp_path, *, taken, replicates=6, declared="auto:6", **fields):
  home = runs.write_experiment(tmp_path, replicates=replicates)
  path = home / run_directory.EXPERIMENT
  path.write_text(
    json.dumps({**json.loads(path.read_text()), "replicates": declared})
  )
  if taken is not None:
    plan = {"spending": "linear", "fixed_before": 0, **LEVELS, **fields}
    run_directory.write_looks(home, {**plan, "taken": taken})
  return home


def test_a_report_judges_what_the_last_look_has_seen(tmp_path):
  home = write(tmp_path, taken=[4])
  (found,) = evidence.gather([home])
  assert {v.n_ticket for v in found.verdicts()} == {4}
  text = wording.looks(found)
  assert "looked at after 4 replicates; at most 6 were planned" in text
  assert "linear spending function: the last one tested at 3 %, or at" in text
  assert "leave out 2 replicates that the last look did not see" in text
  assert "more replicate" not in headlines.headline(found)
  assert "at a significance of about 5 %" in headlines.headline(found)
  made = report.write([home], tmp_path / "report")
  for path in made.paths[:2]:
    assert "looked at after 4" in path.read_text().replace(
      "\N{NO-BREAK SPACE}", " "
    )
  assert "was fixed before" not in wording.how_tested(found)


def test_replicates_after_the_last_look_are_not_waited_for(tmp_path):
  home = write(tmp_path, taken=[4], settled=True)
  path = home / run_directory.EXPERIMENT
  wanted = [(level, "", 0) for level in (0, 1, 2)]
  declared = {**json.loads(path.read_text()), "rounds": wanted}
  path.write_text(json.dumps(declared))
  shutil.rmtree(home / "replicate_05" / "level_02")
  (found,) = evidence.gather([home])
  assert found.unfinished == 0
  assert not headlines.headline(found).startswith("So far")


def test_a_report_before_the_first_look_shows_nothing(tmp_path):
  for number, taken in enumerate([None, []]):
    home = write(tmp_path / str(number), taken=taken, replicates=3)
    (found,) = evidence.gather([home])
    assert {v.word for v in found.verdicts()} == {"cannot tell"}
    assert "There is no verdict yet: the first" in headlines.headline(found)


def test_a_fixed_number_before_is_told(tmp_path):
  (found,) = evidence.gather([write(tmp_path, taken=[4, 6], fixed_before=3)])
  assert "after 4 and 6 replicates" in wording.looks(found)
  assert "Before, 3 replicates had been declared" in wording.looks(found)


def test_looks_that_were_taken_count_whatever_is_declared_since(tmp_path):
  (found,) = evidence.gather([write(tmp_path, taken=[4], declared=6)])
  assert {v.n_ticket for v in found.verdicts()} == {4}
  home = write(tmp_path / "none", taken=[], declared=6)
  (found,) = evidence.gather([home])
  assert {v.n_ticket for v in found.verdicts()} == {6}
  assert not wording.looks(found)
