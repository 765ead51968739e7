"""How every script starts: its flags first, TensorFlow after them.

`--help` and a mistyped flag are answered before TensorFlow is imported, which
takes seconds. So a script imports the library inside `main`, after
`import_tensorflow()`.
"""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator

from absl import app
from absl import flags
from absl import logging

ROOT = pathlib.Path(__file__).parents[1]

# So that a config finds modules of the user's own.
sys.path.append(os.getcwd())

# So that --help shows a flag defined here as one of the script that runs.
flags.disclaim_key_flags()

# TensorFlow reads it when it is imported: no information, no warnings.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_HELP = r"--?(help|helpfull|helpshort|helpxml|\?)"

# Lines that TensorFlow prints while it starts, whatever its log level, and
# which no user can act on.
_HARMLESS = (
  r"All log messages before absl::InitializeLog\(\)",
  r"oneDNN custom operations are on",
  r"Unable to register cu\w+ factory",
  r"computation placer already registered",
)
# The same, on a machine without a GPU. On one that has a GPU they say why
# TensorFlow does not find it.
_WITHOUT_GPU = (
  r"Could not find cuda drivers",
  r"failed call to cuInit",
)
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg")

# A process of its own passes the other lines on, so that none is lost when
# TensorFlow aborts this process, as on a CPU without AVX.
_FILTER = """
import re, sys
harmless = re.compile(sys.argv[1].encode())
for line in sys.stdin.buffer:
  if not harmless.search(line):
    sys.stderr.buffer.write(line)
    sys.stderr.buffer.flush()
"""


def run(main: Callable[[list[str]], None]) -> None:
  """Parses the flags, then calls `main` with the remaining arguments.

  Args:
    main: The script. Where it raises `app.UsageError`, the message is printed
      alone, and not below the whole help.
  """

  def in_one_line(argv: list[str]) -> None:
    try:
      main(argv)
    except app.UsageError as error:
      sys.exit(f"{error} --help shows the flags.")

  app.run(in_one_line, flags_parser=_parse)


def define_config(default: str) -> flags.FlagHolder:
  """Defines `--config`, whose fields can be set by `--config.FIELD`.

  Args:
    default: The config's path below the root of the repository.

  Returns:
    The flag; its value is the loaded config.
  """
  purpose = "The config file to run. --config.FIELD=VALUE changes a field."
  if any(re.fullmatch(_HELP, argument) for argument in sys.argv[1:]):
    # The help prints the path. A config itself is loaded with TensorFlow.
    return flags.DEFINE_string("config", default, purpose)
  arguments = _with_config(sys.argv, default)
  import_tensorflow()
  from tf_lottery import _optional

  try:
    with _optional.needs("scripts", "A config"):
      from ml_collections import config_flags
  except ImportError as error:
    sys.exit(str(error))
  return config_flags.DEFINE_config_file(
    "config", default, purpose, sys_argv=arguments
  )


def import_tensorflow() -> None:
  """Imports TensorFlow without the harmless lines that it prints.

  With TF_CPP_MIN_LOG_LEVEL=0 in the environment it prints all of them.
  """
  if "tensorflow" in sys.modules:
    return
  with _without_harmless_lines():
    import tensorflow as tf

    # This looks for GPUs, and prints an error where there are none.
    tf.config.list_physical_devices()


def _parse(argv: list[str]) -> list[str]:
  # The default of absl would print what tfds notes of its own work.
  flags.FLAGS.verbosity = logging.WARNING
  if "config" in flags.FLAGS:
    argv = _with_config(argv, flags.FLAGS["config"].default)
  return app.parse_flags_with_usage(argv)


def _with_config(argv: list[str], default: str) -> list[str]:
  """Names the default config where the arguments name none.

  So it is loaded when the flags are parsed, as one that is named, and not when
  they are defined, where an error would be a traceback.
  """
  for index, argument in enumerate(argv[1:], start=1):
    if re.fullmatch(r"--?config(=.*)?", argument):
      _, equals, path = argument.partition("=")
      if not equals:
        path = next(iter(argv[index + 1 :]), "")
      if not pathlib.Path(path.partition(":")[0]).is_file():
        sys.exit(f"--config must name a config file, got {path!r}.")
      return argv
  return [argv[0], f"--config={ROOT / default}", *argv[1:]]


@contextlib.contextmanager
def _without_harmless_lines() -> Iterator[None]:
  """Leaves known lines out of stderr, those printed by C++ too."""
  if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0":
    yield
    return
  known = list(_HARMLESS)
  if not any(map(os.path.exists, _GPU_DEVICES)):
    known += _WITHOUT_GPU
  sys.stderr.flush()
  original = os.dup(2)
  with subprocess.Popen(
    [sys.executable, "-ISc", _FILTER, "|".join(known)],
    stdin=subprocess.PIPE,
    # So that Ctrl-C ends this process alone, and the filter after it.
    start_new_session=True,
  ) as process:
    os.dup2(process.stdin.fileno(), 2)
    try:
      yield
    finally:
      sys.stderr.flush()
      os.dup2(original, 2)
      os.close(original)
