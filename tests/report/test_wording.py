"""The headline: what an experiment shows, in words."""

import json
import shutil

import pytest

from tests import runs
from tf_lottery.report import evidence
from tf_lottery.report import headlines
from tf_lottery.report import rivals
from tf_lottery.report import wording
from tf_lottery.storage import run_directory

SCHEDULE = (0.5, 0.2, 0.1)
SEEDS = 3
NOISE = ((0, 1, -1), (1, -1, 0), (-1, 0, 1))


def experiment(root, methods, *, declared=None, direction=None, **changes):
  """An experiment whose values have a little noise of their own.

  Args:
    root: Where to write it.
    methods: Method -> its mean at each Level.
    declared: The declaration of the experiment. Without it, each replicate is a
      run that stands alone.
    direction: Of the metric.
    **changes: Of `runs.write_run`.
  """
  home = root / "mine"
  home.mkdir(parents=True)
  (home / "experiment.json").write_text(json.dumps(declared or {"id": "mine"}))
  for seed in range(SEEDS):
    values = {
      method: [
        mean * (1 + NOISE[(level + number) % 3][seed] / 1000)
        for level, mean in enumerate(means)
      ]
      for number, (method, means) in enumerate(methods.items())
    }
    run = runs.write_run(
      home / f"replicate_{seed:02d}",
      values,
      seed=seed,
      schedule=SCHEDULE,
      **changes,
    )
    if direction:
      declaration = run.read_declaration()
      run.write_declaration({**declaration, "direction": direction})
  return home


def headline(path, tolerance=None):
  (found,) = evidence.gather([path], tolerance)
  return headlines.headline(found)


def test_all_that_match_and_win_are_named_in_one_sentence(tmp_path):
  methods = {
    "dense": [0.9],
    "ticket": [0.91, 0.905, 0.8],
    "random_reinit": [0.85, 0.8, 0.6],
  }
  assert headline(experiment(tmp_path, methods)).startswith(
    "All tickets down to 20.0 % of the weights match the dense network within"
    " 0.89 points, and the tickets with 50.0 % and 20.0 % win: they are better"
    " than their random reinits. This holds as a whole at a significance of"
    " 5 %. At 20.0 %: test accuracy 89.5 %"
  )


def test_the_headline_is_about_the_end_of_training(tmp_path):
  methods = {"dense": [0.9], "ticket": [0.7, 0.6, 0.5]}
  home = experiment(tmp_path, methods)
  for seed in range(SEEDS):
    run = run_directory.RunDirectory(home / f"replicate_{seed:02d}")
    late = {"test_accuracy": 0.91 + seed / 1000, "val_accuracy": 0.91}
    run.level(1).append_metrics(runs.row(40, 0.7, **late))
  (found,) = evidence.gather([home])
  assert headlines.headline(found).startswith(
    "The ticket with 50.0 % of the weights matches the dense network within"
  )
  assert [v.word for v in found.verdicts("early")] == ["below"] * 3
  assert "values at the end of training" in wording.how_tested(found)


def test_the_first_ticket_that_fails_is_named(tmp_path):
  methods = {"dense": [0.9], "ticket": [0.91, 0.8, 0.9]}
  found = headline(experiment(tmp_path, methods))
  assert found.startswith(
    "The ticket with 50.0 % of the weights matches the dense network within"
    " 0.89 points; no random reinits were trained that it could win against."
  )
  assert found.endswith("The ticket with 20.0 % is below dense.")


def test_a_ticket_that_is_no_better_than_its_reinits_is_not_said_to_win(
  tmp_path,
):
  methods = {
    "dense": [0.9],
    "ticket": [0.91, 0.91, 0.91],
    "random_reinit": [0.91, 0.91, 0.92],
  }
  found = headline(experiment(tmp_path, methods))
  assert "; none is shown to be better than its random reinits." in found
  assert found.endswith("Smaller tickets were not searched.")


# Its largest ticket is not shown to match.
UNSURE = {"dense": [0.9], "ticket": [0.881, 0.905, 0.91]}


@pytest.mark.parametrize("levels", [None, [], "chosen"])
def test_without_declared_levels_all_are_tested(tmp_path, levels):
  declared = {"id": "mine", "control_levels": levels}
  home = experiment(tmp_path, UNSURE, declared=declared)
  (found,) = evidence.gather([home], 0.009)
  assert all(v.to_test for v in found.verdicts())
  assert "No ticket is shown to match" in headlines.headline(found)
  assert "declares" not in wording.how_tested(found)


def test_declared_levels_alone_are_tested(tmp_path):
  declared = {"id": "mine", "control_levels": [2, 3]}
  home = experiment(tmp_path, UNSURE, declared=declared)
  (found,) = evidence.gather([home], 0.009)
  text = headlines.headline(found)
  assert text.startswith(
    "All tested tickets down to 10.0 % of the weights match the dense network"
  )
  assert text.endswith("Smaller tickets were not tested.")
  text = wording.how_tested(found)
  assert "Of 3 Levels, those that the experiment declares" in text
  assert "were tested: 20.0 % and 10.0 % of the weights." in text
  assert "each larger tested ticket" in text


def test_of_declared_levels_none_may_be_shown_to_match(tmp_path):
  declared = {"id": "mine", "control_levels": [1, 2]}
  methods = {"dense": [0.9], "ticket": [0.8, 0.7, 0.9]}
  home = experiment(tmp_path, methods, declared=declared)
  assert headline(home).startswith(
    "No tested ticket matches the dense network: all are below it by more than"
  )
  declared = {"id": "mine", "control_levels": [9]}
  home = experiment(tmp_path / "other", methods, declared=declared)
  assert headline(home).endswith("; no tested ticket is trained yet.")


def test_one_ticket_of_several_wins(tmp_path):
  methods = {
    "dense": [0.9],
    "ticket": [0.91, 0.91, 0.7],
    "random_reinit": [0.92, 0.8, 0.6],
  }
  found = headline(experiment(tmp_path, methods))
  assert ", and the ticket with 20.0 % wins: it is better than its" in found


def test_no_ticket_matches(tmp_path):
  methods = {"dense": [0.9], "ticket": [0.8, 0.7, 0.6]}
  assert headline(experiment(tmp_path, methods)).startswith(
    "No ticket matches the dense network: all are below it by more than 0.89"
    " points. Dense test accuracy is 89.0 %."
  )


def test_the_largest_ticket_may_be_the_one_that_fails(tmp_path):
  methods = {"dense": [0.9], "ticket": [0.8, 0.9, 0.91]}
  found = headline(experiment(tmp_path, methods))
  assert found.startswith(
    "No ticket is shown to match the dense network: the tests stop at the"
    " largest ticket, with 50.0 % of the weights, which is below it. The"
    " smallest ticket whose mean is within 0.89 points of dense keeps 10.0 %"
  )


@pytest.mark.parametrize(
  ("declared", "way"),
  [
    ({"id": "mine"}, "set replicates={n} and run the same command again."),
    ({"id": "mine", "replicates": 50}, None),
  ],
)
def test_too_few_replicates_are_said_to_be_and_how_many_are_enough(
  tmp_path, declared, way
):
  methods = {"dense": [0.9], "ticket": [0.9, 0.7, 0.6]}
  home = experiment(tmp_path, methods, declared=declared)
  (found,) = evidence.gather([home], 0.001)
  text = headlines.headline(found)
  first = found.verdicts()[0]
  assert (first.word, 3 < first.needed <= 50) == ("cannot tell", True)
  assert text.startswith(
    "No ticket is shown to match the dense network yet: the tests stop at the"
    " largest ticket, with 50.0 % of the weights (replicates vary too much, or"
    " are too few). The smallest ticket whose mean is within 0.1 points"
  )
  more = f"About {first.needed - 3} more replicates are likely to be enough to"
  if way is None:  # They are declared, and on their way.
    assert "more replicate" not in text
  else:
    assert f"{more} show that the ticket with 50.0 % matches: " in text
    assert text.endswith(way.format(n=first.needed))


def test_more_than_fifty_replicates_are_not_asked_for(tmp_path):
  methods = {"dense": [0.9], "ticket": [0.9, 0.7, 0.6]}
  found = headline(experiment(tmp_path, methods), 1e-4)
  assert found.endswith(
    "More than 50 replicates are likely to be needed to show that the ticket"
    " with 50.0 % matches."
  )


def test_one_replicate_cannot_give_a_verdict_and_how_to_get_one(tmp_path):
  methods = {"dense": [0.9], "ticket": [0.91, 0.8], "random_reinit": [0.8]}
  runs.write_run(tmp_path / "run", methods, seed=4)
  found = headline(tmp_path / "run")
  assert found.startswith("One replicate cannot give a verdict. ")
  assert found.endswith(
    "Train at least 3: run it again with each seed from 5 to 6, into"
    " directories beside this one."
  )


@pytest.mark.parametrize(
  ("monitor", "direction", "dense", "tickets", "start", "tolerance"),
  [
    ("mse", "min", 25.0, [25.1, 24.0, 40.0], 4000.0, "1.25"),
    ("leaf_mae", "min", 3.2, [3.21, 3.22, 5.0], 9.2, "0.0601"),
    ("auc", "max", 0.9, [0.901, 0.9, 0.7], 0.5, "0.39 points"),
    ("perplexity", "min", 180.0, [181.0, 182.0, 300.0], 10_000.0, "9"),
    ("log_likelihood", "max", -2.0, [-2.01, -2.02, -3.0], -9.0, "0.0699"),
    ("ndcg", "max", 0.5, [0.501, 0.5, 0.4], 0.1, "0.39 points"),
  ],
)
def test_any_metric_is_judged_by_its_own_scale(
  tmp_path, monitor, direction, dense, tickets, start, tolerance
):
  methods = {"dense": [dense], "ticket": tickets}
  home = experiment(tmp_path, methods, monitor=monitor, direction=direction)
  for number in range(SEEDS):
    run = run_directory.RunDirectory(home / f"replicate_{number:02d}")
    path = run.level(0).path / "metrics.jsonl"
    names = (f"{split}_{monitor}" for split in ("val", "test"))
    row = {"step": 0, "val_loss": 9.0, **dict.fromkeys(names, start)}
    path.write_text(
      json.dumps({**row, "seconds": 0.1}) + "\n" + path.read_text()
    )
  (found,) = evidence.gather([home])
  assert headlines.headline(found).startswith(
    "All tickets down to 20.0 % of the weights match the dense network within"
    f" {tolerance}; "
  )
  assert [v.word for v in found.verdicts()] == ["matching"] * 2 + ["below"]
  assert "That is 1 % of what training gained" in wording.how_tested(found)


def test_it_is_said_how_tickets_were_tested(tmp_path):
  methods = {"dense": [0.9], "ticket": [0.91, 0.7, 0.6]}
  home = experiment(tmp_path, methods)
  (found,) = evidence.gather([home])
  text = wording.how_tested(found)
  assert "is worse than the dense network by at most 0.89 points." in text
  assert "1 % of the dense network's value, as the untrained network" in text
  assert "The tests are one-sided (paired t)." in text
  (given,) = evidence.gather([home], 0.01)
  text = wording.how_tested(given)
  assert "by at most 1 point. It wins if" in text


def test_rivals_that_a_ticket_does_not_beat_are_named(tmp_path):
  methods = {
    "dense": [0.9],
    "ticket": [0.91, 0.905, 0.8],
    "random_reinit": [0.85, 0.8, 0.6],
    "rigl_equal_cost": [0.91, 0.905, 0.9],
    "gradual_equal_cost": [0.95, 0.95, 0.95],
    "set": [0.85, 0.8, 0.6],
    "random_erk": [0.84, 0.81, 0.6],
  }
  text = headline(experiment(tmp_path, methods))
  assert (
    "Against its rivals, it is better than SET (79.0 %) and random ERK mask"
    " (80.0 %); it is not shown to be better than RigL at equal cost (89.5 %);"
    " it is worse than gradual pruning at equal cost (94.0 %)."
  ) in text


def test_rivals_are_compared_as_far_as_a_look_has_seen(tmp_path):
  methods = {
    "dense": [0.9],
    "ticket": [0.91, 0.905, 0.8],
    "random_erk": [0.84, 0.81, 0.6],
  }
  (found,) = evidence.gather([experiment(tmp_path, methods)])
  plan = {
    "planned": [2, 3],
    "significances": [(0.03, 0.015), (0.03, 0.014)],
    "spending": "linear",
    "fixed_before": 0,
    "taken": [2],
  }
  text = rivals.sentence(found.with_looks(plan), 1, "{:.3f}".format)
  assert text.endswith("are not corrected for the looks at the verdicts.")
  assert text != rivals.sentence(found, 1, "{:.3f}".format)
  mean = sum(
    r.test_end for r in found.rounds if is_rival(r) and r.replicate < 2
  )
  assert f"random ERK mask ({mean / 2:.3f})" in text


def is_rival(round_):
  return round_.method == "random_erk" and round_.level == 1


def test_rivals_of_a_metric_of_which_less_is_better(tmp_path):
  methods = {
    "dense": [0.9],
    "ticket": [0.85, 0.88, 2.0],
    "rigl": [1.2, 1.2, 2.0],
    "random_erk": [0.6, 0.6, 2.0],
  }
  home = experiment(tmp_path, methods, monitor="mae", direction="min")
  text = headline(home, tolerance=0.05)
  assert "rivals, it is better than RigL (1.19); it is worse than rand" in text


def test_it_is_said_why_rivals_are_not_compared(tmp_path):
  methods = {"dense": [0.9], "ticket": [0.91, 0.5], "set": [0.6, 0.6]}
  home = experiment(tmp_path / "elsewhere", methods)
  for folder in home.glob("*/level_01-set*"):
    shutil.rmtree(folder)
  text = headline(home)
  assert "Rivals were not trained at this density" in text
  assert "they were at Level 2." in text
  methods["ticket"] = [0.5, 0.5]
  text = headline(experiment(tmp_path / "none", methods))
  assert "whose mean is within the tolerance, and there is none." in text
