import json
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


def test_an_old_declaration_takes_over_the_direction(tmp_path):
  directory = rundir.RunDirectory(tmp_path)
  directory.declare({"monitor": "accuracy", "seed": 1})
  new = {"monitor": "accuracy", "direction": "max", "seed": 1}
  rundir.RunDirectory(tmp_path, writes=False).declare(new)
  assert "direction" not in directory.read_declaration()
  with pytest.raises(ValueError, match="seed: it was 1, now 2"):
    directory.declare({**new, "seed": 2})
  assert "direction" not in directory.read_declaration()
  directory.declare(new)
  assert directory.read_declaration() == new
  with pytest.raises(ValueError, match='direction: it was "max", now "min"'):
    directory.declare({**new, "direction": "min"})


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
