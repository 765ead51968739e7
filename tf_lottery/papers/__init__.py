"""Examples: the networks, recipes, data sets, experiments and claims of papers."""

from tf_lottery.papers import datasets
from tf_lottery.papers import networks
from tf_lottery.papers import recipes
from tf_lottery.papers.experiments import experiment
