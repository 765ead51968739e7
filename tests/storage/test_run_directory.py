import json
import math
import os
import subprocess
import sys

import pytest

from tests import runs
from tf_lottery.search.declarations import declare
from tf_lottery.storage import files
from tf_lottery.storage import run_directory


def test_a_leg_is_done_once_its_record_is_written(tmp_path):
  round_ = run_directory.RunDirectory(tmp_path).level(3)
  assert round_.path.name == "level_03"
  assert not round_.is_done
  round_.path.mkdir()
  round_.checkpoint.write_bytes(b"x")
  round_.finish(runs.record(density=0.5))
  assert round_.is_done
  assert round_.read_record() == runs.record(density=0.5)
  assert not round_.checkpoint.exists()


def test_legs_are_told_apart_by_level_control_and_draw(tmp_path):
  directory = run_directory.RunDirectory(tmp_path)
  made = [
    directory.level(0),
    directory.level(12),
    directory.control(3, "random_reinit", 1),
    directory.round("level_03-old"),
    directory.round("full_03"),
  ]
  for round_ in made:
    round_.path.mkdir()
  found = [(level, name, draw) for level, name, draw, _ in directory.rounds()]
  assert found == [
    (0, "", 0),
    (3, "old", 0),
    (3, "random_reinit", 1),
    (12, "", 0),
  ]


def test_metrics_survive_a_half_written_line(tmp_path):
  round_ = run_directory.RunDirectory(tmp_path).level(0)
  assert round_.read_metrics() == []
  for step in (8, 16, 24):
    round_.append_metrics(runs.row(step, 1.0))
  with open(round_.path / "metrics.jsonl", "a") as file:
    file.write('{"step": 32, "lo')
  assert [row["step"] for row in round_.read_metrics()] == [8, 16, 24]
  round_.keep_metrics_up_to(16)
  round_.append_metrics(runs.row(24, 0.5))
  assert [row["step"] for row in round_.read_metrics()] == [8, 16, 24]
  assert round_.read_metrics()[-1]["val_loss"] == 0.5


ROW = b'{"step": 8, "seconds": 1, "val_loss": NaN, "val_accuracy": 0.5}'


@pytest.mark.parametrize(
  ("line", "why"),
  [
    (b'{"step": 9, "sec', "Unterminated string"),
    (b'{"step": 9, "seconds": 1, "val_loss": 0.5', "Expecting ',' delimiter"),
    (ROW.replace(b"8", b"\xff"), "invalid start byte"),
    (ROW.replace(b"8", b'"x"'), "Expected `float`, got `str`"),
    (ROW.replace(b"8", b"8.5"), "Expected `int`, got `float`"),
    (ROW.replace(b"8", b"-8"), "Expected `int` >= 0"),
    (ROW.replace(b"8", b"NaN"), "Expected `int`, got `float`"),
    (ROW.replace(b"8", b"true"), "Expected `float`, got `bool`"),
    (ROW.replace(b"8", b"[" * 5000), "more than 100 levels"),
    (ROW.replace(b"8", b"7" * 400), "64 bits"),
    (ROW.replace(b"seconds", b"second"), "missing required field `seconds`"),
    (ROW.replace(b"1,", b"Infinity,"), "Expected `float` <= "),
    (ROW.replace(b"seconds", b"step"), "the same key twice"),
    (ROW.replace(b"val_accuracy", b"\\ud800"), "surrogates not allowed"),
    (b"[]", "Expected `object`, got `array`"),
    (b"3", "Expected `object`, got `int`"),
    (b"", "Expecting value"),
    (b"\0" * 40, "Expecting value"),
  ],
)
def test_a_damaged_line_is_named_and_never_dropped(tmp_path, line, why):
  round_ = run_directory.RunDirectory(tmp_path).level(0)
  path = tmp_path / "level_00" / "metrics.jsonl"
  path.parent.mkdir()
  path.write_bytes(ROW + b"\n" + line + b"\n" + ROW + b"\n")
  for read in (round_.read_metrics, lambda: round_.keep_metrics_up_to(100)):
    with pytest.raises(
      files.FileFormatError,
      match=rf"metrics\.jsonl, line 2, is damaged: .*{why}.*Delete the line",
    ):
      read()
  assert path.read_bytes().count(b"\n") == 3
  damage = []
  assert [row["step"] for row in round_.read_metrics(damage.append)] == [8, 8]
  assert len(damage) == 1
  # At the end it is dropped only if a process may have been killed there.
  path.write_bytes(ROW + b"\n" + line)
  if line.startswith(b'{"step": 9'):
    assert [row["step"] for row in round_.read_metrics()] == [8]
  elif line:
    with pytest.raises(files.FileFormatError, match="line 2, is damaged"):
      round_.read_metrics()


def test_a_last_line_without_its_end_of_line_is_whole(tmp_path):
  round_ = run_directory.RunDirectory(tmp_path).level(0)
  round_.path.mkdir()
  (round_.path / "metrics.jsonl").write_bytes(ROW)
  assert [row["step"] for row in round_.read_metrics()] == [8]
  round_.keep_metrics_up_to(8)
  round_.append_metrics(runs.row(9, 1.0))
  assert [row["step"] for row in round_.read_metrics()] == [8, 9]


def test_a_line_may_hold_no_text_that_splits_it(tmp_path):
  """Python's `splitlines` splits at more characters than the writer does."""
  round_ = run_directory.RunDirectory(tmp_path).level(0)
  (tmp_path / "level_00").mkdir()
  line = ROW.replace(b"val_accuracy", "val_\u2028\x85".encode())
  (round_.path / "metrics.jsonl").write_bytes(line + b"\n")
  assert round_.read_metrics()[0]["val_\u2028\x85"] == 0.5


@pytest.mark.parametrize(
  "name", ["metrics.jsonl", "round.json", "declaration.json"]
)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_other_things_than_files_are_named(tmp_path, name, make):
  round_ = run_directory.RunDirectory(tmp_path).level(0)
  round_.path.mkdir()
  read = {
    "metrics.jsonl": round_.read_metrics,
    "round.json": round_.read_record,
    "declaration.json": lambda: declare(round_.run, {}),
  }[name]
  path = (tmp_path if name == "declaration.json" else round_.path) / name
  make(path)
  with pytest.raises(files.FileFormatError, match=f"{path} must be a file"):
    read()
  assert round_.is_done == (name == "round.json")


@pytest.mark.parametrize(
  ("change", "why"),
  [
    ({"density": math.nan}, "Expected `float` >= 0"),
    ({"density": "1"}, "Expected `float`, got `str`"),
    ({"seconds": math.inf}, "Expected `float` <= "),
    ({"seconds": None}, "Expected `float`, got `null`"),
    ({"level": 1.5}, "Expected `int`, got `float`"),
    ({"level": 10**18}, "Expected `int` <= "),
    ({"steps": -1}, "Expected `int` >= 0"),
    ({"start": "0"}, "Expected `int`, got `str`"),
    ({"metrics": {"val_loss": "low"}}, r"got `str` - at `\$.metrics"),
    ({"metrics": None}, "Expected `object`, got `null`"),
    ({"versions": {"python": 3}}, r"got `int` - at `\$.versions"),
  ],
  ids=str,
)
def test_a_record_of_other_types_is_refused(tmp_path, change, why):
  round_ = run_directory.RunDirectory(tmp_path).level(0)
  round_.finish(runs.record(**change))
  with pytest.raises(
    files.FileFormatError, match=rf"round\.json is damaged: .*{why}"
  ):
    round_.read_record()


@pytest.mark.parametrize("field", ["level", "density", "metrics", "steps"])
def test_a_record_without_a_field_is_refused(tmp_path, field):
  round_ = run_directory.RunDirectory(tmp_path).level(0)
  record = runs.record()
  del record[field]
  round_.finish(record)
  with pytest.raises(files.FileFormatError, match=f"required field `{field}`"):
    round_.read_record()


def test_a_record_may_have_metrics_of_a_diverged_training(tmp_path):
  round_ = run_directory.RunDirectory(tmp_path).level(0)
  round_.finish(runs.record(metrics={"val_loss": math.nan, "loss": math.inf}))
  assert math.isnan(round_.read_record()["metrics"]["val_loss"])


@pytest.mark.parametrize(
  ("declaration", "why"),
  [
    ([], "Expected `object`, got `array`"),
    ({"monitor": 3}, "Expected `str`, got `int`"),
    ({"seed": "1"}, "Expected `int`, got `str`"),
    ({"schedule": 4}, "Expected `array`, got `int`"),
    ({"schedule": [0.5, 0.0]}, "Expected `float` > 0"),
    ({"schedule": [math.nan]}, "Expected `float` > 0"),
    ({"layers": {}}, "Expected `array`, got `object`"),
    ({"layers": [None]}, "Expected `object`, got `null`"),
    ({"weights": [1]}, "Expected `array`, got `int`"),
    ({"weights": [["0/kernel", [6, 8]]]}, "length 3"),
    ({"weights": [["0/kernel", [6, -8], True]]}, "Expected `int` >= 0"),
  ],
  ids=str,
)
def test_a_declaration_of_other_types_is_refused(tmp_path, declaration, why):
  directory = run_directory.RunDirectory(tmp_path)
  files.write_json(tmp_path / "declaration.json", declaration)
  for read in (directory.read_declaration, lambda: declare(directory, {})):
    with pytest.raises(
      files.FileFormatError, match=rf"declaration\.json is damaged: .*{why}"
    ):
      read()


def test_the_same_declaration_is_accepted_again(tmp_path):
  directory = run_directory.RunDirectory(tmp_path)
  declare(directory, {"steps": 10, "schedule": (0.5, 0.25)})
  declare(directory, {"schedule": [0.5, 0.25], "steps": 10})


def test_another_declaration_names_what_differs(tmp_path):
  directory = run_directory.RunDirectory(tmp_path)
  declare(directory, {"steps": 10, "seed": 1, "old": True})
  with pytest.raises(ValueError, match="holds another run") as error:
    declare(directory, {"steps": 20, "seed": 1, "new": "x"})
  text = str(error.value)
  assert "steps: it was 10, now 20" in text
  assert 'new: it was null, now "x"' in text
  assert "old: it was true, now null" in text
  assert "seed" not in text


def test_an_old_declaration_takes_over_the_direction(tmp_path):
  directory = run_directory.RunDirectory(tmp_path)
  declare(directory, {"monitor": "accuracy", "seed": 1})
  new = {"monitor": "accuracy", "direction": "max", "seed": 1}
  declare(run_directory.RunDirectory(tmp_path, writes=False), new)
  assert "direction" not in directory.read_declaration()
  with pytest.raises(ValueError, match="seed: it was 1, now 2"):
    declare(directory, {**new, "seed": 2})
  assert "direction" not in directory.read_declaration()
  declare(directory, new)
  assert directory.read_declaration() == new
  with pytest.raises(ValueError, match='direction: it was "max", now "min"'):
    declare(directory, {**new, "direction": "min"})


def test_a_damaged_declaration_is_named(tmp_path):
  (tmp_path / "declaration.json").write_text("{")
  with pytest.raises(ValueError, match=r"declaration\.json is damaged"):
    declare(run_directory.RunDirectory(tmp_path), {})


def test_the_lock_keeps_other_processes_out_and_ends_with_them(tmp_path):
  program = (
    "import sys\n"
    "from tf_lottery.storage import run_directory\n"
    "with run_directory.RunDirectory(sys.argv[1]).locked():\n"
    "  print('locked', flush=True)\n"
    "  sys.stdin.read()\n"
  )
  with subprocess.Popen(
    [sys.executable, "-c", program, str(tmp_path)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  ) as child:
    assert child.stdout.readline() == b"locked\n"
    with (
      pytest.raises(RuntimeError, match=f"works in.*{tmp_path}"),
      run_directory.RunDirectory(tmp_path).locked(),
    ):
      pass
    child.kill()
    child.wait()
  with run_directory.RunDirectory(tmp_path).locked():
    pass


def test_a_lock_file_of_an_earlier_version_still_works(tmp_path):
  (tmp_path / "lock").touch()
  with run_directory.RunDirectory(tmp_path).locked():
    pass
  with run_directory.RunDirectory(tmp_path).locked():
    pass


def test_a_link_to_a_lock_file_still_works(tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "lock").symlink_to(tmp_path / "elsewhere")
  with (
    run_directory.RunDirectory(tmp_path / "run").locked(),
    pytest.raises(RuntimeError, match="Another process works in"),
    run_directory.RunDirectory(tmp_path / "run").locked(),
  ):
    pass


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_lock_file_is_refused(tmp_path, make, link):
  path = tmp_path / "lock"
  real = tmp_path / "real" if link else path
  make(real)
  if link:
    path.symlink_to(real)
  # With a reader, the FIFO does not hang a process that opens it.
  reader = os.open(real, os.O_RDONLY | os.O_NONBLOCK)
  with (
    pytest.raises(ValueError, match=f"{path} must be a file.*another run_dir"),
    run_directory.RunDirectory(tmp_path).locked(),
  ):
    pass
  os.close(reader)


def test_the_lock_is_free_after_an_error_in_the_block(tmp_path):
  directory = run_directory.RunDirectory(tmp_path)
  with pytest.raises(OSError, match="full"), directory.locked():
    raise OSError("full")
  with directory.locked():
    pass


def test_it_works_without_fcntl(tmp_path):
  # As on Windows. filelock then marks the lock by the existence of the file.
  program = (
    "import sys, warnings\n"
    "sys.modules['fcntl'] = None\n"
    "warnings.simplefilter('ignore')\n"
    "from tf_lottery.storage import run_directory\n"
    "directory = run_directory.RunDirectory(sys.argv[1])\n"
    "with directory.locked():\n"
    "  directory.write_declaration({'seed': 1})\n"
    "print(directory.read_declaration())\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", program, str(tmp_path / "run")],
    capture_output=True,
    text=True,
  )
  assert done.stdout == "{'seed': 1}\n", done.stderr


def test_a_process_that_does_not_write_leaves_no_trace(tmp_path):
  directory = run_directory.RunDirectory(tmp_path / "run", writes=False)
  with directory.locked():
    declare(directory, {"a": 1})
    round_ = directory.level(0)
    round_.append_metrics({"step": 1})
    round_.keep_metrics_up_to(0)
    round_.finish({})
  assert not (tmp_path / "run").exists()


def test_records_are_json_that_people_can_read(tmp_path):
  round_ = run_directory.RunDirectory(tmp_path).round("mine")
  round_.finish({"b": 1, "a": {"c": 2}})
  text = (tmp_path / "mine" / "round.json").read_text()
  assert text.splitlines()[1] == '  "a": {'
  assert json.loads(text) == {"a": {"c": 2}, "b": 1}
