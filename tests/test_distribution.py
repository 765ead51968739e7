import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests import small
from tf_lottery import distribution
from tf_lottery import tickets


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
  workers = []
  for index in range(2):
    task = {"type": "worker", "index": index}
    config = json.dumps({"cluster": cluster, "task": task})
    workers.append(
      subprocess.Popen(
        [sys.executable, "-m", "tests.small", str(tmp_path / "workers")],
        cwd=pathlib.Path(__file__).parents[1],
        env={**os.environ, "TF_CONFIG": config, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stderr=subprocess.PIPE,
      )
    )
  for worker in workers:
    _, errors = worker.communicate(timeout=300)
    assert worker.returncode == 0, errors.decode()
  result = small.search(
    tmp_path / "replicas", strategy="mirrored", steps=40, rewind=small.REWIND
  )
  for round_ in result.rounds:
    name = round_.directory.path.name
    path = tmp_path / "workers" / name / "ticket.safetensors"
    ticket = tickets.Ticket.load(path)
    assert ticket.mask.distance(round_.ticket.mask) < 0.05
    for key, value in round_.ticket.start.items():
      if round_.level == 0:
        np.testing.assert_allclose(ticket.start[key], value, atol=1e-6)
