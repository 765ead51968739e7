import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests import small
from tf_lottery import tickets
from tf_lottery.storage import run_directory
from tf_lottery.training import distribution


def test_strategies_by_name_and_by_object():
  mirrored = distribution.resolve_strategy("mirrored")
  assert mirrored.num_replicas_in_sync == 2
  assert distribution.resolve_strategy(mirrored) is mirrored
  for name in (None, "none"):
    assert distribution.resolve_strategy(name).num_replicas_in_sync == 1
  with pytest.raises(ValueError, match="got 'horovod'"):
    distribution.resolve_strategy("horovod")
  assert distribution.is_chief(mirrored)


def free_ports(count):
  sockets = [socket.socket() for _ in range(count)]
  for one in sockets:
    one.bind(("localhost", 0))
  ports = [one.getsockname()[1] for one in sockets]
  for one in sockets:
    one.close()
  return ports


@pytest.mark.slow
def test_two_workers_find_the_ticket_of_two_replicas(tmp_path):
  """Each worker is a process; only the chief writes."""
  cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
  workers, logs = [], []
  for index in range(2):
    task = {"type": "worker", "index": index}
    config = json.dumps({"cluster": cluster, "task": task})
    logs.append(tmp_path / f"worker_{index}.txt")
    with open(logs[-1], "wb") as log:
      workers.append(
        subprocess.Popen(
          [sys.executable, "-m", "tests.small", str(tmp_path / "workers")],
          cwd=pathlib.Path(__file__).parents[2],
          env={**os.environ, "TF_CONFIG": config, "TF_CPP_MIN_LOG_LEVEL": "3"},
          stderr=log,
        )
      )
  codes = [worker.wait(timeout=300) for worker in workers]
  assert codes == [0, 0], "\n\n".join(log.read_text() for log in logs)
  result = small.search(
    tmp_path / "replicas", strategy="mirrored", steps=40, rewind=small.REWIND
  )
  for round_ in result.rounds:
    directory = run_directory.RunDirectory(tmp_path / "workers").level(
      round_.level
    )
    ticket = tickets.Ticket.load(directory.ticket)
    assert ticket.mask.distance(round_.ticket.mask) < 0.05
    if round_.level:
      continue
    for key, value in round_.ticket.start.items():
      np.testing.assert_allclose(ticket.start[key], value, atol=1e-6)
    metrics = directory.read_record()["metrics"]
    assert metrics == pytest.approx(dict(round_.metrics), rel=1e-3)
