import functools
import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tf_lottery import criteria
from tf_lottery import rewinding
from tf_lottery.papers import recipes
from tf_lottery.search import declarations
from tf_lottery.search import differences

WARMUP = pathlib.Path(__file__).parents[1] / "data" / "searches" / "warmup"


@pytest.mark.parametrize(
  ("value", "expected"),
  [
    (None, None),
    (True, True),
    (np.float32(0.5), 0.5),
    ((1, "a"), [1, "a"]),
    ({1: 2.0}, {"1": 2.0}),
    (criteria.random, "tf_lottery.criteria.random"),
    (
      functools.partial(criteria.random, seed=3),
      ["tf_lottery.criteria.random", [], {"seed": 3}],
    ),
    (tf_lottery.global_(["dense"]), {"name": "Global", "exempt": ["dense"]}),
    (object(), "object"),
  ],
)
def test_plain(value, expected):
  assert declarations.plain(value) == expected
  assert json.dumps(declarations.plain(value))


def test_rewinds_differ():
  rewinds = [
    tf_lottery.to_init(),
    tf_lottery.to_step(5),
    tf_lottery.to_step(5, keep_optimizer=True),
    rewinding.learning_rate(),
    rewinding.finetune(),
  ]
  texts = {json.dumps(declarations.plain(rewind)) for rewind in rewinds}
  assert len(texts) == len(rewinds)


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_a_rebuilt_model_has_the_same_declaration(library):
  def declared(**settings):
    trainer = tf_lottery.Trainer(lambda: small.make_model(library, **settings))
    return declarations.of_model(trainer)

  first = declared()
  assert json.dumps(first)
  assert declared() == first
  for settings, field in (
    ({"activation": "tanh"}, "layers"),
    ({"dropout": 0.5}, "layers"),
    ({"learning_rate": 0.5}, "optimizer"),
  ):
    other = declared(**settings)
    assert first[field] != other[field]
    assert {n for n in first if first[n] != other[n]} == {field}


def test_a_run_that_names_a_moved_module_goes_on(tmp_path):
  """Its learning-rate schedule was declared when recipes had another module."""
  run_dir = tmp_path / "warmup"
  shutil.copytree(WARMUP, run_dir)
  assert "tf_lottery.workloads" in (run_dir / "declaration.json").read_text()

  def make_model():
    model = small.make_model(keras)
    rate = recipes.learning_rate(0.1, warmup=5, drops=(15,))
    model.compile(
      keras.optimizers.SGD(rate, momentum=0.9),
      keras.losses.SparseCategoricalCrossentropy(from_logits=True),
      metrics=["accuracy"],
    )
    return model

  def search(**changes):
    return tf_lottery.find_ticket(
      make_model,
      small.examples(96),
      validation_data=small.examples(40, 1),
      test_data=small.examples(40, 2),
      **{
        "steps": 20,
        "batch_size": 12,
        "schedule": tf_lottery.geometric(2, 0.5),
        "method": "iterative",
        "criterion": criteria.magnitude,
        "scope": tf_lottery.global_(),
        "seed": 3,
        "run_dir": run_dir,
        **changes,
      },
    )

  found = search()
  assert found.trainer.traces == 0
  assert [r.metrics["test_accuracy"] for r in found.rounds] == pytest.approx(
    [0.925, 0.85, 0.7]
  )
  assert (
    "tf_lottery.workloads" not in (run_dir / "declaration.json").read_text()
  )
  with pytest.raises(ValueError, match=r"criterion: it was .*magnitude"):
    search(criterion=criteria.random)
  # It did not name its scope, and the default was another one.
  with pytest.raises(
    ValueError, match=r"scope=tf_lottery\.global_\(\) to resume such a run"
  ):
    search(scope=None)


def test_a_run_is_deepened(tmp_path):
  whole = small.search(tmp_path / "whole", schedule=(0.5, 0.25))
  parts = tmp_path / "parts"
  small.search(parts, schedule=(0.5,))
  deeper = small.search(parts, schedule=(0.5, 0.25))
  assert [r.metrics for r in deeper.rounds] == [r.metrics for r in whole.rounds]
  declared = json.loads((parts / "declaration.json").read_text())
  assert declared["schedule"] == [0.5, 0.25]
  # A shorter schedule reads back the first Levels, and deletes nothing.
  first = small.search(parts, schedule=(0.5,))
  assert first.trainer.traces == 0
  assert len(first.rounds) == 2
  assert (parts / "level_02" / "round.json").exists()
  assert json.loads((parts / "declaration.json").read_text()) == declared
  with pytest.raises(ValueError, match=r"schedule: it was \[0.5, 0.25\], now"):
    small.search(parts, schedule=(0.4, 0.25))
  assert json.loads((parts / "declaration.json").read_text()) == declared


def test_another_optimizer_deepens_nothing(tmp_path):
  small.search(tmp_path, schedule=(0.5,))
  with pytest.raises(ValueError, match="holds another run") as caught:
    small.search(tmp_path, schedule=(0.5, 0.25), learning_rate=0.5)
  assert "optimizer: learning_rate was 0.0" in str(caught.value)
  assert "now 0.5" in str(caught.value)
  assert "schedule" not in str(caught.value)


def layers_of(*units):
  return [
    {"class": "Sequential"},
    *({"class": "Dense", "name": "dense", "units": n} for n in units),
  ]


@pytest.mark.parametrize(
  ("before", "now", "expected"),
  [
    (
      {"layers": layers_of(100, 10), "initial": "a", "weights": []},
      {"layers": layers_of(300, 10), "initial": "b", "weights": [1]},
      ["layers: layer 1 was Dense(units=100), now Dense(units=300)"],
    ),
    (
      {"layers": layers_of(100, 10)},
      {"layers": layers_of(100, 50, 10)},
      ["layers: there is a new layer 2, Dense(units=50)"],
    ),
    (
      {"layers": [{"class": "Dense", "units": 3}]},
      {"layers": [{"class": "Conv2D", "filters": 4}]},
      ["layers: layer 0 was Dense(units=3), now Conv2D(filters=4)"],
    ),
    (
      {"weights": [["0/kernel", [6, 8], True]]},
      {"weights": [["0/kernel", [6, 8], False]]},
      [
        "weights: 0/kernel was (6, 8), prunable, now (6, 8), not prunable",
      ],
    ),
    (
      {"train_data": "96 examples 0a1b"},
      {"train_data": "96 examples ffff"},
      [
        "train_data: other values or another shape, in as many examples (96)",
      ],
    ),
    (
      {"train_data": "96 examples 0a1b"},
      {"train_data": "90 examples ffff"},
      ["train_data: it was 96 examples, now 90"],
    ),
    (
      {"train_data": "96 examples 0a1b"},
      {"train_data": "96 examples 0a1b crop_and_flip"},
      ["train_data: it was with no augmentation, now with crop_and_flip"],
    ),
    (
      {"optimizer": {"class": "SGD", "learning_rate": {"config": {"a": 1}}}},
      {"optimizer": {"class": "SGD", "learning_rate": {"config": {"a": 2}}}},
      ["optimizer: learning_rate.config.a was 1, now 2"],
    ),
    ({"seed": 1, "initial": "a"}, {"seed": 2, "initial": "b"}, None),
  ],
)
def test_differences_are_said_in_words(before, now, expected):
  expected = expected or ["seed: it was 1, now 2"]
  assert differences.differences(before, now) == expected


def test_versions_name_what_results_depend_on():
  assert declarations.versions().keys() >= {"python", "tensorflow", "keras"}
