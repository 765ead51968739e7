"""Does a ticket travel? A source's tickets, trained as the target's are."""

import dataclasses
import functools
import shutil

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tests.experiments import mine
from tf_lottery import analysis
from tf_lottery import experiments
from tf_lottery.experiments import Experiment
from tf_lottery.experiments import controls
from tf_lottery.experiments import declared
from tf_lottery.storage import run_directory

LEVEL = 2


@pytest.fixture(scope="module", params=[keras, tf_keras])
def source(request, tmp_path_factory):
  """A search from another seed, on other data, of either generation."""
  path = tmp_path_factory.mktemp("source")
  return small.search(
    path, library=request.param, rewind=small.REWIND, seed=11, data_seed=5
  )


@pytest.fixture(scope="module")
def target(tmp_path_factory):
  path = tmp_path_factory.mktemp("target")
  return small.search(path, library=keras, rewind=small.REWIND)


@pytest.fixture
def trained(target, source, tmp_path):
  """The function that trains a control of the target anew."""
  again = dataclasses.replace(
    target, directory=run_directory.RunDirectory(tmp_path)
  )
  for name in ("level_00", "level_01", "level_02", "rewind.safetensors"):
    (tmp_path / name).symlink_to(target.directory.path / name)

  def train(name, draw=0, source=source):
    return controls.WITH_SOURCE[name](again, LEVEL, draw, source=source)

  return train


def same(one, other, mask):
  """Whether weights are the same where a mask keeps them."""
  return all(
    np.array_equal(
      value[mask[key]] if key in mask else value,
      other[key][mask[key]] if key in mask else other[key],
    )
    for key, value in one.items()
  )


@pytest.mark.parametrize("name", controls.WITH_SOURCE)
def test_it_trains_as_the_ticket_does(trained, target, source, name):
  round_ = trained(name)
  own = target.round(LEVEL)
  assert round_.directory.path.name == f"level_02-{name}-0"
  assert (round_.steps, round_.density) == (own.steps, own.density)
  told = round_.ticket.provenance
  assert told["control"] == name
  assert told["level"] == LEVEL
  assert told["seed"] == target.seed
  assert told["source"]["seed"] == source.seed
  assert told["source"]["fingerprint"] == source.ticket(LEVEL).fingerprint()
  assert trained(name).metrics == round_.metrics


# Whether the mask is the source's, and whose the start weights are.
@pytest.mark.parametrize(
  ("name", "is_its_mask", "whose"),
  [
    ("transferred", True, "source"),
    ("transferred_mask", True, "target"),
    ("transferred_reinit", True, "nobody"),
    ("transferred_shuffled", False, "source"),
    ("transferred_permuted", False, "target"),
  ],
)
def test_each_changes_what_it_says(
  trained, target, source, name, is_its_mask, whose
):
  ticket, its = trained(name).ticket, source.ticket(LEVEL)
  assert (ticket.mask == its.mask) == is_its_mask
  assert ticket.mask.table() == its.mask.table()
  for who, search in (("source", source), ("target", target)):
    weights = search.dense_start()
    assert same(ticket.start, weights, ticket.mask) == (who == whose)


@pytest.mark.parametrize("name", ["transferred", "transferred_permuted"])
def test_the_ticket_of_another_source_is_not_read_back(trained, target, name):
  trained(name)
  with pytest.raises(ValueError, match=r"another source.*another name"):
    trained(name, source=target)


@pytest.mark.parametrize("name", ["transferred_reinit", "transferred_shuffled"])
def test_another_draw_is_another_ticket(trained, name):
  assert not trained(name).ticket.equals(trained(name, 1).ticket)


def test_the_transferred_ticket_is_the_sources(trained, source):
  assert trained("transferred").ticket.equals(source.ticket(LEVEL))


def test_a_search_trains_a_ticket_of_another(target, source, tmp_path):
  moved = source.ticket(LEVEL).transfer(small.make_model(keras))
  search = dataclasses.replace(
    target, directory=run_directory.RunDirectory(tmp_path)
  )
  (tmp_path / "rewind.safetensors").symlink_to(target.directory.rewind)
  round_ = search.train(moved, "moved")
  assert round_.ticket == source.ticket(LEVEL)
  assert round_.density == target.round(LEVEL).density


def test_units_come_to_the_places_of_the_targets(trained, target, source):
  order = analysis.match_units(
    target.trainer.model,
    source.round(0).final.weights,
    target.round(0).final.weights,
  )
  moved = analysis.permute(source.ticket(LEVEL).mask, order)
  assert trained("transferred_permuted").ticket.mask == moved


def test_another_output_layer_is_the_targets_own(source, tmp_path):
  def make():
    model = keras.Sequential(
      [*small.make_model(keras).layers[:-1], keras.layers.Dense(3)]
    )
    model.build((None, 6))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model

  target = small.search(tmp_path, trainer=tf_lottery.Trainer(make), levels=1)
  ticket = controls.transferred(target, 1, source=source).ticket
  assert [n.partition("/")[2] for n in ticket.provenance["drawn_anew"]] == [
    "kernel",
    "bias",
  ]
  assert ticket.mask["2/kernel"].all()
  own = target.dense_start()["2/kernel"]
  np.testing.assert_array_equal(ticket.start["2/kernel"], own)
  its = source.ticket(1)
  np.testing.assert_array_equal(ticket.mask["0/kernel"], its.mask["0/kernel"])


# Experiments with a source.

SOURCE = Experiment(
  make_model=mine.make_model,
  load_data=mine.load_data,
  steps=8,
  batch_size=24,
  schedule=(0.5, 0.3),
  seed=50,
)
TARGET = dataclasses.replace(
  SOURCE,
  seed=0,
  controls=("transferred", "transferred_reinit"),
  control_levels=(1,),
  replicates=2,
  source=SOURCE,
)
change = functools.partial(dataclasses.replace, TARGET)


def test_a_source_makes_another_experiment():
  assert change(source=None, controls=()).id != TARGET.id
  assert change(source=dataclasses.replace(SOURCE, steps=9)).id != TARGET.id
  more = dataclasses.replace(SOURCE, replicates=9, controls=())
  assert change(source=more).id == TARGET.id


def test_it_goes_through_json():
  again = Experiment.from_json(TARGET.to_json())
  assert again.id == TARGET.id
  assert again.source.id == SOURCE.id
  assert again.to_json() == TARGET.to_json()
  assert Experiment.from_json(SOURCE.to_json()).source is None


@pytest.mark.parametrize(
  ("fields", "error", "why"),
  [
    ({"source": None}, ValueError, "transferred, transferred_reinit take"),
    ({"source": "ticket"}, TypeError, "must be an Experiment, got a str"),
    (
      {"source": dataclasses.replace(SOURCE, budget=4.0)},
      ValueError,
      "must train all of its Levels",
    ),
    (
      {"source": dataclasses.replace(SOURCE, schedule=(0.5, 0.2))},
      ValueError,
      "At Level 2, the densities are 0.2 and 0.3",
    ),
    (
      {"source": dataclasses.replace(SOURCE, schedule=(0.5,))},
      ValueError,
      "At Level 2, the densities are none and 0.3",
    ),
    (
      {"name": "a", "source": dataclasses.replace(SOURCE, name="a")},
      ValueError,
      "whose name|directory of its own",
    ),
  ],
)
def test_what_cannot_be_a_source_is_refused(fields, error, why):
  with pytest.raises(error, match=why):
    change(**fields)


@pytest.mark.parametrize(
  ("source", "fields", "why"),
  [
    (
      {"model_args": {"units": 9}},
      {},
      "No layer of the model has a counterpart",
    ),
    (
      {"prunable": lambda weight: weight.key == "0/kernel"},
      {},
      "must prune the same weights",
    ),
    (
      {"make_model": mine.make_regression, "load_data": mine.load_targets},
      {"controls": ("transferred_permuted",)},
      "with as many outputs",
    ),
    (
      {},
      {"controls": ("transferred_permuted",), "pattern": "block_1x2"},
      "units apart that are pruned together",
    ),
  ],
)
def test_networks_that_do_not_fit_are_refused_before_training(
  tmp_path, source, fields, why
):
  other = dataclasses.replace(SOURCE, **source)
  with pytest.raises(ValueError, match=why):
    tf_lottery.prove(change(source=other, **fields), tmp_path)
  assert not list(tmp_path.rglob("level_*"))


def test_controls_with_a_source_need_its_search():
  with pytest.raises(ValueError, match="give source="):
    experiments.train_controls(TARGET, 0, None, (1,))


@pytest.mark.slow
def test_prove_finds_the_sources_tickets(tmp_path):
  proof = tf_lottery.prove(TARGET, tmp_path)
  assert not proof.failed
  for replicate in range(2):
    its = tmp_path / SOURCE.id / f"replicate_{replicate:02d}"
    done = {path.name for path in its.glob("level_*")}
    assert done == {"level_00", "level_01", "level_02"}
    own = proof.directory / its.name
    ticket, transferred = (
      tf_lottery.Ticket.load(path / "ticket.safetensors")
      for path in (its / "level_01", own / "level_01-transferred-0")
    )
    assert transferred.equals(ticket)
  assert 'Does the ticket of "model on data" travel?' in str(proof)
  made = {path: path.stat().st_mtime for path in tmp_path.rglob("round.json")}
  tf_lottery.prove(TARGET, tmp_path)
  assert made == {p: p.stat().st_mtime for p in tmp_path.rglob("round.json")}
  assert declared.of_run(own)[0].source.id == SOURCE.id
  grown = change(source=dataclasses.replace(SOURCE, replicates=7))
  other = change(source=dataclasses.replace(SOURCE, steps=9))
  assert declared.may_declare(grown, proof.directory)
  assert not declared.may_declare(other, proof.directory)


def test_replicates_share_the_networks_of_source_and_target(tmp_path):
  built = []

  def make_model():
    built.append(mine.make_model())
    return built[-1]

  counts = []
  for replicates in (1, 3):
    source = dataclasses.replace(SOURCE, make_model=make_model)
    target = dataclasses.replace(TARGET, source=source, replicates=replicates)
    built.clear()
    tf_lottery.prove(target, tmp_path / str(replicates), progress=False)
    counts.append(len(built))
  # Each of two more replicates draws the initial weights of both networks.
  assert counts[1] == counts[0] + 2 * 2


def test_a_directory_keeps_its_source(tmp_path):
  named = change(name="here", replicates=1, controls=("transferred",))
  proof = tf_lottery.prove(named, tmp_path)
  path = proof.directory / "experiment.json"
  before = path.read_bytes()
  other = dataclasses.replace(SOURCE, seed=90)
  with pytest.raises(ValueError, match=r"another source.*another name"):
    tf_lottery.prove(dataclasses.replace(named, source=other), tmp_path)
  assert path.read_bytes() == before
  assert not (tmp_path / other.id).exists()
  # Nothing is lost as long as no ticket was transferred.
  (level,) = proof.directory.glob("replicate_00/level_*-transferred-0")
  shutil.rmtree(level)
  declared.check_source(dataclasses.replace(named, source=other), path.parent)


@pytest.mark.slow
def test_a_source_that_rewinds_to_another_step_is_warned_of(tmp_path, caplog):
  source = dataclasses.replace(SOURCE, rewind="2it")
  one = change(source=source, replicates=1, controls=("transferred",))
  tf_lottery.prove(one, tmp_path)
  assert "have the weights of step 2, and its target's those of step 0" in (
    caplog.text
  )


@pytest.mark.parametrize(("seed", "warns"), [(0, True), (50, False)])
def test_a_source_with_the_same_weights_is_warned_of(
  seed, warns, tmp_path, caplog
):
  source = dataclasses.replace(SOURCE, seed=seed, name="mine")
  one = change(source=source, replicates=1, controls=("transferred_mask",))
  tf_lottery.prove(one, tmp_path)
  assert ("start from the same weights, of seed 0" in caplog.text) == warns


@pytest.mark.slow
def test_replicates_in_processes_use_their_own_source(tmp_path):
  proof = tf_lottery.prove(TARGET, tmp_path, processes=2)
  assert not proof.failed
  assert len(list(proof.directory.glob("*/level_01-transferred-0"))) == 2
