"""Examples: the networks, recipes, data sets and claims of the papers."""

from tf_lottery.papers import claims
from tf_lottery.papers import datasets
from tf_lottery.papers import networks
from tf_lottery.papers import recipes
