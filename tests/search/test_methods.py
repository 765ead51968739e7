"""A table of search methods x the properties that all of them have."""

import importlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_lottery
from tests import small
from tests.experiments import mine
from tf_lottery import experiments
from tf_lottery import patterns
from tf_lottery import rewinding
from tf_lottery.search import methods
from tf_lottery.search.methods import at_init
from tf_lottery.search.methods import cycles
from tf_lottery.search.methods import early_bird
from tf_lottery.search.methods import gradual
from tf_lottery.search.methods import iterative
from tf_lottery.training import distribution


def large_initial(binding, mask, batches, seed):
  weights = binding.read()
  return {key: np.abs(weights[key]) for key in mask}


# Name -> the method, and how many trainings it takes for two Levels.
METHODS = {
  "iterative": (iterative(), 0),
  "iterative steps": (iterative(5), 2),
  "iterative fraction": (iterative(0.4), 2),
  "iterative epochs": (iterative("1ep"), 2),
  "iterative stable": (iterative("stable"), 2),
  "gradual": (gradual(), 1),
  "gradual in one step": (gradual(1), 1),
  "two cycles": (cycles(2, 6), 2),
  "three cycles": (cycles(3, 0.25), 3),
  "early-bird": (early_bird(), 1),
  "snip": (at_init("snip"), 1),
  "grasp": (at_init("grasp"), 1),
  "synflow": (at_init("synflow", 10), 1),
  "force": (at_init("force", 3), 1),
  "random": (at_init("random"), 1),
  "a function": (at_init(large_initial), 1),
}
# The two generations differ in how criteria and optimizers reach the model.
QUICK = {"tf_keras": ("gradual", "iterative stable", "grasp", "synflow")}
LEVELS = 2


@pytest.fixture(scope="module")
def trainers():
  """The trainer of each Keras generation."""

  def trainer(library):
    return tf_lottery.Trainer(lambda: small.make_model(library), seed=3)

  return {
    name: trainer(importlib.import_module(name))
    for name in ("keras", "tf_keras")
  }


@pytest.fixture(scope="module")
def trainer(trainers):
  return trainers["keras"]


@pytest.fixture(
  scope="module",
  params=[
    pytest.param(
      (library, name),
      id=f"{library}-{name}",
      marks=[pytest.mark.slow]
      if name not in QUICK.get(library, METHODS)
      else [],
    )
    for library in ("keras", "tf_keras")
    for name in METHODS
  ],
)
def found(request, trainers, tmp_path_factory):
  """A search by one method, looked at by many tests."""
  library, name = request.param
  search = small.search(
    tmp_path_factory.mktemp("run"),
    trainer=trainers[library],
    method=METHODS[name][0],
    levels=LEVELS,
  )
  return name, search


def check_masks(search, nested=True):
  """Masks have exact counts, and each is a subset of the one before."""
  size = sum(weight.size for weight in search.prunable)
  before = search.round(0).ticket.mask
  for level, density in enumerate(search.schedule, 1):
    mask = search.round(level).ticket.mask
    assert mask.kept == round(density * size)
    assert mask.issubset(before) or not nested
    before = mask


def check_starts(search, weights):
  """Tickets start from given weights, under their masks."""
  for round_ in search.rounds[1:]:
    for key, value in round_.ticket.start.items():
      kept = round_.ticket.mask.get(key, np.True_)
      np.testing.assert_array_equal(value, np.where(kept, weights[key], 0))


def test_masks_have_the_scheduled_counts_and_are_nested(found):
  name, search = found
  # FORCE lets pruned weights come back.
  check_masks(search, nested=name != "force")


def test_tickets_start_from_the_initial_weights(found):
  _, search = found
  check_starts(search, search.initial.weights)


def test_pruned_weights_stay_zero_and_others_are_trained(found):
  _, search = found
  for round_ in search.rounds[1:]:
    assert round_.steps == 20
    final = round_.final.weights
    for key, mask in round_.ticket.mask.items():
      assert not final[key][~mask].any()
    assert any(
      np.any(final[key] != value) for key, value in round_.ticket.start.items()
    )


def test_trainings_of_the_search_are_recorded(found):
  name, search = found
  searches = search.directory.searches()
  assert [one.path.name for one in searches] == [
    f"search_{number:02d}" for number in range(1, 1 + METHODS[name][1])
  ]
  costs = [one.read_record()["cost"]["steps"] for one in searches]
  drawn = [
    search.round(level).directory.read_record()["search_cost"]["steps"]
    for level in range(1, 1 + LEVELS)
  ]
  assert drawn == sorted(drawn)
  if name == "iterative":
    assert drawn == [20, 40]
  else:
    assert drawn[-1] == sum(costs)


def test_the_parts_of_the_price_are_all_that_was_spent(found):
  _, search = found
  records = [
    json.loads(path.read_text())
    for path in search.directory.path.rglob("round.json")
  ]
  parts = search.price().values()
  for number in ("steps", "examples", "dense_flops", "sparse_flops"):
    spent = sum(record["cost"][number] for record in records)
    assert sum(getattr(part, number) for part in parts) == pytest.approx(spent)


def test_one_trace_serves_all(found):
  _, search = found
  assert search.trainer.traces == 1


def test_the_same_call_trains_nothing(found, monkeypatch):
  name, search = found

  def refuse(*args, **kwargs):
    raise AssertionError("It trains.")

  monkeypatch.setattr(search.trainer, "train", refuse)
  again = small.search(
    search.directory.path,
    trainer=search.trainer,
    method=METHODS[name][0],
    levels=LEVELS,
  )
  assert [r.metrics for r in again.rounds] == [r.metrics for r in search.rounds]
  assert again.price() == search.price()


NESTED = (0.5, 0.25)
CHANGES = {
  "layerwise": {"scope": tf_lottery.layerwise()},
  "erdos_renyi": {"scope": tf_lottery.erdos_renyi()},
  "lamp": {"scope": tf_lottery.lamp()},
  "2_of_4": {"pattern": "2_of_4", "schedule": NESTED},
  "blocks": {"pattern": "block_2x2"},
  "channels": {"pattern": "channel", "scope": tf_lottery.layerwise()},
  "step 6": {"rewind": "6it"},
  "step 6 with slots": {"rewind": small.REWIND},
  "one Level": {"schedule": (0.3,)},
  "from density 1": {"schedule": (1.0, 0.5)},
  "24 Levels": {"schedule": tf_lottery.linear(24, 0.2), "steps": 8},
  "criterion": {"criterion": "movement"},
  "random criterion": {"criterion": "random"},
  "loss": {"objective": "loss"},
}
# Of each kind one method. Those with all changes are slow.
KINDS = {
  "gradual": gradual(0.5),
  "cycles": cycles(2, 6),
  "iterative": iterative(6),
  "stable": iterative("stable"),
  "early-bird": early_bird(6),
  "synflow": at_init("synflow", 4),
}
FAST = {
  ("gradual", "2_of_4"),
  ("cycles", "2_of_4"),
  ("synflow", "2_of_4"),
  ("gradual", "blocks"),
  ("cycles", "step 6 with slots"),
  ("gradual", "from density 1"),
  ("stable", "lamp"),
  ("early-bird", "channels"),
}


@pytest.mark.parametrize(
  ("kind", "change"),
  [
    pytest.param(
      kind,
      change,
      marks=[] if (kind, change) in FAST else [pytest.mark.slow],
    )
    for kind in KINDS
    for change in CHANGES
    # A method that scores the untrained network names its criterion itself.
    if kind != "synflow" or "criterion" not in CHANGES[change]
  ],
)
def test_every_scope_pattern_and_rewind(kind, change, trainer):
  arguments = {"method": KINDS[kind], "levels": LEVELS, **CHANGES[change]}
  search = small.search(None, trainer=trainer, **arguments)
  assert len(search.rounds) == 1 + len(search.schedule)
  if change == "channels":  # they differ in size
    for before, after in zip(search.rounds, search.rounds[1:], strict=False):
      assert after.ticket.mask.issubset(before.ticket.mask)
      assert after.ticket.mask != before.ticket.mask
  elif change != "step 6 with slots":
    check_masks(search)
  weights = search.initial.weights
  if "rewind" in arguments:
    path = search.directory.rewind
    weights = tf_lottery.Snapshot.load(path).weights
    assert all(round_.start == 6 for round_ in search.rounds[1:])
  check_starts(search, weights)
  if change == "2_of_4":
    mask = search.round(1).ticket.mask["0/kernel"]
    assert (mask.reshape(6, 8)[:4].sum(0) <= 2).all()


def stream(x, y):
  return tf.data.Dataset.from_tensor_slices((x, y)).batch(
    12, drop_remainder=True
  )


@pytest.mark.slow
@pytest.mark.parametrize("method", [gradual(0.4), at_init("snip")])
def test_streams_and_two_replicas(method):
  mirrored = tf_lottery.Trainer(
    lambda: small.make_model(keras),
    strategy=distribution.resolve_strategy("mirrored"),
    seed=3,
  )
  search = tf_lottery.find_ticket(
    mirrored,
    stream(*small.examples(96)),
    validation_data=stream(*small.examples(40, 1)),
    steps=10,
    schedule=NESTED,
    scope=tf_lottery.global_(),
    method=method,
  )
  check_masks(search)
  check_starts(search, search.initial.weights)


def test_cycles_end_at_the_scheduled_densities(trainer):
  """As many cycles as Levels prune each Level at the end of one training."""
  schedule = tf_lottery.geometric(6)
  search = small.search(
    None,
    trainer=trainer,
    method=cycles(6, 2),
    schedule=schedule,
    steps=2,
  )
  drawn = [round_.ticket.provenance["search"] for round_ in search.rounds[1:]]
  assert drawn == [1, 2, 3, 4, 5, 6]
  densities = [
    one.read_record()["density"] for one in search.directory.searches()
  ]
  assert densities == [round_.density for round_ in search.rounds[1:]]


def test_gradual_prunes_more_and_more_within_its_training(trainer):
  search = small.search(None, trainer=trainer, method=gradual(), levels=LEVELS)
  costs = [
    search.round(level).directory.read_record()["search_cost"]["steps"]
    for level in (1, 2)
  ]
  # From a tenth of the 20 steps on, by equal factors.
  assert costs == [11, 20]


def test_stable_levels_are_shorter_than_full_ones(trainer):
  """The constant criterion draws the same mask at each evaluation."""

  def constant(binding, mask, batches, seed):
    return {k: np.arange(a.size).reshape(a.shape) for k, a in mask.items()}

  for method in (iterative("stable"), early_bird()):
    search = small.search(
      None, trainer=trainer, method=method, levels=1, criterion=constant
    )
    (training,) = search.directory.searches()
    # The third of 20 evaluations gives the second distance of 0.
    assert training.read_record()["steps"] == 3 - 1
    rows = training.read_metrics()
    assert [row["mask_distance"] for row in rows] == [0, 0]


@pytest.mark.parametrize("name", ["gradual", "iterative", "early_bird"])
def test_a_method_has_a_name(name):
  assert methods.get(name) == getattr(methods, name)()


@pytest.mark.parametrize(
  ("text", "method", "written"),
  [
    ("cycles(n=2, steps=0.25)", cycles(2, 0.25), "cycles(2, 0.25)"),
    ("iterative(steps='stable')", iterative("stable"), None),
    ("at_init('synflow', rounds=3)", at_init("synflow", 3), None),
    (" gradual (0.5) ", gradual(0.5), "gradual(0.5)"),
    ("gradual", gradual(), "gradual()"),
    ("early_bird('2ep')", early_bird("2ep"), None),
    ("cycles(2, None)", cycles(2, None), None),
  ],
)
def test_a_method_is_read_as_it_is_written(text, method, written):
  assert methods.get(text) == method
  assert str(method) == (written or text)
  assert methods.get(str(method)) == method


def test_a_search_longer_than_the_final_training_is_refused(trainer):
  for method in (gradual(21), cycles(2, "3ep"), iterative(99), early_bird(21)):
    with pytest.raises(ValueError, match="at most the final training's 20 ste"):
      small.search(None, trainer=trainer, method=method, steps=20)


def test_a_training_of_one_step_may_be_a_slip(trainer, caplog):
  small.search(None, trainer=trainer, method=gradual(1), steps=2, levels=2)
  assert "For a whole training leave it out, or give 1.0" in caplog.text


def test_at_init_has_a_criterion_of_its_own(trainer, caplog):
  arguments = {"trainer": trainer, "steps": 2, "levels": 1}
  with pytest.raises(
    ValueError, match=r"at_init\('random'\) names the criteri"
  ):
    small.search(
      None, method=at_init("random"), criterion="magnitude", **arguments
    )
  small.search(None, method=gradual(), criterion="snip", **arguments)
  assert "criterion='snip' is meant for the untrained network" in caplog.text


@pytest.mark.parametrize("rewind", [rewinding.finetune(), "learning_rate"])
@pytest.mark.parametrize(
  ("method", "name"),
  [
    (gradual(), r"gradual\(\)"),
    (cycles(2), r"cycles\(2, 0.5\)"),
    (iterative(4), r"iterative\(steps=...\)"),
    (early_bird(), r"early_bird\(\)"),
    (at_init("snip"), r"at_init\(...\)"),
  ],
)
def test_starts_from_trained_weights_are_refused(
  method, name, rewind, trainer, tmp_path
):
  with pytest.raises(
    ValueError, match=rf"{name} draws masks without .* take method=iterative"
  ):
    small.search(tmp_path, trainer=trainer, method=method, rewind=rewind)
  assert not list(tmp_path.iterdir())


def test_several_cycles_of_n_of_m_need_several_levels(trainer, tmp_path):
  with pytest.raises(ValueError, match=r"prunes to its first density at once"):
    small.search(
      tmp_path,
      trainer=trainer,
      method=cycles(2),
      pattern=patterns.n_of_m(2, 4),
      schedule=(0.5,),
    )
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: gradual(0), "steps must be at least 1 step, got 0"),
    (lambda: gradual(0.0), r"steps as a fraction .* in \(0, 1\], got 0.0"),
    (lambda: gradual(1.5), r"steps as a fraction .* in \(0, 1\], got 1.5"),
    (lambda: gradual(True), "steps must be at least 1 step, got True"),
    (lambda: iterative("soon"), "soon"),
    (lambda: iterative("stabel"), "\"stable\", .* got 'stabel'"),
    (lambda: gradual("0.1"), "such as 0.1 without quotes; got '0.1'"),
    (lambda: early_bird(-3), "steps must be at least 1 step, got -3"),
    (lambda: cycles(0), "n must be at least 1, got 0"),
    (lambda: at_init("snipp"), "force, grasp, snip, synflow; .* got 'snipp'"),
    (lambda: at_init("snip", 0), "rounds must be at least 1, got 0"),
    (lambda: methods.get("cycle"), r"got 'cycle'"),
    (lambda: methods.get(3), "method must be one of .* got 3"),
    (lambda: methods.get("cycles(x)"), "the argument x, .* needs quotes"),
    (lambda: methods.get("at_init(snip)"), r"quotes, as in \"at_init\('snip'"),
    (lambda: methods.get("cycles(4, 0.25"), r"cannot be read: '\(' was never"),
    (lambda: methods.get("gradual(1)(2)"), "is no call of one function"),
    (lambda: methods.get("gradual(x=1)"), "unexpected keyword argument 'x'"),
    (lambda: methods.get("cycles(2.0, .25)"), "n must be an int, got 2.0"),
  ],
)
def test_what_is_out_of_range_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_method_is_called_first(trainer):
  with pytest.raises(TypeError, match=r"Write method=gradual\(...\)"):
    small.search(None, trainer=trainer, method=gradual)


@pytest.mark.parametrize(
  ("before", "now", "message"),
  [
    (
      {"method": at_init("random")},
      {"method": gradual(0.5)},
      r"it was at_init\('random'\), now gradual\(0.5\)",
    ),
    (
      {"method": at_init("random")},
      {},
      r"it was at_init\(.*\), now iterative\(\)",
    ),
    (
      {"method": at_init("random")},
      {"budget": 3},
      r"it was at_init\(.*\), now a search with a budget",
    ),
    ({}, {"method": at_init("snip")}, r"it was iterative\(\), now at_init\("),
  ],
)
def test_another_method_in_the_same_directory_is_refused(
  before, now, message, trainer, tmp_path
):
  short = {"steps": 2, "levels": 1}
  small.search(tmp_path, trainer=trainer, **before, **short)
  with pytest.raises(ValueError, match=f"method: {message}"):
    small.search(tmp_path, trainer=trainer, **now, **short)


def test_iterative_pruning_is_deepened(trainer, tmp_path):
  arguments = {"trainer": trainer, "method": iterative(3), "steps": 4}
  whole = small.search(tmp_path / "whole", levels=2, **arguments)
  small.search(tmp_path / "parts", levels=1, **arguments)
  deeper = small.search(tmp_path / "parts", levels=2, **arguments)
  assert [r.metrics for r in deeper.rounds] == [r.metrics for r in whole.rounds]
  assert deeper.price() == whole.price()


@pytest.mark.parametrize("levels", [1, 3])
def test_masks_that_are_drawn_at_once_are_not_deepened(
  levels, trainer, tmp_path
):
  arguments = {"trainer": trainer, "method": at_init("random"), "steps": 2}
  small.search(tmp_path, levels=2, **arguments)
  with pytest.raises(
    ValueError, match=r"schedule: [\s\S]*Only iterative\(\.\.\.\) goes on"
  ):
    small.search(tmp_path, levels=levels, **arguments)


@pytest.mark.parametrize("control", ["fine_tune", "learning_rate_rewind"])
@pytest.mark.parametrize(
  "change",
  [{"method": "gradual"}, {"method": iterative(5)}, {"budget": 4}],
)
def test_controls_of_iterative_pruning_are_refused(control, change):
  with pytest.raises(ValueError, match=rf"iterative\(\) has: {control}"):
    experiments.Experiment(
      make_model=mine.make_model,
      load_data=mine.load_data,
      steps=16,
      batch_size=12,
      controls=(control,),
      **change,
    )


@pytest.mark.parametrize("method", [gradual(), iterative(1.0), early_bird()])
def test_a_full_training_of_the_search_ends_where_tickets_end(method, trainer):
  """After a rewind, the learning-rate schedule has no steps beyond that."""
  search = small.search(
    None,
    trainer=trainer,
    method=method,
    levels=1,
    rewind="6it",
    criterion="random",
  )
  (record,) = (one.read_record() for one in search.directory.searches())
  assert record["start"] == search.round(1).start == 6
  assert record["start"] + record["steps"] <= 20
  if method != early_bird():
    assert record["steps"] == search.round(1).steps == 14
