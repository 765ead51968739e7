import json
import os
import subprocess
import sys

import pytest

from tf_lottery import rundir


def test_a_leg_is_done_once_its_record_is_written(tmp_path):
  leg = rundir.RunDirectory(tmp_path).level(3)
  assert leg.path.name == "level_03"
  assert not leg.is_done
  leg.path.mkdir()
  leg.checkpoint.write_bytes(b"x")
  leg.finish({"density": 0.5})
  assert leg.is_done
  assert leg.read_record() == {"density": 0.5}
  assert not leg.checkpoint.exists()


def test_legs_are_told_apart_by_level_control_and_draw(tmp_path):
  directory = rundir.RunDirectory(tmp_path)
  made = [
    directory.level(0),
    directory.level(12),
    directory.control(3, "random_reinit", 1),
    directory.leg("level_03-old"),
    directory.leg("full_03"),
  ]
  for leg in made:
    leg.path.mkdir()
  found = [(level, name, draw) for level, name, draw, _ in directory.legs()]
  assert found == [
    (0, "", 0),
    (3, "old", 0),
    (3, "random_reinit", 1),
    (12, "", 0),
  ]


def test_metrics_survive_a_half_written_line(tmp_path):
  leg = rundir.RunDirectory(tmp_path).level(0)
  assert leg.read_metrics() == []
  for step in (8, 16, 24):
    leg.append_metrics({"step": step, "loss": 1.0})
  with open(leg.path / "metrics.jsonl", "a") as file:
    file.write('{"step": 32, "lo')
  assert [row["step"] for row in leg.read_metrics()] == [8, 16, 24]
  leg.keep_metrics_up_to(16)
  leg.append_metrics({"step": 24, "loss": 0.5})
  assert [row["step"] for row in leg.read_metrics()] == [8, 16, 24]
  assert leg.read_metrics()[-1]["loss"] == 0.5


def test_the_same_declaration_is_accepted_again(tmp_path):
  directory = rundir.RunDirectory(tmp_path)
  directory.declare({"steps": 10, "schedule": (0.5, 0.25)})
  directory.declare({"schedule": [0.5, 0.25], "steps": 10})


def test_another_declaration_names_what_differs(tmp_path):
  directory = rundir.RunDirectory(tmp_path)
  directory.declare({"steps": 10, "seed": 1, "old": True})
  with pytest.raises(ValueError, match="holds another run") as error:
    directory.declare({"steps": 20, "seed": 1, "new": "x"})
  text = str(error.value)
  assert "steps: it was 10, now 20" in text
  assert 'new: it was null, now "x"' in text
  assert "old: it was true, now null" in text
  assert "seed" not in text


def test_a_damaged_declaration_is_named(tmp_path):
  (tmp_path / "declaration.json").write_text("{")
  with pytest.raises(ValueError, match=r"declaration\.json is damaged"):
    rundir.RunDirectory(tmp_path).declare({})


def test_the_lock_keeps_other_processes_out_and_ends_with_them(tmp_path):
  program = (
    "import sys\n"
    "from tf_lottery import rundir\n"
    "with rundir.RunDirectory(sys.argv[1]).locked():\n"
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
      rundir.RunDirectory(tmp_path).locked(),
    ):
      pass
    child.kill()
    child.wait()
  with rundir.RunDirectory(tmp_path).locked():
    pass


def test_a_lock_file_of_an_earlier_version_still_works(tmp_path):
  (tmp_path / "lock").touch()
  with rundir.RunDirectory(tmp_path).locked():
    pass
  with rundir.RunDirectory(tmp_path).locked():
    pass


def test_a_link_to_a_lock_file_still_works(tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "lock").symlink_to(tmp_path / "elsewhere")
  with (
    rundir.RunDirectory(tmp_path / "run").locked(),
    pytest.raises(RuntimeError, match="Another process works in"),
    rundir.RunDirectory(tmp_path / "run").locked(),
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
    rundir.RunDirectory(tmp_path).locked(),
  ):
    pass
  os.close(reader)


def test_the_lock_is_free_after_an_error_in_the_block(tmp_path):
  directory = rundir.RunDirectory(tmp_path)
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
    "from tf_lottery import rundir\n"
    "directory = rundir.RunDirectory(sys.argv[1])\n"
    "with directory.locked():\n"
    "  directory.declare({'seed': 1})\n"
    "print(directory.read_declaration())\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", program, str(tmp_path / "run")],
    capture_output=True,
    text=True,
  )
  assert done.stdout == "{'seed': 1}\n", done.stderr


def test_a_process_that_does_not_write_leaves_no_trace(tmp_path):
  directory = rundir.RunDirectory(tmp_path / "run", writes=False)
  with directory.locked():
    directory.declare({"a": 1})
    leg = directory.level(0)
    leg.append_metrics({"step": 1})
    leg.keep_metrics_up_to(0)
    leg.finish({})
  assert not (tmp_path / "run").exists()


def test_records_are_json_that_people_can_read(tmp_path):
  leg = rundir.RunDirectory(tmp_path).leg("mine")
  leg.finish({"b": 1, "a": {"c": 2}})
  text = (tmp_path / "mine" / "round.json").read_text()
  assert text.splitlines()[1] == '  "a": {'
  assert json.loads(text) == {"a": {"c": 2}, "b": 1}
