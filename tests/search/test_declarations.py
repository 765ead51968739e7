import functools
import json

import keras
import numpy as np
import pytest
import tf_keras

import tf_lottery
from tests import small
from tf_lottery import criteria
from tf_lottery import rewinding
from tf_lottery.search import declarations


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


def test_versions_name_what_results_depend_on():
  assert declarations.versions().keys() >= {"python", "tensorflow", "keras"}
