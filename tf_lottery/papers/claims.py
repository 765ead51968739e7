"""The claims of the papers about their recipes, for reports to test.

Pass them to a report by `report.write(..., claims_by_recipe=BY_RECIPE)`.
"""

import functools
from collections.abc import Mapping
from collections.abc import Sequence

from tf_lottery.report import claims

_claim = functools.partial(
  claims.Claim, source="Frankle and Carbin (arXiv 1803.03635)"
)

# Section 2 and its figures 3 and 4: LeNet-300-100.
LENET = (
  _claim(
    "The ticket is at its lowest validation loss sooner than dense, near 21 %",
    "ticket",
    "dense",
    (0.2107,),
    sooner=True,
  ),
  _claim(
    "The ticket is better than dense, near 13.5 %",
    "ticket",
    "dense",
    (0.1352,),
  ),
  _claim(
    "The ticket is still as good as dense, near 3.6 %",
    "ticket",
    "dense",
    (0.0358,),
    as_good=True,
  ),
  _claim(
    "Random reinits are worse than dense, near 21 %",
    "dense",
    "random_reinit",
    (0.2107,),
  ),
  _claim(
    "The ticket is better than its random reinits, near 21 %",
    "ticket",
    "random_reinit",
    (0.2107,),
  ),
  _claim(
    "One-shot tickets are as good as dense, from 95 to 5.17 %",
    "one_shot",
    "dense",
    (0.95, 0.0517),
    as_good=True,
  ),
  _claim(
    "Random reinits are better than masks shuffled in each layer, near 21 %",
    "random_reinit",
    "shuffled_mask",
    (0.2107,),
  ),
  _claim(
    "Random reinits are better than random masks, near 21 %",
    "random_reinit",
    "random_mask",
    (0.2107,),
  ),
)

# Section 3 and its figure 5: Conv-2.
CONV2 = (
  _claim(
    "The ticket is at its lowest validation loss sooner than dense, near 9 %",
    "ticket",
    "dense",
    (0.09,),
    sooner=True,
  ),
  _claim(
    "The ticket is better than dense, near 9 %", "ticket", "dense", (0.09,)
  ),
  _claim(
    "The ticket is as good as dense, down to 2 %",
    "ticket",
    "dense",
    (0.99, 0.02),
    as_good=True,
  ),
  _claim(
    "The ticket is better than its random reinits, near 9 %",
    "ticket",
    "random_reinit",
    (0.09,),
  ),
)

# The name of a recipe -> the claims about it.
BY_RECIPE: Mapping[str, Sequence[claims.Claim]] = {
  "lenet_300_100": LENET,
  "conv2": CONV2,
}
