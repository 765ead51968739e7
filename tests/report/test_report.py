import csv
import dataclasses
import html.parser
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys

import markupsafe
import numpy as np
import pytest

from scripts import make_report
from tests import runs
from tf_lottery import masks
from tf_lottery import papers
from tf_lottery import report
from tf_lottery.papers import claims
from tf_lottery.report import drawing
from tf_lottery.report import evidence
from tf_lottery.report import gallery
from tf_lottery.report import headlines
from tf_lottery.report import tables
from tf_lottery.report import wording
from tf_lottery.report import workers
from tf_lottery.report.sections import distinct
from tf_lottery.storage import run_directory

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def declare_recipe(home, recipe):
  path = home / "experiment.json"
  declared = json.loads(path.read_text())
  path.write_text(json.dumps({**declared, "recipe": recipe}))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """A report of an experiment with three replicates."""
  root = tmp_path_factory.mktemp("report")
  home = runs.write_experiment(root, "LeNet_1a2b")
  declare_recipe(home, "lenet_300_100")
  return report.write(
    [home], root / "out", 0.01, claims_by_recipe=claims.BY_RECIPE
  )


@pytest.fixture
def no_drawing(monkeypatch):
  """Figures are made, and not rendered, which takes the time."""

  def draw(function, *_):
    with drawing.look():
      figure = function()
    return figure and "<svg ></svg>"

  monkeypatch.setattr(drawing, "draw", draw)
  monkeypatch.setattr(drawing, "legend", lambda _: None)
  monkeypatch.setattr(workers, "run", lambda jobs: [job() for job in jobs])


def page(made):
  return made.paths[0].read_text(encoding="utf-8")


def rows(made, name):
  path = made.paths[0].with_name(name)
  return list(csv.DictReader(path.read_text().splitlines()))


def test_the_headline_says_what_was_found(made):
  assert made.sections[0].headline == (
    "The ticket with 50.0 % of the weights matches the dense network within"
    " 1 point, and wins: it is better than its random reinits. This holds as a"
    " whole at a significance of 5 %. At 50.0 %: test accuracy 90.0 % (89.9 to"
    " 90.1, 3 replicates) against 89.0 % dense; reinitialised 87.1 %. The"
    " ticket with 20.0 % is below dense."
  )
  assert headlines.headline(made.sections[0].evidence) in page(made).replace(
    "\N{NO-BREAK SPACE}", " "
  )


def test_the_end_of_training_comes_first_and_the_early_stop_is_folded(made):
  section = made.sections[0]
  for name in ("verdicts", "summary"):
    assert "ccuracy at the end of training" in section.tables[name].caption
    early = section.tables[f"{name}_early"].caption
    assert "ccuracy at the early stop" in early
  assert section.pictures[0].name == "accuracy-end"
  folded = re.findall(r"<summary>(.*)</summary>", page(made))
  assert "The same at the early stop" in folded
  assert "Values at the early stop" in folded


def test_all_files_are_written_and_named(made):
  names = [path.name for path in made.paths]
  assert names[:4] == [
    "report.html",
    "summary.md",
    "verdicts.csv",
    "summary.csv",
  ]
  assert sorted(names[4:]) == sorted(
    f"{name}.{ending}"
    for name in (
      "accuracy-early",
      "accuracy-end",
      "curves",
      "early-stop",
      "input",
      "layers",
      "overlap",
    )
    for ending in ("png", "svg")
  )
  assert all(path.stat().st_size > 100 for path in made.paths)


def test_numbers_are_in_the_csv_files(made):
  (dense,) = [
    row
    for row in rows(made, "summary.csv")
    if row["method"] == "dense" and row["measure"] == "test_early"
  ]
  assert float(dense["mean"]) == pytest.approx(0.9)
  assert (float(dense["low"]), dense["n"]) == (pytest.approx(0.899), "3")
  words = [row["word"] for row in rows(made, "verdicts.csv")]
  assert words == ["winning", "below"] * 2


def test_markdown_has_the_tables(made):
  text = made.paths[1].read_text()
  assert text.startswith("# Lottery tickets\n\n## LeNet_1a2b\n\nThe ticket")
  assert "| 50.0 % | winning | +1.00 |" in text
  assert "| 100 %, dense | 89.0 % (88.9" in text


class Outline(html.parser.HTMLParser):
  """Checks that tags close, and notes ids and tags."""

  void = ("meta", "link", "br", "path", "use", "rect", "image", "line")

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.ids = [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.ids += [value for name, value in attrs if name == "id"]
    if tag not in self.void:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    self.ids += [value for name, value in attrs if name == "id"]

  def handle_endtag(self, tag):
    if tag not in self.void:
      assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone(made):
  text = page(made)
  outline = Outline(text)
  assert outline.open == []
  assert len(outline.ids) == len(set(outline.ids))
  assert outline.tags.count("h1") == 1
  assert outline.tags.count("figure") == outline.tags.count("figcaption") == 7
  assert outline.tags.count("table") == outline.tags.count("caption") == 7
  assert outline.tags.count("script") == 0
  assert '<html lang="en">' in text
  assert "<title>LeNet_1a2b: lottery tickets</title>" in text
  assert text.count('role="img" aria-label="') == 7
  without_names = re.sub(r'xmlns(:\w+)?="[^"]+"', "", text)
  assert not re.findall(r"https?://|//\w+\.\w+|@import", without_names)
  links = re.findall(r'(?:href|src)="([^"]{0,12})', without_names)
  assert all(link.startswith(("#", "data:")) for link in links)


def test_what_runs_say_is_escaped(made):
  assert "A small &lt;net&gt; on digits." in page(made)


def test_the_declaration_is_told(made):
  text = page(made).replace("\N{NO-BREAK SPACE}", " ")
  facts = dict(
    re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td></tr>', text)
  )
  assert facts["seeds"] == "0, 1, 2"
  assert facts["schedule"] == "2 Levels from 50.0 % to 20.0 %"
  assert facts["runs"] == "3 runs, 3 finished dense networks"
  assert facts["machine"] == "x86_64"
  assert facts["version of tensorflow"] == "2.21.0"
  assert facts["declared steps"] == "30"
  assert "So far" not in text


def test_one_replicate_gives_no_verdict(tmp_path, no_drawing):
  methods = {"dense": [0.9], "ticket": [0.91, 0.7], "random_reinit": [0.85]}
  runs.write_run(tmp_path / "run", methods)
  made = report.write([tmp_path / "run"], tmp_path / "out")
  assert made.sections[0].headline == (
    "One replicate cannot give a verdict. The smallest ticket whose mean is"
    " within 0.89 points of dense keeps 50.0 % of the weights: test accuracy"
    " 90.0 % against 89.0 % dense; reinitialised 84.0 %. Train at least 3: run"
    " it again with each seed from 1 to 2, into directories beside this one."
  )
  assert "1 replicate so far; a test needs at least 2" in page(made)


def links(text):
  return re.findall(r'<a href="([^"]+)"', text)


def test_an_overview_leads_to_the_page_of_each_experiment(tmp_path, no_drawing):
  for name in ("a/mine", "b/mine", "other"):
    runs.write_run(tmp_path / name, {"dense": [0.9]})
  made = report.write([tmp_path], tmp_path / "out")
  names = [section.evidence.experiment for section in made.sections]
  assert names == [str(tmp_path / "a/mine"), str(tmp_path / "b/mine"), "other"]
  assert made.paths[0] == tmp_path / "out" / "report.html"
  found = links(page(made))
  assert found == [section.page for section in made.sections]
  for link in found:
    path = tmp_path / "out" / link
    assert path in made.paths
    text = path.read_text("utf-8")
    assert Outline(text).open == []
    (back,) = links(text)
    assert (path.parent / back).resolve() == made.paths[0]


def cells(text):
  """The text of each cell of the overview, row by row."""
  rows = re.findall("<tr>(.*?)</tr>", text.partition("<tbody>")[2], re.DOTALL)
  plain = [re.sub("<[^>]+>", " ", row) for row in rows]
  return [" ".join(row.replace("\xa0", " ").split()) for row in plain]


def test_the_overview_has_verdict_values_controls_and_price(
  tmp_path, no_drawing
):
  one = runs.write_experiment(tmp_path, "one")
  other = runs.write_experiment(tmp_path, "other", replicates=1)
  for home, name in ((one, "LeNet on digits"), (other, "VGG on digits")):
    path = home / "experiment.json"
    declared = json.loads(path.read_text())
    path.write_text(json.dumps({**declared, "heading": name, "unknown": [{}]}))
  made = report.write([tmp_path], tmp_path / "out", 0.01)
  first, second = cells(page(made))
  assert first.startswith("LeNet on digits ")
  assert first.endswith(
    "3 replicates (seeds 0, 1, 2) winning 50.0 % of the weights 90.0 % test"
    " accuracy 89.0 % 87.1 % random reinit 27 trainings 94 s answer: 3.00"
  )
  assert "1 replicate (seed 0) cannot tell" in second
  assert '<span class="badge winning">' in page(made)


def test_experiments_of_one_name_are_told_apart(tmp_path, no_drawing):
  for name, rewind in (("a-12ab", "init"), ("b-34cd", "100it")):
    home = runs.write_experiment(tmp_path, name, replicates=1)
    path = home / "experiment.json"
    declared = json.loads(path.read_text())
    declared |= {"recipe": "conv2", "data": "digits", "rewind": rewind}
    path.write_text(json.dumps(declared))
  made = report.write([tmp_path], tmp_path / "out")
  assert [section.title for section in made.sections] == [
    "conv2 on digits, rewind init",
    "conv2 on digits, rewind 100it",
  ]


def test_the_page_hands_out_the_ticket_of_the_best_replicate(made):
  text = page(made)
  run = made.sections[0].evidence.runs[1].path  # its noise is the greatest
  assert f'Ticket.load("{run}/level_01/ticket.safetensors")' in (
    text.replace("&#34;", '"')
  )
  assert f"export_ticket.py --run={run} --level=1" in text
  assert (run / "level_01" / "ticket.safetensors").is_file()
  assert '<div class="found winning">' in text


def test_without_a_matching_ticket_there_is_none_to_take(tmp_path, no_drawing):
  for seed in range(3):
    noise = seed / 1000
    methods = {"dense": [0.9 + noise], "ticket": [0.5, 0.4 - noise]}
    runs.write_run(tmp_path / f"run{seed}", methods, seed=seed)
  made = report.write([tmp_path], tmp_path / "out", 0.01)
  assert '<div class="found below">' in page(made)
  assert "there is none to take yet" in page(made)
  assert "Ticket.load" not in page(made)


def test_neighbours_of_which_one_cannot_tell_share_a_row(tmp_path, no_drawing):
  values = [0.91, 0.905, 0.9, 0.89, 0.88]
  schedule = [0.5**level for level in range(1, 6)]
  runs.write_run(
    tmp_path, {"dense": [0.9], "ticket": values}, schedule=schedule
  )
  made = report.write([tmp_path], tmp_path / "out")
  (row,) = made.sections[0].tables["verdicts"].rows
  assert row[:3] == (
    "50.0 % to 3.12 % (5 Levels)",
    "cannot tell",
    f"{wording.MINUS}2.00 to +1.00",
  )
  assert len(rows(made, "verdicts.csv")) == 10


def test_a_terminal_shows_levels_that_are_not_tested_in_one_line(
  tmp_path, no_drawing
):
  home = tmp_path / "mine"
  home.mkdir()
  declared = {"id": "mine", "control_levels": [4]}
  (home / "experiment.json").write_text(json.dumps(declared))
  for seed in range(3):
    noise = seed / 1000
    tickets = [0.8, 0.92, 0.85 + noise, 0.93 - noise, 0.5]
    runs.write_run(
      home / f"replicate_{seed:02d}",
      {"dense": [0.9 + noise], "ticket": tickets},
      seed=seed,
      schedule=[0.5**level for level in range(1, 6)],
    )
  made = report.write([home], tmp_path / "out", 0.01)
  section = made.sections[0]
  printed = tables.verdicts_as_text(section.evidence).splitlines()
  found = [re.split("  +", line.strip()) for line in printed[4:]]
  other = ["cannot tell", "not tested: the experiment declares other Levels"]
  no_reinit = ["matching", "no random reinit was trained"]
  dense = "89.1 %"
  assert found == [
    [
      *("1 to 3", "50.0 % to 12.5 %", "79.0 % to 91.0 %", dense),
      *("1.00 to 3.00", "1.00", *other),
    ],
    ["4", "6.25 %", "91.9 %", dense, "4.00", "1.00", *no_reinit],
    ["5", "3.12 %", "49.0 %", dense, "5.00", "1.00", *other],
  ]
  assert len(section.tables["verdicts"].rows) == 3
  assert section.outcome.word == "matching"
  assert section.outcome.ticket.level == 4
  assert len(rows(made, "verdicts.csv")) == 10


def test_the_emptiest_layer_is_in_the_table(tmp_path, no_drawing):
  run = runs.write_run(tmp_path / "run", {"dense": [0.9], "ticket": [0.9]})
  kept = np.zeros((64, 6), bool)
  kept[0] = True
  both = {"0/kernel": kept, "1/kernel": np.ones((6, 3), bool)}
  runs.write_ticket(run.level(1), masks.Mask(both))
  made = report.write([run.path], tmp_path / "out")
  table = made.sections[0].tables["summary"]
  assert table.columns[-1] == "emptiest layer"
  assert [row[-1] for row in table.rows] == ["", "1.56 % dense/kernel"]


def test_names_that_become_equal_are_told_apart():
  names = ["A b", "a-b", "a_b", "///"]
  assert distinct(names) == ["a-b", "a-b--2", "a-b--3", "run"]


def test_a_report_of_what_goes_on_says_so(tmp_path, no_drawing):
  run = runs.write_run(tmp_path / "run", {"dense": [0.9], "ticket": [0.91]})
  runs.write_round(run.control(1, "random_reinit"), 0.8, 0.5, done=False)
  made = report.write([tmp_path / "run"], tmp_path / "out")
  assert made.sections[0].headline.startswith("So far: One replicate")
  assert "2 trainings of 1 run are not finished." in page(made)


def run_script(capsys, out, *paths):
  """What `make_report.py` prints, and the page that it writes."""
  make_report.flags.FLAGS(["make_report", f"--out={out}"])
  make_report.main(["make_report", *map(str, paths)])
  return capsys.readouterr().out, (out / "report.html").read_text("utf-8")


@pytest.fixture
def near_the_claims(tmp_path):
  """An experiment whose densities the claims of both papers are about."""
  home = runs.write_experiment(tmp_path, "mine", replicates=0)
  for seed in range(2):
    methods = {
      "dense": [0.9 + seed / 1000],
      "ticket": [0.91 + seed / 1000, 0.91],
      "random_reinit": [0.88, 0.88 + seed / 1000],
    }
    path = home / f"replicate_{seed:02d}"
    runs.write_run(path, methods, seed=seed, schedule=(0.2107, 0.09))
  return home


@pytest.mark.parametrize(
  ("recipe", "told", "not_told"),
  [
    ("lenet_300_100", "random reinits, near 21 %", "near 9 %"),
    ("conv2", "random reinits, near 9 %", "near 21 %"),
  ],
)
def test_the_claims_are_about_the_declared_recipe(
  tmp_path, no_drawing, capsys, near_the_claims, recipe, told, not_told
):
  declare_recipe(near_the_claims, recipe)
  _, text = run_script(capsys, tmp_path / "out", near_the_claims)
  text = text.replace("\N{NO-BREAK SPACE}", " ")
  assert "Claims of Frankle and Carbin (arXiv 1803.03635), tested" in text
  assert told in text
  assert not_told not in text


@pytest.mark.parametrize(
  "recipe", ["conv4", "resnet20", "vgg19", "mine", None, 3, ["conv2"]]
)
def test_the_papers_claim_nothing_about_other_recipes(
  tmp_path, no_drawing, capsys, near_the_claims, recipe
):
  declare_recipe(near_the_claims, recipe)
  _, text = run_script(capsys, tmp_path / "out", near_the_claims)
  assert "Claims" not in text


@pytest.mark.parametrize(
  ("make_model", "claimed"),
  [("tf_lottery.papers.experiments:make_model", True), ("mine:conv2", False)],
)
def test_the_papers_claim_things_about_their_own_networks_alone(
  tmp_path, no_drawing, capsys, near_the_claims, make_model, claimed
):
  path = near_the_claims / "experiment.json"
  declared = json.loads(path.read_text())
  declared |= {"make_model": make_model, "model_args": {"recipe": "conv2"}}
  path.write_text(json.dumps(declared))
  _, text = run_script(capsys, tmp_path / "out", near_the_claims)
  assert ("<h2>Claims</h2>" in text) == claimed


@pytest.mark.parametrize(("declared", "expected"), [(0.02, 0.02), ("x", None)])
def test_the_declared_tolerance_is_the_default(tmp_path, declared, expected):
  home = runs.write_experiment(tmp_path, replicates=2)
  path = home / "experiment.json"
  declaration = json.loads(path.read_text())
  path.write_text(json.dumps({**declaration, "tolerance": declared}))
  (one,) = evidence.gather([home])
  assert one.tolerance == expected
  (one,) = evidence.gather([home], 0.5)
  assert one.tolerance == 0.5


def test_the_papers_claim_nothing_about_a_model_of_ones_own(
  tmp_path, no_drawing, capsys, near_the_claims
):
  (near_the_claims / "experiment.json").unlink()
  _, text = run_script(capsys, tmp_path / "out", near_the_claims)
  assert "Claims" not in text


@pytest.fixture
def lower_is_better(tmp_path):
  """A run whose tickets have less of a metric that an old version declared."""
  for seed in range(3):
    methods = {
      "dense": [0.4 + seed / 1000],
      "ticket": [0.3 + seed / 1000, 0.5 - seed / 1000],
    }
    run = runs.write_run(
      tmp_path / f"run{seed}", methods, monitor="leaf1_mae", seed=seed
    )
    declared = run.read_declaration()
    assert "direction" not in declared
  return tmp_path


def test_a_run_that_declares_no_direction_is_shown_and_not_judged(
  tmp_path, no_drawing, capsys, lower_is_better
):
  printed, text = run_script(capsys, tmp_path / "out", lower_is_better / "run0")
  assert (
    "Dense test leaf1 mae is 0.39. Which tickets match it cannot be told: it is"
    " not known whether more or less of leaf1_mae is better."
  ) in printed
  assert 'objective=tf_lottery.Objective("leaf1_mae", "max")' in text
  assert "<h2>Values</h2>" in text
  assert "<h2>Verdicts</h2>" not in text


def test_a_declared_direction_decides_the_verdicts(
  tmp_path, no_drawing, capsys, lower_is_better
):
  home = lower_is_better / "mine"
  home.mkdir()
  (home / "experiment.json").write_text("{}")
  for seed in range(3):
    path = home / f"replicate_{seed:02d}"
    (lower_is_better / f"run{seed}").rename(path)
    run = run_directory.RunDirectory(path)
    run.write_declaration({**run.read_declaration(), "direction": "min"})
  printed, _ = run_script(capsys, tmp_path / "out", home)
  assert printed.startswith(
    "mine: The ticket with 50.0 % of the weights matches the dense network"
    " within 0.00391; no random reinits were trained that it could win against."
    " This holds as a whole at a significance of 5 %. At 50.0 %: test leaf1 mae"
    " 0.291 (0.29 to 0.292, 3 replicates) against 0.391 dense."
  )


@pytest.mark.parametrize(
  ("monitor", "direction", "shown"),
  [
    ("hits", "max", "89.0 %"),
    ("accuracy", "max", "89.0 %"),
    ("cosine_similarity", "max", "0.89"),
    ("accuracy_drop", "min", "0.89"),
  ],
)
def test_percent_is_for_fractions_of_which_more_is_better(
  tmp_path, no_drawing, capsys, monitor, direction, shown
):
  run = runs.write_run(tmp_path / "run", {"dense": [0.9]}, monitor=monitor)
  run.write_declaration({**run.read_declaration(), "direction": direction})
  printed, _ = run_script(capsys, tmp_path / "out", run.path)
  name = monitor.replace("_", " ")
  assert f"Dense test {name} is {shown}; no ticket is trained yet" in printed


def empty(run):
  for *_, round_ in list(run.rounds()):
    shutil.rmtree(round_.path)


def without_test_data(run):
  _rewrite(
    run,
    lambda row: {k: v for k, v in row.items() if not k.startswith("test_")},
  )


def diverged(run):
  _rewrite(
    run,
    lambda row: {
      name: value if name in ("step", "seconds") else math.nan
      for name, value in row.items()
    },
  )


def _rewrite(run, change):
  for *_, round_ in run.rounds():
    rows = [change(row) for row in round_.read_metrics()]
    (round_.path / "metrics.jsonl").unlink()
    for row in rows:
      round_.append_metrics(row)


def overwrite(name, content, folders="level_*"):
  def change(run):
    paths = run.path.glob(f"{folders}/{name}") if folders else [run.path / name]
    for path in list(paths):
      path.write_bytes(content)

  change.__name__ = f"{name} {content[:12]!r}"
  return change


def remove(name, folders="level_*"):
  def change(run):
    for path in run.path.glob(f"{folders}/{name}"):
      path.unlink()

  change.__name__ = f"no {name} {folders}"
  return change


STATES = [
  empty,
  without_test_data,
  diverged,
  *(
    overwrite("metrics.jsonl", content)
    for content in (b"", b"3\n[]\nnull\n", b"\xff\xfe", b'{"step": "x"}\n')
  ),
  overwrite("metrics.jsonl", b'{"step": 1, "val_loss": "low"}\n{"st'),
  overwrite("metrics.jsonl", b'{"step": 5, "val_accuracy": 1e400}\n'),
  *(overwrite("round.json", content) for content in (b"{", b"[]", b"{}")),
  overwrite("round.json", b'{"density": 0, "versions": 3}'),
  overwrite("round.json", b'{"density": -1, "seconds": "x"}'),
  overwrite("ticket.safetensors", b"damaged"),
  remove("round.json"),
  remove("metrics.jsonl"),
  remove("ticket.safetensors"),
  remove("round.json", "level_00"),
  remove("*", "level_00"),
  remove("*", "level_01"),
  *(
    overwrite("declaration.json", content, folders="")
    for content in (
      b"{",
      b"[]",
      b"{}",
      b'{"monitor": "mine"}',
      b'{"monitor": 3, "schedule": 4, "weights": 5, "layers": {}}',
      b'{"schedule": ["x"], "weights": [1], "layers": [null, {"class": 1}]}',
      b'{"monitor": "loss", "schedule": []}',
    )
  ),
]


@pytest.mark.parametrize("change", STATES, ids=lambda change: change.__name__)
def test_no_state_of_a_run_stops_the_report(tmp_path, no_drawing, change):
  some = runs.write_experiment(tmp_path / "some", "some", replicates=2)
  change(run_directory.RunDirectory(some / "replicate_00"))
  runs.write_run(tmp_path / "all", {"dense": [0.9], "ticket": [0.9, 0.8]})
  change(run_directory.RunDirectory(tmp_path / "all"))
  made = report.write([tmp_path], tmp_path / "out")
  assert [section.anchor for section in made.sections] == ["all", "some"]
  assert Outline(page(made)).open == []


def test_figures_show_the_masks_of_sparse_tickets(tmp_path, no_drawing):
  """Below a density of about 1/8 a ticket file has another code of its mask."""
  run = runs.write_run(
    tmp_path / "run",
    {"dense": [0.9], "ticket": [0.9, 0.8]},
    schedule=(0.5, 0.02),
  )
  kept = np.zeros((64, 6), bool)
  kept[[3, 20, 60], 5] = True
  runs.write_ticket(
    run.level(2),
    masks.Mask({"0/kernel": kept, "1/kernel": np.eye(6, 3, dtype=bool)}),
  )
  made = report.write([tmp_path / "run"], tmp_path / "out")
  pictures = {picture.name: picture for picture in made.sections[0].pictures}
  assert pictures["layers"].alt.endswith(
    "at the last Level: dense/kernel 0.781 %; dense_1/kernel 16.7 %."
  )


@pytest.mark.parametrize(
  ("name", "content", "what"),
  [
    ("level_00/metrics.jsonl", b'{"step": 1}\n', "metrics.jsonl, line 1, is"),
    ("level_01/round.json", b"{", "round.json is damaged: Expecting"),
    ("level_01/ticket.safetensors", b"damaged", "ticket.safetensors is not a"),
    ("declaration.json", b"[]", "declaration.json is damaged: Expected"),
  ],
)
def test_the_page_says_what_is_damaged(
  tmp_path, no_drawing, name, content, what
):
  run = runs.write_run(tmp_path / "run", {"dense": [0.9], "ticket": [0.9]})
  (run.path / name).write_bytes(content)
  made = report.write([run.path], tmp_path / "out")
  (found,) = made.sections[0].evidence.damage
  assert found.startswith(f"{run.path / name}")
  assert what in found
  assert str(markupsafe.escape(found)) in page(made)
  assert "Some files are damaged: 1 part left out." in page(made)
  assert f"- {found}" in made.paths[1].read_text()


def test_damage_of_an_experiment_is_said(tmp_path, no_drawing):
  home = runs.write_experiment(tmp_path, replicates=1)
  (home / "experiment.json").write_bytes(b'{"trainings": -1}')
  made = report.write([home], tmp_path / "out")
  (found,) = made.sections[0].evidence.damage
  assert "experiment.json is damaged: Expected `int` >= 0" in found


def test_nothing_is_said_to_be_damaged_where_nothing_is(made):
  assert made.sections[0].evidence.damage == ()
  assert "damaged" not in page(made)


def test_a_negative_tolerance_is_refused(tmp_path):
  with pytest.raises(ValueError, match="tolerance must be at least 0, got -1"):
    report.write([tmp_path], tmp_path / "out", tolerance=-1)


def test_the_script_prints_the_headline_and_the_paths(
  tmp_path, no_drawing, capsys, monkeypatch
):
  runs.write_run(tmp_path / "run", {"dense": [0.9]})
  flags = make_report.flags.FLAGS
  flags(["make_report", f"--out={tmp_path / 'out'}"])
  make_report.main(["make_report", str(tmp_path / "run")])
  printed = capsys.readouterr().out.splitlines()
  assert printed[0].startswith("run: So far: Dense test accuracy is 89.0 %")
  assert printed[2] == str(tmp_path / "out" / "report.html")
  assert printed[3].startswith("and ")
  with pytest.raises(SystemExit, match="There is no run in"):
    (tmp_path / "none").mkdir()
    make_report.main(["make_report", str(tmp_path / "none")])


def test_replicates_and_controls_that_have_not_begun_are_still_to_come(
  tmp_path,
):
  home = runs.write_experiment(tmp_path, replicates=2)
  declared = papers.experiment(
    levels=2,
    controls=("random_reinit", "shuffled_mask"),
    control_levels=(),
    reinits=2,
    replicates=3,
  )
  declared.declare(home)
  (one,) = evidence.gather([tmp_path])
  # Of the third: the dense network, two Levels, two times three controls.
  assert one.unfinished == 1 + 2 + 2 * 3
  dataclasses.replace(declared, replicates=2).declare(home)
  (one,) = evidence.gather([tmp_path])
  assert one.unfinished == 0


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("scheme", [0, 1])  # dark, light
def test_a_browser_shows_the_page_without_an_error(made, tmp_path, scheme):
  picture = tmp_path / "page.png"
  command = [
    CHROMIUM,
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-logging=stderr",
    "--v=0",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    f"--blink-settings=preferredColorScheme={scheme}",
    f"--user-data-dir={tmp_path / 'profile'}",
    f"--screenshot={picture}",
    "--window-size=1200,2000",
    made.paths[0].as_uri(),
  ]
  done = subprocess.run(command, capture_output=True, text=True, timeout=120)
  assert "CONSOLE" not in done.stderr
  import matplotlib.image

  pixels = matplotlib.image.imread(picture)
  assert pixels.shape[:2] == (2000, 1200)
  # The corner is the page's colour, and not all of the page is.
  assert (pixels[0, 0, :3].mean() > 0.9) == bool(scheme)
  assert pixels.std() > 0.02


@pytest.mark.slow
def test_reading_runs_needs_no_tensorflow():
  program = (
    "import sys, types\n"
    "package = types.ModuleType('tf_lottery')\n"
    "package.__path__ = [sys.argv[1]]\n"
    "sys.modules['tf_lottery'] = package\n"
    "import tf_lottery.report\n"
    "sys.exit('tensorflow' in sys.modules)\n"
  )
  folder = str(pathlib.Path(gallery.__file__).parents[1])
  assert subprocess.run([sys.executable, "-c", program, folder]).returncode == 0
