"""The study of transferred tickets, on a task of seconds."""

import csv
import dataclasses

import numpy as np
import pytest

import tf_lottery
from scripts import transfer_study_page
from scripts import transfer_study_tasks
from tests.experiments import mine
from tf_lottery.papers import datasets


def test_every_target_has_a_source_of_its_own():
  tasks = transfer_study_tasks.tasks("data")
  assert len(tasks) == 6
  for target in tasks.values():
    assert target.id != target.source.id
    assert target.seed != target.source.seed
    densities = [target.schedule[n - 1] for n in target.control_levels]
    assert densities == pytest.approx([0.21, 0.069, 0.035], abs=2e-3)
  # A search serves both directions.
  there, back = tasks["fashion_to_mnist"], tasks["mnist_to_fashion"]
  assert (there.id, there.source.id) == (back.source.id, back.id)


def test_the_data_are_changed_alike_for_all_parts():
  plain = datasets.load_data("digits", seed=1)
  flipped = transfer_study_tasks.load_flipped_digits(seed=1)
  shuffled = transfer_study_tasks.load_shuffled_digits(seed=1)
  source = transfer_study_tasks.load_digits(seed=101)
  for part in ("train", "validation", "test"):
    x, y = getattr(plain, part)
    np.testing.assert_array_equal(source[part][0], x)
    np.testing.assert_array_equal(flipped[part][0][..., ::-1], x)
    np.testing.assert_array_equal(flipped[part][1], y)
    assert not np.array_equal(shuffled[part][0], x)
    np.testing.assert_allclose(
      shuffled[part][0].sum((1, 2)), x.sum((1, 2)), rtol=1e-5
    )


def test_the_page_tells_what_was_trained(tmp_path):
  source = tf_lottery.Experiment(
    make_model=mine.make_model,
    load_data=mine.load_twice,  # it has no test data
    steps=8,
    batch_size=24,
    schedule=(0.5,),
    control_levels=(1,),
    replicates=2,
    title="Two classes",
    seed=9,
  )
  target = dataclasses.replace(
    source,
    title="Two classes again",
    seed=0,
    source=source,
    controls=("transferred", "transferred_reinit"),
  )
  proof = tf_lottery.prove(target, tmp_path / "runs")
  transfer_study_page.write({"again": proof}, tmp_path)
  page = (tmp_path / "README.md").read_text("utf-8")
  assert "## From Two classes to Two classes again" in page
  assert 'Does the ticket of "Two classes" travel? With 50.0 % of' in page
  with (tmp_path / "trainings.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 8  # dense, ticket and two controls, of two replicates
  assert all(row["validation"] and not row["test"] for row in rows)
  assert {row["method"] for row in rows} == {
    *("dense", "ticket", "transferred", "transferred_reinit")
  }
