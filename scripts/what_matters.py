"""What of a ticket matters: its start weights, its mask, its search's data.

    pip install '.[all,test]'
    python scripts/what_matters.py --data_dir=~/data

It proves two experiments below `--runs`, with the controls that change one
thing each of what a ticket is. Then it writes docs/results/what_matters: the
page, a figure for each experiment, and values.csv, which has a line for each
training. The same command again goes on where it stopped; when all is there, it
only writes. `--size=smoke` takes minutes.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import typing

# So that the script finds the library from any working directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app
from absl import flags

from scripts import startup

if typing.TYPE_CHECKING:
  import tf_lottery

_RUNS = flags.DEFINE_string("runs", "runs/what_matters", "The trainings.")
_OUT = flags.DEFINE_string(
  "out",
  str(startup.ROOT / "docs" / "results" / "what_matters"),
  "The folder of the page.",
)
_DATA = flags.DEFINE_string("data_dir", None, "Where Fashion-MNIST lies.")
_SIZE = flags.DEFINE_enum("size", "full", ["full", "smoke"], "How much.")
_PROCESSES = flags.DEFINE_integer("processes", 1, "Replicates at a time.")

# The shapes of the inputs, without channels.
SHAPES = {"lenet": (28, 28), "mnist_1d": (40,)}
CONTROLS = (
  *("random_reinit", "signs", "magnitudes", "permuted"),
  *("shuffled_mask", "shuffled_labels", "half_data", "other_order"),
  *("supermask", "weight_average"),
)


def main(argv: list[str]) -> None:
  """Trains what is not there yet, then writes the page."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
  startup.import_tensorflow()
  from scripts import what_matters_page
  from tf_lottery import experiments
  from tf_lottery import report

  declared = declare(_DATA.value)
  if _SIZE.value == "smoke":
    declared = {name: smaller(one) for name, one in declared.items()}
  found = {}
  for name, experiment in declared.items():
    proof = experiments.prove(
      experiment, _RUNS.value, processes=_PROCESSES.value
    )
    (found[name],) = report.gather([proof.directory])
  what_matters_page.write(found, SHAPES, pathlib.Path(_OUT.value))


def declare(data_dir: str | None) -> dict[str, tf_lottery.Experiment]:
  """Returns the experiments by the names of their figures.

  Args:
    data_dir: Where Fashion-MNIST lies.
  """
  import tf_lottery
  from examples import mnist_1d
  from scripts.configs import lenet_fashion_mnist
  from tf_lottery import papers

  lenet = dict(
    lenet_fashion_mnist.SIZES["short"],
    data_dir=data_dir,
    steps=5000,
    levels=15,
    evaluate_every="500it",
    controls=CONTROLS,
    control_levels=(7, 12, 15),
    reinits=1,
    replicates=3,
  )
  return {
    "lenet": papers.experiment(**lenet),
    "mnist_1d": dataclasses.replace(
      mnist_1d.EXPERIMENT,
      schedule=tf_lottery.geometric(16),
      controls=CONTROLS,
      control_levels=(9, 13),
      replicates=3,
    ),
  }


def smaller(experiment: tf_lottery.Experiment) -> tf_lottery.Experiment:
  """Returns an experiment of seconds, in a directory of its own."""
  return dataclasses.replace(
    experiment,
    name=f"{experiment.id}-smoke",
    steps=60,
    evaluate_every="20it",
    schedule=experiment.schedule[:3],
    control_levels=(2, 3),
    replicates=2,
  )


if __name__ == "__main__":
  startup.run(main)
