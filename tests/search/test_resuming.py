"""Searches that are interrupted at each of their writes, and go on."""

import json
import os
import pathlib

import keras
import pytest

import tf_lottery
from tests import children
from tests import small
from tests.search import rigged
from tf_lottery.search.methods import at_init
from tf_lottery.search.methods import cycles
from tf_lottery.search.methods import early_bird
from tf_lottery.search.methods import gradual
from tf_lottery.search.methods import iterative

# With dropout and slots, all that a checkpoint must hold matters.
SMALL = {
  "iterative": {"method": iterative(9), "levels": 2},
  "stable": {"method": iterative("stable"), "levels": 1},
  "cycles": {"method": cycles(2, 9), "levels": 2, "rewind": small.REWIND},
  "early-bird": {"method": early_bird(), "levels": 2},
  "force": {"method": at_init("force", 2), "levels": 2},
}
RIGGED = {
  "bisect": {"method": gradual(0.5), "choose": "bisect"},
  "budget": {"budget": 7},
}
CASES = SMALL | RIGGED
SLOW = {"iterative", "early-bird"}


class Interrupted(BaseException):
  """What nothing catches."""


@pytest.fixture(scope="module")
def trainers():
  return {
    "small": tf_lottery.Trainer(
      lambda: small.make_model(keras, dropout=0.2), seed=3
    ),
    "rigged": tf_lottery.Trainer(rigged.make_model),
  }


def search(case, trainers, path):
  if case in SMALL:
    return small.search(path, trainer=trainers["small"], **CASES[case])
  return rigged.search(path, trainers["rigged"], **CASES[case])


def interrupted(patch, number, function, *arguments):
  """Calls a function that is interrupted before its n-th change of files.

  Returns:
    Whether it was; else it came to its end.
  """
  left = number

  def counting(real):
    def change(*args, **kwargs):
      nonlocal left
      if not left:
        raise Interrupted
      left -= 1
      return real(*args, **kwargs)

    return change

  with patch.context() as here:
    for name in ("replace", "rename"):
      here.setattr(os, name, counting(getattr(os, name)))
    try:
      function(*arguments)
    except Interrupted:
      return True
  return False


def written(path: pathlib.Path):
  """What a run has written, without times and what is only for the way."""
  found = {}
  for file in sorted(path.rglob("*")):
    name = str(file.relative_to(path))
    if file.is_dir() or "tensorboard" in name or "checkpoint" in name:
      continue
    if file.suffix == ".jsonl":
      rows = map(json.loads, file.read_text().splitlines())
      found[name] = [{**row, "seconds": 0} for row in rows]
    elif file.suffix == ".json":
      found[name] = {**json.loads(file.read_text()), "seconds": 0}
    else:
      found[name] = file.read_bytes()
  return found


def check_same(path, expected):
  found, expected = written(path), written(expected)
  assert sorted(found) == sorted(expected)
  for name, content in expected.items():
    assert found[name] == content, name


@pytest.mark.parametrize(
  "case",
  [
    pytest.param(case, marks=[pytest.mark.slow] if case in SLOW else [])
    for case in CASES
  ],
)
def test_an_interrupted_search_goes_on_to_the_same_result(
  case, trainers, tmp_path, monkeypatch
):
  """Each attempt comes a little further than the one before."""
  search(case, trainers, tmp_path / "expected")
  attempts = 1
  path = tmp_path / "interrupted"
  while interrupted(monkeypatch, attempts, search, case, trainers, path):
    attempts += 3
  assert attempts > 12
  check_same(path, tmp_path / "expected")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_any_moment(case, trainers, tmp_path, monkeypatch):
  search(case, trainers, tmp_path / "expected")
  number, path = 0, tmp_path / "0"
  while interrupted(monkeypatch, number, search, case, trainers, path):
    search(case, trainers, path)
    check_same(path, tmp_path / "expected")
    number += 9
    path = tmp_path / str(number)
  assert number > 20


def search_alone(path):
  trainer = tf_lottery.Trainer(rigged.make_model)
  rigged.search(path, trainer, budget=7)


@pytest.mark.slow
def test_a_killed_search_within_a_budget_goes_on(tmp_path):
  search_alone(tmp_path / "expected")
  path = tmp_path / "killed"
  kills = 0
  for number in (60, 50, 60):
    kills += children.killed_at(number, search_alone, path)
  assert kills >= 2
  search_alone(path)
  check_same(path, tmp_path / "expected")
