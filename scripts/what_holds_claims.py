"""The claims of `what_holds.py`, with their tests."""

import dataclasses
import pathlib

from scripts import csv_rows
from scripts import what_holds_tests
from scripts.what_holds_tests import Rows
from scripts.what_holds_tests import Test

_FRANKLE = "Frankle and Carbin, arXiv 1803.03635."


@dataclasses.dataclass(frozen=True)
class Claim:
  """A claim, who makes it, the page of the study, and its tests here."""

  says: str
  source: str
  page: str
  tests: tuple[Test, ...]


def claims(folder: pathlib.Path) -> list[Claim]:
  """Tests the claims on the studies that are there.

  Args:
    folder: The folder of the results.
  """
  found = [
    *_of_costs(csv_rows.read(folder / "search_cost" / "trainings.csv")),
    *_of_matters(csv_rows.read(folder / "what_matters" / "values.csv")),
    *_of_transfer(csv_rows.read(folder / "transfer" / "trainings.csv")),
    *_of_stability(csv_rows.read(folder / "stability" / "results.csv")),
    *_of_tuned(csv_rows.read(folder / "tuned_dense" / "levels.csv")),
  ]
  return [claim for claim in found if claim.tests]


def _of_costs(rows: Rows) -> list[Claim]:
  """Claims on which the study of search methods tells."""
  return [
    Claim(
      "Tickets of 13.5 to 7 % match the dense network",
      f"{_FRANKLE} A ticket may lose 1 % of what training gained.",
      "search_cost/README.md",
      tuple(
        what_holds_tests.against_dense(
          rows, "iterative", (0.14, 0.07), matching=True
        )
      ),
    ),
    Claim(
      "Tickets are better than the dense network",
      _FRANKLE,
      "search_cost/README.md",
      tuple(
        what_holds_tests.against_dense(
          rows, "iterative", (0.14, 0.07), matching=False
        )
      ),
    ),
    Claim(
      "Tickets can be found early, at a tenth of a training",
      "The hope of the paper's authors. Masks are drawn by gradual pruning in a"
      " tenth of a training; a ticket may lose 1 % of what training gained.",
      "search_cost/README.md",
      tuple(
        what_holds_tests.against_dense(
          rows, "gradual_0.1", (0.14, 0.07), matching=True
        )
      ),
    ),
    Claim(
      "The initial weights are vital",
      f"{_FRANKLE} The ticket is better than its mask with new weights.",
      "search_cost/README.md",
      tuple(what_holds_tests.of_rivals(rows, "random_reinit")),
    ),
    Claim(
      "The places of the weights are vital",
      f"{_FRANKLE} The ticket is better than with as many weights at other"
      " places of each layer.",
      "search_cost/README.md",
      tuple(what_holds_tests.of_rivals(rows, "shuffled_mask")),
    ),
  ]


def _of_matters(rows: Rows) -> list[Claim]:
  """Claims on which the study of what matters tells."""
  return [
    Claim(
      "Tickets learn faster",
      f"{_FRANKLE} Their validation loss is at its minimum sooner. It is"
      " measured 10 or 15 times in a training; where it is at its minimum at"
      " the last time, it might have gone on falling.",
      "what_matters/README.md",
      tuple(what_holds_tests.of_speed(rows)),
    ),
    Claim(
      "The signs of the initial weights carry the ticket",
      "Zhou et al., arXiv 1905.01067; Gadhikar et al., arXiv 2504.12801. The"
      " signs with equal magnitudes are better than new weights.",
      "what_matters/README.md",
      tuple(what_holds_tests.of_controls(rows, "signs", "random_reinit")),
    ),
    Claim(
      "The mask needs the labels",
      "Su et al., arXiv 2009.11094, find that it often does not. The ticket is"
      " better than one whose mask comes from shuffled labels.",
      "what_matters/README.md",
      tuple(what_holds_tests.of_controls(rows, "ticket", "shuffled_labels")),
    ),
    Claim(
      "Another order of the data gives another mask that is as good",
      "Found here, and not claimed by the papers above. The masks share only a"
      " part of their places, as the page shows. The mask of a search with the"
      " data in another order, and the same initial weights, may lose the"
      " tolerance against the ticket.",
      "what_matters/README.md",
      tuple(
        what_holds_tests.of_controls(
          rows, "other_order", "ticket", matching=True
        )
      ),
    ),
    Claim(
      "Averages of trained Levels are better than the ticket",
      "Yin et al., arXiv 2208.10842.",
      "what_matters/README.md",
      tuple(what_holds_tests.of_controls(rows, "weight_average", "ticket")),
    ),
  ]


def _of_transfer(rows: Rows) -> list[Claim]:
  """Claims on which the study of transfer tells."""
  return [
    Claim(
      "Tickets travel: their weights help on another task",
      "Morcos et al., arXiv 1906.02773. The transferred ticket is better than"
      " its mask with new weights.",
      "transfer/README.md",
      tuple(
        what_holds_tests.of_transfer(rows, "transferred", "transferred_reinit")
      ),
    ),
    Claim(
      "A mask fits another initialisation once its units are matched",
      "Adnan et al., arXiv 2505.05143. The mask with matched units is better"
      " than the mask as it is, both with the target's weights.",
      "transfer/README.md",
      tuple(
        what_holds_tests.of_transfer(
          rows, "transferred_permuted", "transferred_mask"
        )
      ),
    ),
  ]


def _of_stability(rows: Rows) -> list[Claim]:
  """Claims on which the study of stability tells."""
  return [
    Claim(
      "Where training is not stable, tickets must rewind to a later step",
      "Frankle et al., arXiv 1912.05671. Tickets that rewind to the step from"
      " which training is stable are better than those of initialisation."
      " Replicates in which no step is stable are left out.",
      "stability/README.md",
      tuple(what_holds_tests.of_rewinds(rows)),
    ),
    Claim(
      "Tickets are more stable from initialisation than the dense network",
      "Found here, on small networks, and not claimed by the papers: Frankle"
      " et al., arXiv 1912.05671, find both unstable for deep networks. The"
      " barrier between two orders of the data from step 0 is lower for the"
      " ticket, of iterative pruning with a rewind to the step that was found.",
      "stability/README.md",
      tuple(what_holds_tests.of_barriers(rows)),
    ),
  ]


def _of_tuned(rows: Rows) -> list[Claim]:
  """Claims on which the study of the tuned network tells."""
  return [
    Claim(
      "Tickets match a tuned dense network",
      "Ma et al., arXiv 2107.00166, doubt it. A ticket may lose 1 % of what"
      " training gained. Each line is tested by itself; in sequence, as on the"
      " page of the study, no ticket of the original recipe is shown to match,"
      " because that of 51.3 % is not.",
      "tuned_dense/README.md",
      tuple(what_holds_tests.of_tuned(rows)),
    ),
  ]
