"""Damaged and foreign files: a reader returns a value or `FileFormatError`.

Each test damages files that the library wrote in thousands of ways, from a
seed, and prints a table of the outcomes:

  pytest -m slow -s tests/storage/test_damage.py
"""

import collections
import dataclasses
import json
import pathlib
import random
import re
import shutil
import tracemalloc
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import tf_lottery
from tests import runs
from tf_lottery import experiments
from tf_lottery import report
from tf_lottery import rewinding
from tf_lottery import tickets
from tf_lottery.report import gallery
from tf_lottery.report import pages
from tf_lottery.report import records
from tf_lottery.report.evidence import gather
from tf_lottery.report.sections import sections
from tf_lottery.search import declarations
from tf_lottery.search import rounds
from tf_lottery.storage import files
from tf_lottery.storage import run_directory
from tf_lottery.storage import tensor_files

pytestmark = pytest.mark.slow

DATA = pathlib.Path(__file__).parents[1] / "data"

# Values of JSON that replace others: of other types, at limits, malformed.
VALUES = (
  *("null", "true", "0", "-1", "1", "1.5", "-0.0", "1e-400", "1e300", "1e999"),
  *("NaN", "Infinity", "-Infinity", "9007199254740993", "9" * 19, "9" * 400),
  *("-" + "9" * 19, "9" * 5000, '""', '"x"', '"\\u0000"', '"\\ud800"', "'x'"),
  *("[]", "[null]", "[[], {}]", "{}", '{"a": 1, "a": 2}', '{"\\ud800": 1}'),
  *("[" * n + "]" * n for n in (50, 150, 990, 100_000)),
)


# Ways to damage: each gives an endless or a complete list of contents.


def bytes_of(content, rng):
  """Damage to bytes: flips, cuts, insertions, repetitions; without an end."""
  while True:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
      place = rng.randrange(len(damaged) or 1)
      end = place + rng.randrange(1, 40)
      way = rng.randrange(6)
      if way == 0:
        del damaged[place:]
      elif way == 1:
        del damaged[place:end]
      elif way == 2:
        damaged[place:place] = rng.randbytes(rng.randrange(1, 9))
      elif way == 3:
        damaged[place:place] = damaged[place:end]
      elif damaged:
        damaged[place % len(damaged)] ^= 1 << rng.randrange(8)
    yield bytes(damaged)


def values_of(value):
  """The texts of JSON in which one value is another, absent, or there twice."""
  for path in _paths(value):
    for text in VALUES:
      yield _with(value, path, text)
    if path:
      yield _with(value, path, None)
      if isinstance(path[-1], str):
        yield _with(value, path, f"0, {json.dumps(path[-1])}: 0")


def _paths(value, path=()):
  yield path
  items = ()
  if isinstance(value, dict):
    items = value.items()
  elif isinstance(value, list):
    items = enumerate(value)
  for key, item in items:
    yield from _paths(item, (*path, key))


def _with(value, path, text):
  if not path:
    return text
  value = json.loads(json.dumps(value))
  inner = value
  for key in path[:-1]:
    inner = inner[key]
  if text is None:
    del inner[path[-1]]
    return json.dumps(value)
  inner[path[-1]] = "@@"
  return json.dumps(value).replace('"@@"', text)


def encodings_of(content):
  """The same text in other encodings, and other kinds of files."""
  text = content.decode()
  for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp037"):
    yield text.encode(encoding)
  yield from (b"", b"\0" * 64, b"\xff\xd8\xff\xe0", b"PK\3\4", b"{}" * 99)


# Outcomes.


@dataclasses.dataclass
class Case:
  """A reader under test.

  Attributes:
    name: of the file and the reader.
    path: the file that is damaged.
    read: reads it; returns a value that can be compared by its `repr`.
    allowed: a message that is no damage, of a `ValueError`.
  """

  name: str
  path: pathlib.Path
  read: Callable[[], object]
  allowed: str = "$^"


class Outcomes:
  """Counts what readers do, and fails if one of them does what it must not."""

  def __init__(self):
    self.counts = collections.defaultdict(collections.Counter)
    self.wrong = []
    self._before = {}

  def expect(self, cases):
    """Notes what the files say before they are damaged."""
    for case in cases:
      self._before[case.name] = repr(case.read())

  def try_all(self, cases, content):
    """Reads a file with some content by all its readers."""
    for case in cases:
      case.path.write_bytes(content)
      self.counts[case.name][self._outcome(case, content)] += 1

  def _outcome(self, case, content):
    try:
      after = repr(case.read())
    except files.FileFormatError as error:
      assert str(error).count(str(case.path.parent)), error
      return "FileFormatError"
    except Exception as error:
      if isinstance(error, ValueError) and re.search(case.allowed, str(error)):
        return "other value"
      self.wrong.append((case.name, content[:2000], repr(error)[:300]))
      return type(error).__name__
    return "same value" if after == self._before[case.name] else "other value"

  def check(self):
    """Prints the counts, and fails unless all outcomes are good ones."""
    columns = sorted({name for row in self.counts.values() for name in row})
    width = max(map(len, self.counts))
    print("\n" + " " * width, *(f"{name:>16}" for name in columns))
    for name, row in self.counts.items():
      print(f"{name:{width}}", *(f"{row[column]:16,}" for column in columns))
    total = sum(map(sum, map(collections.Counter.values, self.counts.values())))
    print(f"{total:,} readings of damaged files")
    assert not self.wrong, f"{len(self.wrong)}, such as {self.wrong[:3]}"


def report_of(folder):
  """Returns the texts of the report of a folder, without the pictures."""
  (evidence,) = gather([folder])
  (section,) = sections([evidence], None)
  text = report.markdown([section]) + "".join(pages.write([section]).values())
  text += "".join(
    part for sketch in gallery.sketches(evidence) for part in sketch[:3]
  )
  text += report._csv([evidence], report._summaries)
  text += report._csv([evidence], report._verdicts)
  return text.encode()


@pytest.fixture
def run(tmp_path):
  """An experiment's folder with one run, and the run."""
  home = runs.write_experiment(tmp_path, "e", replicates=1)
  return home, run_directory.RunDirectory(home / "replicate_00")


def test_json(run):
  home, directory = run
  round_ = directory.level(1)
  declared = DATA / "searches" / "keras" / "declaration.json"
  shutil.copy(declared, directory.path)
  shutil.copy(DATA / "literal" / "format_2" / "experiment.json", home)
  shutil.copy(
    DATA / "searches" / "keras" / "level_01" / "round.json", round_.path
  )
  declaration = json.loads(declared.read_bytes())
  paths = {
    "round.json": round_.path,
    "declaration.json": directory.path,
    "experiment.json": home,
  }
  readers = {
    "round.json": {
      "RoundDirectory.read_record": round_.read_record,
      "Round.read": lambda: rounds.Round.read(round_),
    },
    "declaration.json": {
      "RunDirectory.read_declaration": directory.read_declaration,
      "declarations.declare": lambda: declarations.declare(
        directory, declaration
      ),
    },
    "experiment.json": {
      "read_experiment": lambda: run_directory.read_experiment(home),
      "experiments.of_run": lambda: experiments.of_run(directory.path),
    },
  }
  rng = random.Random(1)
  outcomes = Outcomes()
  for name, by_reader in readers.items():
    path = paths[name] / name
    content = path.read_bytes()
    lenient = {
      "read_rounds": lambda: records.read_rounds(directory.path),
      "report": lambda: report_of(home),
    }
    cases = [
      Case(f"{name} {reader}", path, read, "holds another run")
      for reader, read in {**by_reader, **lenient}.items()
    ]
    outcomes.expect(cases)
    damaged = list(encodings_of(content))
    values = [text.encode() for text in values_of(json.loads(content))]
    damaged += rng.sample(values, min(3000, len(values)))
    flips = bytes_of(content, rng)
    damaged += [next(flips) for _ in range(1500)]
    for number, one in enumerate(damaged):
      # The report takes some hundred times as long as the others.
      some = cases if number % 25 == 0 else cases[:-1]
      outcomes.try_all(some, one)
    path.write_bytes(content)
  outcomes.check()


def test_metrics(run):
  home, directory = run
  round_ = directory.level(0)
  path = round_.path / "metrics.jsonl"
  for step in range(40, 70, 10):
    round_.append_metrics(runs.row(step, 0.7, val_accuracy=0.5))
  content = path.read_bytes()
  first, second, *_ = content.split(b"\n")

  def keep():
    round_.keep_metrics_up_to(10**6)
    return round_.read_metrics()

  cases = [
    Case("metrics.jsonl read_metrics", path, round_.read_metrics),
    Case("metrics.jsonl keep_metrics_up_to", path, keep),
    Case("metrics.jsonl read_rows", path, lambda: records.read_rows(round_)),
    Case("metrics.jsonl read_rounds", path, lambda: only(directory, 0)),
    Case("metrics.jsonl report", path, lambda: report_of(home)),
  ]
  outcomes = Outcomes()
  outcomes.expect(cases)
  damaged = list(encodings_of(content))
  for text in values_of(json.loads(second)):
    damaged.append(b"\n".join([first, text.encode(), first, b""]))
    damaged.append(b"\n".join([first, text.encode()]))
  flips = bytes_of(content, random.Random(2))
  damaged += [next(flips) for _ in range(3000)]
  for number, one in enumerate(damaged):
    outcomes.try_all(cases if number % 25 == 0 else cases[:-1], one)
  outcomes.check()


def only(directory, level):
  (record,) = [
    record
    for record in records.read_rounds(directory.path)
    if (record.level, record.method) in ((level, "ticket"), (level, "dense"))
  ]
  return record


# Tensor files.


def crafted(header, tensors):
  """A tensor file with any header, and the checksum that belongs to it."""
  try:
    described = json.loads(header)
    described["sha256"] = tensor_files.digest(tensors, described)
    # As it was written: a parsed text has lost keys that come twice.
    header = header[:-1] + f', "sha256": "{described["sha256"]}"}}'
  except (ValueError, TypeError, RecursionError, AttributeError):
    pass
  return safetensors.numpy.save(tensors, metadata={"tf_lottery": header})


def arrays_of(tensors, rng):
  """Arrays of which one is absent, renamed, or of another content."""
  types = (np.uint8, np.int8, bool, np.float64, np.uint64, ml_dtypes.bfloat16)
  others = [
    *(np.zeros(0, dtype) for dtype in types),
    np.zeros((0, 5), np.uint8),
    np.array(7, np.uint8),
    np.zeros((1, 1, 1)),
    np.array([np.nan, np.inf, -0.0], np.float16),
    np.zeros(2, ml_dtypes.float8_e4m3fn),
    np.full(2000, 255, np.uint8),
    np.full(3, 254, np.uint8),
  ]
  for name, array in tensors.items():
    rest = {key: value for key, value in tensors.items() if key != name}
    yield rest
    for other in ("", "x", f"{name}/0", "\0", "mask/", "kept/", "optimizer/9"):
      yield {**rest, other: array}
      yield {**tensors, other: array}
    for other in others:
      yield {**tensors, name: other}
    yield {**tensors, name: array[None]}
    yield {**tensors, name: array.ravel()[:-1]}
    yield {**tensors, name: np.append(array.ravel(), array.ravel()[:1])}
    for dtype in types:
      with np.errstate(all="ignore"):
        yield {**tensors, name: array.astype(dtype)}
    for _ in range(20):
      content = rng.randbytes(array.nbytes)
      yield {
        **tensors,
        name: np.frombuffer(content, array.dtype).reshape(array.shape),
      }
  names = list(tensors)
  yield {
    name: tensors[other] for name, other in zip(names, names[::-1], strict=True)
  }
  yield {}


def shapes_of(content):
  """Files whose own header has other shapes, types and places."""
  length = int.from_bytes(content[:8], "little")
  header = json.loads(content[8 : 8 + length])
  for name in header:
    for field in ("dtype", "shape", "data_offsets"):
      for text in (
        *VALUES,
        *('"F8_E4M3"', '"F4"', '"C64"', '"BF16"', '"U8"', '"I64"'),
        *("[0]", "[1]", "[-1]", "[0, 4611686018427387904]", "[0, 0]"),
        "[0, 1099511627776, 1099511627776]",
        str([0] + [1] * 70),
      ):
        if name == "__metadata__":
          changed = _with(header, (name, "tf_lottery"), text).encode()
        else:
          changed = _with(header, (name, field), text).encode()
        yield (
          len(changed).to_bytes(8, "little") + changed + content[8 + length :]
        )
      if name == "__metadata__":
        break


def read_parts(path):
  file = tickets.TicketFile(path)
  return file.mask.kept, file.names, file.provenance


def ticket_of(path):
  ticket = tf_lottery.Ticket.load(path)
  start = {key: value.tolist() for key, value in ticket.start.items()}
  return (
    start,
    ticket.mask.kept,
    tensor_files.digest(ticket.mask),
    ticket.provenance,
  )


def snapshot_of(path):
  snapshot = rewinding.Snapshot.load(path)
  optimizer = [value.tolist() for value in snapshot.optimizer or ()]
  return snapshot.step, snapshot.fingerprint(), optimizer


def mask_of(path):
  mask = tf_lottery.Mask.load(path)
  return mask.shapes, tensor_files.digest(mask)


@pytest.mark.parametrize("version", ["format_1", "format_2"])
def test_tensors(run, version):
  home, directory = run
  round_ = directory.level(1)
  (round_.path / "round.json").unlink()  # so that its ticket tells the density
  rng = random.Random(3)
  outcomes = Outcomes()
  for kind in ("ticket", "mask", "snapshot"):
    path = round_.ticket
    content = (DATA / "literal" / version / f"{kind}.safetensors").read_bytes()
    path.write_bytes(content)
    by_reader = {
      "ticket": {
        "Ticket.load": lambda: ticket_of(round_.ticket),
        "TicketFile": lambda: read_parts(round_.ticket),
        "read_rounds": lambda: only(directory, 1),
        "report": lambda: report_of(home),
      },
      "mask": {"Mask.load": lambda: mask_of(round_.ticket)},
      "snapshot": {"Snapshot.load": lambda: snapshot_of(round_.ticket)},
    }[kind]
    cases = [Case(f"{kind} {n}", path, read) for n, read in by_reader.items()]
    outcomes.expect(cases)
    with safetensors.safe_open(path, framework="numpy") as file:
      header = json.loads(file.metadata()["tf_lottery"])
    tensors = safetensors.numpy.load(content)
    del header["sha256"]
    damaged = [crafted(text, tensors) for text in values_of(header)]
    text = json.dumps(header)
    damaged += [crafted(text, other) for other in arrays_of(tensors, rng)]
    damaged += shapes_of(content)
    damaged += [b"", b"{}", content + b"\0", content[:8], b"\xff" * 64]
    flips = bytes_of(content, rng)
    damaged += [next(flips) for _ in range(500)]
    for number, one in enumerate(damaged):
      some = cases if number % 25 == 0 or len(cases) == 1 else cases[:-1]
      tracemalloc.start()
      outcomes.try_all(some, one)
      _, peak = tracemalloc.get_traced_memory()
      tracemalloc.stop()
      assert peak < 200 * 2**20, one[:2000]
  outcomes.check()
