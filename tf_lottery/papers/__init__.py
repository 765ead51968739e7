"""Examples: the papers' networks, recipes, data, experiments and claims."""

from tf_lottery.papers import datasets
from tf_lottery.papers import networks
from tf_lottery.papers import recipes
from tf_lottery.papers.experiments import experiment
