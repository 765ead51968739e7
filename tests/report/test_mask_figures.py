"""Figures of what tickets keep, and of how much their masks overlap."""

import keras
import numpy as np
import pytest

import tf_lottery
from tests import runs
from tests import small
from tf_lottery import analysis
from tf_lottery import report
from tf_lottery.report import gallery
from tf_lottery.storage import run_directory

SHAPES = {"0/kernel": (36, 10)}


def mask(density, seed=0):
  return tf_lottery.Mask.random(SHAPES, density, seed)


def written(picture, folder):
  """Checks the files of a figure."""
  assert picture.svg.startswith("<svg")
  for end in ("svg", "png"):
    assert (folder / f"{picture.name}.{end}").stat().st_size > 1000
  return picture


def test_overlaps_become_a_point_for_each_density(tmp_path):
  overlaps = [
    analysis.overlap(mask(density, seed), mask(density, other))
    for density in (0.5, 0.1)
    for seed, other in ((0, 0), (1, 1))
  ]
  made = report.draw_overlap(overlaps, tmp_path / "overlap")
  alt = written(made, tmp_path).alt
  assert "100 % (by chance 50.0 %) at 50.0 % of the weights" in alt
  assert "100 % (by chance 10.0 %) at 10.0 % of the weights" in alt
  assert "by chance" in made.svg


def test_inputs_of_a_signal_become_lines(tmp_path):
  kept = np.zeros(SHAPES["0/kernel"], bool)
  kept[[7, 7, 8], [0, 1, 0]] = True
  masks = [mask(0.5), tf_lottery.Mask({"0/kernel": kept})]
  made = report.draw_kept_inputs(masks, (36,), tmp_path / "inputs")
  alt = written(made, tmp_path).alt
  assert alt.startswith("Lines")
  assert alt.endswith("(7,).")
  assert "50.0 %, 0.833 %" in alt


def test_inputs_of_an_image_become_maps(tmp_path):
  kept = np.zeros(SHAPES["0/kernel"], bool)
  kept[[7, 7, 8], [0, 1, 0]] = True  # the second row's second pixel
  sparse = tf_lottery.Mask({"0/kernel": kept})
  made = report.draw_kept_inputs([sparse], (6, 6), tmp_path / "inputs")
  alt = written(made, tmp_path).alt
  assert alt.startswith("Maps")
  assert alt.endswith("most are kept at (1, 1).")


def test_bars_tell_the_emptiest_axes(tmp_path):
  model = small.make_model(keras)
  shapes = tf_lottery.bind(model).shapes
  arrays = {key: np.ones(shape, bool) for key, shape in shapes.items()}
  first = next(iter(arrays))
  arrays[first][:, :6] = False  # 6 of 8 units
  kept = analysis.kept(tf_lottery.Mask(arrays), model)
  made = report.draw_kept(kept, tmp_path / "kept")
  assert "units 25.0 %" in written(made, tmp_path).alt


def test_where_nothing_is_kept_there_is_no_figure(tmp_path):
  empty = tf_lottery.Mask({"0/kernel": np.zeros((36, 10), bool)})
  none = analysis.overlap(empty, empty)
  assert report.draw_overlap([none], tmp_path / "a") is None
  assert report.draw_overlap([], tmp_path / "a") is None
  assert report.draw_kept_inputs([empty], (36,), tmp_path / "a") is None
  assert list(tmp_path.iterdir()) == []


def test_an_input_of_three_axes_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"one or two axes, got \(3, 3, 4\)"):
    report.draw_kept_inputs([mask(0.5)], (3, 3, 4), tmp_path / "inputs")


def test_a_report_compares_the_tickets_of_replicates(tmp_path):
  home = runs.write_experiment(tmp_path / "runs")
  for replicate in range(3):
    path = home / f"replicate_{replicate:02d}"
    drawn = tf_lottery.Mask.random(runs.SHAPES, 0.2, seed=replicate)
    runs.write_ticket(run_directory.RunDirectory(path).level(2), drawn)
  (section,) = report.write([home], tmp_path / "out").sections
  (made,) = [p for p in section.pictures if p.name == "overlap"]
  # At the first Level all replicates of these runs have the same mask.
  assert "keeps 100 % (by chance 50" in made.alt
  last = made.alt.split(" and ")[-1]
  assert float(last.split(" %")[0]) < 40
  text = (tmp_path / "out" / "summary.md").read_text()
  assert f"![{made.alt}](figures/overlap.png)" in text


def alternatives(home):
  """The alternative texts of an experiment's figures, by name."""
  (evidence,) = report.gather([home])
  return {name: alt for name, _, alt, _ in gallery.sketches(evidence)}


def test_one_replicate_has_nothing_to_overlap_with(tmp_path):
  home = runs.write_experiment(tmp_path, replicates=1)
  assert "overlap" not in alternatives(home)


def test_a_damaged_ticket_is_left_out(tmp_path):
  home = runs.write_experiment(tmp_path, replicates=2)
  both = alternatives(home)["overlap"]
  (home / "replicate_01/level_01/ticket.safetensors").write_bytes(b"damaged")
  last = alternatives(home)["overlap"]
  assert "at 50.0 % of" in both
  assert "at 50.0 % of" not in last
  assert both.split(" and ")[-1] in last


def test_tickets_of_another_architecture_are_left_out(tmp_path):
  home = runs.write_experiment(tmp_path, replicates=2)
  run = run_directory.RunDirectory(home / "replicate_01")
  for level in (1, 2):
    other = {"0/kernel": (9, 9), "1/kernel": (9, 9)}
    runs.write_ticket(run.level(level), tf_lottery.Mask.random(other, 0.2, 0))
  assert "overlap" not in alternatives(home)
